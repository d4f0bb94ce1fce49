#include "coordinator/jinja_select.h"

#include "coordinator/jinja_access.h"

#include <string.h>

/* A part of digits is an index. */
static struct jinja_value path_part(const char *bytes, size_t length)
{
    int64_t index = 0;
    bool digits = length > 0 && length < 10;
    for (size_t i = 0; digits && i < length; i++) {
        digits = bytes[i] >= '0' && bytes[i] <= '9';
        index = index * 10 + (bytes[i] - '0');
    }
    return digits ? jinja_value_int(index) : jinja_value_string(bytes, length);
}

int jinja_select_attribute(struct jinja_run *r, const struct jinja_value *item,
                           const struct jinja_value *path, struct jinja_value *ret)
{
    if (path->kind == JINJA_INT)
        return jinja_access_item(r, item, path, ret);
    if (path->kind != JINJA_STRING)
        return jinja_run_fail(r, "an attribute's name cannot be a '%s'", jinja_value_type(path));
    struct jinja_string rest = path->string;
    *ret = *item;
    for (;;) {
        const char *dot = rest.length ? memchr(rest.bytes, '.', rest.length) : NULL;
        size_t length = dot ? (size_t)(dot - rest.bytes) : rest.length;
        struct jinja_value part = path_part(rest.bytes, length), owner = *ret;
        int rc = jinja_access_item(r, &owner, &part, ret);
        if (rc < 0 || !dot)
            return rc;
        rest = (struct jinja_string){dot + 1, rest.length - length - 1};
    }
}

int jinja_select_map(struct jinja_run *r, const struct jinja_value *v,
                     const struct jinja_value *args, struct jinja_value *ret)
{
    static const struct jinja_value none[JINJA_MAX_PARAMS];
    const struct jinja_callable *filter =
        args[0].kind == JINJA_STRING ? jinja_filters_find(args[0].string) : NULL;
    if (!filter == (args[1].kind == JINJA_MISSING))
        return jinja_run_fail(r, "map needs a filter or an attribute");
    if (filter && filter->n_required)
        return jinja_run_fail(r, "map cannot apply '%s', which needs arguments", filter->name);
    struct jinja_list *list;
    int rc = jinja_value_items(r, v, &list);
    if (rc == 0)
        rc = jinja_value_list(r, JINJA_ITERATOR, list->count, ret);
    for (size_t i = 0; rc == 0 && i < list->count; i++) {
        struct jinja_value *to = &ret->list->items[i];
        rc = jinja_run_enter(r);
        if (rc < 0)
            break;
        rc = filter ? filter->call(r, &list->items[i], none, to)
                    : jinja_select_attribute(r, &list->items[i], &args[1], to);
        jinja_run_leave(r);
        if (rc == 0 && to->kind == JINJA_UNDEFINED && args[2].kind != JINJA_MISSING)
            *to = args[2];
    }
    return rc;
}

/* Keeps the items whose value (or attribute) passes the test, or is true without one. */
static int keep(struct jinja_run *r, const struct jinja_value *v,
                const struct jinja_value *attribute, const struct jinja_value *test_args,
                bool wanted, struct jinja_value *ret)
{
    const struct jinja_callable *test =
        test_args[0].kind == JINJA_STRING ? jinja_tests_find(test_args[0].string) : NULL;
    struct jinja_value args[JINJA_MAX_PARAMS] = {test_args[1]};
    if (test && (test->n_required > 0) != (args[0].kind != JINJA_MISSING))
        return jinja_run_fail(r, "the test '%s' has another number of arguments", test->name);
    struct jinja_list *list;
    int rc = jinja_value_items(r, v, &list);
    if (rc == 0)
        rc = jinja_value_list(r, JINJA_ITERATOR, list->count, ret);
    size_t count = 0;
    for (size_t i = 0; rc == 0 && i < list->count; i++) {
        struct jinja_value subject = list->items[i], verdict;
        if (attribute)
            rc = jinja_select_attribute(r, &list->items[i], attribute, &subject);
        verdict = subject;
        if (rc == 0 && test)
            rc = test->call(r, &subject, args, &verdict);
        if (rc == 0 && jinja_value_truth(&verdict) == wanted)
            ret->list->items[count++] = list->items[i];
        if (rc == 0)
            rc = jinja_run_charge(r, 0);
    }
    if (rc == 0)
        ret->list->count = count;
    return rc;
}

int jinja_select_by_value(struct jinja_run *r, const struct jinja_value *v,
                          const struct jinja_value *args, struct jinja_value *ret)
{
    return keep(r, v, NULL, args, true, ret);
}

int jinja_select_not_by_value(struct jinja_run *r, const struct jinja_value *v,
                              const struct jinja_value *args, struct jinja_value *ret)
{
    return keep(r, v, NULL, args, false, ret);
}

int jinja_select_by_attribute(struct jinja_run *r, const struct jinja_value *v,
                              const struct jinja_value *args, struct jinja_value *ret)
{
    return keep(r, v, &args[0], args + 1, true, ret);
}

int jinja_select_not_by_attribute(struct jinja_run *r, const struct jinja_value *v,
                                  const struct jinja_value *args, struct jinja_value *ret)
{
    return keep(r, v, &args[0], args + 1, false, ret);
}
