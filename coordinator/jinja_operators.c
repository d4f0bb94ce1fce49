#include "coordinator/jinja_operators.h"

#include "coordinator/jinja_text.h"

#include <math.h>
#include <string.h>

static const char *const signs[] = {
    "+", "-", "*", "/", "//", "%", "**", "==", "!=", "<", "<=", ">", ">=", "in", "not in"};

static int unsupported(struct jinja_run *r, enum jinja_operator op, const struct jinja_value *a,
                       const struct jinja_value *b)
{
    if (a->kind == JINJA_UNDEFINED)
        return jinja_value_refuse(r, a);
    if (b->kind == JINJA_UNDEFINED)
        return jinja_value_refuse(r, b);
    return jinja_run_fail(r, "'%s' is not supported between '%s' and '%s'", signs[op],
                          jinja_value_type(a), jinja_value_type(b));
}

static int join_strings(struct jinja_run *r, struct jinja_string a, struct jinja_string b,
                        struct jinja_value *ret)
{
    char *bytes;
    int rc = jinja_run_alloc(r, a.length + b.length, 1, &bytes);
    if (rc < 0)
        return rc;
    if (a.length)
        memcpy(bytes, a.bytes, a.length);
    if (b.length)
        memcpy(bytes + a.length, b.bytes, b.length);
    *ret = jinja_value_string(bytes, a.length + b.length);
    return 0;
}

static int join_lists(struct jinja_run *r, const struct jinja_value *a, const struct jinja_value *b,
                      struct jinja_value *ret)
{
    size_t n = a->list->count;
    int rc = jinja_value_list(r, a->kind, n + b->list->count, ret);
    for (size_t i = 0; rc == 0 && i < ret->list->count; i++)
        ret->list->items[i] = i < n ? a->list->items[i] : b->list->items[i - n];
    return rc;
}

static int repeat(struct jinja_run *r, const struct jinja_value *v, int64_t times,
                  struct jinja_value *ret)
{
    size_t n = v->kind == JINJA_STRING ? v->string.length : v->list->count;
    if (times < 0 || n == 0)
        times = 0;
    if ((uint64_t)times > JINJA_RUN_MAX_OUTPUT / (n ? n : 1))
        return jinja_run_fail(r, "the repeated %s is too long", jinja_value_type(v));
    size_t total = n * (size_t)times;
    if (v->kind != JINJA_STRING) {
        int rc = jinja_value_list(r, v->kind, total, ret);
        for (size_t i = 0; rc == 0 && i < total; i++)
            ret->list->items[i] = v->list->items[i % n];
        return rc;
    }
    char *bytes;
    int rc = jinja_run_alloc(r, total, 1, &bytes);
    if (rc < 0)
        return rc;
    for (size_t i = 0; i < total; i += n)
        memcpy(bytes + i, v->string.bytes, n);
    *ret = jinja_value_string(bytes, total);
    return 0;
}

static int overflow(struct jinja_run *r)
{
    return jinja_run_fail(r, "the number does not fit into 64 bits");
}

static int power_of_ints(struct jinja_run *r, int64_t base, int64_t exponent,
                         struct jinja_value *ret)
{
    if (exponent < 0 && base == 0)
        return jinja_run_fail(r, "zero cannot be raised to a negative power");
    if (exponent < 0) {
        *ret = jinja_value_real(pow((double)base, (double)exponent));
        return 0;
    }
    int64_t result = 1;
    if (base >= -1 && base <= 1) {
        result = exponent == 0 ? 1 : base == -1 && exponent % 2 == 0 ? 1 : base;
    } else {
        for (; exponent > 0; exponent--)
            if (__builtin_mul_overflow(result, base, &result))
                return overflow(r);
    }
    *ret = jinja_value_int(result);
    return 0;
}

/* Rounds towards minus infinity, and the remainder has the sign of b. */
static int divide_ints(struct jinja_run *r, enum jinja_operator op, int64_t a, int64_t b,
                       struct jinja_value *ret)
{
    if (a == INT64_MIN && b == -1)
        return overflow(r);
    int64_t quotient = a / b, rest = a % b;
    if (rest != 0 && (rest < 0) != (b < 0)) {
        quotient--;
        rest += b;
    }
    *ret = jinja_value_int(op == JINJA_MODULO ? rest : quotient);
    return 0;
}

static int ints(struct jinja_run *r, enum jinja_operator op, int64_t a, int64_t b,
                struct jinja_value *ret)
{
    int64_t result = 0;
    bool over = false;
    switch (op) {
    case JINJA_ADD:
        over = __builtin_add_overflow(a, b, &result);
        break;
    case JINJA_SUBTRACT:
        over = __builtin_sub_overflow(a, b, &result);
        break;
    case JINJA_MULTIPLY:
        over = __builtin_mul_overflow(a, b, &result);
        break;
    case JINJA_DIVIDE:
        *ret = jinja_value_real((double)((long double)a / (long double)b));
        return 0;
    case JINJA_POWER:
        return power_of_ints(r, a, b, ret);
    default:
        return divide_ints(r, op, a, b, ret);
    }
    *ret = jinja_value_int(result);
    return over ? overflow(r) : 0;
}

static int reals(struct jinja_run *r, enum jinja_operator op, double a, double b,
                 struct jinja_value *ret)
{
    double result = 0, rest;
    switch (op) {
    case JINJA_ADD:
        result = a + b;
        break;
    case JINJA_SUBTRACT:
        result = a - b;
        break;
    case JINJA_MULTIPLY:
        result = a * b;
        break;
    case JINJA_DIVIDE:
        result = a / b;
        break;
    case JINJA_POWER:
        result = pow(a, b);
        break;
    default:
        rest = fmod(a, b);
        if (rest != 0 && (rest < 0) != (b < 0))
            rest += b;
        result = op == JINJA_MODULO ? rest : round((a - rest) / b);
    }
    *ret = jinja_value_real(result);
    return 0;
}

static int numbers(struct jinja_run *r, enum jinja_operator op, const struct jinja_value *a,
                   const struct jinja_value *b, struct jinja_value *ret)
{
    int64_t x, y;
    bool divides = op == JINJA_DIVIDE || op == JINJA_FLOOR_DIVIDE || op == JINJA_MODULO;
    if (divides && jinja_value_to_real(b) == 0)
        return jinja_run_fail(r, "division by zero");
    if (jinja_value_to_int(a, &x) && jinja_value_to_int(b, &y))
        return ints(r, op, x, y, ret);
    return reals(r, op, jinja_value_to_real(a), jinja_value_to_real(b), ret);
}

static bool repeats(const struct jinja_value *v)
{
    return v->kind == JINJA_STRING || v->kind == JINJA_LIST || v->kind == JINJA_TUPLE;
}

int jinja_operators_binary(struct jinja_run *r, enum jinja_operator op, const struct jinja_value *a,
                           const struct jinja_value *b, struct jinja_value *ret)
{
    int64_t times;
    if (jinja_value_is_number(a) && jinja_value_is_number(b))
        return numbers(r, op, a, b, ret);
    if (op == JINJA_ADD && a->kind == b->kind && a->kind == JINJA_STRING)
        return join_strings(r, a->string, b->string, ret);
    if (op == JINJA_ADD && a->kind == b->kind && repeats(a))
        return join_lists(r, a, b, ret);
    if (op == JINJA_MULTIPLY && repeats(a) && jinja_value_to_int(b, &times))
        return repeat(r, a, times, ret);
    if (op == JINJA_MULTIPLY && repeats(b) && jinja_value_to_int(a, &times))
        return repeat(r, b, times, ret);
    return unsupported(r, op, a, b);
}

int jinja_operators_sign(struct jinja_run *r, bool negative, const struct jinja_value *a,
                         struct jinja_value *ret)
{
    int64_t integer;
    if (a->kind == JINJA_UNDEFINED)
        return jinja_value_refuse(r, a);
    if (a->kind == JINJA_FLOAT)
        *ret = jinja_value_real(negative ? -a->real : a->real);
    else if (!jinja_value_to_int(a, &integer))
        return jinja_run_fail(r, "'%s' cannot have a sign", jinja_value_type(a));
    else if (negative && integer == INT64_MIN)
        return overflow(r);
    else
        *ret = jinja_value_int(negative ? -integer : integer);
    return 0;
}

static int contains(struct jinja_run *r, const struct jinja_value *item,
                    const struct jinja_value *in, bool *ret)
{
    *ret = false;
    if (in->kind == JINJA_STRING) {
        if (item->kind != JINJA_STRING)
            return jinja_run_fail(r, "'in <string>' requires a string on its left, not %s",
                                  jinja_value_type(item));
        *ret = jinja_text_find(in->string, item->string, 0) != SIZE_MAX;
        return jinja_run_charge(r, in->string.length / 64);
    }
    if (in->kind == JINJA_DICT) {
        struct jinja_value found;
        int rc = jinja_value_get(r, in->dict, item, &found);
        *ret = rc == 0 && found.kind != JINJA_MISSING;
        return rc;
    }
    struct jinja_list *list;
    int rc = jinja_value_items(r, in, &list);
    for (size_t i = 0; rc == 0 && !*ret && i < list->count; i++)
        rc = jinja_value_equal(r, item, &list->items[i], ret);
    return rc;
}

int jinja_operators_compare(struct jinja_run *r, enum jinja_operator op,
                            const struct jinja_value *a, const struct jinja_value *b, bool *ret)
{
    int order = 0, rc;
    if (op == JINJA_EQUAL || op == JINJA_UNEQUAL) {
        rc = jinja_value_equal(r, a, b, ret);
        *ret = *ret == (op == JINJA_EQUAL);
        return rc;
    }
    if (op == JINJA_IN || op == JINJA_NOT_IN) {
        rc = contains(r, a, b, ret);
        *ret = *ret == (op == JINJA_IN);
        return rc;
    }
    rc = jinja_value_compare(r, a, b, signs[op], &order);
    *ret = op == JINJA_LESS         ? order < 0
           : op == JINJA_LESS_EQUAL ? order <= 0
           : op == JINJA_GREATER    ? order > 0
                                    : order >= 0;
    return rc;
}
