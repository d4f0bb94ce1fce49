#include "coordinator/jinja_ast.h"
#include "coordinator/jinja_operators.h"

static int test_defined(struct jinja_run *r, const struct jinja_value *v,
                        const struct jinja_value *args, struct jinja_value *ret)
{
    *ret = jinja_value_bool(v->kind != JINJA_UNDEFINED);
    return 0;
}

static int test_undefined(struct jinja_run *r, const struct jinja_value *v,
                          const struct jinja_value *args, struct jinja_value *ret)
{
    *ret = jinja_value_bool(v->kind == JINJA_UNDEFINED);
    return 0;
}

static int test_none(struct jinja_run *r, const struct jinja_value *v,
                     const struct jinja_value *args, struct jinja_value *ret)
{
    *ret = jinja_value_bool(v->kind == JINJA_NONE);
    return 0;
}

static int test_string(struct jinja_run *r, const struct jinja_value *v,
                       const struct jinja_value *args, struct jinja_value *ret)
{
    *ret = jinja_value_bool(v->kind == JINJA_STRING);
    return 0;
}

static int test_mapping(struct jinja_run *r, const struct jinja_value *v,
                        const struct jinja_value *args, struct jinja_value *ret)
{
    *ret = jinja_value_bool(v->kind == JINJA_DICT);
    return 0;
}

/* An undefined value can be walked, and has a length, in jinja2. */
static bool is_sequence(const struct jinja_value *v)
{
    return v->kind == JINJA_STRING || v->kind == JINJA_LIST || v->kind == JINJA_TUPLE ||
           v->kind == JINJA_DICT || v->kind == JINJA_UNDEFINED;
}

static int test_sequence(struct jinja_run *r, const struct jinja_value *v,
                         const struct jinja_value *args, struct jinja_value *ret)
{
    *ret = jinja_value_bool(is_sequence(v));
    return 0;
}

static int test_iterable(struct jinja_run *r, const struct jinja_value *v,
                         const struct jinja_value *args, struct jinja_value *ret)
{
    *ret = jinja_value_bool(is_sequence(v) || v->kind == JINJA_VIEW || v->kind == JINJA_ITERATOR ||
                            v->kind == JINJA_LOOP);
    return 0;
}

static int test_boolean(struct jinja_run *r, const struct jinja_value *v,
                        const struct jinja_value *args, struct jinja_value *ret)
{
    *ret = jinja_value_bool(v->kind == JINJA_BOOL);
    return 0;
}

static int test_true(struct jinja_run *r, const struct jinja_value *v,
                     const struct jinja_value *args, struct jinja_value *ret)
{
    *ret = jinja_value_bool(v->kind == JINJA_BOOL && v->truth);
    return 0;
}

static int test_false(struct jinja_run *r, const struct jinja_value *v,
                      const struct jinja_value *args, struct jinja_value *ret)
{
    *ret = jinja_value_bool(v->kind == JINJA_BOOL && !v->truth);
    return 0;
}

static int test_number(struct jinja_run *r, const struct jinja_value *v,
                       const struct jinja_value *args, struct jinja_value *ret)
{
    *ret = jinja_value_bool(jinja_value_is_number(v));
    return 0;
}

static int test_integer(struct jinja_run *r, const struct jinja_value *v,
                        const struct jinja_value *args, struct jinja_value *ret)
{
    *ret = jinja_value_bool(v->kind == JINJA_INT);
    return 0;
}

static int test_float(struct jinja_run *r, const struct jinja_value *v,
                      const struct jinja_value *args, struct jinja_value *ret)
{
    *ret = jinja_value_bool(v->kind == JINJA_FLOAT);
    return 0;
}

static int test_callable(struct jinja_run *r, const struct jinja_value *v,
                         const struct jinja_value *args, struct jinja_value *ret)
{
    *ret = jinja_value_bool(v->kind == JINJA_MACRO || v->kind == JINJA_FUNCTION ||
                            v->kind == JINJA_METHOD || v->kind == JINJA_UNDEFINED);
    return 0;
}

static int has_rest(struct jinja_run *r, const struct jinja_value *v, const struct jinja_value *by,
                    int64_t wanted, struct jinja_value *ret)
{
    struct jinja_value rest, want = jinja_value_int(wanted);
    int rc = jinja_operators_binary(r, JINJA_MODULO, v, by, &rest);
    bool equal = false;
    if (rc == 0)
        rc = jinja_value_equal(r, &rest, &want, &equal);
    *ret = jinja_value_bool(equal);
    return rc;
}

static int test_odd(struct jinja_run *r, const struct jinja_value *v,
                    const struct jinja_value *args, struct jinja_value *ret)
{
    struct jinja_value two = jinja_value_int(2);
    return has_rest(r, v, &two, 1, ret);
}

static int test_even(struct jinja_run *r, const struct jinja_value *v,
                     const struct jinja_value *args, struct jinja_value *ret)
{
    struct jinja_value two = jinja_value_int(2);
    return has_rest(r, v, &two, 0, ret);
}

static int test_divisibleby(struct jinja_run *r, const struct jinja_value *v,
                            const struct jinja_value *args, struct jinja_value *ret)
{
    return has_rest(r, v, &args[0], 0, ret);
}

static int compare(struct jinja_run *r, enum jinja_operator op, const struct jinja_value *a,
                   const struct jinja_value *b, struct jinja_value *ret)
{
    bool holds;
    int rc = jinja_operators_compare(r, op, a, b, &holds);
    *ret = jinja_value_bool(rc == 0 && holds);
    return rc;
}

static int test_equal(struct jinja_run *r, const struct jinja_value *v,
                      const struct jinja_value *args, struct jinja_value *ret)
{
    return compare(r, JINJA_EQUAL, v, &args[0], ret);
}

static int test_unequal(struct jinja_run *r, const struct jinja_value *v,
                        const struct jinja_value *args, struct jinja_value *ret)
{
    return compare(r, JINJA_UNEQUAL, v, &args[0], ret);
}

static int test_less(struct jinja_run *r, const struct jinja_value *v,
                     const struct jinja_value *args, struct jinja_value *ret)
{
    return compare(r, JINJA_LESS, v, &args[0], ret);
}

static int test_less_equal(struct jinja_run *r, const struct jinja_value *v,
                           const struct jinja_value *args, struct jinja_value *ret)
{
    return compare(r, JINJA_LESS_EQUAL, v, &args[0], ret);
}

static int test_greater(struct jinja_run *r, const struct jinja_value *v,
                        const struct jinja_value *args, struct jinja_value *ret)
{
    return compare(r, JINJA_GREATER, v, &args[0], ret);
}

static int test_greater_equal(struct jinja_run *r, const struct jinja_value *v,
                              const struct jinja_value *args, struct jinja_value *ret)
{
    return compare(r, JINJA_GREATER_EQUAL, v, &args[0], ret);
}

static int test_in(struct jinja_run *r, const struct jinja_value *v, const struct jinja_value *args,
                   struct jinja_value *ret)
{
    return compare(r, JINJA_IN, v, &args[0], ret);
}

static const struct jinja_callable tests[] = {
    {.name = "defined", .call = test_defined},
    {.name = "undefined", .call = test_undefined},
    {.name = "none", .call = test_none},
    {.name = "string", .call = test_string},
    {.name = "mapping", .call = test_mapping},
    {.name = "sequence", .call = test_sequence},
    {.name = "iterable", .call = test_iterable},
    {.name = "boolean", .call = test_boolean},
    {.name = "true", .call = test_true},
    {.name = "false", .call = test_false},
    {.name = "number", .call = test_number},
    {.name = "integer", .call = test_integer},
    {.name = "float", .call = test_float},
    {.name = "callable", .call = test_callable},
    {.name = "odd", .call = test_odd},
    {.name = "even", .call = test_even},
    {.name = "divisibleby", .call = test_divisibleby, .n_required = 1, .params = {"num"}},
    {.name = "eq", .call = test_equal, .n_required = 1, .params = {"other"}},
    {.name = "equalto", .call = test_equal, .n_required = 1, .params = {"other"}},
    {.name = "==", .call = test_equal, .n_required = 1, .params = {"other"}},
    {.name = "ne", .call = test_unequal, .n_required = 1, .params = {"other"}},
    {.name = "!=", .call = test_unequal, .n_required = 1, .params = {"other"}},
    {.name = "lt", .call = test_less, .n_required = 1, .params = {"other"}},
    {.name = "lessthan", .call = test_less, .n_required = 1, .params = {"other"}},
    {.name = "le", .call = test_less_equal, .n_required = 1, .params = {"other"}},
    {.name = "gt", .call = test_greater, .n_required = 1, .params = {"other"}},
    {.name = "greaterthan", .call = test_greater, .n_required = 1, .params = {"other"}},
    {.name = "ge", .call = test_greater_equal, .n_required = 1, .params = {"other"}},
    {.name = "in", .call = test_in, .n_required = 1, .params = {"seq"}},
};

const struct jinja_callable *jinja_tests_find(struct jinja_string name)
{
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++)
        if (jinja_value_is(name, tests[i].name))
            return &tests[i];
    return NULL;
}
