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
double half_value(unsigned short bits);
