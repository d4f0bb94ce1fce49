/* Masks of a published vocabulary against each of its tokens tried one by one; their form on the
 * wire; what a choice does with them. */
#include "coordinator/constraint_parts.h"
#include "proto/token_mask.h"
#include "tests/support/grammar_fixture.h"
#include "tests/support/tokenizer_json.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { IDS = 151936 }; /* of the models: more than the tokenizer has */

struct world {
    struct tokenizer *tokenizer;
    struct grammar_vocabulary *vocabulary;
    float *logits, *masked; /* [IDS] */
};

static int set_up(void **state)
{
    static struct world w;
    struct err err;
    w.tokenizer =
        tokenizer_json_read(TEST_DATA "/tokenizer/qwen2.5.tokenizer.json.xz", "qwen2", NULL);
    assert_int_equal(grammar_vocabulary_new(&w.vocabulary, w.tokenizer, IDS, &err), 0);
    w.logits = calloc(IDS, sizeof *w.logits);
    w.masked = calloc(IDS, sizeof *w.masked);
    assert_true(w.logits && w.masked);
    *state = &w;
    return 0;
}

static int tear_down(void **state)
{
    struct world *w = *state;
    grammar_vocabulary_free(w->vocabulary);
    tokenizer_free(w->tokenizer);
    free(w->logits);
    free(w->masked);
    return 0;
}

/* ---- one by one ---- */

static bool token_may_come(const struct world *w, struct grammar_matcher *m, uint32_t token)
{
    size_t length, at = 0;
    const char *bytes = tokenizer_piece(w->tokenizer, token, &length);
    if (grammar_vocabulary_ends(w->vocabulary, token))
        return grammar_matcher_now(m)->is_end;
    if (length == 0 || tokenizer_is_control(w->tokenizer, token))
        return false;
    while (at < length && grammar_matcher_push(m, (unsigned char)bytes[at]))
        at++;
    grammar_matcher_pop(m, 0);
    return at == length;
}

static void read_mask(struct world *w, struct grammar_masks *k, struct grammar_matcher *m)
{
    struct buf out;
    struct err err = {0};
    buf_init(&out);
    if (grammar_masks_write(k, m, &out, &err) != 0)
        fail_msg("%s", err.text);
    const unsigned char *mask = (const unsigned char *)buf_text(&out);
    assert_int_equal(token_mask_check(mask, out.length, IDS, &err), 0);
    assert_true(out.length <= token_mask_most_bytes(IDS));
    token_mask_apply(mask, out.length, w->logits, w->masked, IDS);
    buf_clear(&out);
}

static void check_mask(struct world *w, struct grammar_masks *k, struct grammar_matcher *m,
                       const char *source, size_t position)
{
    read_mask(w, k, m);
    grammar_matcher_allow(m, UINT32_MAX);
    /* Each third token, other ones at the next position. */
    for (uint32_t token = (uint32_t)position % 3; token < IDS; token += 3)
        if (isfinite(w->masked[token]) != token_may_come(w, m, token)) {
            size_t length;
            const char *bytes = tokenizer_piece(w->tokenizer, token, &length);
            fail_msg("%s, behind token %zu: token %u '%.*s' is %s", source, position, token,
                     (int)length, bytes, isfinite(w->masked[token]) ? "allowed" : "forbidden");
        }
}

static void push_token(const struct world *w, struct grammar_matcher *m, uint32_t token)
{
    size_t length;
    const char *bytes = tokenizer_piece(w->tokenizer, token, &length);
    for (size_t i = 0; i < length; i++)
        if (!grammar_matcher_push(m, (unsigned char)bytes[i]))
            fail_msg("token %u '%.*s' cannot come", token, (int)length, bytes);
    grammar_matcher_commit(m);
}

/* Along the text, token by token, then along what the masks allow, token by token at random. */
static void walk(struct world *w, enum constraint_kind kind, const char *source, const char *text)
{
    struct grammar *g = grammar_of_text(kind, source);
    struct grammar_masks *k;
    struct grammar_matcher m;
    struct err err;
    uint32_t *ids = NULL, random = 12345;
    size_t n = 0;
    assert_int_equal(grammar_masks_new(&k, g, w->vocabulary, &err), 0);
    assert_true(grammar_matcher_init(&m, g));
    assert_int_equal(tokenizer_encode(w->tokenizer, text, strlen(text), 0, &ids, &n, &err), 0);
    for (size_t i = 0; i <= n; i++) {
        check_mask(w, k, &m, source, i);
        if (i < n)
            push_token(w, &m, ids[i]);
    }
    for (size_t i = 0; i < 6; i++) {
        uint32_t token = IDS;
        read_mask(w, k, &m);
        for (uint32_t tries = 0; tries < 3 * IDS && token == IDS; tries++) {
            random = random * 1664525u + 1013904223u;
            uint32_t candidate = (uint32_t)((uint64_t)random * w->vocabulary->n_tokens >> 32);
            if (isfinite(w->masked[w->vocabulary->tokens[candidate]]))
                token = w->vocabulary->tokens[candidate];
        }
        if (token == IDS)
            break; /* only the end may come */
        push_token(w, &m, token);
        if (i % 3 == 2)
            check_mask(w, k, &m, source, n + i);
    }
    free(ids);
    grammar_matcher_clear(&m);
    grammar_masks_free(k);
    grammar_free(g);
}

static void test_schemas(void **state)
{
    walk(*state, CONSTRAINT_SCHEMA,
         "{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\"},"
         "\"n\":{\"type\":\"number\"}},\"required\":[\"name\"]}",
         "{\"name\": \"né𠮷\\n\", \"n\": -1");
    walk(*state, CONSTRAINT_SCHEMA, "{}", "[{\"a\": [true, \"x");
    walk(*state, CONSTRAINT_SCHEMA,
         "{\"anyOf\":[{\"type\":\"array\",\"items\":{\"type\":\"string\",\"maxLength\":6},"
         "\"maxItems\":2},{\"type\":\"object\",\"additionalProperties\":{\"$ref\":\"#\"}}]}",
         "{\"a b\": [\"hello\",\"");
}

/* Near the bounds of what is counted. */
static void test_counts(void **state)
{
    walk(*state, CONSTRAINT_SCHEMA, "{\"type\":\"string\",\"minLength\":3,\"maxLength\":40}",
         "\"The quick brown fox jumps over it all");
    walk(*state, CONSTRAINT_SCHEMA, "{\"type\":\"string\",\"maxLength\":7}", "\"天地𠮷a");
    walk(*state, CONSTRAINT_REGEX, "[a-z ]{1,60}[k-z]{30,60}!", "the quick brown");
}

static void test_grammars(void **state)
{
    walk(*state, CONSTRAINT_GRAMMAR,
         "root ::= \"\\\"\" char* \"\\\"\" tail\nchar ::= [^\"\\\\] | \"\\\\\" [a-z]\n"
         "tail ::= \"}\" tail | \"\"",
         "\"ab é\\n\"}");
    walk(*state, CONSTRAINT_GRAMMAR, "root ::= root \"+\" root | [a-z]+ | \"(\" root \")\"",
         "(a+bc)+");
    walk(*state, CONSTRAINT_REGEX, "(yes|no), (because .{1,20}|[0-9]+)\\.", "yes, because it");
    walk(*state, CONSTRAINT_REGEX, "[\\s\\S]*", "any text"); /* which may end */
    walk(*state, CONSTRAINT_CHOICES, "[\"apple\",\"apple pie\",\"äpfel\"]", "apple");
}

/* What a text gives, whatever is kept of others. */
static void test_masks_do_not_depend_on_what_is_kept(void **state)
{
    struct world *w = *state;
    struct grammar *g = grammar_of_schema("{\"type\":\"string\",\"maxLength\":20}");
    struct grammar_masks *k, *fresh;
    struct grammar_matcher m;
    struct err err;
    struct buf kept, made;
    assert_int_equal(grammar_masks_new(&k, g, w->vocabulary, &err), 0);
    assert_true(grammar_matcher_init(&m, g));
    buf_init(&kept);
    buf_init(&made);
    for (const char *c = "\"0123456789"; *c; c++) {
        assert_true(grammar_matcher_push(&m, (unsigned char)*c));
        grammar_matcher_commit(&m);
        assert_int_equal(grammar_masks_new(&fresh, g, w->vocabulary, &err), 0);
        for (int again = 0; again < 2; again++) {
            buf_reset(&kept);
            assert_int_equal(grammar_masks_write(k, &m, &kept, &err), 0);
        }
        buf_reset(&made);
        assert_int_equal(grammar_masks_write(fresh, &m, &made, &err), 0);
        assert_int_equal(kept.length, made.length);
        assert_memory_equal(kept.data, made.data, made.length);
        grammar_masks_free(fresh);
    }
    uint64_t n_made, n_found;
    grammar_masks_counts(k, &n_made, &n_found);
    assert_int_equal(n_found, 11); /* each second time */
    buf_clear(&kept);
    buf_clear(&made);
    grammar_matcher_clear(&m);
    grammar_masks_free(k);
    grammar_free(g);
}

/* ---- on the wire ---- */

/* The first `vocabulary` of ten tokens. */
static void expect_mask(enum token_mask_form form, const uint32_t *ids, size_t n,
                        uint32_t vocabulary)
{
    const float logits[10] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9};
    float masked[10];
    struct buf out;
    struct err err;
    buf_init(&out);
    token_mask_write_ids(&out, form, ids, n, vocabulary);
    const unsigned char *mask = (const unsigned char *)out.data;
    assert_int_equal(token_mask_check(mask, out.length, vocabulary, &err), 0);
    token_mask_apply(mask, out.length, logits, masked, vocabulary);
    for (uint32_t i = 0; i < vocabulary; i++) {
        bool is_listed = false;
        for (size_t k = 0; k < n; k++)
            is_listed |= ids[k] == i;
        float expected = is_listed == (form == TOKEN_MASK_ALLOWED) ? logits[i] : -INFINITY;
        assert_true(masked[i] == expected);
    }
    buf_clear(&out);
}

static void test_forms(void **state)
{
    static const uint32_t ids[] = {0, 1, 5, 9};
    expect_mask(TOKEN_MASK_ALLOWED, ids, 4, 10);
    expect_mask(TOKEN_MASK_ALLOWED, ids, 0, 10);
    expect_mask(TOKEN_MASK_FORBIDDEN, ids, 4, 10);
    expect_mask(TOKEN_MASK_FORBIDDEN, ids + 1, 2, 10);
    expect_mask(TOKEN_MASK_FORBIDDEN, ids, 0, 10);
    expect_mask(TOKEN_MASK_FORBIDDEN, ids, 3, 7); /* shorter as bits */
    expect_mask(TOKEN_MASK_ALLOWED, ids, 3, 7);
}

static void test_broken_forms(void **state)
{
    static const struct {
        unsigned char bytes[8];
        size_t length;
        uint32_t vocabulary;
        int rc;
    } cases[] = {
        {{0}, 0, 10, ERR_INPUT},
        {{0, 1}, 2, 10, ERR_INPUT},
        {{4, 1}, 2, 10, ERR_INPUT},
        {{1}, 1, 10, 0},
        {{1, 9}, 2, 10, 0},
        {{1, 10}, 2, 10, ERR_INPUT},
        {{1, 9, 0}, 3, 10, ERR_INPUT},
        {{2, 0x80}, 2, 10, ERR_INPUT},
        {{2, 0x80, 0x80, 0x80, 0x80, 0}, 6, 10, ERR_INPUT},
        {{2, 0xFF, 0xFF, 0xFF, 0x7F}, 5, 0xFFFFFFFF, 0},
        {{2, 0xFF, 0xFF, 0xFF, 0x7F, 0xFF}, 6, 0xFFFFFFFF, ERR_INPUT},
        {{3, 0xFF, 0xFF}, 3, 10, 0},
        {{3, 0xFF}, 2, 10, ERR_INPUT},
        {{3, 0xFF, 0xFF, 0xFF}, 4, 10, ERR_INPUT},
    };
    struct err err;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_int_equal(
            token_mask_check(cases[i].bytes, cases[i].length, cases[i].vocabulary, &err),
            cases[i].rc);
}

/* ---- a choice's run ---- */

static void read_run(struct world *w, struct constraint_run *r)
{
    struct buf out;
    struct err err;
    buf_init(&out);
    assert_int_equal(constraint_run_mask(r, &out, &err), 0);
    token_mask_apply((const unsigned char *)out.data, out.length, w->logits, w->masked, IDS);
    buf_clear(&out);
}

static void test_run(void **state)
{
    struct world *w = *state;
    struct constraint_store *store;
    struct constraint *c, *same, *other;
    struct constraint_run *run, *again;
    struct err err;
    json_t *schema = json_pack("{s:s}", "type", "boolean"), *null = json_pack("{s:n}", "const");
    const uint32_t *ends;
    uint32_t *ids = NULL;
    size_t n;
    assert_true(tokenizer_end_ids(w->tokenizer, &ends) > 0);
    assert_int_equal(constraint_store_new(&store, w->tokenizer, IDS, &err), 0);
    assert_int_equal(constraint_from_schema(&c, store, schema, &err), 0);
    assert_int_equal(constraint_from_schema(&same, store, schema, &err), 0);
    assert_int_equal(constraint_from_schema(&other, store, null, &err), 0);
    assert_ptr_equal(c, same);
    assert_ptr_not_equal(c, other);
    constraint_release(same);
    constraint_release(other);

    assert_int_equal(tokenizer_encode(w->tokenizer, "true", 4, 0, &ids, &n, &err), 0);
    assert_int_equal(n, 1);
    assert_int_equal(constraint_run_new(&run, c, &err), 0);
    read_run(w, run);
    assert_true(isfinite(w->masked[ids[0]]) && !isfinite(w->masked[ends[0]]));
    assert_false(constraint_run_is_over(run));
    assert_int_equal(constraint_run_follow(run, ids, 1, &err), 0);
    assert_true(constraint_run_is_over(run));
    read_run(w, run);
    assert_true(!isfinite(w->masked[ids[0]]) && isfinite(w->masked[ends[0]]));
    uint32_t wrong[2] = {ids[0], ids[0]};
    assert_int_equal(constraint_run_follow(run, wrong, 2, &err), ERR_INTERNAL);
    constraint_run_free(run);

    /* Made again from its tokens; and it lives on without the store. */
    assert_int_equal(constraint_run_new(&again, c, &err), 0);
    constraint_store_free(store);
    assert_int_equal(constraint_run_follow(again, ids, 1, &err), 0);
    assert_true(constraint_run_is_over(again));
    constraint_release(c);
    read_run(w, again);
    constraint_run_free(again);
    free(ids);
    json_decref(schema);
    json_decref(null);
}

/* The store forgets what was not asked for of late, and what is held stays. */
static void test_store_is_bounded(void **state)
{
    struct world *w = *state;
    struct constraint_store *store;
    struct constraint *first, *c;
    struct err err;
    char text[20] = "first";
    assert_int_equal(constraint_store_new(&store, w->tokenizer, IDS, &err), 0);
    struct constraint_source source = {.kind = CONSTRAINT_REGEX, .text = text, .length = 5};
    assert_int_equal(constraint_get(&first, store, &source, &err), 0);
    for (int i = 0; i < 100; i++) {
        source.length = (size_t)snprintf(text, sizeof text, "a%d", i);
        assert_int_equal(constraint_get(&c, store, &source, &err), 0);
        constraint_release(c);
    }
    strcpy(text, "first");
    source.length = 5;
    assert_int_equal(constraint_get(&c, store, &source, &err), 0);
    assert_ptr_not_equal(c, first);
    constraint_release(c);
    constraint_release(first);
    constraint_store_free(store);
}

/* However often a text can be read in many ways, its request ends before it has cost much. */
static void test_ambiguous_grammars_end(void **state)
{
    enum { TOKENS = 500 };
    static const char *const grammars[] = {
        "root ::= root root root | root root | [a-z]",
        "root ::= s s s\ns ::= s s | [a-z] | s t | \"\"\nt ::= [a-z]* | s s",
        "root ::= (a b | b a)* \nb ::= [a-z] b | [a-z]\na ::= a [a-z] | [a-z]",
        "root ::= word* \"!\"\nword ::= [a-z]{58,60}", /* no mask is dear, but all are */
    };
    struct world *w = *state;
    struct constraint_store *store;
    struct err err;
    uint32_t *ids = NULL;
    size_t n;
    assert_int_equal(constraint_store_new(&store, w->tokenizer, IDS, &err), 0);
    assert_int_equal(tokenizer_encode(w->tokenizer, "ab", 2, 0, &ids, &n, &err), 0);
    for (size_t i = 0; i < sizeof grammars / sizeof grammars[0]; i++) {
        struct constraint *c = NULL;
        struct constraint_run *run = NULL;
        const struct constraint_source source = {
            .kind = CONSTRAINT_GRAMMAR, .text = grammars[i], .length = strlen(grammars[i])};
        uint32_t tokens[TOKENS];
        int rc = constraint_get(&c, store, &source, &err);
        if (rc == 0)
            rc = constraint_run_new(&run, c, &err);
        for (size_t t = 0; rc == 0 && t < TOKENS; t++) {
            struct buf out;
            buf_init(&out);
            rc = constraint_run_mask(run, &out, &err);
            buf_clear(&out);
            tokens[t] = ids[0];
            if (rc == 0)
                rc = constraint_run_follow(run, tokens, t + 1, &err);
        }
        assert_int_equal(rc, ERR_INPUT);
        assert_non_null(strstr(err.text, "too ambiguous"));
        constraint_run_free(run);
        constraint_release(c);
    }
    free(ids);
    constraint_store_free(store);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_schemas),
        cmocka_unit_test(test_counts),
        cmocka_unit_test(test_grammars),
        cmocka_unit_test(test_masks_do_not_depend_on_what_is_kept),
        cmocka_unit_test(test_forms),
        cmocka_unit_test(test_broken_forms),
        cmocka_unit_test(test_run),
        cmocka_unit_test(test_store_is_bounded),
        cmocka_unit_test(test_ambiguous_grammars_end),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
