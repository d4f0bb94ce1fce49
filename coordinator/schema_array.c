#include "coordinator/schema_parts.h"

/* How many elements, over all parts. */
struct bounds {
    uint32_t min, max, n_prefix;
};

static int array_bounds(const struct schema *s, const struct schema_form *f, struct bounds *b)
{
    *b = (struct bounds){.max = GRAMMAR_UNBOUNDED};
    for (size_t i = 0; i < f->parts.n; i++) {
        uint32_t min, max;
        int rc = schema_count(s, f->parts.items[i], "minItems", 0, &min);
        if (rc == 0)
            rc = schema_count(s, f->parts.items[i], "maxItems", GRAMMAR_UNBOUNDED, &max);
        if (rc != 0)
            return rc;
        uint32_t n = (uint32_t)json_array_size(json_object_get(f->parts.items[i], "prefixItems"));
        b->min = min > b->min ? min : b->min;
        b->max = max < b->max ? max : b->max;
        b->n_prefix = n > b->n_prefix ? n : b->n_prefix;
    }
    return 0;
}

/* The texts of element i. */
static int element_text(struct schema *s, const struct schema_form *f, size_t index,
                        const struct grammar_expr **ret_expr)
{
    struct schema_parts parts = {0};
    bool is_never = false;
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < f->parts.n; i++) {
        const json_t *own =
            json_array_get(json_object_get(f->parts.items[i], "prefixItems"), index);
        if (!own)
            own = json_object_get(f->parts.items[i], "items");
        is_never = is_never || json_is_false(own);
        if (own && !json_is_true(own))
            rc = schema_add_part(s, &parts, own);
    }
    if (rc == 0)
        *ret_expr = is_never ? grammar_never() : schema_value(s, &parts);
    return rc;
}

/* Elements after the prefix, if there is one, and the space before the end. */
static const struct grammar_expr *rest_text(struct schema *s, const struct bounds *b,
                                            const struct grammar_expr *element)
{
    struct grammar_builder *builder = s->builder;
    const struct grammar_expr *more =
        GRAMMAR_SEQUENCE_OF(builder, schema_mark(s, ","), schema_space(s), element);
    uint32_t done = b->n_prefix ? b->n_prefix : 1;
    uint32_t min = b->min > done ? b->min - done : 0;
    uint32_t max = b->max == GRAMMAR_UNBOUNDED ? b->max : b->max > done ? b->max - done : 0;
    const struct grammar_expr *rest = grammar_repeat(builder, more, min, max);
    rest = GRAMMAR_SEQUENCE_OF(builder, rest, schema_space(s));
    if (b->n_prefix)
        return rest;
    if (b->max == 0)
        return b->min ? grammar_never() : grammar_empty();
    rest = GRAMMAR_SEQUENCE_OF(builder, element, rest);
    return b->min ? rest : grammar_optional(builder, rest);
}

/* Node i: i elements of the prefix are written. */
static int array_graph(struct schema *s, const struct schema_form *f, const struct bounds *b,
                       const struct grammar_expr **ret_expr)
{
    struct grammar_builder *builder = s->builder;
    const struct grammar_expr *comma =
        GRAMMAR_SEQUENCE_OF(builder, schema_mark(s, ","), schema_space(s));
    const struct grammar_expr *element = NULL;
    const uint32_t n = b->n_prefix, end = n + 1;
    struct grammar_expr *g = grammar_graph(builder, n + 2, end);
    for (uint32_t i = 0; i < n && i < b->max; i++) {
        int rc = element_text(s, f, i, &element);
        if (rc != 0)
            return rc;
        grammar_graph_add(builder, g, i, i ? GRAMMAR_SEQUENCE_OF(builder, comma, element) : element,
                          i + 1);
    }
    for (uint32_t i = b->min; i < n && i <= b->max; i++)
        grammar_graph_add(builder, g, i, i ? schema_space(s) : grammar_empty(), end);
    int rc = element_text(s, f, n, &element);
    if (rc == 0 && n <= b->max)
        grammar_graph_add(builder, g, n, rest_text(s, b, element), end);
    if (rc == 0)
        *ret_expr = g;
    return rc;
}

int schema_array(struct schema *s, const struct schema_form *f,
                 const struct grammar_expr **ret_expr)
{
    struct bounds b;
    const struct grammar_expr *elements = NULL;
    int rc = array_bounds(s, f, &b);
    if (rc == 0 && b.n_prefix > 1000)
        rc = schema_fail(s, f->parts.items[0], NULL, "an array has more than 1000 prefixItems");
    if (rc == 0)
        rc = array_graph(s, f, &b, &elements);
    if (rc == 0)
        *ret_expr = GRAMMAR_SEQUENCE_OF(s->builder, schema_mark(s, "["), schema_space(s), elements,
                                        schema_mark(s, "]"));
    return rc;
}
