/* Every edge of what the API accepts is something that the workers accept too. */
#include "coordinator/api_params.h"
#include "coordinator/json_body.h"
#include "proto/batch.h"
#include "tests/support/fake_coordinator.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { CONTEXT = 128 };

struct edge {
    const char *body;
    bool is_refused; /* just outside: the edge is where we think it is */
};

static const struct edge edges[] = {
    {"{}", false},
    {"{\"temperature\":0}", false},
    {"{\"temperature\":-0.0}", false},
    {"{\"temperature\":1e-40}", false},
    {"{\"temperature\":1e-50}", false},
    {"{\"temperature\":2}", false},
    {"{\"temperature\":2.0000000000000004}", true},
    {"{\"top_p\":0}", false},
    {"{\"top_p\":-0.0}", false},
    {"{\"top_p\":1e-40}", false},
    {"{\"top_p\":1e-50}", false},
    {"{\"top_p\":0.99999999999}", false}, /* 1 as a float */
    {"{\"top_p\":1}", false},
    {"{\"top_p\":1.0000000000000002}", true},
    {"{\"min_p\":0}", false},
    {"{\"min_p\":1e-50}", false},
    {"{\"min_p\":1}", false},
    {"{\"min_p\":1.0000000000000002}", true},
    {"{\"top_k\":-1}", false},
    {"{\"top_k\":0}", false},
    {"{\"top_k\":1}", false},
    {"{\"top_k\":2147483647}", false},
    {"{\"top_k\":2147483648}", true},
    {"{\"presence_penalty\":-2,\"frequency_penalty\":-2}", false},
    {"{\"presence_penalty\":2,\"frequency_penalty\":2}", false},
    {"{\"presence_penalty\":1e-50,\"frequency_penalty\":-1e-50}", false},
    {"{\"frequency_penalty\":-2.0000000000000004}", true},
    {"{\"repetition_penalty\":0.01}", false},
    {"{\"repetition_penalty\":0.0099999999999999985}", true},
    {"{\"repetition_penalty\":10}", false},
    {"{\"repeat_penalty\":0.01}", false},
    {"{\"repeat_penalty\":10}", false},
    {"{\"repeat_penalty\":10.000000000000002}", true},
    {"{\"logit_bias\":{\"0\":-100,\"1\":100,\"2\":0,\"3\":1e-50}}", false},
    {"{\"logit_bias\":{\"0\":100.00000000000001}}", true},
    {"{\"seed\":-9223372036854775808}", false},
    {"{\"seed\":9223372036854775807}", false},
};

/* A step of one sequence that samples with s. */
static int check_step(const struct coordinator *c, const struct batch_sampling *s, struct err *err)
{
    const uint32_t token = 0, block = 0;
    const struct batch_sequence sequence = {.count = 1, .n_blocks = 1, .blocks = &block};
    const struct batch_output output = {.kind = BATCH_SAMPLE, .position = 1, .sampling = *s};
    const struct batch b = {.n_rows = 1,
                            .tokens = &token,
                            .n_sequences = 1,
                            .sequences = &sequence,
                            .n_outputs = 1,
                            .outputs = &output};
    const struct batch_limits limits = {.max_rows = 1,
                                        .max_sequences = 1,
                                        .max_outputs = 1,
                                        .max_context = CONTEXT,
                                        .kv_blocks = 8,
                                        .vocabulary =
                                            (uint32_t)coordinator_model(c)->vocabulary_size};
    return batch_check(&b, &limits, err);
}

static void check_body(struct coordinator *c, const char *body, bool is_refused)
{
    struct api api = {.coordinator = c};
    struct api_call call;
    struct api_params params = {0};
    struct err err = {0};
    /* Penalties come with the counts of a context that is full of different tokens. */
    static struct batch_count counts[CONTEXT];
    for (uint32_t i = 0; i < CONTEXT; i++)
        counts[i] = (struct batch_count){.token = i, .generated = CONTEXT, .in_prompt = true};
    api_call_init(&call, &api, "POST", "/v1/completions");
    assert_int_equal(json_body_read(&call.body, body, strlen(body), &err), 0);
    int rc = api_params_read(&params, &call, &err);
    if ((rc != 0) != is_refused)
        fail_msg("%.200s: %d %s", body, rc, err.text);
    params.sampling.counts_reset = true;
    params.sampling.counts = counts;
    params.sampling.n_counts = CONTEXT;
    if (rc == 0 && check_step(c, &params.sampling, &err) != 0)
        fail_msg("%.200s passes here, but not to a worker: %s", body, err.text);
    api_params_clear(&params);
    api_call_clear(&call);
}

static struct coordinator *open_coordinator(void)
{
    const struct fake_coordinator_spec spec = {.model_path = TEST_DATA
                                               "/models/qwen2-tied/gguf/qwen2-tied-Q4_0.gguf",
                                               .context = CONTEXT,
                                               .most_requests = 1};
    return fake_coordinator_new(&spec);
}

static void test_edges(void **state)
{
    struct coordinator *c = open_coordinator();
    for (size_t i = 0; i < sizeof edges / sizeof edges[0]; i++)
        check_body(c, edges[i].body, edges[i].is_refused);
    fake_coordinator_free(c);
}

static void test_as_many_biases_as_possible(void **state)
{
    struct coordinator *c = open_coordinator();
    int vocabulary = coordinator_model(c)->vocabulary_size;
    int count = vocabulary < API_PARAMS_BIASES ? vocabulary : API_PARAMS_BIASES;
    struct buf body;
    buf_init(&body);
    buf_puts(&body, "{\"logit_bias\":{");
    for (int i = 0; i < count; i++)
        buf_printf(&body, "%s\"%d\":%d", i ? "," : "", vocabulary - 1 - i, i % 2 ? 100 : -100);
    buf_puts(&body, "}}");
    check_body(c, buf_text(&body), false);
    buf_clear(&body);
    fake_coordinator_free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_edges),
        cmocka_unit_test(test_as_many_biases_as_possible),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
