/* What penalties are told of a choice's tokens, against counting all of them anew. */
#include "coordinator/choice_counts.h"
#include "coordinator/request.h"
#include "coordinator/step_builder.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { N_TOKENS = 5000, N_PROMPT = 1200, VOCABULARY = 151936 };

/* Few tokens that come often, and many that come once. */
static uint32_t token_at(int i)
{
    uint32_t mixed = (uint32_t)i * 2654435761u;
    return i % 3 ? mixed % 17 : mixed % VOCABULARY;
}

static struct batch_count counted_anew(const uint32_t *tokens, int n_tokens, uint32_t token)
{
    struct batch_count count = {.token = token};
    for (int i = 0; i < n_tokens; i++) {
        if (tokens[i] != token)
            continue;
        if (i < N_PROMPT)
            count.in_prompt = true;
        else
            count.generated++;
    }
    return count;
}

static void assert_same(const struct batch_count *got, const struct batch_count *want)
{
    assert_int_equal(got->token, want->token);
    assert_int_equal(got->generated, want->generated);
    assert_int_equal(got->in_prompt, want->in_prompt);
}

/* In the order in which they came, whatever the pieces. */
static void every_token_is_counted_once(void **state)
{
    (void)state;
    static uint32_t tokens[N_TOKENS];
    struct choice_counts c = {0};
    for (int i = 0; i < N_TOKENS; i++)
        tokens[i] = token_at(i);
    for (int n = N_PROMPT; n < N_TOKENS; n += 1 + n % 7) {
        assert_true(choice_counts_update(&c, tokens, n, N_PROMPT));
        struct batch_count want = counted_anew(tokens, n, tokens[n - 1]);
        assert_same(choice_counts_find(&c, tokens[n - 1]), &want);
    }
    assert_true(choice_counts_update(&c, tokens, N_TOKENS, N_PROMPT));
    uint32_t n = 0;
    for (int i = 0; i < N_TOKENS; i++) {
        if (n < c.n && c.entries[n].token == tokens[i]) {
            struct batch_count want = counted_anew(tokens, N_TOKENS, tokens[i]);
            assert_same(&c.entries[n++], &want);
        }
    }
    assert_int_equal(n, c.n);
    assert_true(n > N_TOKENS / 3);
    choice_counts_clear(&c);
    choice_counts_clear(&c);
}

static struct batch_sampling *build(struct step_builder *b, struct choice *c)
{
    struct err err;
    assert_int_equal(step_builder_begin(b, &err), 0);
    assert_int_equal(step_builder_add(b, c, c->n_tokens - c->n_computed, &err), 0);
    return &b->outputs[0].sampling;
}

/* All counts with the first row and after a new plan; afterwards the newest token's. */
static void a_step_tells_what_has_changed(void **state)
{
    (void)state;
    struct err err;
    struct step_builder b;
    uint32_t prompt[] = {5, 6, 5};
    struct request r = {.prompt = prompt, .n_prompt = 3, .max_tokens = 8, .n_choices = 1};
    r.sampling = (struct batch_sampling){.repetition_penalty = 1.1f};
    assert_int_equal(step_builder_init(&b, 16, 1, 1, 100, &err), 0);
    assert_int_equal(request_prepare(&r, NULL, &err), 0);
    struct choice *c = r.choices;
    c->slot = 0;
    c->blocks[0] = 0;
    c->n_blocks = 1;
    struct batch_sampling *told = build(&b, c);
    assert_true(told->counts_reset);
    assert_int_equal(told->n_counts, 2);
    assert_same(&b.counts[0], &(struct batch_count){5, 0, true});
    assert_same(&b.counts[1], &(struct batch_count){6, 0, true});
    static const struct batch_count newest[] = {{6, 1, true}, {9, 1, false}, {9, 2, false}};
    for (int i = 0; i < 3; i++) {
        c->tokens[c->n_tokens++] = newest[i].token;
        told = build(&b, c);
        assert_false(told->counts_reset);
        assert_int_equal(told->n_counts, 1);
        assert_same(&b.counts[0], &newest[i]);
    }
    c->n_computed = 0;
    c->counts_told = false;
    told = build(&b, c);
    assert_true(told->counts_reset);
    assert_int_equal(told->n_counts, 3);
    assert_same(&b.counts[0], &(struct batch_count){5, 0, true});
    assert_same(&b.counts[1], &newest[0]);
    assert_same(&b.counts[2], &newest[2]);
    step_builder_clear(&b);
    choice_counts_clear(&c->counts);
    free(c->tokens);
    free(c->blocks);
    free(r.choices);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_token_is_counted_once),
        cmocka_unit_test(a_step_tells_what_has_changed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
