// A layer's steps backward with one product each, in one cooperative launch; see persistent_backward_once.cuh.
#include "persistent_backward_once.cuh"

#define BACKWARD_OF(T, kind, KIND, columns, units)                                                                          \
    KERNEL_ALONE(persistent_backward_##kind##columns##x##units##_##T, PersistentBackward, 256) { backward<T, KIND, columns / 8, units>(p); }
#define BACKWARD(T, columns, units)                                                                                         \
    BACKWARD_OF(T, rnn, RNN, columns, units) BACKWARD_OF(T, lstm, LSTM, columns, units) BACKWARD_OF(T, gru, GRU, columns, units)
#define BACKWARDS(T) BACKWARD(T, 8, 16) BACKWARD(T, 16, 16) BACKWARD(T, 8, 32)
BACKWARDS(f32)
BACKWARDS(f16)
BACKWARDS(bf16)
