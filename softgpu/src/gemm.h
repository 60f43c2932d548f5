// The arithmetic of cuBLAS here: C = alpha op(A) op(B) + beta C, column by column.
#pragma once

#include <cstdint>

enum class Type { f16, bf16, f32, f64 };
struct Matrix {
    const void* at;
    Type type;
    int64_t rows, columns, stride;  // as stored; `stride` from column to column
    bool transposed;
};
// op(A) is m by k, op(B) k by n, C m by n. Sums in f64 where `wide`, else in f32. `tf32`: f32 factors lose 13 bits first.
void multiply(int64_t m, int64_t n, int64_t k, double alpha, const Matrix& a, const Matrix& b, double beta, void* c, Type type_c,
              int64_t stride_c, bool wide, bool tf32);
// C = alpha sums + beta C, of sums that lie column by column as they are computed, f64 or f32.
void finish(int64_t m, int64_t n, double alpha, const void* sums, double beta, void* c, Type type_c, int64_t stride_c, bool wide);
double half_value(unsigned short bits);
