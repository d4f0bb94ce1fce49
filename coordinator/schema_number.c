#include "coordinator/schema_parts.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Digits that are written at most: so many integers fit into 64 bits, and a double tells so many
 * fractions apart. */
#define MOST_WHOLE    18
#define MOST_FRACTION 17

/* A bound's magnitude in decimal digits, without zeros at the ends (but for a whole part of 0). */
struct decimal {
    bool is_negative, is_excluded;
    char whole[400], fraction[400];
    size_t n_whole, n_fraction;
};

/* ---- bounds ---- */

/* "1.2345e+20", without a sign, to digits. */
static void decimal_from_text(struct decimal *d, const char *text)
{
    char digits[64];
    int n = 0;
    long exponent = strtol(strchr(text, 'e') + 1, NULL, 10);
    for (; *text != 'e'; text++)
        if (*text != '.')
            digits[n++] = *text;
    while (n > 1 && digits[n - 1] == '0')
        n--;
    d->n_whole = d->n_fraction = 0;
    for (long i = 0; i <= exponent; i++)
        d->whole[d->n_whole++] = i < n ? digits[i] : '0';
    if (exponent < 0)
        d->whole[d->n_whole++] = '0';
    for (long i = exponent + 1; i < n; i++)
        d->fraction[d->n_fraction++] = i < 0 ? '0' : digits[i];
    if (d->n_fraction == 1 && d->fraction[0] == '0')
        d->n_fraction = 0;
}

static void decimal_from_json(struct decimal *d, const json_t *value)
{
    char text[64];
    if (json_is_integer(value)) {
        json_int_t n = json_integer_value(value);
        d->is_negative = n < 0;
        d->n_fraction = 0;
        snprintf(text, sizeof text, "%llu",
                 n < 0 ? 0ULL - (unsigned long long)n : (unsigned long long)n);
        d->n_whole = strlen(text);
        memcpy(d->whole, text, d->n_whole);
        return;
    }
    double x = json_real_value(value);
    d->is_negative = x < 0;
    for (int digits = 0; digits <= 16; digits++) {
        snprintf(text, sizeof text, "%.*e", digits, fabs(x));
        if (strtod(text, NULL) == fabs(x))
            break;
    }
    decimal_from_text(d, text);
}

/* Sign, whole part, fraction. */
static int decimal_compare(const struct decimal *x, const struct decimal *y)
{
    if (x->is_negative != y->is_negative)
        return x->is_negative ? -1 : 1;
    int order = (x->n_whole > y->n_whole) - (x->n_whole < y->n_whole);
    if (order == 0)
        order = memcmp(x->whole, y->whole, x->n_whole);
    size_t common = x->n_fraction < y->n_fraction ? x->n_fraction : y->n_fraction;
    if (order == 0)
        order = memcmp(x->fraction, y->fraction, common);
    if (order == 0)
        order = (x->n_fraction > y->n_fraction) - (x->n_fraction < y->n_fraction);
    return x->is_negative ? -order : order;
}

/* The tightest of all parts. false: there is none. side 1: from below, -1: from above. */
static bool number_bound(const struct schema_form *f, int side, struct decimal *ret_bound)
{
    bool found = false;
    for (size_t i = 0; i < 2 * f->parts.n; i++) {
        bool is_excluded = i % 2;
        const char *keyword = side > 0 ? (is_excluded ? "exclusiveMinimum" : "minimum")
                                       : (is_excluded ? "exclusiveMaximum" : "maximum");
        const json_t *value = json_object_get(f->parts.items[i / 2], keyword);
        struct decimal d = {.is_excluded = is_excluded};
        if (!value)
            continue;
        decimal_from_json(&d, value);
        int order = found ? side * decimal_compare(&d, ret_bound) : 1;
        if (order > 0 || (order == 0 && is_excluded))
            *ret_bound = d;
        found = true;
    }
    return found;
}

/* ---- magnitudes ---- */

/* How many digits there may be is left open: any_magnitude() bounds them. */

struct number {
    struct schema *schema;
    struct grammar_builder *b;
    bool is_integer;
};

static const struct grammar_expr *digits(struct number *n, char low, char high)
{
    return low > high ? grammar_never()
                      : grammar_range(n->b, (unsigned char)low, (unsigned char)high, GRAMMAR_PLAIN);
}

static const struct grammar_expr *any_digits(struct number *n, size_t min, size_t max)
{
    return grammar_repeat(n->b, digits(n, '0', '9'), (uint32_t)min, (uint32_t)max);
}

/* .ddd, or nothing */
static const struct grammar_expr *any_fraction(struct number *n, uint32_t most)
{
    if (n->is_integer)
        return grammar_empty();
    return grammar_optional(
        n->b, GRAMMAR_SEQUENCE_OF(n->b, schema_mark(n->schema, "."), any_digits(n, 1, most)));
}

/* After a whole part that equals the bound's: fractions that are larger (side 1) or smaller than
 * the bound's. The fraction ends behind `at` equal digits, or differs in the next one. */
static const struct grammar_expr *fraction_beyond(struct number *n, const struct decimal *d,
                                                  int side)
{
    struct grammar_list choices = {0};
    if (n->is_integer)
        return side < 0 && d->n_fraction ? grammar_empty() : grammar_never();
    for (size_t at = 0; at <= d->n_fraction && at < MOST_FRACTION; at++) {
        bool is_within = at < d->n_fraction;
        char digit = is_within ? d->fraction[at] : '0';
        const struct grammar_expr *same = grammar_text(n->b, d->fraction, at);
        const struct grammar_expr *point = schema_mark(n->schema, ".");
        const struct grammar_expr *next =
            side > 0 ? digits(n, (char)(digit + 1), '9') : digits(n, '0', (char)(digit - 1));
        const struct grammar_expr *rest = any_digits(n, 0, GRAMMAR_UNBOUNDED);
        if (is_within || side > 0)
            grammar_list_add(n->b, &choices, GRAMMAR_SEQUENCE_OF(n->b, point, same, next, rest));
        /* Behind all of the bound's digits, zeros may come before a larger one. */
        if (!is_within && side > 0)
            grammar_list_add(n->b, &choices,
                             GRAMMAR_SEQUENCE_OF(n->b, point, same, rest, next, rest));
        if (is_within && side < 0) /* it ends before the bound's fraction does */
            grammar_list_add(n->b, &choices,
                             at ? GRAMMAR_SEQUENCE_OF(n->b, point, same) : grammar_empty());
    }
    return grammar_choice(n->b, choices.items, choices.n);
}

static const struct grammar_expr *fraction_equal(struct number *n, const struct decimal *d)
{
    const struct grammar_expr *point = schema_mark(n->schema, ".");
    const struct grammar_expr *zero = schema_mark(n->schema, "0");
    if (n->is_integer)
        return d->n_fraction ? grammar_never() : grammar_empty();
    if (d->n_fraction > MOST_FRACTION)
        return grammar_never();
    if (d->n_fraction)
        return GRAMMAR_SEQUENCE_OF(n->b, point, grammar_text(n->b, d->fraction, d->n_fraction),
                                   grammar_repeat(n->b, zero, 0, GRAMMAR_UNBOUNDED));
    return grammar_optional(
        n->b, GRAMMAR_SEQUENCE_OF(n->b, point, grammar_repeat(n->b, zero, 1, GRAMMAR_UNBOUNDED)));
}

/* Whole parts that are larger or smaller than the bound's, with any fraction. */
static void whole_beyond(struct number *n, const struct decimal *d, int side,
                         struct grammar_list *choices)
{
    const struct grammar_expr *fraction = any_fraction(n, GRAMMAR_UNBOUNDED);
    for (size_t at = 0; at < d->n_whole && d->n_whole <= MOST_WHOLE; at++) {
        char first = at == 0 && d->n_whole > 1 ? '1' : '0';
        const struct grammar_expr *next = side > 0 ? digits(n, (char)(d->whole[at] + 1), '9')
                                                   : digits(n, first, (char)(d->whole[at] - 1));
        size_t rest = d->n_whole - at - 1;
        grammar_list_add(n->b, choices,
                         GRAMMAR_SEQUENCE_OF(n->b, grammar_text(n->b, d->whole, at), next,
                                             any_digits(n, rest, rest), fraction));
    }
    size_t shortest = side > 0 ? d->n_whole + 1 : 1;
    size_t longest = side > 0 ? MOST_WHOLE : d->n_whole - 1;
    longest = longest > MOST_WHOLE ? MOST_WHOLE : longest;
    if (side < 0 && longest > 0) {
        grammar_list_add(n->b, choices,
                         GRAMMAR_SEQUENCE_OF(n->b, schema_mark(n->schema, "0"), fraction));
        shortest = 1;
    }
    if (shortest <= longest)
        grammar_list_add(n->b, choices,
                         GRAMMAR_SEQUENCE_OF(n->b, digits(n, '1', '9'),
                                             any_digits(n, shortest - 1, longest - 1), fraction));
}

/* Magnitudes from the bound on, upwards (side 1) or downwards. */
static const struct grammar_expr *magnitude_beyond(struct number *n, const struct decimal *d,
                                                   int side)
{
    struct grammar_list choices = {0};
    whole_beyond(n, d, side, &choices);
    if (d->n_whole <= MOST_WHOLE) {
        const struct grammar_expr *whole = grammar_text(n->b, d->whole, d->n_whole);
        grammar_list_add(n->b, &choices,
                         GRAMMAR_SEQUENCE_OF(n->b, whole, fraction_beyond(n, d, side)));
        if (!d->is_excluded)
            grammar_list_add(n->b, &choices,
                             GRAMMAR_SEQUENCE_OF(n->b, whole, fraction_equal(n, d)));
    }
    return grammar_choice(n->b, choices.items, choices.n);
}

/* ---- numbers ---- */

/* Of as many digits as may be written. */
static const struct grammar_expr *any_magnitude(struct number *n)
{
    const struct grammar_expr *whole = GRAMMAR_CHOICE_OF(
        n->b, schema_mark(n->schema, "0"),
        GRAMMAR_SEQUENCE_OF(n->b, digits(n, '1', '9'), any_digits(n, 0, MOST_WHOLE - 1)));
    return GRAMMAR_SEQUENCE_OF(n->b, whole, any_fraction(n, MOST_FRACTION));
}

/* Numbers on the bound's side; a minus sign stands before what is less than 0 alone. */
static const struct grammar_expr *numbers_beyond(struct number *n, const struct decimal *d,
                                                 int side)
{
    static const struct decimal zero = {.is_excluded = true, .whole = "0", .n_whole = 1};
    const struct grammar_expr *minus = schema_mark(n->schema, "-");
    const struct grammar_expr *below_zero =
        GRAMMAR_SEQUENCE_OF(n->b, minus, magnitude_beyond(n, &zero, 1));
    const struct grammar_expr *beyond = magnitude_beyond(n, d, d->is_negative ? -side : side);
    if (!d->is_negative)
        return side > 0 ? beyond : GRAMMAR_CHOICE_OF(n->b, below_zero, beyond);
    beyond = GRAMMAR_SEQUENCE_OF(n->b, minus, beyond);
    return side > 0 ? GRAMMAR_CHOICE_OF(n->b, beyond, any_magnitude(n)) : beyond;
}

/* *all and the numbers beyond the bound, if there is one. */
static int number_and(struct number *n, const struct schema_form *f, int side,
                      const struct grammar_automaton **all)
{
    const struct grammar_automaton *one = NULL;
    struct decimal bound;
    if (!number_bound(f, side, &bound))
        return 0;
    struct err *err = n->schema->err;
    int rc = grammar_automaton_from(&one, n->b, numbers_beyond(n, &bound, side), err);
    return rc == 0 ? grammar_automaton_both(all, n->b, *all, one, err) : rc;
}

int schema_number(struct schema *s, const struct schema_form *f,
                  const struct grammar_expr **ret_expr)
{
    struct number n = {.schema = s, .b = s->builder};
    const struct grammar_automaton *any = NULL, *all;
    n.is_integer = !(f->types & SCHEMA_FRACTION);
    const struct grammar_expr *minus = grammar_optional(n.b, schema_mark(s, "-"));
    const struct grammar_expr *plain = GRAMMAR_SEQUENCE_OF(n.b, minus, any_magnitude(&n));
    int rc = grammar_automaton_from(&any, n.b, plain, s->err);
    all = any;
    if (rc == 0)
        rc = number_and(&n, f, 1, &all);
    if (rc == 0)
        rc = number_and(&n, f, -1, &all);
    if (rc == 0)
        *ret_expr = all == any ? schema_any_number(s, n.is_integer)
                               : grammar_from_automaton(n.b, all, GRAMMAR_PLAIN);
    return rc;
}
