/* Judges texts for a test that knows better: reads lines {"schema": …, "texts": ["…"], "samples":
 * N, "seed": N} and answers each with {"accepted": [true, …], "samples": ["…"]}, or with {"error":
 * "…"} when the schema is refused. Samples are texts of its grammar, made at random. */
#include "coordinator/constraint_parts.h"
#include "coordinator/grammar_matcher.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_SAMPLE_BYTES = 600 };

static bool accepts(const struct grammar *g, const char *text, size_t length)
{
    struct grammar_matcher m;
    size_t at = 0;
    bool is_end = false;
    if (grammar_matcher_init(&m, g)) {
        while (at < length && grammar_matcher_push(&m, (unsigned char)text[at])) {
            grammar_matcher_commit(&m);
            at++;
        }
        is_end = at == length && grammar_matcher_now(&m)->is_end;
    }
    grammar_matcher_clear(&m);
    return is_end;
}

static uint32_t next_random(uint64_t *seed)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*seed >> 33);
}

/* One of the bytes that may come; often one that closes or goes on, so that texts end. */
static int random_byte(struct grammar_matcher *m, uint64_t *seed)
{
    static const char marks[] = "\"}],:";
    unsigned char all[256], closing[8];
    unsigned n = 0, n_closing = 0;
    for (unsigned byte = 0; byte < 256; byte++) {
        if (grammar_matcher_push(m, (unsigned char)byte)) {
            all[n++] = (unsigned char)byte;
            if (byte && strchr(marks, (int)byte))
                closing[n_closing++] = (unsigned char)byte;
        }
        grammar_matcher_pop(m, 0);
    }
    if (n == 0)
        return -1;
    if (n_closing && next_random(seed) % 3 == 0)
        return closing[next_random(seed) % n_closing];
    return all[next_random(seed) % n];
}

/* NULL: it did not end in time. */
static json_t *sample(const struct grammar *g, uint64_t *seed)
{
    char text[MOST_SAMPLE_BYTES];
    size_t length = 0;
    struct grammar_matcher m;
    bool is_whole = false;
    if (!grammar_matcher_init(&m, g))
        return NULL;
    while (length < sizeof text && !is_whole) {
        bool may_end = grammar_matcher_now(&m)->is_end;
        int byte = random_byte(&m, seed);
        is_whole = may_end && (byte < 0 || next_random(seed) % 3 == 0);
        if (is_whole || byte < 0)
            break;
        grammar_matcher_push(&m, (unsigned char)byte);
        grammar_matcher_commit(&m);
        text[length++] = (char)byte;
    }
    grammar_matcher_clear(&m);
    return is_whole ? json_stringn(text, length) : NULL;
}

static json_t *judge(const json_t *line)
{
    const struct constraint_source source = {.kind = CONSTRAINT_SCHEMA,
                                             .json = json_object_get(line, "schema")};
    uint64_t seed = (uint64_t)json_integer_value(json_object_get(line, "seed"));
    struct grammar *g = NULL;
    struct err err;
    const json_t *text;
    size_t i;
    if (constraint_compile(&g, &source, &err) != 0)
        return json_pack("{s:s}", "error", err.text);
    json_t *accepted = json_array(), *samples = json_array();
    json_array_foreach(json_object_get(line, "texts"), i, text) json_array_append_new(
        accepted, json_boolean(accepts(g, json_string_value(text), json_string_length(text))));
    for (json_int_t n = json_integer_value(json_object_get(line, "samples")); n > 0; n--) {
        json_t *one = sample(g, &seed);
        if (one)
            json_array_append_new(samples, one);
    }
    grammar_free(g);
    return json_pack("{s:o,s:o}", "accepted", accepted, "samples", samples);
}

int main(void)
{
    char *line = NULL;
    size_t capacity = 0;
    ssize_t length;
    while ((length = getline(&line, &capacity, stdin)) > 0) {
        json_t *question = json_loadb(line, (size_t)length, JSON_ALLOW_NUL, NULL);
        json_t *answer = question ? judge(question) : json_pack("{s:s}", "error", "not JSON");
        if (!answer || json_dumpf(answer, stdout, JSON_COMPACT) != 0)
            return 1;
        putchar('\n');
        fflush(stdout);
        json_decref(answer);
        json_decref(question);
    }
    free(line);
    return 0;
}
