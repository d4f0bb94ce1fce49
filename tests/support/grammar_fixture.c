#include "tests/support/grammar_fixture.h"

#include "coordinator/constraint_parts.h"
#include "coordinator/grammar_matcher.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct grammar *grammar_of(const struct constraint_source *source)
{
    struct grammar *g = NULL;
    struct err err = {0};
    if (constraint_compile(&g, source, &err) != 0)
        fail_msg("%s", err.text);
    return g;
}

/* *ret_json is the caller's. */
static struct constraint_source source_of(enum constraint_kind kind, const char *text,
                                          json_t **ret_json)
{
    struct constraint_source source = {.kind = kind, .text = text, .length = strlen(text)};
    json_error_t error;
    *ret_json = NULL;
    if (kind == CONSTRAINT_SCHEMA || kind == CONSTRAINT_CHOICES) {
        *ret_json = json_loads(text, JSON_DECODE_ANY, &error);
        if (!*ret_json)
            fail_msg("%s: %s", text, error.text);
        source.json = *ret_json;
    }
    return source;
}

struct grammar *grammar_of_text(enum constraint_kind kind, const char *text)
{
    json_t *json;
    struct constraint_source source = source_of(kind, text, &json);
    struct grammar *g = grammar_of(&source);
    json_decref(json);
    return g;
}

struct grammar *grammar_of_schema(const char *json)
{
    return grammar_of_text(CONSTRAINT_SCHEMA, json);
}

const char *grammar_refusal(enum constraint_kind kind, const char *text)
{
    static struct err err;
    json_t *json;
    struct constraint_source source = source_of(kind, text, &json);
    struct grammar *g = NULL;
    if (constraint_compile(&g, &source, &err) == 0)
        fail_msg("not refused: %s", text);
    assert_int_equal(err.code, ERR_INPUT);
    json_decref(json);
    return err.text;
}

bool grammar_accepts(const struct grammar *g, const char *text, size_t length, size_t *ret_alive)
{
    struct grammar_matcher m;
    size_t alive = 0;
    assert_true(grammar_matcher_init(&m, g));
    while (alive < length && grammar_matcher_push(&m, (unsigned char)text[alive])) {
        grammar_matcher_commit(&m);
        alive++;
    }
    bool accepted = alive == length && grammar_matcher_now(&m)->is_end;
    grammar_matcher_clear(&m);
    *ret_alive = alive;
    return accepted;
}

void expect_texts(const struct grammar *g, bool accepted, const char *const *texts)
{
    for (; *texts; texts++) {
        size_t alive, length = strlen(*texts);
        if (grammar_accepts(g, *texts, length, &alive) != accepted)
            fail_msg("%s: \"%s\", of which %zu of %zu bytes may come",
                     accepted ? "not accepted" : "accepted", *texts, alive, length);
    }
}
