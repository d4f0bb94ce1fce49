#include "tests/support/tokenizer_json.h"

#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

static json_t *tokenizer_json_parse(const char *path)
{
    char command[1024];
    assert_true(snprintf(command, sizeof command, "xz -dc '%s'", path) < (int)sizeof command);
    FILE *f = popen(command, "r");
    assert_non_null(f);
    json_error_t error;
    json_t *root = json_loadf(f, 0, &error);
    if (!root)
        fail_msg("%s: %s (is xz installed?)", path, error.text);
    assert_int_equal(pclose(f), 0);
    return root;
}

static void tokenizer_json_tokens(const json_t *root, const char **tokens, enum token_kind *kinds)
{
    const char *text;
    json_t *value;
    size_t i;
    json_object_foreach(json_object_get(json_object_get(root, "model"), "vocab"), text, value)
        tokens[json_integer_value(value)] = text;
    json_array_foreach(json_object_get(root, "added_tokens"), i, value)
    {
        long long id = json_integer_value(json_object_get(value, "id"));
        tokens[id] = json_string_value(json_object_get(value, "content"));
        kinds[id] =
            json_is_true(json_object_get(value, "special")) ? TOKEN_CONTROL : TOKEN_USER_DEFINED;
    }
}

/* A merge is "left right" in older files and ["left", "right"] in newer ones. */
static char *tokenizer_json_merge(const json_t *merge)
{
    if (json_is_string(merge))
        return strdup(json_string_value(merge));
    char *text;
    if (asprintf(&text, "%s %s", json_string_value(json_array_get(merge, 0)),
                 json_string_value(json_array_get(merge, 1))) < 0)
        fail_msg("no memory");
    return text;
}

struct tokenizer *tokenizer_json_read(const char *path, const char *pre, double *ret_load_ms)
{
    json_t *root = tokenizer_json_parse(path);
    const json_t *merges = json_object_get(json_object_get(root, "model"), "merges");
    struct tokenizer_source s = {.pre = pre, .end_of_text = -1, .begin_of_text = -1};
    s.n_merges = json_array_size(merges);
    s.n_tokens = json_object_size(json_object_get(json_object_get(root, "model"), "vocab")) +
                 json_array_size(json_object_get(root, "added_tokens"));
    const char **tokens = calloc(s.n_tokens, sizeof *tokens);
    enum token_kind *kinds = calloc(s.n_tokens, sizeof *kinds);
    char **merge_texts = calloc(s.n_merges, sizeof *merge_texts);
    assert_true(tokens && kinds && merge_texts);
    tokenizer_json_tokens(root, tokens, kinds);
    for (size_t i = 0; i < s.n_tokens; i++)
        assert_non_null(tokens[i]);
    for (size_t i = 0; i < s.n_merges; i++)
        merge_texts[i] = tokenizer_json_merge(json_array_get(merges, i));
    s.tokens = tokens;
    s.kinds = kinds;
    s.merges = (const char *const *)merge_texts;
    struct tokenizer *t = NULL;
    struct err err = {0};
    clock_t start = clock();
    if (tokenizer_new(&t, &s, &err) != 0)
        fail_msg("%s: %s", path, err.text);
    if (ret_load_ms)
        *ret_load_ms = (double)(clock() - start) * 1e3 / CLOCKS_PER_SEC;
    for (size_t i = 0; i < s.n_merges; i++)
        free(merge_texts[i]);
    free(merge_texts);
    free(tokens);
    free(kinds);
    json_decref(root);
    return t;
}
