// Written by scripts/generate-abi from kernels/abi.h; do not edit.

pub const MAX_RANK: usize = 8;
pub const FAULT_INDEX: u32 = 1;
pub const FAULT_TARGET: u32 = 2;
pub const FAULT_INPUT_PROBABILITY: u32 = 3;
pub const FAULT_TARGET_PROBABILITY: u32 = 4;
pub const UNARY_NEG: u32 = 0;
pub const UNARY_EXP: u32 = 1;
pub const UNARY_LOG: u32 = 2;
pub const UNARY_SQRT: u32 = 3;
pub const UNARY_ABS: u32 = 4;
pub const UNARY_TANH: u32 = 5;
pub const UNARY_SIGMOID: u32 = 6;
pub const UNARY_RELU: u32 = 7;
pub const UNARY_ONE: u32 = 8;
pub const UNARY_SQUARE: u32 = 9;
pub const UNARY_POWER: u32 = 10;
pub const UNARY_AFFINE: u32 = 11;
pub const UNARY_CLAMP: u32 = 12;
pub const UNARY_QUOTIENT: u32 = 13;
pub const BINARY_ADD: u32 = 0;
pub const BINARY_SUB: u32 = 1;
pub const BINARY_MUL: u32 = 2;
pub const BINARY_DIV: u32 = 3;
pub const COMPARE_EQ: u32 = 0;
pub const COMPARE_NE: u32 = 1;
pub const COMPARE_LT: u32 = 2;
pub const COMPARE_LE: u32 = 3;
pub const COMPARE_GT: u32 = 4;
pub const COMPARE_GE: u32 = 5;
pub const DTYPE_F64: u32 = 0;
pub const DTYPE_F32: u32 = 1;
pub const DTYPE_F16: u32 = 2;
pub const DTYPE_BF16: u32 = 3;
pub const DTYPE_U32: u32 = 4;
pub const DTYPE_I64: u32 = 5;
pub const DTYPE_U8: u32 = 6;
pub const REDUCE_SUM: u32 = 0;
pub const REDUCE_MEAN: u32 = 1;
pub const REDUCE_MAX: u32 = 2;
pub const LOSS_MSE: u32 = 0;
pub const LOSS_L1: u32 = 1;
pub const LOSS_HUBER: u32 = 2;
pub const LOSS_SMOOTH_L1: u32 = 3;
pub const LOSS_BCE: u32 = 4;
pub const LOSS_BCE_WITH_LOGITS: u32 = 5;
pub const LOSS_KL_DIV: u32 = 6;
pub const LOSS_KL_DIV_LOG_TARGET: u32 = 7;
pub const MAX_TENSORS: usize = 64;
pub const CHUNK_SIZE: u32 = 4096;
pub const MAX_NUMBERS: usize = 8;
pub const CLOCK_STILL: u32 = 0;
pub const CLOCK_ADAM: u32 = 1;
pub const CLOCK_ADAGRAD: u32 = 2;
pub const NORM_TWO: u32 = 0;
pub const NORM_MAX: u32 = 1;
pub const NORM_POWER: u32 = 2;
pub const CELL_RNN_TANH: u32 = 0;
pub const CELL_RNN_RELU: u32 = 1;
pub const CELL_LSTM: u32 = 2;
pub const CELL_LSTM_PEEPHOLE: u32 = 3;
pub const CELL_GRU: u32 = 4;
pub const CELL_GRU_RESET_BEFORE: u32 = 5;
#[repr(C)]
#[derive(Debug, Copy, Clone, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Fault {
    pub kind: u32,
    pub unused: u32,
    pub place: i64,
    pub value: i64,
    pub bound: i64,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of Fault"][::core::mem::size_of::<Fault>() - 32usize];
    ["Alignment of Fault"][::core::mem::align_of::<Fault>() - 8usize];
    ["Offset of field: Fault::kind"][::core::mem::offset_of!(Fault, kind) - 0usize];
    ["Offset of field: Fault::unused"][::core::mem::offset_of!(Fault, unused) - 4usize];
    ["Offset of field: Fault::place"][::core::mem::offset_of!(Fault, place) - 8usize];
    ["Offset of field: Fault::value"][::core::mem::offset_of!(Fault, value) - 16usize];
    ["Offset of field: Fault::bound"][::core::mem::offset_of!(Fault, bound) - 24usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Unary {
    pub x: u64,
    pub y: u64,
    pub count: u64,
    pub a: f64,
    pub b: f64,
    pub op: u32,
    pub unused: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of Unary"][::core::mem::size_of::<Unary>() - 48usize];
    ["Alignment of Unary"][::core::mem::align_of::<Unary>() - 8usize];
    ["Offset of field: Unary::x"][::core::mem::offset_of!(Unary, x) - 0usize];
    ["Offset of field: Unary::y"][::core::mem::offset_of!(Unary, y) - 8usize];
    ["Offset of field: Unary::count"][::core::mem::offset_of!(Unary, count) - 16usize];
    ["Offset of field: Unary::a"][::core::mem::offset_of!(Unary, a) - 24usize];
    ["Offset of field: Unary::b"][::core::mem::offset_of!(Unary, b) - 32usize];
    ["Offset of field: Unary::op"][::core::mem::offset_of!(Unary, op) - 40usize];
    ["Offset of field: Unary::unused"][::core::mem::offset_of!(Unary, unused) - 44usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone, bytemuck::Pod, bytemuck::Zeroable)]
pub struct UnaryBackward {
    pub x: u64,
    pub y: u64,
    pub dy: u64,
    pub dx: u64,
    pub count: u64,
    pub a: f64,
    pub b: f64,
    pub op: u32,
    pub unused: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of UnaryBackward"][::core::mem::size_of::<UnaryBackward>() - 64usize];
    ["Alignment of UnaryBackward"][::core::mem::align_of::<UnaryBackward>() - 8usize];
    ["Offset of field: UnaryBackward::x"][::core::mem::offset_of!(UnaryBackward, x) - 0usize];
    ["Offset of field: UnaryBackward::y"][::core::mem::offset_of!(UnaryBackward, y) - 8usize];
    ["Offset of field: UnaryBackward::dy"][::core::mem::offset_of!(UnaryBackward, dy) - 16usize];
    ["Offset of field: UnaryBackward::dx"][::core::mem::offset_of!(UnaryBackward, dx) - 24usize];
    ["Offset of field: UnaryBackward::count"][::core::mem::offset_of!(UnaryBackward, count) - 32usize];
    ["Offset of field: UnaryBackward::a"][::core::mem::offset_of!(UnaryBackward, a) - 40usize];
    ["Offset of field: UnaryBackward::b"][::core::mem::offset_of!(UnaryBackward, b) - 48usize];
    ["Offset of field: UnaryBackward::op"][::core::mem::offset_of!(UnaryBackward, op) - 56usize];
    ["Offset of field: UnaryBackward::unused"][::core::mem::offset_of!(UnaryBackward, unused) - 60usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Binary {
    pub a: u64,
    pub b: u64,
    pub y: u64,
    pub count: u64,
    pub extent: [u64; 8usize],
    pub stride_a: [u64; 8usize],
    pub stride_b: [u64; 8usize],
    pub rank: u32,
    pub op: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of Binary"][::core::mem::size_of::<Binary>() - 232usize];
    ["Alignment of Binary"][::core::mem::align_of::<Binary>() - 8usize];
    ["Offset of field: Binary::a"][::core::mem::offset_of!(Binary, a) - 0usize];
    ["Offset of field: Binary::b"][::core::mem::offset_of!(Binary, b) - 8usize];
    ["Offset of field: Binary::y"][::core::mem::offset_of!(Binary, y) - 16usize];
    ["Offset of field: Binary::count"][::core::mem::offset_of!(Binary, count) - 24usize];
    ["Offset of field: Binary::extent"][::core::mem::offset_of!(Binary, extent) - 32usize];
    ["Offset of field: Binary::stride_a"][::core::mem::offset_of!(Binary, stride_a) - 96usize];
    ["Offset of field: Binary::stride_b"][::core::mem::offset_of!(Binary, stride_b) - 160usize];
    ["Offset of field: Binary::rank"][::core::mem::offset_of!(Binary, rank) - 224usize];
    ["Offset of field: Binary::op"][::core::mem::offset_of!(Binary, op) - 228usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Select {
    pub mask: u64,
    pub a: u64,
    pub b: u64,
    pub y: u64,
    pub count: u64,
    pub extent: [u64; 8usize],
    pub stride_mask: [u64; 8usize],
    pub stride_a: [u64; 8usize],
    pub stride_b: [u64; 8usize],
    pub rank: u32,
    pub unused: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of Select"][::core::mem::size_of::<Select>() - 304usize];
    ["Alignment of Select"][::core::mem::align_of::<Select>() - 8usize];
    ["Offset of field: Select::mask"][::core::mem::offset_of!(Select, mask) - 0usize];
    ["Offset of field: Select::a"][::core::mem::offset_of!(Select, a) - 8usize];
    ["Offset of field: Select::b"][::core::mem::offset_of!(Select, b) - 16usize];
    ["Offset of field: Select::y"][::core::mem::offset_of!(Select, y) - 24usize];
    ["Offset of field: Select::count"][::core::mem::offset_of!(Select, count) - 32usize];
    ["Offset of field: Select::extent"][::core::mem::offset_of!(Select, extent) - 40usize];
    ["Offset of field: Select::stride_mask"][::core::mem::offset_of!(Select, stride_mask) - 104usize];
    ["Offset of field: Select::stride_a"][::core::mem::offset_of!(Select, stride_a) - 168usize];
    ["Offset of field: Select::stride_b"][::core::mem::offset_of!(Select, stride_b) - 232usize];
    ["Offset of field: Select::rank"][::core::mem::offset_of!(Select, rank) - 296usize];
    ["Offset of field: Select::unused"][::core::mem::offset_of!(Select, unused) - 300usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Axpy {
    pub x: u64,
    pub y: u64,
    pub count: u64,
    pub alpha: f64,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of Axpy"][::core::mem::size_of::<Axpy>() - 32usize];
    ["Alignment of Axpy"][::core::mem::align_of::<Axpy>() - 8usize];
    ["Offset of field: Axpy::x"][::core::mem::offset_of!(Axpy, x) - 0usize];
    ["Offset of field: Axpy::y"][::core::mem::offset_of!(Axpy, y) - 8usize];
    ["Offset of field: Axpy::count"][::core::mem::offset_of!(Axpy, count) - 16usize];
    ["Offset of field: Axpy::alpha"][::core::mem::offset_of!(Axpy, alpha) - 24usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Fill {
    pub y: u64,
    pub count: u64,
    pub value: u64,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of Fill"][::core::mem::size_of::<Fill>() - 24usize];
    ["Alignment of Fill"][::core::mem::align_of::<Fill>() - 8usize];
    ["Offset of field: Fill::y"][::core::mem::offset_of!(Fill, y) - 0usize];
    ["Offset of field: Fill::count"][::core::mem::offset_of!(Fill, count) - 8usize];
    ["Offset of field: Fill::value"][::core::mem::offset_of!(Fill, value) - 16usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Cast {
    pub x: u64,
    pub y: u64,
    pub count: u64,
    pub to: u32,
    pub unused: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of Cast"][::core::mem::size_of::<Cast>() - 32usize];
    ["Alignment of Cast"][::core::mem::align_of::<Cast>() - 8usize];
    ["Offset of field: Cast::x"][::core::mem::offset_of!(Cast, x) - 0usize];
    ["Offset of field: Cast::y"][::core::mem::offset_of!(Cast, y) - 8usize];
    ["Offset of field: Cast::count"][::core::mem::offset_of!(Cast, count) - 16usize];
    ["Offset of field: Cast::to"][::core::mem::offset_of!(Cast, to) - 24usize];
    ["Offset of field: Cast::unused"][::core::mem::offset_of!(Cast, unused) - 28usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone, bytemuck::Pod, bytemuck::Zeroable)]
pub struct CopyStrided {
    pub x: u64,
    pub y: u64,
    pub count: u64,
    pub extent: [u64; 8usize],
    pub from: [u64; 8usize],
    pub to: [u64; 8usize],
    pub rank: u32,
    pub unused: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of CopyStrided"][::core::mem::size_of::<CopyStrided>() - 224usize];
    ["Alignment of CopyStrided"][::core::mem::align_of::<CopyStrided>() - 8usize];
    ["Offset of field: CopyStrided::x"][::core::mem::offset_of!(CopyStrided, x) - 0usize];
    ["Offset of field: CopyStrided::y"][::core::mem::offset_of!(CopyStrided, y) - 8usize];
    ["Offset of field: CopyStrided::count"][::core::mem::offset_of!(CopyStrided, count) - 16usize];
    ["Offset of field: CopyStrided::extent"][::core::mem::offset_of!(CopyStrided, extent) - 24usize];
    ["Offset of field: CopyStrided::from"][::core::mem::offset_of!(CopyStrided, from) - 88usize];
    ["Offset of field: CopyStrided::to"][::core::mem::offset_of!(CopyStrided, to) - 152usize];
    ["Offset of field: CopyStrided::rank"][::core::mem::offset_of!(CopyStrided, rank) - 216usize];
    ["Offset of field: CopyStrided::unused"][::core::mem::offset_of!(CopyStrided, unused) - 220usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Reduce {
    pub x: u64,
    pub y: u64,
    pub outer: u64,
    pub n: u64,
    pub inner: u64,
    pub parts: u64,
    pub part: u64,
    pub divisor: f64,
    pub op: u32,
    pub unused: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of Reduce"][::core::mem::size_of::<Reduce>() - 72usize];
    ["Alignment of Reduce"][::core::mem::align_of::<Reduce>() - 8usize];
    ["Offset of field: Reduce::x"][::core::mem::offset_of!(Reduce, x) - 0usize];
    ["Offset of field: Reduce::y"][::core::mem::offset_of!(Reduce, y) - 8usize];
    ["Offset of field: Reduce::outer"][::core::mem::offset_of!(Reduce, outer) - 16usize];
    ["Offset of field: Reduce::n"][::core::mem::offset_of!(Reduce, n) - 24usize];
    ["Offset of field: Reduce::inner"][::core::mem::offset_of!(Reduce, inner) - 32usize];
    ["Offset of field: Reduce::parts"][::core::mem::offset_of!(Reduce, parts) - 40usize];
    ["Offset of field: Reduce::part"][::core::mem::offset_of!(Reduce, part) - 48usize];
    ["Offset of field: Reduce::divisor"][::core::mem::offset_of!(Reduce, divisor) - 56usize];
    ["Offset of field: Reduce::op"][::core::mem::offset_of!(Reduce, op) - 64usize];
    ["Offset of field: Reduce::unused"][::core::mem::offset_of!(Reduce, unused) - 68usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone, bytemuck::Pod, bytemuck::Zeroable)]
pub struct ArgMax {
    pub x: u64,
    pub index: u64,
    pub outer: u64,
    pub n: u64,
    pub inner: u64,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of ArgMax"][::core::mem::size_of::<ArgMax>() - 40usize];
    ["Alignment of ArgMax"][::core::mem::align_of::<ArgMax>() - 8usize];
    ["Offset of field: ArgMax::x"][::core::mem::offset_of!(ArgMax, x) - 0usize];
    ["Offset of field: ArgMax::index"][::core::mem::offset_of!(ArgMax, index) - 8usize];
    ["Offset of field: ArgMax::outer"][::core::mem::offset_of!(ArgMax, outer) - 16usize];
    ["Offset of field: ArgMax::n"][::core::mem::offset_of!(ArgMax, n) - 24usize];
    ["Offset of field: ArgMax::inner"][::core::mem::offset_of!(ArgMax, inner) - 32usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone, bytemuck::Pod, bytemuck::Zeroable)]
pub struct TopK {
    pub x: u64,
    pub index: u64,
    pub outer: u64,
    pub n: u64,
    pub inner: u64,
    pub count: u64,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of TopK"][::core::mem::size_of::<TopK>() - 48usize];
    ["Alignment of TopK"][::core::mem::align_of::<TopK>() - 8usize];
    ["Offset of field: TopK::x"][::core::mem::offset_of!(TopK, x) - 0usize];
    ["Offset of field: TopK::index"][::core::mem::offset_of!(TopK, index) - 8usize];
    ["Offset of field: TopK::outer"][::core::mem::offset_of!(TopK, outer) - 16usize];
    ["Offset of field: TopK::n"][::core::mem::offset_of!(TopK, n) - 24usize];
    ["Offset of field: TopK::inner"][::core::mem::offset_of!(TopK, inner) - 32usize];
    ["Offset of field: TopK::count"][::core::mem::offset_of!(TopK, count) - 40usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone, bytemuck::Pod, bytemuck::Zeroable)]
pub struct ScatterAxis {
    pub index: u64,
    pub dy: u64,
    pub dx: u64,
    pub outer: u64,
    pub n: u64,
    pub inner: u64,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of ScatterAxis"][::core::mem::size_of::<ScatterAxis>() - 48usize];
    ["Alignment of ScatterAxis"][::core::mem::align_of::<ScatterAxis>() - 8usize];
    ["Offset of field: ScatterAxis::index"][::core::mem::offset_of!(ScatterAxis, index) - 0usize];
    ["Offset of field: ScatterAxis::dy"][::core::mem::offset_of!(ScatterAxis, dy) - 8usize];
    ["Offset of field: ScatterAxis::dx"][::core::mem::offset_of!(ScatterAxis, dx) - 16usize];
    ["Offset of field: ScatterAxis::outer"][::core::mem::offset_of!(ScatterAxis, outer) - 24usize];
    ["Offset of field: ScatterAxis::n"][::core::mem::offset_of!(ScatterAxis, n) - 32usize];
    ["Offset of field: ScatterAxis::inner"][::core::mem::offset_of!(ScatterAxis, inner) - 40usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Softmax {
    pub x: u64,
    pub y: u64,
    pub outer: u64,
    pub n: u64,
    pub inner: u64,
    pub log: u32,
    pub unused: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of Softmax"][::core::mem::size_of::<Softmax>() - 48usize];
    ["Alignment of Softmax"][::core::mem::align_of::<Softmax>() - 8usize];
    ["Offset of field: Softmax::x"][::core::mem::offset_of!(Softmax, x) - 0usize];
    ["Offset of field: Softmax::y"][::core::mem::offset_of!(Softmax, y) - 8usize];
    ["Offset of field: Softmax::outer"][::core::mem::offset_of!(Softmax, outer) - 16usize];
    ["Offset of field: Softmax::n"][::core::mem::offset_of!(Softmax, n) - 24usize];
    ["Offset of field: Softmax::inner"][::core::mem::offset_of!(Softmax, inner) - 32usize];
    ["Offset of field: Softmax::log"][::core::mem::offset_of!(Softmax, log) - 40usize];
    ["Offset of field: Softmax::unused"][::core::mem::offset_of!(Softmax, unused) - 44usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone, bytemuck::Pod, bytemuck::Zeroable)]
pub struct SoftmaxBackward {
    pub y: u64,
    pub dy: u64,
    pub dx: u64,
    pub outer: u64,
    pub n: u64,
    pub inner: u64,
    pub log: u32,
    pub unused: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of SoftmaxBackward"][::core::mem::size_of::<SoftmaxBackward>() - 56usize];
    ["Alignment of SoftmaxBackward"][::core::mem::align_of::<SoftmaxBackward>() - 8usize];
    ["Offset of field: SoftmaxBackward::y"][::core::mem::offset_of!(SoftmaxBackward, y) - 0usize];
    ["Offset of field: SoftmaxBackward::dy"][::core::mem::offset_of!(SoftmaxBackward, dy) - 8usize];
    ["Offset of field: SoftmaxBackward::dx"][::core::mem::offset_of!(SoftmaxBackward, dx) - 16usize];
    ["Offset of field: SoftmaxBackward::outer"][::core::mem::offset_of!(SoftmaxBackward, outer) - 24usize];
    ["Offset of field: SoftmaxBackward::n"][::core::mem::offset_of!(SoftmaxBackward, n) - 32usize];
    ["Offset of field: SoftmaxBackward::inner"][::core::mem::offset_of!(SoftmaxBackward, inner) - 40usize];
    ["Offset of field: SoftmaxBackward::log"][::core::mem::offset_of!(SoftmaxBackward, log) - 48usize];
    ["Offset of field: SoftmaxBackward::unused"][::core::mem::offset_of!(SoftmaxBackward, unused) - 52usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Gather {
    pub index: u64,
    pub x: u64,
    pub y: u64,
    pub fault: u64,
    pub outer: u64,
    pub n: u64,
    pub inner: u64,
    pub count: u64,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of Gather"][::core::mem::size_of::<Gather>() - 64usize];
    ["Alignment of Gather"][::core::mem::align_of::<Gather>() - 8usize];
    ["Offset of field: Gather::index"][::core::mem::offset_of!(Gather, index) - 0usize];
    ["Offset of field: Gather::x"][::core::mem::offset_of!(Gather, x) - 8usize];
    ["Offset of field: Gather::y"][::core::mem::offset_of!(Gather, y) - 16usize];
    ["Offset of field: Gather::fault"][::core::mem::offset_of!(Gather, fault) - 24usize];
    ["Offset of field: Gather::outer"][::core::mem::offset_of!(Gather, outer) - 32usize];
    ["Offset of field: Gather::n"][::core::mem::offset_of!(Gather, n) - 40usize];
    ["Offset of field: Gather::inner"][::core::mem::offset_of!(Gather, inner) - 48usize];
    ["Offset of field: Gather::count"][::core::mem::offset_of!(Gather, count) - 56usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone, bytemuck::Pod, bytemuck::Zeroable)]
pub struct TakeAlong {
    pub index: u64,
    pub x: u64,
    pub y: u64,
    pub fault: u64,
    pub outer: u64,
    pub n: u64,
    pub inner: u64,
    pub count: u64,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of TakeAlong"][::core::mem::size_of::<TakeAlong>() - 64usize];
    ["Alignment of TakeAlong"][::core::mem::align_of::<TakeAlong>() - 8usize];
    ["Offset of field: TakeAlong::index"][::core::mem::offset_of!(TakeAlong, index) - 0usize];
    ["Offset of field: TakeAlong::x"][::core::mem::offset_of!(TakeAlong, x) - 8usize];
    ["Offset of field: TakeAlong::y"][::core::mem::offset_of!(TakeAlong, y) - 16usize];
    ["Offset of field: TakeAlong::fault"][::core::mem::offset_of!(TakeAlong, fault) - 24usize];
    ["Offset of field: TakeAlong::outer"][::core::mem::offset_of!(TakeAlong, outer) - 32usize];
    ["Offset of field: TakeAlong::n"][::core::mem::offset_of!(TakeAlong, n) - 40usize];
    ["Offset of field: TakeAlong::inner"][::core::mem::offset_of!(TakeAlong, inner) - 48usize];
    ["Offset of field: TakeAlong::count"][::core::mem::offset_of!(TakeAlong, count) - 56usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone, bytemuck::Pod, bytemuck::Zeroable)]
pub struct SortKeys {
    pub index: u64,
    pub key: u64,
    pub order: u64,
    pub fault: u64,
    pub count: u64,
    pub n: u64,
    pub skip: i64,
    pub skips: u32,
    pub unused: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of SortKeys"][::core::mem::size_of::<SortKeys>() - 64usize];
    ["Alignment of SortKeys"][::core::mem::align_of::<SortKeys>() - 8usize];
    ["Offset of field: SortKeys::index"][::core::mem::offset_of!(SortKeys, index) - 0usize];
    ["Offset of field: SortKeys::key"][::core::mem::offset_of!(SortKeys, key) - 8usize];
    ["Offset of field: SortKeys::order"][::core::mem::offset_of!(SortKeys, order) - 16usize];
    ["Offset of field: SortKeys::fault"][::core::mem::offset_of!(SortKeys, fault) - 24usize];
    ["Offset of field: SortKeys::count"][::core::mem::offset_of!(SortKeys, count) - 32usize];
    ["Offset of field: SortKeys::n"][::core::mem::offset_of!(SortKeys, n) - 40usize];
    ["Offset of field: SortKeys::skip"][::core::mem::offset_of!(SortKeys, skip) - 48usize];
    ["Offset of field: SortKeys::skips"][::core::mem::offset_of!(SortKeys, skips) - 56usize];
    ["Offset of field: SortKeys::unused"][::core::mem::offset_of!(SortKeys, unused) - 60usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone, bytemuck::Pod, bytemuck::Zeroable)]
pub struct SortPass {
    pub key: u64,
    pub order: u64,
    pub counts: u64,
    pub to_key: u64,
    pub to_order: u64,
    pub count: u64,
    pub shift: u32,
    pub blocks: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of SortPass"][::core::mem::size_of::<SortPass>() - 56usize];
    ["Alignment of SortPass"][::core::mem::align_of::<SortPass>() - 8usize];
    ["Offset of field: SortPass::key"][::core::mem::offset_of!(SortPass, key) - 0usize];
    ["Offset of field: SortPass::order"][::core::mem::offset_of!(SortPass, order) - 8usize];
    ["Offset of field: SortPass::counts"][::core::mem::offset_of!(SortPass, counts) - 16usize];
    ["Offset of field: SortPass::to_key"][::core::mem::offset_of!(SortPass, to_key) - 24usize];
    ["Offset of field: SortPass::to_order"][::core::mem::offset_of!(SortPass, to_order) - 32usize];
    ["Offset of field: SortPass::count"][::core::mem::offset_of!(SortPass, count) - 40usize];
    ["Offset of field: SortPass::shift"][::core::mem::offset_of!(SortPass, shift) - 48usize];
    ["Offset of field: SortPass::blocks"][::core::mem::offset_of!(SortPass, blocks) - 52usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone, bytemuck::Pod, bytemuck::Zeroable)]
pub struct ScatterRows {
    pub key: u64,
    pub order: u64,
    pub dy: u64,
    pub dx: u64,
    pub outer: u64,
    pub n: u64,
    pub inner: u64,
    pub count: u64,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of ScatterRows"][::core::mem::size_of::<ScatterRows>() - 64usize];
    ["Alignment of ScatterRows"][::core::mem::align_of::<ScatterRows>() - 8usize];
    ["Offset of field: ScatterRows::key"][::core::mem::offset_of!(ScatterRows, key) - 0usize];
    ["Offset of field: ScatterRows::order"][::core::mem::offset_of!(ScatterRows, order) - 8usize];
    ["Offset of field: ScatterRows::dy"][::core::mem::offset_of!(ScatterRows, dy) - 16usize];
    ["Offset of field: ScatterRows::dx"][::core::mem::offset_of!(ScatterRows, dx) - 24usize];
    ["Offset of field: ScatterRows::outer"][::core::mem::offset_of!(ScatterRows, outer) - 32usize];
    ["Offset of field: ScatterRows::n"][::core::mem::offset_of!(ScatterRows, n) - 40usize];
    ["Offset of field: ScatterRows::inner"][::core::mem::offset_of!(ScatterRows, inner) - 48usize];
    ["Offset of field: ScatterRows::count"][::core::mem::offset_of!(ScatterRows, count) - 56usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Dropout {
    pub x: u64,
    pub y: u64,
    pub first: u64,
    pub count: u64,
    pub seed: u64,
    pub seed_at: u64,
    pub stream: u64,
    pub stream_at: u64,
    pub p: f64,
    pub scale: f64,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of Dropout"][::core::mem::size_of::<Dropout>() - 80usize];
    ["Alignment of Dropout"][::core::mem::align_of::<Dropout>() - 8usize];
    ["Offset of field: Dropout::x"][::core::mem::offset_of!(Dropout, x) - 0usize];
    ["Offset of field: Dropout::y"][::core::mem::offset_of!(Dropout, y) - 8usize];
    ["Offset of field: Dropout::first"][::core::mem::offset_of!(Dropout, first) - 16usize];
    ["Offset of field: Dropout::count"][::core::mem::offset_of!(Dropout, count) - 24usize];
    ["Offset of field: Dropout::seed"][::core::mem::offset_of!(Dropout, seed) - 32usize];
    ["Offset of field: Dropout::seed_at"][::core::mem::offset_of!(Dropout, seed_at) - 40usize];
    ["Offset of field: Dropout::stream"][::core::mem::offset_of!(Dropout, stream) - 48usize];
    ["Offset of field: Dropout::stream_at"][::core::mem::offset_of!(Dropout, stream_at) - 56usize];
    ["Offset of field: Dropout::p"][::core::mem::offset_of!(Dropout, p) - 64usize];
    ["Offset of field: Dropout::scale"][::core::mem::offset_of!(Dropout, scale) - 72usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone, bytemuck::Pod, bytemuck::Zeroable)]
pub struct DrawMasks {
    pub draws: u64,
    pub drawn: u64,
    pub count: u64,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of DrawMasks"][::core::mem::size_of::<DrawMasks>() - 24usize];
    ["Alignment of DrawMasks"][::core::mem::align_of::<DrawMasks>() - 8usize];
    ["Offset of field: DrawMasks::draws"][::core::mem::offset_of!(DrawMasks, draws) - 0usize];
    ["Offset of field: DrawMasks::drawn"][::core::mem::offset_of!(DrawMasks, drawn) - 8usize];
    ["Offset of field: DrawMasks::count"][::core::mem::offset_of!(DrawMasks, count) - 16usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Uniform {
    pub y: u64,
    pub count: u64,
    pub seed: u64,
    pub stream: u64,
    pub low: f64,
    pub span: f64,
    pub last: f64,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of Uniform"][::core::mem::size_of::<Uniform>() - 56usize];
    ["Alignment of Uniform"][::core::mem::align_of::<Uniform>() - 8usize];
    ["Offset of field: Uniform::y"][::core::mem::offset_of!(Uniform, y) - 0usize];
    ["Offset of field: Uniform::count"][::core::mem::offset_of!(Uniform, count) - 8usize];
    ["Offset of field: Uniform::seed"][::core::mem::offset_of!(Uniform, seed) - 16usize];
    ["Offset of field: Uniform::stream"][::core::mem::offset_of!(Uniform, stream) - 24usize];
    ["Offset of field: Uniform::low"][::core::mem::offset_of!(Uniform, low) - 32usize];
    ["Offset of field: Uniform::span"][::core::mem::offset_of!(Uniform, span) - 40usize];
    ["Offset of field: Uniform::last"][::core::mem::offset_of!(Uniform, last) - 48usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone, bytemuck::Pod, bytemuck::Zeroable)]
pub struct PointwiseLoss {
    pub x: u64,
    pub target: u64,
    pub weight: u64,
    pub pos_weight: u64,
    pub y: u64,
    pub fault: u64,
    pub count: u64,
    pub trailing: u64,
    pub bound: f64,
    pub loss: u32,
    pub unused: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of PointwiseLoss"][::core::mem::size_of::<PointwiseLoss>() - 80usize];
    ["Alignment of PointwiseLoss"][::core::mem::align_of::<PointwiseLoss>() - 8usize];
    ["Offset of field: PointwiseLoss::x"][::core::mem::offset_of!(PointwiseLoss, x) - 0usize];
    ["Offset of field: PointwiseLoss::target"][::core::mem::offset_of!(PointwiseLoss, target) - 8usize];
    ["Offset of field: PointwiseLoss::weight"][::core::mem::offset_of!(PointwiseLoss, weight) - 16usize];
    ["Offset of field: PointwiseLoss::pos_weight"][::core::mem::offset_of!(PointwiseLoss, pos_weight) - 24usize];
    ["Offset of field: PointwiseLoss::y"][::core::mem::offset_of!(PointwiseLoss, y) - 32usize];
    ["Offset of field: PointwiseLoss::fault"][::core::mem::offset_of!(PointwiseLoss, fault) - 40usize];
    ["Offset of field: PointwiseLoss::count"][::core::mem::offset_of!(PointwiseLoss, count) - 48usize];
    ["Offset of field: PointwiseLoss::trailing"][::core::mem::offset_of!(PointwiseLoss, trailing) - 56usize];
    ["Offset of field: PointwiseLoss::bound"][::core::mem::offset_of!(PointwiseLoss, bound) - 64usize];
    ["Offset of field: PointwiseLoss::loss"][::core::mem::offset_of!(PointwiseLoss, loss) - 72usize];
    ["Offset of field: PointwiseLoss::unused"][::core::mem::offset_of!(PointwiseLoss, unused) - 76usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone, bytemuck::Pod, bytemuck::Zeroable)]
pub struct PointwiseLossBackward {
    pub x: u64,
    pub target: u64,
    pub weight: u64,
    pub pos_weight: u64,
    pub dy: u64,
    pub dx: u64,
    pub count: u64,
    pub trailing: u64,
    pub bound: f64,
    pub loss: u32,
    pub to_target: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of PointwiseLossBackward"][::core::mem::size_of::<PointwiseLossBackward>() - 80usize];
    ["Alignment of PointwiseLossBackward"][::core::mem::align_of::<PointwiseLossBackward>() - 8usize];
    ["Offset of field: PointwiseLossBackward::x"][::core::mem::offset_of!(PointwiseLossBackward, x) - 0usize];
    ["Offset of field: PointwiseLossBackward::target"][::core::mem::offset_of!(PointwiseLossBackward, target) - 8usize];
    ["Offset of field: PointwiseLossBackward::weight"]
        [::core::mem::offset_of!(PointwiseLossBackward, weight) - 16usize];
    ["Offset of field: PointwiseLossBackward::pos_weight"]
        [::core::mem::offset_of!(PointwiseLossBackward, pos_weight) - 24usize];
    ["Offset of field: PointwiseLossBackward::dy"][::core::mem::offset_of!(PointwiseLossBackward, dy) - 32usize];
    ["Offset of field: PointwiseLossBackward::dx"][::core::mem::offset_of!(PointwiseLossBackward, dx) - 40usize];
    ["Offset of field: PointwiseLossBackward::count"][::core::mem::offset_of!(PointwiseLossBackward, count) - 48usize];
    ["Offset of field: PointwiseLossBackward::trailing"]
        [::core::mem::offset_of!(PointwiseLossBackward, trailing) - 56usize];
    ["Offset of field: PointwiseLossBackward::bound"][::core::mem::offset_of!(PointwiseLossBackward, bound) - 64usize];
    ["Offset of field: PointwiseLossBackward::loss"][::core::mem::offset_of!(PointwiseLossBackward, loss) - 72usize];
    ["Offset of field: PointwiseLossBackward::to_target"]
        [::core::mem::offset_of!(PointwiseLossBackward, to_target) - 76usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone, bytemuck::Pod, bytemuck::Zeroable)]
pub struct ClassLoss {
    pub x: u64,
    pub target: u64,
    pub weight: u64,
    pub y: u64,
    pub sample_weight: u64,
    pub fault: u64,
    pub outer: u64,
    pub classes: u64,
    pub inner: u64,
    pub ignore_index: i64,
    pub smoothing: f64,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of ClassLoss"][::core::mem::size_of::<ClassLoss>() - 88usize];
    ["Alignment of ClassLoss"][::core::mem::align_of::<ClassLoss>() - 8usize];
    ["Offset of field: ClassLoss::x"][::core::mem::offset_of!(ClassLoss, x) - 0usize];
    ["Offset of field: ClassLoss::target"][::core::mem::offset_of!(ClassLoss, target) - 8usize];
    ["Offset of field: ClassLoss::weight"][::core::mem::offset_of!(ClassLoss, weight) - 16usize];
    ["Offset of field: ClassLoss::y"][::core::mem::offset_of!(ClassLoss, y) - 24usize];
    ["Offset of field: ClassLoss::sample_weight"][::core::mem::offset_of!(ClassLoss, sample_weight) - 32usize];
    ["Offset of field: ClassLoss::fault"][::core::mem::offset_of!(ClassLoss, fault) - 40usize];
    ["Offset of field: ClassLoss::outer"][::core::mem::offset_of!(ClassLoss, outer) - 48usize];
    ["Offset of field: ClassLoss::classes"][::core::mem::offset_of!(ClassLoss, classes) - 56usize];
    ["Offset of field: ClassLoss::inner"][::core::mem::offset_of!(ClassLoss, inner) - 64usize];
    ["Offset of field: ClassLoss::ignore_index"][::core::mem::offset_of!(ClassLoss, ignore_index) - 72usize];
    ["Offset of field: ClassLoss::smoothing"][::core::mem::offset_of!(ClassLoss, smoothing) - 80usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone, bytemuck::Pod, bytemuck::Zeroable)]
pub struct ClassLossBackward {
    pub target: u64,
    pub weight: u64,
    pub dy: u64,
    pub dx: u64,
    pub outer: u64,
    pub classes: u64,
    pub inner: u64,
    pub ignore_index: i64,
    pub smoothing: f64,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of ClassLossBackward"][::core::mem::size_of::<ClassLossBackward>() - 72usize];
    ["Alignment of ClassLossBackward"][::core::mem::align_of::<ClassLossBackward>() - 8usize];
    ["Offset of field: ClassLossBackward::target"][::core::mem::offset_of!(ClassLossBackward, target) - 0usize];
    ["Offset of field: ClassLossBackward::weight"][::core::mem::offset_of!(ClassLossBackward, weight) - 8usize];
    ["Offset of field: ClassLossBackward::dy"][::core::mem::offset_of!(ClassLossBackward, dy) - 16usize];
    ["Offset of field: ClassLossBackward::dx"][::core::mem::offset_of!(ClassLossBackward, dx) - 24usize];
    ["Offset of field: ClassLossBackward::outer"][::core::mem::offset_of!(ClassLossBackward, outer) - 32usize];
    ["Offset of field: ClassLossBackward::classes"][::core::mem::offset_of!(ClassLossBackward, classes) - 40usize];
    ["Offset of field: ClassLossBackward::inner"][::core::mem::offset_of!(ClassLossBackward, inner) - 48usize];
    ["Offset of field: ClassLossBackward::ignore_index"]
        [::core::mem::offset_of!(ClassLossBackward, ignore_index) - 56usize];
    ["Offset of field: ClassLossBackward::smoothing"][::core::mem::offset_of!(ClassLossBackward, smoothing) - 64usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Sgd {
    pub p: [u64; 64usize],
    pub g: [u64; 64usize],
    pub buffer: [u64; 64usize],
    pub master: [u64; 64usize],
    pub count: [u64; 64usize],
    pub first: [u32; 64usize],
    pub numbers: [f64; 8usize],
    pub live: u64,
    pub skip: u64,
    pub scale: u64,
    pub tensors: u32,
    pub nesterov: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of Sgd"][::core::mem::size_of::<Sgd>() - 2912usize];
    ["Alignment of Sgd"][::core::mem::align_of::<Sgd>() - 8usize];
    ["Offset of field: Sgd::p"][::core::mem::offset_of!(Sgd, p) - 0usize];
    ["Offset of field: Sgd::g"][::core::mem::offset_of!(Sgd, g) - 512usize];
    ["Offset of field: Sgd::buffer"][::core::mem::offset_of!(Sgd, buffer) - 1024usize];
    ["Offset of field: Sgd::master"][::core::mem::offset_of!(Sgd, master) - 1536usize];
    ["Offset of field: Sgd::count"][::core::mem::offset_of!(Sgd, count) - 2048usize];
    ["Offset of field: Sgd::first"][::core::mem::offset_of!(Sgd, first) - 2560usize];
    ["Offset of field: Sgd::numbers"][::core::mem::offset_of!(Sgd, numbers) - 2816usize];
    ["Offset of field: Sgd::live"][::core::mem::offset_of!(Sgd, live) - 2880usize];
    ["Offset of field: Sgd::skip"][::core::mem::offset_of!(Sgd, skip) - 2888usize];
    ["Offset of field: Sgd::scale"][::core::mem::offset_of!(Sgd, scale) - 2896usize];
    ["Offset of field: Sgd::tensors"][::core::mem::offset_of!(Sgd, tensors) - 2904usize];
    ["Offset of field: Sgd::nesterov"][::core::mem::offset_of!(Sgd, nesterov) - 2908usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Adam {
    pub p: [u64; 64usize],
    pub g: [u64; 64usize],
    pub m: [u64; 64usize],
    pub v: [u64; 64usize],
    pub top: [u64; 64usize],
    pub master: [u64; 64usize],
    pub count: [u64; 64usize],
    pub first: [u32; 64usize],
    pub numbers: [f64; 8usize],
    pub live: u64,
    pub skip: u64,
    pub scale: u64,
    pub tensors: u32,
    pub unused: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of Adam"][::core::mem::size_of::<Adam>() - 3936usize];
    ["Alignment of Adam"][::core::mem::align_of::<Adam>() - 8usize];
    ["Offset of field: Adam::p"][::core::mem::offset_of!(Adam, p) - 0usize];
    ["Offset of field: Adam::g"][::core::mem::offset_of!(Adam, g) - 512usize];
    ["Offset of field: Adam::m"][::core::mem::offset_of!(Adam, m) - 1024usize];
    ["Offset of field: Adam::v"][::core::mem::offset_of!(Adam, v) - 1536usize];
    ["Offset of field: Adam::top"][::core::mem::offset_of!(Adam, top) - 2048usize];
    ["Offset of field: Adam::master"][::core::mem::offset_of!(Adam, master) - 2560usize];
    ["Offset of field: Adam::count"][::core::mem::offset_of!(Adam, count) - 3072usize];
    ["Offset of field: Adam::first"][::core::mem::offset_of!(Adam, first) - 3584usize];
    ["Offset of field: Adam::numbers"][::core::mem::offset_of!(Adam, numbers) - 3840usize];
    ["Offset of field: Adam::live"][::core::mem::offset_of!(Adam, live) - 3904usize];
    ["Offset of field: Adam::skip"][::core::mem::offset_of!(Adam, skip) - 3912usize];
    ["Offset of field: Adam::scale"][::core::mem::offset_of!(Adam, scale) - 3920usize];
    ["Offset of field: Adam::tensors"][::core::mem::offset_of!(Adam, tensors) - 3928usize];
    ["Offset of field: Adam::unused"][::core::mem::offset_of!(Adam, unused) - 3932usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone, bytemuck::Pod, bytemuck::Zeroable)]
pub struct RmsProp {
    pub p: [u64; 64usize],
    pub g: [u64; 64usize],
    pub v: [u64; 64usize],
    pub mean: [u64; 64usize],
    pub buffer: [u64; 64usize],
    pub master: [u64; 64usize],
    pub count: [u64; 64usize],
    pub first: [u32; 64usize],
    pub numbers: [f64; 8usize],
    pub live: u64,
    pub skip: u64,
    pub scale: u64,
    pub tensors: u32,
    pub unused: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of RmsProp"][::core::mem::size_of::<RmsProp>() - 3936usize];
    ["Alignment of RmsProp"][::core::mem::align_of::<RmsProp>() - 8usize];
    ["Offset of field: RmsProp::p"][::core::mem::offset_of!(RmsProp, p) - 0usize];
    ["Offset of field: RmsProp::g"][::core::mem::offset_of!(RmsProp, g) - 512usize];
    ["Offset of field: RmsProp::v"][::core::mem::offset_of!(RmsProp, v) - 1024usize];
    ["Offset of field: RmsProp::mean"][::core::mem::offset_of!(RmsProp, mean) - 1536usize];
    ["Offset of field: RmsProp::buffer"][::core::mem::offset_of!(RmsProp, buffer) - 2048usize];
    ["Offset of field: RmsProp::master"][::core::mem::offset_of!(RmsProp, master) - 2560usize];
    ["Offset of field: RmsProp::count"][::core::mem::offset_of!(RmsProp, count) - 3072usize];
    ["Offset of field: RmsProp::first"][::core::mem::offset_of!(RmsProp, first) - 3584usize];
    ["Offset of field: RmsProp::numbers"][::core::mem::offset_of!(RmsProp, numbers) - 3840usize];
    ["Offset of field: RmsProp::live"][::core::mem::offset_of!(RmsProp, live) - 3904usize];
    ["Offset of field: RmsProp::skip"][::core::mem::offset_of!(RmsProp, skip) - 3912usize];
    ["Offset of field: RmsProp::scale"][::core::mem::offset_of!(RmsProp, scale) - 3920usize];
    ["Offset of field: RmsProp::tensors"][::core::mem::offset_of!(RmsProp, tensors) - 3928usize];
    ["Offset of field: RmsProp::unused"][::core::mem::offset_of!(RmsProp, unused) - 3932usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Adagrad {
    pub p: [u64; 64usize],
    pub g: [u64; 64usize],
    pub sum: [u64; 64usize],
    pub master: [u64; 64usize],
    pub count: [u64; 64usize],
    pub first: [u32; 64usize],
    pub numbers: [f64; 8usize],
    pub live: u64,
    pub skip: u64,
    pub scale: u64,
    pub tensors: u32,
    pub unused: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of Adagrad"][::core::mem::size_of::<Adagrad>() - 2912usize];
    ["Alignment of Adagrad"][::core::mem::align_of::<Adagrad>() - 8usize];
    ["Offset of field: Adagrad::p"][::core::mem::offset_of!(Adagrad, p) - 0usize];
    ["Offset of field: Adagrad::g"][::core::mem::offset_of!(Adagrad, g) - 512usize];
    ["Offset of field: Adagrad::sum"][::core::mem::offset_of!(Adagrad, sum) - 1024usize];
    ["Offset of field: Adagrad::master"][::core::mem::offset_of!(Adagrad, master) - 1536usize];
    ["Offset of field: Adagrad::count"][::core::mem::offset_of!(Adagrad, count) - 2048usize];
    ["Offset of field: Adagrad::first"][::core::mem::offset_of!(Adagrad, first) - 2560usize];
    ["Offset of field: Adagrad::numbers"][::core::mem::offset_of!(Adagrad, numbers) - 2816usize];
    ["Offset of field: Adagrad::live"][::core::mem::offset_of!(Adagrad, live) - 2880usize];
    ["Offset of field: Adagrad::skip"][::core::mem::offset_of!(Adagrad, skip) - 2888usize];
    ["Offset of field: Adagrad::scale"][::core::mem::offset_of!(Adagrad, scale) - 2896usize];
    ["Offset of field: Adagrad::tensors"][::core::mem::offset_of!(Adagrad, tensors) - 2904usize];
    ["Offset of field: Adagrad::unused"][::core::mem::offset_of!(Adagrad, unused) - 2908usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Advance {
    pub settings: u64,
    pub clocks: u64,
    pub skip: u64,
    pub count: u64,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of Advance"][::core::mem::size_of::<Advance>() - 32usize];
    ["Alignment of Advance"][::core::mem::align_of::<Advance>() - 8usize];
    ["Offset of field: Advance::settings"][::core::mem::offset_of!(Advance, settings) - 0usize];
    ["Offset of field: Advance::clocks"][::core::mem::offset_of!(Advance, clocks) - 8usize];
    ["Offset of field: Advance::skip"][::core::mem::offset_of!(Advance, skip) - 16usize];
    ["Offset of field: Advance::count"][::core::mem::offset_of!(Advance, count) - 24usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Unscale {
    pub x: [u64; 64usize],
    pub count: [u64; 64usize],
    pub first: [u32; 64usize],
    pub scale: u64,
    pub found: u64,
    pub tensors: u32,
    pub unused: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of Unscale"][::core::mem::size_of::<Unscale>() - 1304usize];
    ["Alignment of Unscale"][::core::mem::align_of::<Unscale>() - 8usize];
    ["Offset of field: Unscale::x"][::core::mem::offset_of!(Unscale, x) - 0usize];
    ["Offset of field: Unscale::count"][::core::mem::offset_of!(Unscale, count) - 512usize];
    ["Offset of field: Unscale::first"][::core::mem::offset_of!(Unscale, first) - 1024usize];
    ["Offset of field: Unscale::scale"][::core::mem::offset_of!(Unscale, scale) - 1280usize];
    ["Offset of field: Unscale::found"][::core::mem::offset_of!(Unscale, found) - 1288usize];
    ["Offset of field: Unscale::tensors"][::core::mem::offset_of!(Unscale, tensors) - 1296usize];
    ["Offset of field: Unscale::unused"][::core::mem::offset_of!(Unscale, unused) - 1300usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone, bytemuck::Pod, bytemuck::Zeroable)]
pub struct UpdateScale {
    pub scale: u64,
    pub steady: u64,
    pub found: u64,
    pub growth: f32,
    pub backoff: f32,
    pub interval: f32,
    pub unused: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of UpdateScale"][::core::mem::size_of::<UpdateScale>() - 40usize];
    ["Alignment of UpdateScale"][::core::mem::align_of::<UpdateScale>() - 8usize];
    ["Offset of field: UpdateScale::scale"][::core::mem::offset_of!(UpdateScale, scale) - 0usize];
    ["Offset of field: UpdateScale::steady"][::core::mem::offset_of!(UpdateScale, steady) - 8usize];
    ["Offset of field: UpdateScale::found"][::core::mem::offset_of!(UpdateScale, found) - 16usize];
    ["Offset of field: UpdateScale::growth"][::core::mem::offset_of!(UpdateScale, growth) - 24usize];
    ["Offset of field: UpdateScale::backoff"][::core::mem::offset_of!(UpdateScale, backoff) - 28usize];
    ["Offset of field: UpdateScale::interval"][::core::mem::offset_of!(UpdateScale, interval) - 32usize];
    ["Offset of field: UpdateScale::unused"][::core::mem::offset_of!(UpdateScale, unused) - 36usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone, bytemuck::Pod, bytemuck::Zeroable)]
pub struct NormParts {
    pub x: [u64; 64usize],
    pub count: [u64; 64usize],
    pub first: [u32; 64usize],
    pub parts: u64,
    pub p: f64,
    pub tensors: u32,
    pub op: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of NormParts"][::core::mem::size_of::<NormParts>() - 1304usize];
    ["Alignment of NormParts"][::core::mem::align_of::<NormParts>() - 8usize];
    ["Offset of field: NormParts::x"][::core::mem::offset_of!(NormParts, x) - 0usize];
    ["Offset of field: NormParts::count"][::core::mem::offset_of!(NormParts, count) - 512usize];
    ["Offset of field: NormParts::first"][::core::mem::offset_of!(NormParts, first) - 1024usize];
    ["Offset of field: NormParts::parts"][::core::mem::offset_of!(NormParts, parts) - 1280usize];
    ["Offset of field: NormParts::p"][::core::mem::offset_of!(NormParts, p) - 1288usize];
    ["Offset of field: NormParts::tensors"][::core::mem::offset_of!(NormParts, tensors) - 1296usize];
    ["Offset of field: NormParts::op"][::core::mem::offset_of!(NormParts, op) - 1300usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone, bytemuck::Pod, bytemuck::Zeroable)]
pub struct NormJoin {
    pub parts: u64,
    pub norm: u64,
    pub factor: u64,
    pub count: u64,
    pub p: f64,
    pub max_norm: f64,
    pub op: u32,
    pub unused: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of NormJoin"][::core::mem::size_of::<NormJoin>() - 56usize];
    ["Alignment of NormJoin"][::core::mem::align_of::<NormJoin>() - 8usize];
    ["Offset of field: NormJoin::parts"][::core::mem::offset_of!(NormJoin, parts) - 0usize];
    ["Offset of field: NormJoin::norm"][::core::mem::offset_of!(NormJoin, norm) - 8usize];
    ["Offset of field: NormJoin::factor"][::core::mem::offset_of!(NormJoin, factor) - 16usize];
    ["Offset of field: NormJoin::count"][::core::mem::offset_of!(NormJoin, count) - 24usize];
    ["Offset of field: NormJoin::p"][::core::mem::offset_of!(NormJoin, p) - 32usize];
    ["Offset of field: NormJoin::max_norm"][::core::mem::offset_of!(NormJoin, max_norm) - 40usize];
    ["Offset of field: NormJoin::op"][::core::mem::offset_of!(NormJoin, op) - 48usize];
    ["Offset of field: NormJoin::unused"][::core::mem::offset_of!(NormJoin, unused) - 52usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Scale {
    pub x: [u64; 64usize],
    pub count: [u64; 64usize],
    pub first: [u32; 64usize],
    pub factor: u64,
    pub tensors: u32,
    pub unused: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of Scale"][::core::mem::size_of::<Scale>() - 1296usize];
    ["Alignment of Scale"][::core::mem::align_of::<Scale>() - 8usize];
    ["Offset of field: Scale::x"][::core::mem::offset_of!(Scale, x) - 0usize];
    ["Offset of field: Scale::count"][::core::mem::offset_of!(Scale, count) - 512usize];
    ["Offset of field: Scale::first"][::core::mem::offset_of!(Scale, first) - 1024usize];
    ["Offset of field: Scale::factor"][::core::mem::offset_of!(Scale, factor) - 1280usize];
    ["Offset of field: Scale::tensors"][::core::mem::offset_of!(Scale, tensors) - 1288usize];
    ["Offset of field: Scale::unused"][::core::mem::offset_of!(Scale, unused) - 1292usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Clamp {
    pub x: [u64; 64usize],
    pub count: [u64; 64usize],
    pub first: [u32; 64usize],
    pub low: f64,
    pub high: f64,
    pub tensors: u32,
    pub unused: u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of Clamp"][::core::mem::size_of::<Clamp>() - 1304usize];
    ["Alignment of Clamp"][::core::mem::align_of::<Clamp>() - 8usize];
    ["Offset of field: Clamp::x"][::core::mem::offset_of!(Clamp, x) - 0usize];
    ["Offset of field: Clamp::count"][::core::mem::offset_of!(Clamp, count) - 512usize];
    ["Offset of field: Clamp::first"][::core::mem::offset_of!(Clamp, first) - 1024usize];
    ["Offset of field: Clamp::low"][::core::mem::offset_of!(Clamp, low) - 1280usize];
    ["Offset of field: Clamp::high"][::core::mem::offset_of!(Clamp, high) - 1288usize];
    ["Offset of field: Clamp::tensors"][::core::mem::offset_of!(Clamp, tensors) - 1296usize];
    ["Offset of field: Clamp::unused"][::core::mem::offset_of!(Clamp, unused) - 1300usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone, bytemuck::Pod, bytemuck::Zeroable)]
pub struct RecurrentRows {
    pub from: u64,
    pub to: u64,
    pub offsets: u64,
    pub sequences: u64,
    pub steps: u64,
    pub batch: u64,
    pub rows: u64,
    pub width: u64,
    pub step_stride: u64,
    pub sequence_stride: u64,
    pub vector: u64,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of RecurrentRows"][::core::mem::size_of::<RecurrentRows>() - 88usize];
    ["Alignment of RecurrentRows"][::core::mem::align_of::<RecurrentRows>() - 8usize];
    ["Offset of field: RecurrentRows::from"][::core::mem::offset_of!(RecurrentRows, from) - 0usize];
    ["Offset of field: RecurrentRows::to"][::core::mem::offset_of!(RecurrentRows, to) - 8usize];
    ["Offset of field: RecurrentRows::offsets"][::core::mem::offset_of!(RecurrentRows, offsets) - 16usize];
    ["Offset of field: RecurrentRows::sequences"][::core::mem::offset_of!(RecurrentRows, sequences) - 24usize];
    ["Offset of field: RecurrentRows::steps"][::core::mem::offset_of!(RecurrentRows, steps) - 32usize];
    ["Offset of field: RecurrentRows::batch"][::core::mem::offset_of!(RecurrentRows, batch) - 40usize];
    ["Offset of field: RecurrentRows::rows"][::core::mem::offset_of!(RecurrentRows, rows) - 48usize];
    ["Offset of field: RecurrentRows::width"][::core::mem::offset_of!(RecurrentRows, width) - 56usize];
    ["Offset of field: RecurrentRows::step_stride"][::core::mem::offset_of!(RecurrentRows, step_stride) - 64usize];
    ["Offset of field: RecurrentRows::sequence_stride"]
        [::core::mem::offset_of!(RecurrentRows, sequence_stride) - 72usize];
    ["Offset of field: RecurrentRows::vector"][::core::mem::offset_of!(RecurrentRows, vector) - 80usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone, bytemuck::Pod, bytemuck::Zeroable)]
pub struct RecurrentStates {
    pub from: u64,
    pub to: u64,
    pub offsets: u64,
    pub sequences: u64,
    pub steps: u64,
    pub count: u64,
    pub batch: u64,
    pub width: u64,
    pub stride: u64,
    pub last: u64,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of RecurrentStates"][::core::mem::size_of::<RecurrentStates>() - 80usize];
    ["Alignment of RecurrentStates"][::core::mem::align_of::<RecurrentStates>() - 8usize];
    ["Offset of field: RecurrentStates::from"][::core::mem::offset_of!(RecurrentStates, from) - 0usize];
    ["Offset of field: RecurrentStates::to"][::core::mem::offset_of!(RecurrentStates, to) - 8usize];
    ["Offset of field: RecurrentStates::offsets"][::core::mem::offset_of!(RecurrentStates, offsets) - 16usize];
    ["Offset of field: RecurrentStates::sequences"][::core::mem::offset_of!(RecurrentStates, sequences) - 24usize];
    ["Offset of field: RecurrentStates::steps"][::core::mem::offset_of!(RecurrentStates, steps) - 32usize];
    ["Offset of field: RecurrentStates::count"][::core::mem::offset_of!(RecurrentStates, count) - 40usize];
    ["Offset of field: RecurrentStates::batch"][::core::mem::offset_of!(RecurrentStates, batch) - 48usize];
    ["Offset of field: RecurrentStates::width"][::core::mem::offset_of!(RecurrentStates, width) - 56usize];
    ["Offset of field: RecurrentStates::stride"][::core::mem::offset_of!(RecurrentStates, stride) - 64usize];
    ["Offset of field: RecurrentStates::last"][::core::mem::offset_of!(RecurrentStates, last) - 72usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone, bytemuck::Pod, bytemuck::Zeroable)]
pub struct RecurrentBias {
    pub ih: u64,
    pub hh: u64,
    pub to: u64,
    pub gates: u64,
    pub hidden: u64,
    pub split: u64,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of RecurrentBias"][::core::mem::size_of::<RecurrentBias>() - 48usize];
    ["Alignment of RecurrentBias"][::core::mem::align_of::<RecurrentBias>() - 8usize];
    ["Offset of field: RecurrentBias::ih"][::core::mem::offset_of!(RecurrentBias, ih) - 0usize];
    ["Offset of field: RecurrentBias::hh"][::core::mem::offset_of!(RecurrentBias, hh) - 8usize];
    ["Offset of field: RecurrentBias::to"][::core::mem::offset_of!(RecurrentBias, to) - 16usize];
    ["Offset of field: RecurrentBias::gates"][::core::mem::offset_of!(RecurrentBias, gates) - 24usize];
    ["Offset of field: RecurrentBias::hidden"][::core::mem::offset_of!(RecurrentBias, hidden) - 32usize];
    ["Offset of field: RecurrentBias::split"][::core::mem::offset_of!(RecurrentBias, split) - 40usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone, bytemuck::Pod, bytemuck::Zeroable)]
pub struct RecurrentPrevious {
    pub y: u64,
    pub first: u64,
    pub to: u64,
    pub offsets: u64,
    pub steps: u64,
    pub batch: u64,
    pub rows: u64,
    pub width: u64,
    pub stride: u64,
    pub reverse: u64,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of RecurrentPrevious"][::core::mem::size_of::<RecurrentPrevious>() - 80usize];
    ["Alignment of RecurrentPrevious"][::core::mem::align_of::<RecurrentPrevious>() - 8usize];
    ["Offset of field: RecurrentPrevious::y"][::core::mem::offset_of!(RecurrentPrevious, y) - 0usize];
    ["Offset of field: RecurrentPrevious::first"][::core::mem::offset_of!(RecurrentPrevious, first) - 8usize];
    ["Offset of field: RecurrentPrevious::to"][::core::mem::offset_of!(RecurrentPrevious, to) - 16usize];
    ["Offset of field: RecurrentPrevious::offsets"][::core::mem::offset_of!(RecurrentPrevious, offsets) - 24usize];
    ["Offset of field: RecurrentPrevious::steps"][::core::mem::offset_of!(RecurrentPrevious, steps) - 32usize];
    ["Offset of field: RecurrentPrevious::batch"][::core::mem::offset_of!(RecurrentPrevious, batch) - 40usize];
    ["Offset of field: RecurrentPrevious::rows"][::core::mem::offset_of!(RecurrentPrevious, rows) - 48usize];
    ["Offset of field: RecurrentPrevious::width"][::core::mem::offset_of!(RecurrentPrevious, width) - 56usize];
    ["Offset of field: RecurrentPrevious::stride"][::core::mem::offset_of!(RecurrentPrevious, stride) - 64usize];
    ["Offset of field: RecurrentPrevious::reverse"][::core::mem::offset_of!(RecurrentPrevious, reverse) - 72usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone, bytemuck::Pod, bytemuck::Zeroable)]
pub struct RecurrentSums {
    pub from: u64,
    pub to: u64,
    pub rows: u64,
    pub width: u64,
    pub part: u64,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of RecurrentSums"][::core::mem::size_of::<RecurrentSums>() - 40usize];
    ["Alignment of RecurrentSums"][::core::mem::align_of::<RecurrentSums>() - 8usize];
    ["Offset of field: RecurrentSums::from"][::core::mem::offset_of!(RecurrentSums, from) - 0usize];
    ["Offset of field: RecurrentSums::to"][::core::mem::offset_of!(RecurrentSums, to) - 8usize];
    ["Offset of field: RecurrentSums::rows"][::core::mem::offset_of!(RecurrentSums, rows) - 16usize];
    ["Offset of field: RecurrentSums::width"][::core::mem::offset_of!(RecurrentSums, width) - 24usize];
    ["Offset of field: RecurrentSums::part"][::core::mem::offset_of!(RecurrentSums, part) - 32usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone, bytemuck::Pod, bytemuck::Zeroable)]
pub struct RecurrentPeephole {
    pub gates: u64,
    pub cells: u64,
    pub first: u64,
    pub to: u64,
    pub offsets: u64,
    pub steps: u64,
    pub batch: u64,
    pub rows: u64,
    pub hidden: u64,
    pub part: u64,
    pub reverse: u64,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of RecurrentPeephole"][::core::mem::size_of::<RecurrentPeephole>() - 88usize];
    ["Alignment of RecurrentPeephole"][::core::mem::align_of::<RecurrentPeephole>() - 8usize];
    ["Offset of field: RecurrentPeephole::gates"][::core::mem::offset_of!(RecurrentPeephole, gates) - 0usize];
    ["Offset of field: RecurrentPeephole::cells"][::core::mem::offset_of!(RecurrentPeephole, cells) - 8usize];
    ["Offset of field: RecurrentPeephole::first"][::core::mem::offset_of!(RecurrentPeephole, first) - 16usize];
    ["Offset of field: RecurrentPeephole::to"][::core::mem::offset_of!(RecurrentPeephole, to) - 24usize];
    ["Offset of field: RecurrentPeephole::offsets"][::core::mem::offset_of!(RecurrentPeephole, offsets) - 32usize];
    ["Offset of field: RecurrentPeephole::steps"][::core::mem::offset_of!(RecurrentPeephole, steps) - 40usize];
    ["Offset of field: RecurrentPeephole::batch"][::core::mem::offset_of!(RecurrentPeephole, batch) - 48usize];
    ["Offset of field: RecurrentPeephole::rows"][::core::mem::offset_of!(RecurrentPeephole, rows) - 56usize];
    ["Offset of field: RecurrentPeephole::hidden"][::core::mem::offset_of!(RecurrentPeephole, hidden) - 64usize];
    ["Offset of field: RecurrentPeephole::part"][::core::mem::offset_of!(RecurrentPeephole, part) - 72usize];
    ["Offset of field: RecurrentPeephole::reverse"][::core::mem::offset_of!(RecurrentPeephole, reverse) - 80usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone, bytemuck::Pod, bytemuck::Zeroable)]
pub struct RecurrentTotals {
    pub from: u64,
    pub to: u64,
    pub parts: u64,
    pub stride: u64,
    pub count: u64,
    pub add: u64,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of RecurrentTotals"][::core::mem::size_of::<RecurrentTotals>() - 48usize];
    ["Alignment of RecurrentTotals"][::core::mem::align_of::<RecurrentTotals>() - 8usize];
    ["Offset of field: RecurrentTotals::from"][::core::mem::offset_of!(RecurrentTotals, from) - 0usize];
    ["Offset of field: RecurrentTotals::to"][::core::mem::offset_of!(RecurrentTotals, to) - 8usize];
    ["Offset of field: RecurrentTotals::parts"][::core::mem::offset_of!(RecurrentTotals, parts) - 16usize];
    ["Offset of field: RecurrentTotals::stride"][::core::mem::offset_of!(RecurrentTotals, stride) - 24usize];
    ["Offset of field: RecurrentTotals::count"][::core::mem::offset_of!(RecurrentTotals, count) - 32usize];
    ["Offset of field: RecurrentTotals::add"][::core::mem::offset_of!(RecurrentTotals, add) - 40usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone, bytemuck::Pod, bytemuck::Zeroable)]
pub struct RecurrentProjected {
    pub dh: u64,
    pub dy: u64,
    pub to: u64,
    pub count: u64,
    pub width: u64,
    pub stride: u64,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of RecurrentProjected"][::core::mem::size_of::<RecurrentProjected>() - 48usize];
    ["Alignment of RecurrentProjected"][::core::mem::align_of::<RecurrentProjected>() - 8usize];
    ["Offset of field: RecurrentProjected::dh"][::core::mem::offset_of!(RecurrentProjected, dh) - 0usize];
    ["Offset of field: RecurrentProjected::dy"][::core::mem::offset_of!(RecurrentProjected, dy) - 8usize];
    ["Offset of field: RecurrentProjected::to"][::core::mem::offset_of!(RecurrentProjected, to) - 16usize];
    ["Offset of field: RecurrentProjected::count"][::core::mem::offset_of!(RecurrentProjected, count) - 24usize];
    ["Offset of field: RecurrentProjected::width"][::core::mem::offset_of!(RecurrentProjected, width) - 32usize];
    ["Offset of field: RecurrentProjected::stride"][::core::mem::offset_of!(RecurrentProjected, stride) - 40usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone, bytemuck::Pod, bytemuck::Zeroable)]
pub struct RecurrentStep {
    pub pre: u64,
    pub gates: u64,
    pub q: u64,
    pub kept: u64,
    pub bias: u64,
    pub c_before: u64,
    pub c_first: u64,
    pub c: u64,
    pub h_before: u64,
    pub h_first: u64,
    pub y: u64,
    pub peephole: u64,
    pub count: u64,
    pub before: u64,
    pub hidden: u64,
    pub stride: u64,
    pub vector: u64,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of RecurrentStep"][::core::mem::size_of::<RecurrentStep>() - 136usize];
    ["Alignment of RecurrentStep"][::core::mem::align_of::<RecurrentStep>() - 8usize];
    ["Offset of field: RecurrentStep::pre"][::core::mem::offset_of!(RecurrentStep, pre) - 0usize];
    ["Offset of field: RecurrentStep::gates"][::core::mem::offset_of!(RecurrentStep, gates) - 8usize];
    ["Offset of field: RecurrentStep::q"][::core::mem::offset_of!(RecurrentStep, q) - 16usize];
    ["Offset of field: RecurrentStep::kept"][::core::mem::offset_of!(RecurrentStep, kept) - 24usize];
    ["Offset of field: RecurrentStep::bias"][::core::mem::offset_of!(RecurrentStep, bias) - 32usize];
    ["Offset of field: RecurrentStep::c_before"][::core::mem::offset_of!(RecurrentStep, c_before) - 40usize];
    ["Offset of field: RecurrentStep::c_first"][::core::mem::offset_of!(RecurrentStep, c_first) - 48usize];
    ["Offset of field: RecurrentStep::c"][::core::mem::offset_of!(RecurrentStep, c) - 56usize];
    ["Offset of field: RecurrentStep::h_before"][::core::mem::offset_of!(RecurrentStep, h_before) - 64usize];
    ["Offset of field: RecurrentStep::h_first"][::core::mem::offset_of!(RecurrentStep, h_first) - 72usize];
    ["Offset of field: RecurrentStep::y"][::core::mem::offset_of!(RecurrentStep, y) - 80usize];
    ["Offset of field: RecurrentStep::peephole"][::core::mem::offset_of!(RecurrentStep, peephole) - 88usize];
    ["Offset of field: RecurrentStep::count"][::core::mem::offset_of!(RecurrentStep, count) - 96usize];
    ["Offset of field: RecurrentStep::before"][::core::mem::offset_of!(RecurrentStep, before) - 104usize];
    ["Offset of field: RecurrentStep::hidden"][::core::mem::offset_of!(RecurrentStep, hidden) - 112usize];
    ["Offset of field: RecurrentStep::stride"][::core::mem::offset_of!(RecurrentStep, stride) - 120usize];
    ["Offset of field: RecurrentStep::vector"][::core::mem::offset_of!(RecurrentStep, vector) - 128usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone, bytemuck::Pod, bytemuck::Zeroable)]
pub struct RecurrentStepBackward {
    pub gates: u64,
    pub q: u64,
    pub c: u64,
    pub c_before: u64,
    pub c_first: u64,
    pub h_before: u64,
    pub h_first: u64,
    pub dy: u64,
    pub dh: u64,
    pub dc: u64,
    pub peephole: u64,
    pub count: u64,
    pub before: u64,
    pub hidden: u64,
    pub stride: u64,
    pub vector: u64,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of RecurrentStepBackward"][::core::mem::size_of::<RecurrentStepBackward>() - 128usize];
    ["Alignment of RecurrentStepBackward"][::core::mem::align_of::<RecurrentStepBackward>() - 8usize];
    ["Offset of field: RecurrentStepBackward::gates"][::core::mem::offset_of!(RecurrentStepBackward, gates) - 0usize];
    ["Offset of field: RecurrentStepBackward::q"][::core::mem::offset_of!(RecurrentStepBackward, q) - 8usize];
    ["Offset of field: RecurrentStepBackward::c"][::core::mem::offset_of!(RecurrentStepBackward, c) - 16usize];
    ["Offset of field: RecurrentStepBackward::c_before"]
        [::core::mem::offset_of!(RecurrentStepBackward, c_before) - 24usize];
    ["Offset of field: RecurrentStepBackward::c_first"]
        [::core::mem::offset_of!(RecurrentStepBackward, c_first) - 32usize];
    ["Offset of field: RecurrentStepBackward::h_before"]
        [::core::mem::offset_of!(RecurrentStepBackward, h_before) - 40usize];
    ["Offset of field: RecurrentStepBackward::h_first"]
        [::core::mem::offset_of!(RecurrentStepBackward, h_first) - 48usize];
    ["Offset of field: RecurrentStepBackward::dy"][::core::mem::offset_of!(RecurrentStepBackward, dy) - 56usize];
    ["Offset of field: RecurrentStepBackward::dh"][::core::mem::offset_of!(RecurrentStepBackward, dh) - 64usize];
    ["Offset of field: RecurrentStepBackward::dc"][::core::mem::offset_of!(RecurrentStepBackward, dc) - 72usize];
    ["Offset of field: RecurrentStepBackward::peephole"]
        [::core::mem::offset_of!(RecurrentStepBackward, peephole) - 80usize];
    ["Offset of field: RecurrentStepBackward::count"][::core::mem::offset_of!(RecurrentStepBackward, count) - 88usize];
    ["Offset of field: RecurrentStepBackward::before"]
        [::core::mem::offset_of!(RecurrentStepBackward, before) - 96usize];
    ["Offset of field: RecurrentStepBackward::hidden"]
        [::core::mem::offset_of!(RecurrentStepBackward, hidden) - 104usize];
    ["Offset of field: RecurrentStepBackward::stride"]
        [::core::mem::offset_of!(RecurrentStepBackward, stride) - 112usize];
    ["Offset of field: RecurrentStepBackward::vector"]
        [::core::mem::offset_of!(RecurrentStepBackward, vector) - 120usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone, bytemuck::Pod, bytemuck::Zeroable)]
pub struct PersistentPass {
    pub weight: u64,
    pub weight_second: u64,
    pub bias: u64,
    pub peephole: u64,
    pub pre: u64,
    pub gates: u64,
    pub cells: u64,
    pub kept: u64,
    pub exchange: u64,
    pub initial: u64,
    pub y: u64,
    pub h_first: u64,
    pub c_first: u64,
    pub dy: u64,
    pub dh: u64,
    pub dc: u64,
    pub reverse: u64,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of PersistentPass"][::core::mem::size_of::<PersistentPass>() - 136usize];
    ["Alignment of PersistentPass"][::core::mem::align_of::<PersistentPass>() - 8usize];
    ["Offset of field: PersistentPass::weight"][::core::mem::offset_of!(PersistentPass, weight) - 0usize];
    ["Offset of field: PersistentPass::weight_second"][::core::mem::offset_of!(PersistentPass, weight_second) - 8usize];
    ["Offset of field: PersistentPass::bias"][::core::mem::offset_of!(PersistentPass, bias) - 16usize];
    ["Offset of field: PersistentPass::peephole"][::core::mem::offset_of!(PersistentPass, peephole) - 24usize];
    ["Offset of field: PersistentPass::pre"][::core::mem::offset_of!(PersistentPass, pre) - 32usize];
    ["Offset of field: PersistentPass::gates"][::core::mem::offset_of!(PersistentPass, gates) - 40usize];
    ["Offset of field: PersistentPass::cells"][::core::mem::offset_of!(PersistentPass, cells) - 48usize];
    ["Offset of field: PersistentPass::kept"][::core::mem::offset_of!(PersistentPass, kept) - 56usize];
    ["Offset of field: PersistentPass::exchange"][::core::mem::offset_of!(PersistentPass, exchange) - 64usize];
    ["Offset of field: PersistentPass::initial"][::core::mem::offset_of!(PersistentPass, initial) - 72usize];
    ["Offset of field: PersistentPass::y"][::core::mem::offset_of!(PersistentPass, y) - 80usize];
    ["Offset of field: PersistentPass::h_first"][::core::mem::offset_of!(PersistentPass, h_first) - 88usize];
    ["Offset of field: PersistentPass::c_first"][::core::mem::offset_of!(PersistentPass, c_first) - 96usize];
    ["Offset of field: PersistentPass::dy"][::core::mem::offset_of!(PersistentPass, dy) - 104usize];
    ["Offset of field: PersistentPass::dh"][::core::mem::offset_of!(PersistentPass, dh) - 112usize];
    ["Offset of field: PersistentPass::dc"][::core::mem::offset_of!(PersistentPass, dc) - 120usize];
    ["Offset of field: PersistentPass::reverse"][::core::mem::offset_of!(PersistentPass, reverse) - 128usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone, bytemuck::Pod, bytemuck::Zeroable)]
pub struct PersistentExchange {
    pub exchange: u64,
    pub initial: u64,
    pub first: u64,
    pub rows: u64,
    pub gates: u64,
    pub hidden: u64,
    pub padded: u64,
    pub batch: u64,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of PersistentExchange"][::core::mem::size_of::<PersistentExchange>() - 64usize];
    ["Alignment of PersistentExchange"][::core::mem::align_of::<PersistentExchange>() - 8usize];
    ["Offset of field: PersistentExchange::exchange"][::core::mem::offset_of!(PersistentExchange, exchange) - 0usize];
    ["Offset of field: PersistentExchange::initial"][::core::mem::offset_of!(PersistentExchange, initial) - 8usize];
    ["Offset of field: PersistentExchange::first"][::core::mem::offset_of!(PersistentExchange, first) - 16usize];
    ["Offset of field: PersistentExchange::rows"][::core::mem::offset_of!(PersistentExchange, rows) - 24usize];
    ["Offset of field: PersistentExchange::gates"][::core::mem::offset_of!(PersistentExchange, gates) - 32usize];
    ["Offset of field: PersistentExchange::hidden"][::core::mem::offset_of!(PersistentExchange, hidden) - 40usize];
    ["Offset of field: PersistentExchange::padded"][::core::mem::offset_of!(PersistentExchange, padded) - 48usize];
    ["Offset of field: PersistentExchange::batch"][::core::mem::offset_of!(PersistentExchange, batch) - 56usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone, bytemuck::Pod, bytemuck::Zeroable)]
pub struct PersistentForward {
    pub pass: [PersistentPass; 2usize],
    pub offsets: u64,
    pub flags: u64,
    pub steps: u64,
    pub batch: u64,
    pub hidden: u64,
    pub output: u64,
    pub stride: u64,
    pub cell: u64,
    pub passes: u64,
    pub groups: u64,
    pub group: u64,
    pub tiles: u64,
    pub members: u64,
    pub units: u64,
    pub outputs: u64,
    pub training: u64,
    pub exact: u64,
    pub vector: u64,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of PersistentForward"][::core::mem::size_of::<PersistentForward>() - 416usize];
    ["Alignment of PersistentForward"][::core::mem::align_of::<PersistentForward>() - 8usize];
    ["Offset of field: PersistentForward::pass"][::core::mem::offset_of!(PersistentForward, pass) - 0usize];
    ["Offset of field: PersistentForward::offsets"][::core::mem::offset_of!(PersistentForward, offsets) - 272usize];
    ["Offset of field: PersistentForward::flags"][::core::mem::offset_of!(PersistentForward, flags) - 280usize];
    ["Offset of field: PersistentForward::steps"][::core::mem::offset_of!(PersistentForward, steps) - 288usize];
    ["Offset of field: PersistentForward::batch"][::core::mem::offset_of!(PersistentForward, batch) - 296usize];
    ["Offset of field: PersistentForward::hidden"][::core::mem::offset_of!(PersistentForward, hidden) - 304usize];
    ["Offset of field: PersistentForward::output"][::core::mem::offset_of!(PersistentForward, output) - 312usize];
    ["Offset of field: PersistentForward::stride"][::core::mem::offset_of!(PersistentForward, stride) - 320usize];
    ["Offset of field: PersistentForward::cell"][::core::mem::offset_of!(PersistentForward, cell) - 328usize];
    ["Offset of field: PersistentForward::passes"][::core::mem::offset_of!(PersistentForward, passes) - 336usize];
    ["Offset of field: PersistentForward::groups"][::core::mem::offset_of!(PersistentForward, groups) - 344usize];
    ["Offset of field: PersistentForward::group"][::core::mem::offset_of!(PersistentForward, group) - 352usize];
    ["Offset of field: PersistentForward::tiles"][::core::mem::offset_of!(PersistentForward, tiles) - 360usize];
    ["Offset of field: PersistentForward::members"][::core::mem::offset_of!(PersistentForward, members) - 368usize];
    ["Offset of field: PersistentForward::units"][::core::mem::offset_of!(PersistentForward, units) - 376usize];
    ["Offset of field: PersistentForward::outputs"][::core::mem::offset_of!(PersistentForward, outputs) - 384usize];
    ["Offset of field: PersistentForward::training"][::core::mem::offset_of!(PersistentForward, training) - 392usize];
    ["Offset of field: PersistentForward::exact"][::core::mem::offset_of!(PersistentForward, exact) - 400usize];
    ["Offset of field: PersistentForward::vector"][::core::mem::offset_of!(PersistentForward, vector) - 408usize];
};
#[repr(C)]
#[derive(Debug, Copy, Clone, bytemuck::Pod, bytemuck::Zeroable)]
pub struct PersistentBackward {
    pub pass: [PersistentPass; 2usize],
    pub offsets: u64,
    pub flags: u64,
    pub steps: u64,
    pub batch: u64,
    pub hidden: u64,
    pub output: u64,
    pub stride: u64,
    pub cell: u64,
    pub passes: u64,
    pub groups: u64,
    pub group: u64,
    pub tiles: u64,
    pub members: u64,
    pub units: u64,
    pub outputs: u64,
    pub exact: u64,
    pub vector: u64,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of PersistentBackward"][::core::mem::size_of::<PersistentBackward>() - 408usize];
    ["Alignment of PersistentBackward"][::core::mem::align_of::<PersistentBackward>() - 8usize];
    ["Offset of field: PersistentBackward::pass"][::core::mem::offset_of!(PersistentBackward, pass) - 0usize];
    ["Offset of field: PersistentBackward::offsets"][::core::mem::offset_of!(PersistentBackward, offsets) - 272usize];
    ["Offset of field: PersistentBackward::flags"][::core::mem::offset_of!(PersistentBackward, flags) - 280usize];
    ["Offset of field: PersistentBackward::steps"][::core::mem::offset_of!(PersistentBackward, steps) - 288usize];
    ["Offset of field: PersistentBackward::batch"][::core::mem::offset_of!(PersistentBackward, batch) - 296usize];
    ["Offset of field: PersistentBackward::hidden"][::core::mem::offset_of!(PersistentBackward, hidden) - 304usize];
    ["Offset of field: PersistentBackward::output"][::core::mem::offset_of!(PersistentBackward, output) - 312usize];
    ["Offset of field: PersistentBackward::stride"][::core::mem::offset_of!(PersistentBackward, stride) - 320usize];
    ["Offset of field: PersistentBackward::cell"][::core::mem::offset_of!(PersistentBackward, cell) - 328usize];
    ["Offset of field: PersistentBackward::passes"][::core::mem::offset_of!(PersistentBackward, passes) - 336usize];
    ["Offset of field: PersistentBackward::groups"][::core::mem::offset_of!(PersistentBackward, groups) - 344usize];
    ["Offset of field: PersistentBackward::group"][::core::mem::offset_of!(PersistentBackward, group) - 352usize];
    ["Offset of field: PersistentBackward::tiles"][::core::mem::offset_of!(PersistentBackward, tiles) - 360usize];
    ["Offset of field: PersistentBackward::members"][::core::mem::offset_of!(PersistentBackward, members) - 368usize];
    ["Offset of field: PersistentBackward::units"][::core::mem::offset_of!(PersistentBackward, units) - 376usize];
    ["Offset of field: PersistentBackward::outputs"][::core::mem::offset_of!(PersistentBackward, outputs) - 384usize];
    ["Offset of field: PersistentBackward::exact"][::core::mem::offset_of!(PersistentBackward, exact) - 392usize];
    ["Offset of field: PersistentBackward::vector"][::core::mem::offset_of!(PersistentBackward, vector) - 400usize];
};
