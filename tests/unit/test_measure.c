/* Measuring at joining: it keeps to what the machine's owner offers, and refuses what is no model.
 */
#include "base/clock.h"
#include "kernels/quant.h"
#include "worker/measure.h"

#include <omp.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

static struct measure_spec small(const struct kernels *kernels)
{
    struct measure_spec spec = {
        .config = {.hidden_size = 256,
                   .intermediate_size = 512,
                   .n_heads = 4,
                   .n_kv_heads = 2,
                   .head_dim = 64,
                   .rope_dim = 64,
                   .vocabulary_size = 1024,
                   .rms_eps = 1e-6f,
                   .rope_base = 1e6},
        .n_kinds = 1,
        .head_type = TENSOR_Q8_0,
        .kernels = kernels,
    };
    memset(spec.types[0], TENSOR_Q8_0, MODEL_SHAPE_MATRICES);
    return spec;
}

static void it_takes_no_more_memory_than_is_offered(void **state)
{
    struct measure_spec spec = small(*state);
    struct measure_result result;
    struct err err;
    double layer_s;
    spec.memory_bytes = 100 << 20;
    assert_int_equal(measure_run(&spec, &result, &err), ERR_MEMORY);
    assert_non_null(strstr(err.text, "100 MiB are offered"));
    assert_int_equal(measure_glance(&spec, &layer_s, &err), ERR_MEMORY);
    spec.memory_bytes = INT64_C(4) << 30;
    assert_int_equal(measure_glance(&spec, &layer_s, &err), 0);
    assert_true(layer_s > 0 && layer_s < 10);
}

static void what_is_no_model_is_refused(void **state)
{
    struct measure_spec spec = small(*state);
    struct measure_result result;
    struct err err;
    spec.config.hidden_size = 100; /* no whole blocks */
    assert_int_equal(measure_run(&spec, &result, &err), ERR_INPUT);
    spec = small(*state);
    spec.config.n_kv_heads = 0;
    assert_int_equal(measure_run(&spec, &result, &err), ERR_INPUT);
    spec = small(*state);
    spec.types[0][3] = 255;
    assert_int_equal(measure_run(&spec, &result, &err), ERR_INPUT);
}

struct seen {
    double layer_s;
    double held_up; /* how much longer the process took than it had a processor */
};

/* A layer's time as a process finds it that has a part of a processor, or all of one. */
static struct seen glance_of_a_process(const struct kernels *kernels, bool is_slow)
{
    int ends[2], status = 0;
    struct seen seen = {0};
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct measure_spec spec = small(kernels);
        struct err err;
        omp_set_num_threads(1);
        spec.config.hidden_size = 512;
        spec.config.intermediate_size = 2048;
        double wall_s = (double)clock_now_us() / 1e6, worked_s = clock_thread_s();
        bool ok = measure_glance(&spec, &seen.layer_s, &err) == 0;
        seen.held_up = ((double)clock_now_us() / 1e6 - wall_s) / (clock_thread_s() - worked_s);
        _exit(ok && write(ends[1], &seen, sizeof seen) == sizeof seen ? 0 : 1);
    }
    /* A turn lasts longer than it is told to, by what this machine's timers add. */
    const struct timespec turn = {.tv_nsec = 500000}, pause = {.tv_nsec = 3000000};
    while (waitpid(child, &status, WNOHANG) == 0) {
        if (is_slow && kill(child, SIGSTOP) == 0)
            nanosleep(&pause, NULL);
        kill(child, SIGCONT);
        nanosleep(&turn, NULL);
    }
    assert_int_equal(status, 0);
    assert_int_equal(read(ends[0], &seen, sizeof seen), sizeof seen);
    close(ends[0]);
    close(ends[1]);
    return seen;
}

/* Each sample falls between two pauses; what stands still between them is part of the speed.
 * Others may be at work here as well: both are compared by what they had of the processor. */
static void a_share_of_a_processor_is_not_a_whole_one(void **state)
{
    struct seen whole = glance_of_a_process(*state, false), slow;
    slow = glance_of_a_process(*state, true);
    double whole_s = whole.layer_s / whole.held_up, slow_s = slow.layer_s / slow.held_up;
    if (!(slow.held_up > 1.8) || !(slow_s > 0.6 * whole_s))
        fail_msg("%.0f us with a part, held up %.1f times, %.0f us and %.1f times with all",
                 slow.layer_s * 1e6, slow.held_up, whole.layer_s * 1e6, whole.held_up);
}

/* Layers that are measured in slices are those of models that exist; slices are whole blocks. */
static void large_layers_are_measured_in_slices(void **state)
{
    static const struct {
        int hidden, inner, heads, kv_heads;
        enum tensor_type down;
    } shapes[] = {
        {3584, 18944, 28, 4, TENSOR_Q4_K},  /* 7B */
        {5120, 13824, 40, 8, TENSOR_Q4_K},  /* 14B */
        {5120, 13696, 40, 40, TENSOR_Q8_0}, /* Qwen1.5-14B: not of Q4_K's blocks */
        {8192, 29568, 64, 8, TENSOR_Q8_0},  /* 72B */
    };
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        const atomic_bool cancelled = true; /* once will do */
        struct measure_spec spec = small(*state);
        struct err err = {0};
        double layer_s = 0;
        spec.config.hidden_size = shapes[i].hidden;
        spec.config.intermediate_size = shapes[i].inner;
        spec.config.n_heads = shapes[i].heads;
        spec.config.n_kv_heads = shapes[i].kv_heads;
        spec.config.head_dim = spec.config.rope_dim = 128;
        spec.cancelled = &cancelled;
        memset(spec.types[0], TENSOR_Q4_K, MODEL_SHAPE_MATRICES);
        spec.types[0][6] = (unsigned char)shapes[i].down;
        if (measure_glance(&spec, &layer_s, &err) != 0)
            fail_msg("%d x %d: %s", shapes[i].hidden, shapes[i].inner, err.text);
        assert_true(layer_s > 0);
    }
}

int main(void)
{
    static struct kernels kernels;
    struct err err;
    if (kernels_select(&kernels, NULL, &err) != 0)
        return 1;
    const struct CMUnitTest tests[] = {
        /* First: OpenMP's threads do not outlive a fork. */
        cmocka_unit_test_prestate(a_share_of_a_processor_is_not_a_whole_one, &kernels),
        cmocka_unit_test_prestate(it_takes_no_more_memory_than_is_offered, &kernels),
        cmocka_unit_test_prestate(what_is_no_model_is_refused, &kernels),
        cmocka_unit_test_prestate(large_layers_are_measured_in_slices, &kernels),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
