/* fmath_exp.h - the constants of the float exponential, which every instruction set's file
 * evaluates with the same operations as fmath_exp() (docs/numerics.md, section 8). */
#ifndef PACELINE_KERNELS_FMATH_EXP_H
#define PACELINE_KERNELS_FMATH_EXP_H

#define EXP_LOWEST     -104.0f /* e^x rounds to 0 here ... */
#define EXP_HIGHEST    89.0f   /* ... and to infinity here */
#define EXP_LOG2E      0x1.715476p+0f
#define EXP_ROUND      0x1.8p+23f /* adding it rounds to an integer */
#define EXP_ROUND_BITS 0x4b400000u
#define EXP_LN2_HIGH   0x1.62e43p-1f
#define EXP_LN2_LOW    -0x1.05c61p-29f
/* (e^r - 1 - r) / r² on |r| ≤ ln(2)/2, to 1.1e-8 of e^r */
#define EXP_C0 0.5f
#define EXP_C1 0x1.5554dcp-3f
#define EXP_C2 0x1.55551ap-5f
#define EXP_C3 0x1.120ba2p-7f
#define EXP_C4 0x1.6d113cp-10f

#endif
