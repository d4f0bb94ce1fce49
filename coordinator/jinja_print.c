#include "coordinator/jinja_print.h"

#include "coordinator/jinja_text.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

/* digits: d[0].d[1]d[2]… times ten to the exponent */
static void place_point(const char *digits, int n, int exponent, char *to)
{
    if (exponent < -4 || exponent >= 16) {
        *to++ = digits[0];
        if (n > 1)
            to += sprintf(to, ".%.*s", n - 1, digits + 1);
        sprintf(to, "e%c%02d", exponent < 0 ? '-' : '+', abs(exponent));
    } else if (exponent < 0) {
        sprintf(to, "0.%.*s%.*s", -exponent - 1, "000", n, digits);
    } else if (n <= exponent + 1) {
        sprintf(to, "%.*s%.*s.0", n, digits, exponent + 1 - n, "0000000000000000");
    } else {
        sprintf(to, "%.*s.%.*s", exponent + 1, digits, n - exponent - 1, digits + exponent + 1);
    }
}

void jinja_print_real(double real, char ret_text[32])
{
    if (isnan(real) || isinf(real)) {
        strcpy(ret_text, isnan(real) ? "nan" : real < 0 ? "-inf" : "inf");
        return;
    }
    char scientific[32];
    int precision = 0;
    do /* 17 significant digits always suffice */
        snprintf(scientific, sizeof scientific, "%.*e", precision, fabs(real));
    while (strtod(scientific, NULL) != fabs(real) && precision++ < 17);
    char digits[20];
    int n = 0;
    const char *s = scientific;
    for (; *s && *s != 'e' && n < 18; s++)
        if (*s >= '0' && *s <= '9')
            digits[n++] = *s;
    while (n > 1 && digits[n - 1] == '0')
        n--;
    const char *e = strchr(scientific, 'e');
    if (signbit(real))
        *ret_text++ = '-';
    place_point(digits, n, e ? atoi(e + 1) : 0, ret_text);
}

static bool is_printable(uint32_t code)
{
    if (code == ' ')
        return true;
    switch (utf8proc_category((utf8proc_int32_t)code)) {
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_ZS:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
        return false;
    default:
        return true;
    }
}

static int quote(struct jinja_run *r, struct buf *b, struct jinja_string s)
{
    bool doubled = s.length && memchr(s.bytes, '\'', s.length) && !memchr(s.bytes, '"', s.length);
    char mark = doubled ? '"' : '\'';
    int rc = jinja_run_charge(r, s.length / 16);
    buf_putc(b, mark);
    for (size_t at = 0, size; rc == 0 && at < s.length; at += size) {
        uint32_t code = jinja_text_decode(s.bytes + at, s.length - at, &size);
        if (code == (unsigned char)mark || code == '\\')
            buf_printf(b, "\\%c", (int)code);
        else if (code == '\n' || code == '\r' || code == '\t')
            buf_puts(b, code == '\n' ? "\\n" : code == '\r' ? "\\r" : "\\t");
        else if (is_printable(code))
            buf_append(b, s.bytes + at, size);
        else
            buf_printf(b,
                       code < 0x100     ? "\\x%02x"
                       : code < 0x10000 ? "\\u%04x"
                                        : "\\U%08x",
                       (unsigned)code);
    }
    buf_putc(b, mark);
    return rc < 0 ? rc : jinja_run_append(r, b, "", 0);
}

static int print_nested(struct jinja_run *r, struct buf *b, const struct jinja_value *v);

static int print_list(struct jinja_run *r, struct buf *b, const struct jinja_value *v)
{
    bool tuple = v->kind == JINJA_TUPLE;
    int rc = jinja_run_puts(r, b, tuple ? "(" : "[");
    for (size_t i = 0; rc == 0 && i < v->list->count; i++) {
        if (i > 0)
            rc = jinja_run_puts(r, b, ", ");
        if (rc == 0)
            rc = print_nested(r, b, &v->list->items[i]);
    }
    if (rc == 0)
        rc = jinja_run_puts(r, b, !tuple ? "]" : v->list->count == 1 ? ",)" : ")");
    return rc;
}

static int print_dict(struct jinja_run *r, struct buf *b, const struct jinja_dict *d)
{
    int rc = jinja_run_puts(r, b, "{");
    for (size_t i = 0; rc == 0 && i < d->count; i++) {
        if (i > 0)
            rc = jinja_run_puts(r, b, ", ");
        if (rc == 0)
            rc = print_nested(r, b, &d->pairs[i].key);
        if (rc == 0)
            rc = jinja_run_puts(r, b, ": ");
        if (rc == 0)
            rc = print_nested(r, b, &d->pairs[i].value);
    }
    return rc < 0 ? rc : jinja_run_puts(r, b, "}");
}

/* repr(v) */
static int print_nested(struct jinja_run *r, struct buf *b, const struct jinja_value *v)
{
    if (v->kind == JINJA_STRING)
        return quote(r, b, v->string);
    if (v->kind == JINJA_UNDEFINED)
        return jinja_run_puts(r, b, "Undefined");
    return jinja_print_value(r, b, v);
}

int jinja_print_value(struct jinja_run *r, struct buf *b, const struct jinja_value *v)
{
    int rc = jinja_run_enter(r);
    if (rc < 0)
        return rc;
    char number[32];
    switch (v->kind) {
    case JINJA_UNDEFINED:
        break;
    case JINJA_NONE:
        rc = jinja_run_puts(r, b, "None");
        break;
    case JINJA_BOOL:
        rc = jinja_run_puts(r, b, v->truth ? "True" : "False");
        break;
    case JINJA_INT:
        snprintf(number, sizeof number, "%" PRId64, v->integer);
        rc = jinja_run_puts(r, b, number);
        break;
    case JINJA_FLOAT:
        jinja_print_real(v->real, number);
        rc = jinja_run_puts(r, b, number);
        break;
    case JINJA_STRING:
        rc = jinja_run_append(r, b, v->string.bytes, v->string.length);
        break;
    case JINJA_LIST:
    case JINJA_TUPLE:
        rc = print_list(r, b, v);
        break;
    case JINJA_DICT:
        rc = print_dict(r, b, v->dict);
        break;
    default:
        rc = jinja_run_fail(r, "a %s cannot be printed", jinja_value_type(v));
    }
    jinja_run_leave(r);
    return rc;
}

int jinja_print_string(struct jinja_run *r, const struct jinja_value *v, struct jinja_string *ret)
{
    if (v->kind == JINJA_STRING) {
        *ret = v->string;
        return 0;
    }
    struct buf b;
    buf_init(&b);
    struct jinja_value text = {0};
    int rc = jinja_print_value(r, &b, v);
    if (rc == 0)
        rc = jinja_run_keep(r, &b, &text);
    buf_clear(&b);
    *ret = text.string;
    return rc;
}
