/* machine_limits.h - what this machine can do at most, measured: how fast it reads memory, how many
 * int8 and f32 multiply-adds it makes. The benches of this folder print their shares of it. */
#ifndef PACELINE_TESTS_MACHINE_LIMITS_H
#define PACELINE_TESTS_MACHINE_LIMITS_H

#include "kernels/kernels.h"

/* All of `threads` threads together; with one, of the time that it was given. A multiply-add counts
 * as two operations; 0: that set has no such instruction of its own. */
struct machine_limits {
    double read_bytes; /* a second, from a buffer much larger than the caches */
    double int8_ops;   /* a second, operands in registers, the set's best instruction */
    double f32_ops;
};

/* Bytes a second of `threads` threads. Half a second; allocates 512 MiB for it. */
double machine_limits_read(int threads);
/* Operations a second with the instructions of `isa`, which this machine must offer. */
double machine_limits_int8(enum isa isa, int threads);
double machine_limits_f32(enum isa isa, int threads);
struct machine_limits machine_limits_measure(enum isa isa, int threads);
/* " (87 %)" of a limit, or "" where the limit is 0. `to` holds 16 bytes; returned. */
const char *machine_limits_share(char *to, double rate, double limit);

#endif
