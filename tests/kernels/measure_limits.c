/* measure_limits.c - this machine's limits as a JSON object: bytes a second that 1 and N threads
 * read, and multiply-adds (two operations each) of every instruction set that it offers.
 *   measure_limits [THREADS]  */
#include "machine_limits.h"

#include <omp.h>
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
    const int threads = argc > 1 ? atoi(argv[1]) : omp_get_max_threads();
    if (threads < 1) {
        fprintf(stderr, "measure_limits: THREADS is a number from 1 on\n");
        return 1;
    }
    printf("{\n  \"threads\": %d,\n  \"read_bytes_per_second\": {\"1\": %.4g", threads,
           machine_limits_read(1));
    if (threads > 1)
        printf(", \"%d\": %.4g", threads, machine_limits_read(threads));
    printf("}");
    for (int isa = 1; isa < ISAS; isa++)
        if (kernels_isa_is_offered(isa))
            printf(",\n  \"%s\": {\"int8_ops_per_second\": %.4g, \"f32_ops_per_second\": %.4g}",
                   kernels_isa_name(isa), machine_limits_int8((enum isa)isa, threads),
                   machine_limits_f32((enum isa)isa, threads));
    printf("\n}\n");
    return 0;
}
