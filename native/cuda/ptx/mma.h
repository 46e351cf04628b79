#pragma once
#include "native/cuda/ptx/thread.h"

/**
 * Tensor-core operations of a warp (sm_80). Fragments of m16n8k16, lane = 4 g + t: a[0..3] hold rows g, g+8, g, g+8 and
 * columns 2t, 2t+1 (+8 for a[2], a[3]); b[0..1] hold k rows 2t, 2t+1 (+8) of column g; d[0..3] hold rows g, g, g+8, g+8
 * and columns 2t, 2t+1.
 */
namespace thalweg::cuda {

/** Four 8x8 matrices of 16-bit elements; lane 8 m + r gives the address of row r of matrix m (16-byte aligned). */
DEVICE void load_matrix_x4(uint32_t (&r)[4], const void* row) {
#if defined(__CUDACC__)
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
#else
  simt::load_matrices(r, row, 4, false);
#endif
}

/** The same, each matrix transposed. */
DEVICE void load_matrix_x4_transposed(uint32_t (&r)[4], const void* row) {
#if defined(__CUDACC__)
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
#else
  simt::load_matrices(r, row, 4, true);
#endif
}

/** The inverse of load_matrix_x4 (sm_90). */
DEVICE void store_matrix_x4(void* row, const uint32_t (&r)[4]) {
#if defined(__CUDACC__)
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1,%2,%3,%4};" ::"r"(shared_address(row)), "r"(r[0]),
               "r"(r[1]), "r"(r[2]), "r"(r[3])
               : "memory");
#else
  simt::store_matrices(row, r, 4, false);
#endif
}

DEVICE void store_matrix_x4_transposed(void* row, const uint32_t (&r)[4]) {
#if defined(__CUDACC__)
  asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1,%2,%3,%4};" ::"r"(shared_address(row)),
               "r"(r[0]), "r"(r[1]), "r"(r[2]), "r"(r[3])
               : "memory");
#else
  simt::store_matrices(row, r, 4, true);
#endif
}

/** d [16, 8] += a [16, 16] b [16, 8]: bf16 products, fp32 sums. */
DEVICE void mma_m16n8k16(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
#if defined(__CUDACC__)
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#else
  const uint32_t b[2] = {b0, b1};
  simt::mma_m16n8k16(d, a, b);
#endif
}

}  // namespace thalweg::cuda
