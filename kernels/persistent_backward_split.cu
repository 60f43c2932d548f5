// A layer's steps backward with one product each, whose depth the blocks of clusters share out (sm_90), in one cooperative launch of them; see
// persistent_backward_once.cuh. Of halves: of f32 a block's registers hold no weights, and its shared memory no more so than without.
#include "persistent_backward_once.cuh"

// As in persistent_forward_cluster.cu.
#if defined(SOFTGPU) || !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
#define BACKWARD_OF(T, kind, KIND, columns, units, split)                                                                   \
    KERNEL_ALONE(persistent_backward_##kind##columns##x##units##x##split##_##T, PersistentBackward, 256) {                  \
        backward<T, KIND, columns / 8, units, split>(p);                                                                    \
    }
#define BACKWARD(T, columns, units, split)                                                                                  \
    BACKWARD_OF(T, rnn, RNN, columns, units, split)                                                                         \
    BACKWARD_OF(T, lstm, LSTM, columns, units, split)                                                                       \
    BACKWARD_OF(T, gru, GRU, columns, units, split)
#define BACKWARDS(T, split) BACKWARD(T, 8, 16, split) BACKWARD(T, 16, 16, split) BACKWARD(T, 8, 32, split)
BACKWARDS(f16, 2)
BACKWARDS(f16, 4)
BACKWARDS(bf16, 2)
BACKWARDS(bf16, 4)
#endif
