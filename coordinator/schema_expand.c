#include "coordinator/schema_parts.h"

#include <string.h>

/* Alternatives of one value, and schemas that hold together. */
#define MOST_FORMS 256
#define MOST_PARTS 64

/* A form on its way: what is settled, and what is to be looked at. */
struct branch {
    struct schema_parts done, todo;
    size_t next; /* of todo */
};

static int expand_branch(struct schema *s, struct branch b, struct schema_forms *forms, int depth);

/* ---- a form that is complete ---- */

static bool has_value(const json_t *array, const json_t *value)
{
    const json_t *item;
    size_t i;
    json_array_foreach(array, i, item) if (json_equal((json_t *)item, (json_t *)value)) return true;
    return false;
}

/* Of the values that are possible so far (NULL: all), those that the part's list has. */
static int keep_literals(struct schema *s, json_t **literals, const json_t *list)
{
    json_t *kept = json_array(), *value;
    size_t i;
    if (*literals && schema_work(s, list, json_array_size(list) * schema_weight(*literals)) != 0) {
        json_decref(kept);
        return s->err->code;
    }
    if (!kept || json_array_append_new(s->owned, kept) != 0)
        return schema_no_memory(s);
    json_array_foreach(list, i,
                       value) if (!*literals ||
                                  has_value(*literals, value)) if (json_array_append(kept, value) !=
                                                                   0) return schema_no_memory(s);
    *literals = kept;
    return 0;
}

static int part_literals(struct schema *s, const json_t *part, json_t **literals)
{
    json_t *list = json_object_get(part, "enum"), *value = json_object_get(part, "const");
    int rc = list ? keep_literals(s, literals, list) : 0;
    if (rc != 0 || !value)
        return rc;
    json_t *one = json_array();
    if (!one || json_array_append_new(s->owned, one) != 0 || json_array_append(one, value) != 0)
        return schema_no_memory(s);
    return keep_literals(s, literals, one);
}

/* Beside values that are listed, other keywords would have to be judged on them. */
static int check_beside_literals(const struct schema *s, const json_t *part)
{
    static const char *const others[] = {
        "properties",       "required",        "additionalProperties",
        "prefixItems",      "items",           "minItems",
        "maxItems",         "minLength",       "maxLength",
        "pattern",          "minimum",         "maximum",
        "exclusiveMinimum", "exclusiveMaximum"};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        if (json_object_get(part, others[i]))
            return schema_fail(s, part, others[i],
                               "this keyword is not supported together with 'enum' or 'const'");
    return 0;
}

static int expand_finish(struct schema *s, const struct branch *b, struct schema_forms *forms)
{
    struct schema_form f = {.parts = b->done, .types = SCHEMA_ANY_TYPE};
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < f.parts.n; i++) {
        unsigned types;
        rc = schema_types(s, f.parts.items[i], &types);
        f.types &= types;
        if (rc == 0)
            rc = part_literals(s, f.parts.items[i], &f.literals);
    }
    for (size_t i = 0; rc == 0 && f.literals && i < f.parts.n; i++)
        rc = check_beside_literals(s, f.parts.items[i]);
    if (rc != 0 || !f.types || (f.literals && json_array_size(f.literals) == 0))
        return rc;
    if (forms->n == forms->capacity) {
        size_t capacity = forms->capacity ? 2 * forms->capacity : 4;
        struct schema_form *grown = arena_array(&s->builder->arena, capacity, sizeof *grown);
        if (!grown)
            return schema_no_memory(s);
        if (forms->n)
            memcpy(grown, forms->items, forms->n * sizeof *grown);
        forms->items = grown;
        forms->capacity = capacity;
    }
    if (forms->n == MOST_FORMS)
        return schema_fail(s, b->todo.items[0], NULL, "it has more than %d alternatives",
                           MOST_FORMS);
    forms->items[forms->n++] = f;
    return 0;
}

/* ---- on the way ---- */

static int copy_parts(struct schema *s, const struct schema_parts *from, struct schema_parts *to)
{
    int rc = 0;
    *to = (struct schema_parts){0};
    for (size_t i = 0; rc == 0 && i < from->n; i++)
        rc = schema_add_part(s, to, from->items[i]);
    return rc;
}

/* A branch for each schema of the list; lists[1] is another such list, or NULL. */
static int expand_alternatives(struct schema *s, const struct branch *b, const json_t *list,
                               const json_t *other, struct schema_forms *forms, int depth)
{
    const json_t *item;
    size_t i;
    int rc = 0;
    json_array_foreach(list, i, item)
    {
        struct branch branch = {.next = b->next};
        rc = schema_work(s, list, b->done.n + b->todo.n);
        if (rc == 0)
            rc = copy_parts(s, &b->done, &branch.done);
        if (rc == 0)
            rc = copy_parts(s, &b->todo, &branch.todo);
        if (rc == 0)
            rc = schema_add_part(s, &branch.todo, item);
        if (rc == 0)
            rc = other ? expand_alternatives(s, &branch, other, NULL, forms, depth)
                       : expand_branch(s, branch, forms, depth + 1);
        if (rc != 0)
            break;
    }
    return rc;
}

static int expand_ref(struct schema *s, struct branch *b, const json_t *part)
{
    const json_t *target = NULL, *ref = json_object_get(part, "$ref");
    if (!ref)
        return 0;
    int rc = schema_work(s, part, json_string_length(ref));
    if (rc == 0)
        rc = schema_resolve(s, part, &target);
    return rc == 0 ? schema_add_part(s, &b->todo, target) : rc;
}

/* What a schema says itself: its keywords, and the elements and members that they list. */
static size_t part_size(const json_t *part)
{
    size_t size = 0;
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)part, key, value) size +=
        1 + json_array_size(value) + json_object_size(value);
    return size;
}

static int expand_all_of(struct schema *s, struct branch *b, const json_t *part)
{
    const json_t *all = json_object_get(part, "allOf"), *item;
    size_t i;
    int rc = 0;
    if (json_array_size(all) > MOST_PARTS)
        return schema_fail(s, part, "allOf", "more than %d schemas would have to hold together",
                           MOST_PARTS);
    json_array_foreach(all, i, item)
    {
        if (rc == 0)
            rc = schema_add_part(s, &b->todo, item);
    }
    return rc;
}

/* Looks at one part. *ret_is_forked: its alternatives have been followed to their ends. */
static int expand_part(struct schema *s, struct branch *b, const json_t *part,
                       struct schema_forms *forms, int depth, bool *ret_is_forked)
{
    const json_t *any = json_object_get(part, "anyOf"), *one;
    *ret_is_forked = false;
    int rc = schema_work(s, part, part_size(part));
    if (rc == 0)
        rc = schema_check_part(s, part);
    if (rc == 0)
        rc = expand_ref(s, b, part);
    if (rc == 0)
        rc = expand_all_of(s, b, part);
    if (rc == 0)
        rc = schema_add_part(s, &b->done, part);
    if (rc == 0 && b->done.n > MOST_PARTS)
        rc = schema_fail(s, part, NULL, "more than %d schemas would have to hold together",
                         MOST_PARTS);
    one = json_object_get(part, "oneOf");
    if (rc == 0 && one)
        rc = schema_check_one_of(s, part);
    if (rc != 0 || (!any && !one))
        return rc;
    *ret_is_forked = true;
    return expand_alternatives(s, b, any ? any : one, any ? one : NULL, forms, depth);
}

static int expand_branch(struct schema *s, struct branch b, struct schema_forms *forms, int depth)
{
    if (depth > MOST_PARTS)
        return schema_fail(s, b.todo.items[0], NULL, "its alternatives are nested too deeply");
    while (b.next < b.todo.n) {
        const json_t *part = b.todo.items[b.next++];
        bool is_forked = false;
        if (json_is_true(part))
            continue;
        if (json_is_false(part))
            return 0;
        if (!json_is_object(part))
            return schema_fail(s, part, NULL, "must be a schema: an object or a boolean");
        int rc = expand_part(s, &b, part, forms, depth, &is_forked);
        if (rc != 0 || is_forked)
            return rc;
    }
    return expand_finish(s, &b, forms);
}

int schema_expand(struct schema *s, const struct schema_parts *parts, struct schema_forms *forms)
{
    struct branch b = {0};
    int rc = copy_parts(s, parts, &b.todo);
    return rc == 0 ? expand_branch(s, b, forms, 0) : rc;
}
