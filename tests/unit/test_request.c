/* A choice's tokens become text, and no text is lost when memory is. */
#include "coordinator/request.h"
#include "proto/token_mask.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* ---- allocations that fail: the linker hands them to us ---- */

static int allocations_left = -1; /* before one fails; negative: none does */

void *__real_malloc(size_t size);
void *__real_realloc(void *memory, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_realloc(void *memory, size_t size);

static bool is_to_fail(void)
{
    return allocations_left >= 0 && allocations_left-- == 0;
}

void *__wrap_malloc(size_t size)
{
    return is_to_fail() ? NULL : __real_malloc(size);
}

void *__wrap_realloc(void *memory, size_t size)
{
    return is_to_fail() ? NULL : __real_realloc(memory, size);
}

/* ---- ---- */

enum { END, WORD, LONG_WORD, HALF, N_VOCABULARY };

static const char *const vocabulary[N_VOCABULARY] = {
    "<|endoftext|>", "word", "a-word-that-is-so-long-that-a-buffer-of-64-bytes-does-not-hold-two",
    "\xC3\x83"}; /* the byte C3, of a character of two bytes */

static const enum token_kind kinds[N_VOCABULARY] = {TOKEN_CONTROL};

static struct tokenizer *new_tokenizer(void)
{
    struct tokenizer *t = NULL;
    struct err err;
    struct tokenizer_source source = {
        .n_tokens = N_VOCABULARY, .tokens = vocabulary, .kinds = kinds, .begin_of_text = -1};
    if (tokenizer_new(&t, &source, &err) != 0)
        fail_msg("%s", err.text);
    return t;
}

static struct request *new_request(const struct tokenizer *t, const char *stop, int max_tokens)
{
    struct err err;
    struct request *r = calloc(1, sizeof *r);
    assert_non_null(r);
    r->prompt = calloc(1, sizeof *r->prompt);
    r->n_prompt = r->n_choices = 1;
    r->max_tokens = max_tokens;
    r->keep_records = true;
    if (stop) {
        r->stop = calloc(1, sizeof *r->stop);
        assert_non_null(r->stop);
        r->stop[0] = strdup(stop);
        r->n_stop = 1;
    }
    assert_int_equal(request_prepare(r, t, &err), 0);
    return r;
}

/* Until the choice ends, or what the coordinator asks after each token says that it failed. */
static void generate(struct request *r, const struct tokenizer *t, const uint32_t *tokens)
{
    struct choice *c = r->choices;
    for (size_t i = 0; c->finish == FINISH_NONE && !buf_failed(&c->text); i++) {
        struct err err;
        struct batch_result result = {.token = tokens[i], .n_top = 2};
        assert_int_equal(request_accept_token(r, c, &result, t, &err), 0);
    }
}

static void text_or_failure(const char *stop, const uint32_t *tokens, int n_tokens,
                            enum finish_reason finish, const char *text)
{
    struct tokenizer *t = new_tokenizer();
    int n_failed = 0;
    for (bool all_went_well = false; !all_went_well; n_failed++) {
        assert_true(n_failed < 100);
        struct request *r = new_request(t, stop, n_tokens);
        struct choice *c = r->choices;
        allocations_left = n_failed;
        generate(r, t, tokens);
        all_went_well = allocations_left >= 0;
        allocations_left = -1;
        assert_true(all_went_well || buf_failed(&c->text));
        if (all_went_well) {
            assert_int_equal(c->finish, finish);
            assert_string_equal(buf_text(&c->text), text);
            for (size_t i = 0; i < c->n_records; i++)
                assert_int_equal(c->records[i].n_top, 2);
        }
        request_free(r);
    }
    assert_true(n_failed > 3);
    tokenizer_free(t);
}

static void what_is_cut_at_its_length(void **state)
{
    (void)state;
    static const uint32_t tokens[] = {WORD, LONG_WORD, WORD, HALF};
    text_or_failure(
        NULL, tokens, 4, FINISH_LENGTH,
        "worda-word-that-is-so-long-that-a-buffer-of-64-bytes-does-not-hold-twoword\xEF\xBF\xBD");
}

static void what_was_held_back_for_a_stop_string(void **state)
{
    (void)state;
    static const uint32_t tokens[] = {LONG_WORD, WORD, HALF, END};
    text_or_failure(
        "wordless", tokens, 9, FINISH_STOP,
        "a-word-that-is-so-long-that-a-buffer-of-64-bytes-does-not-hold-twoword\xEF\xBF\xBD");
}

static void what_a_stop_string_ends(void **state)
{
    (void)state;
    static const uint32_t tokens[] = {LONG_WORD, WORD, WORD};
    text_or_failure("dword", tokens, 9, FINISH_STOP,
                    "a-word-that-is-so-long-that-a-buffer-of-64-bytes-does-not-hold-twowor");
}

/* ---- a text that must be of a form ---- */

static struct request *constrained_request(const struct tokenizer *t, const char *pattern,
                                           int max_tokens)
{
    struct constraint_store *store;
    struct err err;
    const struct constraint_source source = {
        .kind = CONSTRAINT_REGEX, .text = pattern, .length = strlen(pattern)};
    struct request *r = calloc(1, sizeof *r);
    assert_non_null(r);
    r->prompt = calloc(1, sizeof *r->prompt);
    r->n_prompt = 1;
    r->n_choices = 2;
    r->max_tokens = max_tokens;
    assert_int_equal(constraint_store_new(&store, t, N_VOCABULARY, &err), 0);
    assert_int_equal(constraint_get(&r->constraint, store, &source, &err), 0);
    assert_int_equal(request_prepare(r, t, &err), 0);
    for (int i = 0; i < r->n_choices; i++)
        assert_int_equal(request_make_mask(&r->choices[i], &err), 0);
    constraint_store_free(store);
    return r;
}

/* Bit i of the mask: token i may come. */
static unsigned masked_tokens(const struct choice *c)
{
    const float logits[N_VOCABULARY] = {0};
    float masked[N_VOCABULARY];
    struct err err;
    const unsigned char *mask = (const unsigned char *)c->mask.data;
    unsigned tokens = 0;
    assert_int_equal(token_mask_check(mask, c->mask.length, N_VOCABULARY, &err), 0);
    token_mask_apply(mask, c->mask.length, logits, masked, N_VOCABULARY);
    for (unsigned i = 0; i < N_VOCABULARY; i++)
        tokens |= masked[i] == 0.0f ? 1U << i : 0;
    return tokens;
}

static int accept(struct request *r, int choice, uint32_t token, const struct tokenizer *t)
{
    struct err err;
    const struct batch_result result = {.token = token};
    int rc = request_accept_token(r, &r->choices[choice], &result, t, &err);
    return rc == 0 ? request_make_mask(&r->choices[choice], &err) : rc;
}

static void what_must_be_of_a_form(void **state)
{
    (void)state;
    struct tokenizer *t = new_tokenizer();
    struct request *r = constrained_request(t, "word(word)?(a-.*)?Ã?", 9);
    struct choice *c = r->choices;
    assert_int_equal(masked_tokens(&c[0]), 1 << WORD);
    assert_int_equal(accept(r, 0, WORD, t), 0);
    assert_int_equal(masked_tokens(&c[0]), 1 << END | 1 << WORD | 1 << LONG_WORD | 1 << HALF);
    assert_int_equal(masked_tokens(&c[1]), 1 << WORD); /* each choice goes its own way */
    assert_int_equal(accept(r, 0, END, t), 0);
    assert_int_equal(c[0].finish, FINISH_STOP);
    assert_string_equal(buf_text(&c[0].text), "word");
    assert_int_equal(accept(r, 1, LONG_WORD, t), ERR_INTERNAL); /* no mask allowed it */
    request_free(r);

    /* Whole: the end is not waited for, though it be the last token that is possible. */
    r = constrained_request(t, "wordword", 2);
    assert_int_equal(accept(r, 0, WORD, t), 0);
    assert_int_equal(r->choices[0].finish, FINISH_NONE);
    assert_int_equal(accept(r, 0, WORD, t), 0);
    assert_int_equal(r->choices[0].finish, FINISH_STOP);
    assert_string_equal(buf_text(&r->choices[0].text), "wordword");
    request_free(r);

    r = constrained_request(t, "(word){3}", 2);
    assert_int_equal(accept(r, 0, WORD, t), 0);
    assert_int_equal(accept(r, 0, WORD, t), 0);
    assert_int_equal(r->choices[0].finish, FINISH_LENGTH);
    request_free(r);

    r = constrained_request(t, "(word)+", 5);
    assert_int_equal(accept(r, 0, END, t), ERR_INTERNAL); /* not yet */
    request_free(r);
    tokenizer_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_cut_at_its_length),
        cmocka_unit_test(what_was_held_back_for_a_stop_string),
        cmocka_unit_test(what_a_stop_string_ends),
        cmocka_unit_test(what_must_be_of_a_form),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
