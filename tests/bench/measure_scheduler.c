/* What a step costs the coordinator, without HTTP: choosing its rows, packing and sending it, and
 * taking its results. Streams that decode over a few stages in virtual time; the time that is told
 * is real. */
#include "tests/support/simulator.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static void measure(int n_stages, int n_streams, int start_s, bool with_penalties)
{
    struct simulated_stage stages[SIMULATOR_STAGES];
    struct simulator *s = malloc(sizeof *s);
    assert_non_null(s);
    for (int i = 0; i < n_stages; i++)
        stages[i] = (struct simulated_stage){20000, 500, 0, 100};
    simulator_open(s, n_stages, stages, 100, n_streams, 4096);
    s->is_trusting = true;
    for (int i = 0; i < n_streams; i++)
        simulator_add(s, 100 + i % 50, 3900, true)->sampling.repetition_penalty =
            with_penalties ? 1.1f : 1;
    simulator_run_until(s, s->now_us + (int64_t)start_s * 1000000);
    s->real = (struct simulator_real){0};
    simulator_run_until(s, s->now_us + 20 * 1000 * 1000);
    double n = 1e3 * s->real.n_steps;
    printf("%3d sequences, %2d stages, %5.1f rows a step, %4d tokens each%s: %5.1f us to choose "
           "and send, "
           "%5.1f us to pack, %5.1f us to take the results\n",
           n_streams, n_stages, (double)s->real.n_rows / s->real.n_steps,
           s->requests[0].request->choices[0].n_tokens, with_penalties ? ", penalties" : "",
           (double)(s->real.send_ns - s->real.pack_ns) / n, (double)s->real.pack_ns / n,
           (double)s->real.take_ns / n);
    simulator_close(s);
    free(s);
}

static void steps_cost_little(void **state)
{
    (void)state;
    static const int streams[] = {8, 64, 256};
    for (size_t i = 0; i < sizeof streams / sizeof streams[0]; i++)
        for (int n_stages = 1; n_stages <= 16; n_stages *= 4)
            measure(n_stages, streams[i], 50, false);
    measure(1, 256, 240, false);
    measure(1, 256, 240, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(steps_cost_little)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
