#include "coordinator/constraint_parts.h"

#include "coordinator/schema.h"

#include <string.h>

int constraint_calls_read(struct grammar_builder *b, const struct constraint_calls *calls,
                          const struct grammar_expr **ret_first,
                          const struct grammar_expr **ret_call, struct err *err)
{
    struct grammar_list first = {0}, whole = {0};
    const struct grammar_expr *end = grammar_text(b, calls->end, strlen(calls->end));
    const json_t *tool;
    size_t i;
    json_array_foreach(calls->tools, i, tool)
    {
        const json_t *begin = json_object_get(tool, "begin");
        const char *text = json_string_value(begin);
        size_t length = json_string_length(begin);
        size_t begun = calls->n_begun < length ? calls->n_begun : length;
        uint32_t rule;
        const json_t *schema = json_object_get(tool, "schema");
        int rc = calls->in_tags ? schema_read_tags(b, schema, &rule, err)
                                : schema_read(b, schema, &rule, err);
        if (rc != 0)
            return rc;
        const struct grammar_expr *rest = GRAMMAR_SEQUENCE_OF(b, grammar_call(b, rule), end);
        grammar_list_add(b, &whole, GRAMMAR_SEQUENCE_OF(b, grammar_text(b, text, length), rest));
        grammar_list_add(
            b, &first, GRAMMAR_SEQUENCE_OF(b, grammar_text(b, text + begun, length - begun), rest));
    }
    *ret_first = grammar_choice(b, first.items, first.n);
    *ret_call = grammar_choice(b, whole.items, whole.n);
    return 0;
}

int constraint_calls_alone(struct grammar_builder *b, const struct constraint_calls *calls,
                           struct err *err)
{
    const struct grammar_expr *first = NULL, *call = NULL;
    uint32_t rule = grammar_builder_rule(b);
    int rc = constraint_calls_read(b, calls, &first, &call, err);
    if (rc != 0 || b->failed)
        return rc;
    const struct grammar_expr *next = GRAMMAR_SEQUENCE_OF(b, grammar_text(b, "\n", 1), call);
    const struct grammar_expr *others =
        grammar_repeat(b, next, 0, calls->is_single ? 0 : GRAMMAR_UNBOUNDED);
    b->rules[rule].expr = GRAMMAR_SEQUENCE_OF(b, first, others);
    return 0;
}

int constraint_calls_in_talk(struct grammar_builder *b, const struct constraint_calls *calls,
                             struct err *err)
{
    const struct grammar_expr *words = NULL, *first = NULL, *call = NULL;
    uint32_t rule = grammar_builder_rule(b);
    int rc = constraint_text_without(b, calls->mark, &words, err);
    if (rc == 0)
        rc = constraint_calls_read(b, calls, &first, &call, err);
    if (rc != 0 || b->failed)
        return rc;
    const struct grammar_expr *others =
        calls->is_single
            ? grammar_optional(b, call)
            : grammar_repeat(b, GRAMMAR_SEQUENCE_OF(b, call, words), 0, GRAMMAR_UNBOUNDED);
    b->rules[rule].expr = GRAMMAR_SEQUENCE_OF(b, words, others);
    return 0;
}
