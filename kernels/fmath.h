/* fmath.h - exp, log, sin, cos and pow of our own: the same bits on every machine and libc.
 * Only IEEE +, -, *, /, fma, sqrt and rint are used. Errors are bounded in docs/numerics.md. */
#ifndef PACELINE_KERNELS_FMATH_H
#define PACELINE_KERNELS_FMATH_H

float fmath_exp(float x);                       /* 0 below about -104, +inf above about 88.7 */
double fmath_log(double x);                     /* natural; x > 0 */
double fmath_pow(double base, double exponent); /* base > 0 */
void fmath_sincos(double x, double *ret_sin, double *ret_cos); /* |x| up to 1e7 */

#endif
