// A blocked matrix product: panels of A and B are widened and packed, and a small tile of C is kept in registers. The order
// of every sum depends on the shape alone. Fast enough for tests; see the README for what it is not.
#include "gemm.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>

// The conversions are those of the kernels.
#include "softgpu.h"
#include "device/number.cuh"

namespace {
#if defined(__AVX512F__)
constexpr int vector_bytes = 64;
#elif defined(__AVX__)
constexpr int vector_bytes = 32;
#else
constexpr int vector_bytes = 16;
#endif

template <class T> struct Vector;
template <> struct Vector<float> { typedef float type __attribute__((vector_size(vector_bytes), aligned(alignof(float)))); };
template <> struct Vector<double> { typedef double type __attribute__((vector_size(vector_bytes), aligned(alignof(double)))); };

// A tile: `mr` rows (two vectors) by `nr` columns.
template <class T> constexpr int mr = 2 * vector_bytes / int(sizeof(T));
constexpr int nr = 6, kc = 256, mc_tiles = 8, nc_tiles = 64;

inline float to_tf32(float x) {
    uint32_t bits = bits_of_float(x);
    if ((bits & 0x7f800000) == 0x7f800000) return x;
    return float_of_bits((bits + 0x1000) & 0xffffe000);
}

template <class T>
T read(const void* at, Type type, int64_t i, bool tf32) {
    switch (type) {
        case Type::f16: return T(widen(static_cast<const f16*>(at)[i]));
        case Type::bf16: return T(widen(static_cast<const bf16*>(at)[i]));
        case Type::f32: return tf32 ? T(to_tf32(static_cast<const float*>(at)[i])) : T(static_cast<const float*>(at)[i]);
        default: return T(static_cast<const double*>(at)[i]);
    }
}
template <class T>
void write(void* at, Type type, int64_t i, T value) {
    switch (type) {
        case Type::f16: static_cast<f16*>(at)[i] = narrow<f16>(float(value)); break;
        case Type::bf16: static_cast<bf16*>(at)[i] = narrow<bf16>(float(value)); break;
        case Type::f32: static_cast<float*>(at)[i] = float(value); break;
        default: static_cast<double*>(at)[i] = double(value);
    }
}

// Packs `lines` lines of length `length` from (line, step) on into panels of `width` lines, step by step, zeros to the end.
template <class T, class Read>
void pack(T* to, int64_t lines, int64_t length, int width, Read&& element, bool steps_adjacent) {
    for (int64_t first = 0; first < lines; first += width, to += width * length) {
        int there = int(std::min<int64_t>(width, lines - first));
        if (there < width) std::memset(to, 0, sizeof(T) * size_t(width) * size_t(length));
        if (steps_adjacent)
            for (int line = 0; line < there; ++line)
                for (int64_t step = 0; step < length; ++step) to[step * width + line] = element(first + line, step);
        else
            for (int64_t step = 0; step < length; ++step)
                for (int line = 0; line < there; ++line) to[step * width + line] = element(first + line, step);
    }
}

template <class T, class Source>
void pack_matrix(T* to, const Matrix& m, bool rows_are_lines, int64_t line0, int64_t step0, int64_t lines, int64_t length, int width, Source read_at) {
    // Element (line, step) lies at line + step * stride, or the other way round.
    bool steps_adjacent = rows_are_lines == m.transposed;
    int64_t by_line = steps_adjacent ? m.stride : 1, by_step = steps_adjacent ? 1 : m.stride;
    pack(to, lines, length, width, [&](int64_t l, int64_t s) { return read_at((line0 + l) * by_line + (step0 + s) * by_step); }, steps_adjacent);
}
template <class T>
void pack_any(T* to, const Matrix& m, bool rows_are_lines, int64_t line0, int64_t step0, int64_t lines, int64_t length, int width, bool tf32) {
    auto go = [&](auto read_at) { pack_matrix(to, m, rows_are_lines, line0, step0, lines, length, width, read_at); };
    if (m.type == Type::f32 && !tf32) go([at = static_cast<const float*>(m.at)](int64_t i) { return T(at[i]); });
    else if (m.type == Type::f64) go([at = static_cast<const double*>(m.at)](int64_t i) { return T(at[i]); });
    else if (m.type == Type::bf16) go([at = static_cast<const bf16*>(m.at)](int64_t i) { return T(widen(at[i])); });
    else go([&](int64_t i) { return read<T>(m.at, m.type, i, tf32); });
}

template <class T>
void tile(const T* a, const T* b, int64_t k, T* sums, int64_t stride) {
    using V = typename Vector<T>::type;
    V acc[nr][2] = {};
    constexpr int half = mr<T> / 2;
    for (int64_t step = 0; step < k; ++step, a += mr<T>, b += nr) {
        V low = *reinterpret_cast<const V*>(a), high = *reinterpret_cast<const V*>(a + half);
#pragma GCC unroll 6
        for (int j = 0; j < nr; ++j) {
            acc[j][0] += low * b[j];
            acc[j][1] += high * b[j];
        }
    }
    for (int j = 0; j < nr; ++j) {
        *reinterpret_cast<V*>(sums + j * stride) += acc[j][0];
        *reinterpret_cast<V*>(sums + j * stride + half) += acc[j][1];
    }
}

struct Free { void operator()(void* at) const { std::free(at); } };
template <class T>
std::unique_ptr<T, Free> buffer(size_t n) { return std::unique_ptr<T, Free>(static_cast<T*>(std::aligned_alloc(64, (n * sizeof(T) + 63) / 64 * 64))); }

template <class T>
void finish_one(double alpha, T sum, double beta, void* c, Type type_c, int64_t at) {
    T value = T(alpha) * sum;
    if (beta != 0) value += T(beta) * read<T>(c, type_c, at, false);  // with beta 0, C is not read
    write(c, type_c, at, value);
}

template <class T>
void product(int64_t m, int64_t n, int64_t k, double alpha, const Matrix& a, const Matrix& b, double beta, void* c, Type type_c, int64_t stride_c, bool tf32) {
    constexpr int mc = mr<T> * mc_tiles, nc = nr * nc_tiles;
    auto packed_a = buffer<T>(size_t(mc) * kc), packed_b = buffer<T>(size_t(nc) * kc), sums = buffer<T>(size_t(mc) * nc);
    for (int64_t j0 = 0; j0 < n; j0 += nc) {
        int64_t columns = std::min<int64_t>(nc, n - j0);
        for (int64_t i0 = 0; i0 < m; i0 += mc) {
            int64_t rows = std::min<int64_t>(mc, m - i0);
            std::memset(sums.get(), 0, sizeof(T) * size_t(mc) * size_t((columns + nr - 1) / nr * nr));
            for (int64_t p0 = 0; p0 < k; p0 += kc) {
                int64_t depth = std::min<int64_t>(kc, k - p0);
                pack_any(packed_a.get(), a, true, i0, p0, rows, depth, mr<T>, tf32);
                // B's panel is the same for every i0; where k is short it is packed once.
                if (i0 == 0 || k > kc) pack_any(packed_b.get(), b, false, j0, p0, columns, depth, nr, tf32);
                for (int64_t j = 0; j < columns; j += nr)
                    for (int64_t i = 0; i < rows; i += mr<T>)
                        tile(packed_a.get() + i * depth, packed_b.get() + j * depth, depth, sums.get() + j * mc + i, mc);
            }
            for (int64_t j = 0; j < columns; ++j)
                for (int64_t i = 0; i < rows; ++i) {
                    finish_one(alpha, sums.get()[j * mc + i], beta, c, type_c, (j0 + j) * stride_c + i0 + i);
                }
        }
    }
}
}  // namespace

void multiply(int64_t m, int64_t n, int64_t k, double alpha, const Matrix& a, const Matrix& b, double beta, void* c, Type type_c,
              int64_t stride_c, bool wide, bool tf32) {
    if (wide) product<double>(m, n, k, alpha, a, b, beta, c, type_c, stride_c, false);
    else product<float>(m, n, k, alpha, a, b, beta, c, type_c, stride_c, tf32);
}

void finish(int64_t m, int64_t n, double alpha, const void* sums, double beta, void* c, Type type_c, int64_t stride_c, bool wide) {
    for (int64_t j = 0; j < n; ++j)
        for (int64_t i = 0; i < m; ++i) {
            if (wide) finish_one(alpha, static_cast<const double*>(sums)[j * m + i], beta, c, type_c, j * stride_c + i);
            else finish_one(alpha, static_cast<const float*>(sums)[j * m + i], beta, c, type_c, j * stride_c + i);
        }
}

double half_value(unsigned short bits) { return double(widen(f16{bits})); }
