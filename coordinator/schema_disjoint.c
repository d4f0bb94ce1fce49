#include "coordinator/schema_parts.h"

#include <string.h>

/* oneOf: exactly one branch must hold. Branches that no value can satisfy together are alternatives
 * like those of anyOf; others are refused, since a text may satisfy two. */

/* Where there is too much to compare, nothing is said to differ, and the work is seen to be too
 * much by schema_work(). */

/* Whether both lists of values are known and share none. */
static bool literals_differ(struct schema *s, const json_t *x, const json_t *y)
{
    const json_t *a, *b;
    size_t i, k;
    if (!x || !y || !schema_has_work(s, json_array_size(x) * schema_weight(y)))
        return false;
    json_array_foreach(x, i, a)
        json_array_foreach(y, k, b) if (json_equal((json_t *)a, (json_t *)b)) return false;
    return true;
}

static bool form_requires(struct schema *s, const struct schema_form *f, const char *name)
{
    const json_t *item;
    size_t i;
    for (size_t p = 0; p < f->parts.n; p++) {
        const json_t *names = json_object_get(f->parts.items[p], "required");
        if (!schema_has_work(s, json_array_size(names)))
            return false;
        json_array_foreach(names, i, item)
        {
            if (json_is_string(item) && strcmp(json_string_value(item), name) == 0)
                return true;
        }
    }
    return false;
}

/* What enum and const directly at the form's property leave of it; NULL: anything. */
static const json_t *property_literals(const struct schema_form *f, const char *name,
                                       const json_t **ret_single)
{
    for (size_t p = 0; p < f->parts.n; p++) {
        const json_t *own = json_object_get(json_object_get(f->parts.items[p], "properties"), name);
        *ret_single = json_object_get(own, "const");
        const json_t *list = json_object_get(own, "enum");
        if (*ret_single || list)
            return list;
    }
    *ret_single = NULL;
    return NULL;
}

static bool single_differs(struct schema *s, const json_t *list, const json_t *single)
{
    const json_t *item;
    size_t i;
    if (!schema_has_work(s, schema_weight(list)))
        return false;
    json_array_foreach(list, i, item)
    {
        if (json_equal((json_t *)item, (json_t *)single))
            return false;
    }
    return true;
}

/* Objects that both must have a property, whose values cannot be equal. */
static bool property_differs(struct schema *s, const struct schema_form *x,
                             const struct schema_form *y, const char *name)
{
    const json_t *x_single, *y_single;
    const json_t *x_list = property_literals(x, name, &x_single);
    const json_t *y_list = property_literals(y, name, &y_single);
    if (!form_requires(s, x, name) || !form_requires(s, y, name))
        return false;
    if (x_single && y_single)
        return schema_has_work(s, schema_weight(x_single)) &&
               !json_equal((json_t *)x_single, (json_t *)y_single);
    if (x_single && y_list)
        return single_differs(s, y_list, x_single);
    if (y_single && x_list)
        return single_differs(s, x_list, y_single);
    return literals_differ(s, x_list, y_list);
}

static bool forms_are_disjoint(struct schema *s, const struct schema_form *x,
                               const struct schema_form *y)
{
    const unsigned both = x->types & y->types;
    const char *name;
    json_t *value;
    if (!both || literals_differ(s, x->literals, y->literals))
        return true;
    if (both != SCHEMA_OBJECT)
        return false;
    for (size_t p = 0; p < x->parts.n; p++)
        json_object_foreach(json_object_get(x->parts.items[p], "properties"), name,
                            value) if (property_differs(s, x, y, name)) return true;
    return false;
}

static int compare_branches(struct schema *s, const json_t *part, const struct schema_forms *x,
                            const struct schema_forms *y, bool *ret_differ)
{
    int rc = 0;
    *ret_differ = true;
    for (size_t i = 0; rc == 0 && i < x->n; i++) {
        for (size_t k = 0; rc == 0 && k < y->n; k++) {
            *ret_differ = *ret_differ && forms_are_disjoint(s, &x->items[i], &y->items[k]);
            rc = schema_work(s, part, 0);
        }
    }
    return rc;
}

static int check_branch(struct schema *s, const json_t *part, struct schema_forms *forms, size_t i)
{
    struct schema_parts parts = {0};
    int rc = schema_add_part(s, &parts, json_array_get(json_object_get(part, "oneOf"), i));
    if (rc == 0)
        rc = schema_expand(s, &parts, &forms[i]);
    for (size_t k = 0; rc == 0 && k < i; k++) {
        bool differ;
        rc = compare_branches(s, part, &forms[k], &forms[i], &differ);
        if (rc == 0 && !differ)
            rc = schema_fail(s, part, "oneOf",
                             "a value may satisfy branches %zu and %zu: give them different types, "
                             "or a required property with a 'const' of its own, or use 'anyOf'",
                             k, i);
    }
    return rc;
}

int schema_check_one_of(struct schema *s, const json_t *part)
{
    const size_t n = json_array_size(json_object_get(part, "oneOf")), before = s->checked.n;
    int rc = schema_work(s, part, before);
    if (rc == 0)
        rc = schema_add_part(s, &s->checked, part);
    if (rc != 0 || s->checked.n == before)
        return rc;
    struct schema_forms *forms = arena_array(&s->builder->arena, n, sizeof *forms);
    if (!forms)
        return schema_no_memory(s);
    for (size_t i = 0; rc == 0 && i < n; i++)
        rc = check_branch(s, part, forms, i);
    return rc;
}
