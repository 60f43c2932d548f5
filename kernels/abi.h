// The one contract between the kernels and Rust: a struct per kernel, passed by value.
//
// Addresses are of device memory and at least 256-byte aligned unless their comment says otherwise; counts, extents and
// strides are in elements. Fields are ordered so that no compiler inserts padding. After a change, `scripts/generate-abi` writes
// src/cuda/abi/bindings.rs and abi_layout.h: the structs in Rust, and sizes and offsets asserted on both sides. The file that a
// struct's kernels are in stands in src/cuda/abi.rs.
#pragma once

#include <stdint.h>

// Dimensions that a strided kernel walks through; the host divides walks of more.
#define MAX_RANK 8

// What a kernel found wrong with its data. The first one stays until the host has reported it.
struct Fault {
    uint32_t kind;
    uint32_t unused;
    int64_t place;
    int64_t value;
    int64_t bound;
};

// Kinds of faults.
#define FAULT_INDEX 1u
#define FAULT_TARGET 2u
#define FAULT_INPUT_PROBABILITY 3u
#define FAULT_TARGET_PROBABILITY 4u

// Functions of one argument.
#define UNARY_NEG 0u
#define UNARY_EXP 1u
#define UNARY_LOG 2u
#define UNARY_SQRT 3u
#define UNARY_ABS 4u
#define UNARY_TANH 5u
#define UNARY_SIGMOID 6u
#define UNARY_RELU 7u
#define UNARY_ONE 8u
#define UNARY_SQUARE 9u
#define UNARY_POWER 10u
#define UNARY_AFFINE 11u
#define UNARY_CLAMP 12u
#define UNARY_QUOTIENT 13u

// y[i] = op(x[i]). a, b: the exponent and it less one; scale, shift; low, high; the divisor.
struct Unary {
    uint64_t x;
    uint64_t y;
    uint64_t count;
    double a;
    double b;
    uint32_t op;
    uint32_t unused;
};

// dx[i] = dy[i] * op'(x[i]), y = op(x).
struct UnaryBackward {
    uint64_t x;
    uint64_t y;
    uint64_t dy;
    uint64_t dx;
    uint64_t count;
    double a;
    double b;
    uint32_t op;
    uint32_t unused;
};

// Functions of two arguments.
#define BINARY_ADD 0u
#define BINARY_SUB 1u
#define BINARY_MUL 2u
#define BINARY_DIV 3u

// y = op(a, b), y dense. The flat kernels read the strides of the last dimension alone, 0 or 1; for the strided ones a, b and
// y are aligned to their elements.
struct Binary {
    uint64_t a;
    uint64_t b;
    uint64_t y;
    uint64_t count;
    uint64_t extent[MAX_RANK];
    uint64_t stride_a[MAX_RANK];
    uint64_t stride_b[MAX_RANK];
    uint32_t rank;
    uint32_t op;
};

// Comparisons of two arguments: a `Binary` whose y is of u8.
#define COMPARE_EQ 0u
#define COMPARE_NE 1u
#define COMPARE_LT 2u
#define COMPARE_LE 3u
#define COMPARE_GT 4u
#define COMPARE_GE 5u

// y = a where mask is not 0, else b; mask of u8, y dense. All are aligned to their elements.
struct Select {
    uint64_t mask;
    uint64_t a;
    uint64_t b;
    uint64_t y;
    uint64_t count;
    uint64_t extent[MAX_RANK];
    uint64_t stride_mask[MAX_RANK];
    uint64_t stride_a[MAX_RANK];
    uint64_t stride_b[MAX_RANK];
    uint32_t rank;
    uint32_t unused;
};

// y[i] += alpha * x[i]
struct Axpy {
    uint64_t x;
    uint64_t y;
    uint64_t count;
    double alpha;
};

// y[i] = the low bits of value
struct Fill {
    uint64_t y;
    uint64_t count;
    uint64_t value;
};

// Element types, as a number.
#define DTYPE_F64 0u
#define DTYPE_F32 1u
#define DTYPE_F16 2u
#define DTYPE_BF16 3u
#define DTYPE_U32 4u
#define DTYPE_I64 5u
#define DTYPE_U8 6u

// y[i] = x[i], of the type that `to` names.
struct Cast {
    uint64_t x;
    uint64_t y;
    uint64_t count;
    uint32_t to;
    uint32_t unused;
};

// y[to . i] = x[from . i] over the indices i of extent, or y += x. x and y are where the walks start, aligned to their
// elements.
struct CopyStrided {
    uint64_t x;
    uint64_t y;
    uint64_t count;
    uint64_t extent[MAX_RANK];
    uint64_t from[MAX_RANK];
    uint64_t to[MAX_RANK];
    uint32_t rank;
    uint32_t unused;
};

// Reductions.
#define REDUCE_SUM 0u
#define REDUCE_MEAN 1u
#define REDUCE_MAX 2u

// x [outer, n, inner] -> y [outer, parts, inner]: each part of `part` rows of n. A mean divides by `divisor`.
struct Reduce {
    uint64_t x;
    uint64_t y;
    uint64_t outer;
    uint64_t n;
    uint64_t inner;
    uint64_t parts;
    uint64_t part;
    double divisor;
    uint32_t op;
    uint32_t unused;
};

// x [outer, n, inner] -> index [outer, inner] of i64.
struct ArgMax {
    uint64_t x;
    uint64_t index;
    uint64_t outer;
    uint64_t n;
    uint64_t inner;
};

// x [outer, n, inner] -> index [outer, count, inner] of i64: where the greatest along n are, from the greatest down.
struct TopK {
    uint64_t x;
    uint64_t index;
    uint64_t outer;
    uint64_t n;
    uint64_t inner;
    uint64_t count;
};

// dx [outer, n, inner] = dy [outer, inner] where index [outer, inner] says, else 0.
struct ScatterAxis {
    uint64_t index;
    uint64_t dy;
    uint64_t dx;
    uint64_t outer;
    uint64_t n;
    uint64_t inner;
};

// x, y [outer, n, inner]: softmax along n, or its logarithm.
struct Softmax {
    uint64_t x;
    uint64_t y;
    uint64_t outer;
    uint64_t n;
    uint64_t inner;
    uint32_t log;
    uint32_t unused;
};

// y, dy, dx [outer, n, inner]
struct SoftmaxBackward {
    uint64_t y;
    uint64_t dy;
    uint64_t dx;
    uint64_t outer;
    uint64_t n;
    uint64_t inner;
    uint32_t log;
    uint32_t unused;
};

// y [outer, count, inner] = x [outer, n, inner] at index [count] of i64; zeros, and a fault, where that is outside 0..n.
struct Gather {
    uint64_t index;
    uint64_t x;
    uint64_t y;
    uint64_t fault;
    uint64_t outer;
    uint64_t n;
    uint64_t inner;
    uint64_t count;
};

// y [outer, count, inner] = x [outer, n, inner] at index [outer, count, inner] of i64, along n; zeros, and a fault, where that is
// outside 0..n. Backwards y is the gradient that comes, and x the one that is made.
struct TakeAlong {
    uint64_t index;
    uint64_t x;
    uint64_t y;
    uint64_t fault;
    uint64_t outer;
    uint64_t n;
    uint64_t inner;
    uint64_t count;
};

// index [count] of i64 -> key [count] of u32, order [count] of u32: n where the index is outside 0..n or is `skip`, and the
// numbers from 0.
struct SortKeys {
    uint64_t index;
    uint64_t key;
    uint64_t order;
    uint64_t fault;
    uint64_t count;
    uint64_t n;
    int64_t skip;
    uint32_t skips;
    uint32_t unused;
};

// One pass of a stable radix sort by four bits of the key: counts [16, blocks] of u32.
struct SortPass {
    uint64_t key;
    uint64_t order;
    uint64_t counts;
    uint64_t to_key;
    uint64_t to_order;
    uint64_t count;
    uint32_t shift;
    uint32_t blocks;
};

// dx [outer, n, inner] += dy [outer, count, inner] by sorted key [count] and order [count] of u32; dx is zero before.
struct ScatterRows {
    uint64_t key;
    uint64_t order;
    uint64_t dy;
    uint64_t dx;
    uint64_t outer;
    uint64_t n;
    uint64_t inner;
    uint64_t count;
};

// y[i] = word i of the stream is a uniform >= p ? x[i] * scale : 0, for i in first..first + count; seed and stream are those in
// memory at seed_at and stream_at, unless these are 0.
struct Dropout {
    uint64_t x;
    uint64_t y;
    uint64_t first;
    uint64_t count;
    uint64_t seed;
    uint64_t seed_at;
    uint64_t stream;
    uint64_t stream_at;
    double p;
    double scale;
};

// Masks of the next replay of a captured step: draws [count, 4] of u64, each a seed, the number of its call, by how much that grows
// from replay to replay, and whether the call is to have a seed of its own -> drawn [count, 2]: the seed and stream of the mask.
struct DrawMasks {
    uint64_t draws;
    uint64_t drawn;
    uint64_t count;
};

// y[i] = low + uniform i of the stream * span, at most last
struct Uniform {
    uint64_t y;
    uint64_t count;
    uint64_t seed;
    uint64_t stream;
    double low;
    double span;
    double last;
};

// Losses of each element.
#define LOSS_MSE 0u
#define LOSS_L1 1u
#define LOSS_HUBER 2u
#define LOSS_SMOOTH_L1 3u
#define LOSS_BCE 4u
#define LOSS_BCE_WITH_LOGITS 5u
#define LOSS_KL_DIV 6u
#define LOSS_KL_DIV_LOG_TARGET 7u

// y[i] = weight[i] * loss(x[i], target[i]); weight and pos_weight [trailing] may be 0. `bound` is delta or beta.
struct PointwiseLoss {
    uint64_t x;
    uint64_t target;
    uint64_t weight;
    uint64_t pos_weight;
    uint64_t y;
    uint64_t fault;
    uint64_t count;
    uint64_t trailing;
    double bound;
    uint32_t loss;
    uint32_t unused;
};

// The gradient from dy: of the input, or with to_target of the target.
struct PointwiseLossBackward {
    uint64_t x;
    uint64_t target;
    uint64_t weight;
    uint64_t pos_weight;
    uint64_t dy;
    uint64_t dx;
    uint64_t count;
    uint64_t trailing;
    double bound;
    uint32_t loss;
    uint32_t to_target;
};

// x [outer, classes, inner] of log-probabilities, target [outer, inner] of i64 -> y, sample_weight [outer, inner]; weight
// [classes] may be 0.
struct ClassLoss {
    uint64_t x;
    uint64_t target;
    uint64_t weight;
    uint64_t y;
    uint64_t sample_weight;
    uint64_t fault;
    uint64_t outer;
    uint64_t classes;
    uint64_t inner;
    int64_t ignore_index;
    double smoothing;
};

// dx [outer, classes, inner] from dy [outer, inner]
struct ClassLossBackward {
    uint64_t target;
    uint64_t weight;
    uint64_t dy;
    uint64_t dx;
    uint64_t outer;
    uint64_t classes;
    uint64_t inner;
    int64_t ignore_index;
    double smoothing;
};

// Lists of tensors in one launch: a block takes a chunk of CHUNK_SIZE elements of one. Of tensor i, count[i] is the length and
// first[i] the block of its first chunk; none is empty. Addresses here are aligned to their elements, and vectors are moved where
// they are to 16 bytes. The table stays below the 4 KiB that a kernel's parameters may take.
#define MAX_TENSORS 64
#define CHUNK_SIZE 4096u

// The numbers of an optimizer's step that are the same for every element; how many of them, and in which order, each struct says.
#define MAX_NUMBERS 8

// One step of an optimizer over each p, from its gradient g. States have the type that p is computed in. master: where p is of 16
// bits its value in f32, which is moved in its place; 0: none. live: where the numbers of this step are, if not here; skip: a float,
// and nothing is done unless it is 0; scale: a float by which gradients are divided; each of the three may be 0.
// buffer may be 0: no momentum. numbers: lr, momentum, keep, decay.
struct Sgd {
    uint64_t p[MAX_TENSORS];
    uint64_t g[MAX_TENSORS];
    uint64_t buffer[MAX_TENSORS];
    uint64_t master[MAX_TENSORS];
    uint64_t count[MAX_TENSORS];
    uint32_t first[MAX_TENSORS];
    double numbers[MAX_NUMBERS];
    uint64_t live;
    uint64_t skip;
    uint64_t scale;
    uint32_t tensors;
    uint32_t nesterov;
};

// m, v: the moments. top may be 0: not AMSGrad. numbers: shrink, decay, m_weight, beta2, v_weight, eps, size, root, of which size
// is the learning rate and root the divisor of the root of the second moment, both corrected for their bias.
struct Adam {
    uint64_t p[MAX_TENSORS];
    uint64_t g[MAX_TENSORS];
    uint64_t m[MAX_TENSORS];
    uint64_t v[MAX_TENSORS];
    uint64_t top[MAX_TENSORS];
    uint64_t master[MAX_TENSORS];
    uint64_t count[MAX_TENSORS];
    uint32_t first[MAX_TENSORS];
    double numbers[MAX_NUMBERS];
    uint64_t live;
    uint64_t skip;
    uint64_t scale;
    uint32_t tensors;
    uint32_t unused;
};

// mean may be 0: not centred; buffer may be 0: no momentum. numbers: lr, alpha, v_weight, eps, decay, momentum.
struct RmsProp {
    uint64_t p[MAX_TENSORS];
    uint64_t g[MAX_TENSORS];
    uint64_t v[MAX_TENSORS];
    uint64_t mean[MAX_TENSORS];
    uint64_t buffer[MAX_TENSORS];
    uint64_t master[MAX_TENSORS];
    uint64_t count[MAX_TENSORS];
    uint32_t first[MAX_TENSORS];
    double numbers[MAX_NUMBERS];
    uint64_t live;
    uint64_t skip;
    uint64_t scale;
    uint32_t tensors;
    uint32_t unused;
};

// numbers: rate, eps, decay.
struct Adagrad {
    uint64_t p[MAX_TENSORS];
    uint64_t g[MAX_TENSORS];
    uint64_t sum[MAX_TENSORS];
    uint64_t master[MAX_TENSORS];
    uint64_t count[MAX_TENSORS];
    uint32_t first[MAX_TENSORS];
    double numbers[MAX_NUMBERS];
    uint64_t live;
    uint64_t skip;
    uint64_t scale;
    uint32_t tensors;
    uint32_t unused;
};

// How the numbers depend on the step: not at all, as Adam's, as Adagrad's.
#define CLOCK_STILL 0u
#define CLOCK_ADAM 1u
#define CLOCK_ADAGRAD 2u

// Steps that the device counts: settings [count, 4 + MAX_NUMBERS] of f64 (how, lr, beta1, beta2 or lr, lr_decay; the numbers of a
// first step) -> clocks [count, 1 + MAX_NUMBERS] (the steps so far, the numbers of the next one, which is then counted). skip as above.
struct Advance {
    uint64_t settings;
    uint64_t clocks;
    uint64_t skip;
    uint64_t count;
};

// Each x times 1 / scale [1], or where scale = 0 as it is; found [1] becomes 1 where an x is not finite then. Both are float.
struct Unscale {
    uint64_t x[MAX_TENSORS];
    uint64_t count[MAX_TENSORS];
    uint32_t first[MAX_TENSORS];
    uint64_t scale;
    uint64_t found;
    uint32_t tensors;
    uint32_t unused;
};

// scale, steady, found [1] of float. found != 0: scale *= backoff, steady = 0; else at each interval-th step in a row scale *= growth.
struct UpdateScale {
    uint64_t scale;
    uint64_t steady;
    uint64_t found;
    float growth;
    float backoff;
    float interval;
    uint32_t unused;
};

// How elements count in a norm: squared, by their magnitude (the greatest is the norm), to the power p.
#define NORM_TWO 0u
#define NORM_MAX 1u
#define NORM_POWER 2u

// Each x -> parts [blocks] of f64: what the elements of a chunk come to.
struct NormParts {
    uint64_t x[MAX_TENSORS];
    uint64_t count[MAX_TENSORS];
    uint32_t first[MAX_TENSORS];
    uint64_t parts;
    double p;
    uint32_t tensors;
    uint32_t op;
};

// parts [count] -> norm [1], factor [1], all of f64: the norm, and what brings it down to max_norm.
struct NormJoin {
    uint64_t parts;
    uint64_t norm;
    uint64_t factor;
    uint64_t count;
    double p;
    double max_norm;
    uint32_t op;
    uint32_t unused;
};

// Each x *= factor [1] of f64.
struct Scale {
    uint64_t x[MAX_TENSORS];
    uint64_t count[MAX_TENSORS];
    uint32_t first[MAX_TENSORS];
    uint64_t factor;
    uint32_t tensors;
    uint32_t unused;
};

// Each x held inside [low, high].
struct Clamp {
    uint64_t x[MAX_TENSORS];
    uint64_t count[MAX_TENSORS];
    uint32_t first[MAX_TENSORS];
    double low;
    double high;
    uint32_t tensors;
    uint32_t unused;
};

// What is the same in every struct of the recurrent layers: rows are packed, the sequences that reach step t standing at
// offsets[t]..offsets[t+1], longest first (offsets: int64, steps + 1 of them); sequences[k] (int64) is the caller's number of the
// k-th, and an address of 0 means the k-th itself.

// Rows between the caller's order and the packed one. Packed row `row` belongs to step t and sequence k: offsets[t] + k, or where
// offsets = 0 t batch + k. The caller's is t step_stride + sequences[k] sequence_stride; sequences = 0: k itself. vector: rows may
// be moved by 16 bytes.
struct RecurrentRows {
    uint64_t from;
    uint64_t to;
    uint64_t offsets;
    uint64_t sequences;
    uint64_t steps;
    uint64_t batch;
    uint64_t rows;
    uint64_t width;
    uint64_t step_stride;
    uint64_t sequence_stride;
    uint64_t vector;
};

// States [count, batch, width] between the caller's order of sequences and that of the rows; from = 0: zeros. Inside, the states
// are [count, batch, stride], or with `last` the rows of each sequence's last step (offsets, steps as in RecurrentRows).
struct RecurrentStates {
    uint64_t from;
    uint64_t to;
    uint64_t offsets;
    uint64_t sequences;
    uint64_t steps;
    uint64_t count;
    uint64_t batch;
    uint64_t width;
    uint64_t stride;
    uint64_t last;
};

// to [gates]: ih + hh. With split < gates, the GRU's [gates + hidden]: ih + hh up to `split`, then the rest of hh, then of ih.
// ih = hh = 0: zeros.
struct RecurrentBias {
    uint64_t ih;
    uint64_t hh;
    uint64_t to;
    uint64_t gates;
    uint64_t hidden;
    uint64_t split;
};

// The state before each step, for all rows: to [rows, width], from y (rows `stride` apart) or, at a sequence's first step, `first`
// [batch, width]; first = 0: zeros.
struct RecurrentPrevious {
    uint64_t y;
    uint64_t first;
    uint64_t to;
    uint64_t offsets;
    uint64_t steps;
    uint64_t batch;
    uint64_t rows;
    uint64_t width;
    uint64_t stride;
    uint64_t reverse;
};

// Sums over `part` rows each: from [rows, width] to [parts, width].
struct RecurrentSums {
    uint64_t from;
    uint64_t to;
    uint64_t rows;
    uint64_t width;
    uint64_t part;
};

// The same for the gradients of the peephole weights: to [parts, 3 hidden], sums of di c_before, df c_before, do c. gates
// [rows, 4 hidden] hold gradients; cells [rows, hidden], and first [batch, hidden] (0: zeros) before each sequence's first step.
struct RecurrentPeephole {
    uint64_t gates;
    uint64_t cells;
    uint64_t first;
    uint64_t to;
    uint64_t offsets;
    uint64_t steps;
    uint64_t batch;
    uint64_t rows;
    uint64_t hidden;
    uint64_t part;
    uint64_t reverse;
};

// to [count] (+)= the sum of `parts` rows of from, `stride` apart.
struct RecurrentTotals {
    uint64_t from;
    uint64_t to;
    uint64_t parts;
    uint64_t stride;
    uint64_t count;
    uint64_t add;
};

// to [count, width] = dh + dy: what the projection's gradient is made of. dy = 0: none; its rows are `stride` apart.
struct RecurrentProjected {
    uint64_t dh;
    uint64_t dy;
    uint64_t to;
    uint64_t count;
    uint64_t width;
    uint64_t stride;
};

// One step forward of `count` sequences; see step.cu. pre [count, G hidden] pre-activations without the biases; gates: where the
// activations are kept, or 0; q [count, 3 hidden] (GRU); kept [count, hidden]; bias [G hidden]. Sequences below `before` have their
// earlier h and c at h_before and c_before, the others at h_first and c_first (0: zeros). h_before's and y's rows are `stride` apart.
struct RecurrentStep {
    uint64_t pre;
    uint64_t gates;
    uint64_t q;
    uint64_t kept;
    uint64_t bias;
    uint64_t c_before;
    uint64_t c_first;
    uint64_t c;
    uint64_t h_before;
    uint64_t h_first;
    uint64_t y;
    uint64_t peephole;
    uint64_t count;
    uint64_t before;
    uint64_t hidden;
    uint64_t stride;
    uint64_t vector;
};

// One step backward; see step.cu. gates [count, G hidden]: activations, then gradients. dy: gradient of y, or 0; dh, dc [count,
// hidden] in place; q [count, hidden] (GRU that resets before the product); the rest as in RecurrentStep.
struct RecurrentStepBackward {
    uint64_t gates;
    uint64_t q;
    uint64_t c;
    uint64_t c_before;
    uint64_t c_first;
    uint64_t h_before;
    uint64_t h_first;
    uint64_t dy;
    uint64_t dh;
    uint64_t dc;
    uint64_t peephole;
    uint64_t count;
    uint64_t before;
    uint64_t hidden;
    uint64_t stride;
    uint64_t vector;
};

// One direction of a whole sequence; see persistent.cuh. weight [G hidden, hidden]; bias [gates (+ hidden)]; pre, gates, cells, y:
// rows as in RecurrentStep (pre [rows, gates]); h_first, c_first [batch, hidden], or 0. Without `training`, gates = 0 and cells
// [batch, hidden] receive the last cell states. Backward: dy rows `stride` apart, or 0; dh, dc [batch, hidden] in place.
// exchange [rows, gates, padded]: what the blocks exchange where a step has one product, forward h, backward the gradients of the gates
// behind the product, each row's gates padded to whole chunks of the depth; a word that is not written yet has all its bits. initial
// [batch, padded]: forward the states before the first step, likewise padded, with zeros.
// Where a step has two products: weight_second, of the GRU W_hn [hidden, hidden], of a projection W_hr [output, hidden], and then
// all that is of h has `output` columns; kept [rows, hidden]: what it is multiplied with, r h or the h to be projected. Backward of
// a projection: kept [rows, output] receives the gradients of the projected h.
struct PersistentPass {
    uint64_t weight;
    uint64_t weight_second;
    uint64_t bias;
    uint64_t peephole;
    uint64_t pre;
    uint64_t gates;
    uint64_t cells;
    uint64_t kept;
    uint64_t exchange;
    uint64_t initial;
    uint64_t y;
    uint64_t h_first;
    uint64_t c_first;
    uint64_t dy;
    uint64_t dh;
    uint64_t dc;
    uint64_t reverse;
};

// Makes a PersistentPass's exchange, of `rows` rows of `gates` times `padded` numbers, and its initial [batch, padded] ready, of first
// [batch, hidden] or of zeros; 0: there is none.
struct PersistentExchange {
    uint64_t exchange;
    uint64_t initial;
    uint64_t first;
    uint64_t rows;
    uint64_t gates;
    uint64_t hidden;
    uint64_t padded;
    uint64_t batch;
};

// The recurrences of a PersistentPass.
#define CELL_RNN_TANH 0u
#define CELL_RNN_RELU 1u
#define CELL_LSTM 2u
#define CELL_LSTM_PEEPHOLE 3u
#define CELL_GRU 4u
#define CELL_GRU_RESET_BEFORE 5u

// All steps of one layer's directions, `passes` of them: `groups` of sequences each, of which each is worked on by `members` blocks
// of `units` units. A group has `group` sequences, gone through in `tiles` tiles. offsets [steps + 1]: the first row of each step,
// or 0 where each has the whole batch. flags [passes, groups, tiles, members]: zero. exact: f32 as three products of TF32.
// vector: rows and weights may be read 16 bytes at once. output: columns of h, of which `outputs` are a block's; hidden and units
// but with a projection.
struct PersistentForward {
    struct PersistentPass pass[2];
    uint64_t offsets;
    uint64_t flags;
    uint64_t steps;
    uint64_t batch;
    uint64_t hidden;
    uint64_t output;
    uint64_t stride;
    uint64_t cell;
    uint64_t passes;
    uint64_t groups;
    uint64_t group;
    uint64_t tiles;
    uint64_t members;
    uint64_t units;
    uint64_t outputs;
    uint64_t training;
    uint64_t exact;
    uint64_t vector;
};

// The same backward: gates [rows, gates] hold activations, then gradients of the pre-activations.
struct PersistentBackward {
    struct PersistentPass pass[2];
    uint64_t offsets;
    uint64_t flags;
    uint64_t steps;
    uint64_t batch;
    uint64_t hidden;
    uint64_t output;
    uint64_t stride;
    uint64_t cell;
    uint64_t passes;
    uint64_t groups;
    uint64_t group;
    uint64_t tiles;
    uint64_t members;
    uint64_t units;
    uint64_t outputs;
    uint64_t exact;
    uint64_t vector;
};

// bindgen finds the layout out; everybody else is held to it.
#ifndef GATEFOLD_BINDGEN
#include "abi_layout.h"
#endif
