#include "coordinator/jinja_print.h"
#include "coordinator/jinja_text.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* How one level is written: the caller's wishes, and how deep we are. */
struct writer {
    struct jinja_run *run;
    struct buf *to;
    const struct jinja_print_json *how;
    int level;
};

static int write_value(struct writer *w, const struct jinja_value *v);

static void escape(struct buf *b, uint32_t code)
{
    if (code >= 0x10000) {
        code -= 0x10000;
        buf_printf(b, "\\u%04x\\u%04x", 0xd800 + (unsigned)(code >> 10),
                   0xdc00 + (unsigned)(code & 0x3ff));
    } else {
        buf_printf(b, "\\u%04x", (unsigned)code);
    }
}

static int write_string(struct writer *w, struct jinja_string s)
{
    struct buf *b = w->to;
    int rc = jinja_run_charge(w->run, s.length / 32);
    if (rc < 0)
        return rc;
    buf_putc(b, '"');
    for (size_t at = 0, size; at < s.length; at += size) {
        uint32_t code = jinja_text_decode(s.bytes + at, s.length - at, &size);
        static const char named[] = "\"\\\n\r\t\b\f", letters[] = "\"\\nrtbf";
        const char *hit = code && code < 0x80 ? strchr(named, (int)code) : NULL;
        if (hit)
            buf_printf(b, "\\%c", letters[hit - named]);
        else if (code < 0x20 || (w->how->ascii && code > 0x7e))
            escape(b, code);
        else
            buf_append(b, s.bytes + at, size);
    }
    buf_putc(b, '"');
    return jinja_run_append(w->run, b, "", 0); /* checks the length */
}

static int break_line(struct writer *w)
{
    if (!w->how->indented)
        return 0;
    int rc = jinja_run_puts(w->run, w->to, "\n");
    for (int i = 0; rc == 0 && i < w->level; i++)
        rc = jinja_run_append(w->run, w->to, w->how->indent.bytes, w->how->indent.length);
    return rc;
}

static int write_key(struct writer *w, const struct jinja_value *key)
{
    char number[32];
    int64_t integer;
    switch (key->kind) {
    case JINJA_STRING:
        return write_string(w, key->string);
    case JINJA_NONE:
        return jinja_run_puts(w->run, w->to, "\"null\"");
    case JINJA_BOOL:
        return jinja_run_puts(w->run, w->to, key->truth ? "\"true\"" : "\"false\"");
    case JINJA_INT:
    case JINJA_FLOAT:
        if (jinja_value_to_int(key, &integer))
            snprintf(number, sizeof number, "%" PRId64, integer);
        else
            jinja_print_real(key->real, number);
        return write_string(w, jinja_value_text(number));
    default:
        return jinja_run_fail(w->run, "keys must be str, int, float, bool or None, not %s",
                              jinja_value_type(key));
    }
}

static int compare_keys(const void *a, const void *b)
{
    const struct jinja_pair *const *x = a, *const *y = b;
    const struct jinja_string s = (*x)->key.string, t = (*y)->key.string;
    size_t common = s.length < t.length ? s.length : t.length;
    int order = common ? memcmp(s.bytes, t.bytes, common) : 0;
    return order ? order : (s.length > t.length) - (s.length < t.length);
}

static int order_pairs(struct writer *w, const struct jinja_dict *d, const struct jinja_pair ***ret)
{
    const struct jinja_pair **pairs = NULL;
    int rc = jinja_run_alloc(w->run, d->count, sizeof *pairs, &pairs);
    if (rc < 0)
        return rc;
    for (size_t i = 0; i < d->count; i++) {
        pairs[i] = &d->pairs[i];
        if (w->how->sort_keys && d->pairs[i].key.kind != JINJA_STRING)
            return jinja_run_fail(w->run, "only keys that are strings can be sorted");
    }
    if (w->how->sort_keys && d->count > 1)
        qsort(pairs, d->count, sizeof *pairs, compare_keys);
    *ret = pairs;
    return 0;
}

static int write_dict(struct writer *w, const struct jinja_dict *d)
{
    if (!d->count)
        return jinja_run_puts(w->run, w->to, "{}");
    const struct jinja_pair **pairs = NULL;
    int rc = order_pairs(w, d, &pairs);
    if (rc == 0)
        rc = jinja_run_puts(w->run, w->to, "{");
    w->level++;
    for (size_t i = 0; rc == 0 && i < d->count; i++) {
        if (i > 0)
            rc = jinja_run_append(w->run, w->to, w->how->comma.bytes, w->how->comma.length);
        if (rc == 0)
            rc = break_line(w);
        if (rc == 0)
            rc = write_key(w, &pairs[i]->key);
        if (rc == 0)
            rc = jinja_run_append(w->run, w->to, w->how->colon.bytes, w->how->colon.length);
        if (rc == 0)
            rc = write_value(w, &pairs[i]->value);
    }
    w->level--;
    if (rc == 0)
        rc = break_line(w);
    return rc < 0 ? rc : jinja_run_puts(w->run, w->to, "}");
}

static int write_list(struct writer *w, const struct jinja_list *list)
{
    if (!list->count)
        return jinja_run_puts(w->run, w->to, "[]");
    int rc = jinja_run_puts(w->run, w->to, "[");
    w->level++;
    for (size_t i = 0; rc == 0 && i < list->count; i++) {
        if (i > 0)
            rc = jinja_run_append(w->run, w->to, w->how->comma.bytes, w->how->comma.length);
        if (rc == 0)
            rc = break_line(w);
        if (rc == 0)
            rc = write_value(w, &list->items[i]);
    }
    w->level--;
    if (rc == 0)
        rc = break_line(w);
    return rc < 0 ? rc : jinja_run_puts(w->run, w->to, "]");
}

static int write_scalar(struct writer *w, const struct jinja_value *v)
{
    switch (v->kind) {
    case JINJA_NONE:
        return jinja_run_puts(w->run, w->to, "null");
    case JINJA_BOOL:
        return jinja_run_puts(w->run, w->to, v->truth ? "true" : "false");
    case JINJA_INT:
        return jinja_print_value(w->run, w->to, v);
    case JINJA_FLOAT:
        if (isnan(v->real))
            return jinja_run_puts(w->run, w->to, "NaN");
        if (isinf(v->real))
            return jinja_run_puts(w->run, w->to, v->real < 0 ? "-Infinity" : "Infinity");
        return jinja_print_value(w->run, w->to, v);
    default:
        return jinja_run_fail(w->run, "Object of type %s is not JSON serializable",
                              jinja_value_type(v));
    }
}

static int write_value(struct writer *w, const struct jinja_value *v)
{
    int rc = jinja_run_enter(w->run);
    if (rc < 0)
        return rc;
    if (v->kind == JINJA_STRING)
        rc = write_string(w, v->string);
    else if (v->kind == JINJA_LIST || v->kind == JINJA_TUPLE)
        rc = write_list(w, v->list);
    else if (v->kind == JINJA_DICT)
        rc = write_dict(w, v->dict);
    else
        rc = write_scalar(w, v);
    jinja_run_leave(w->run);
    return rc;
}

int jinja_print_json(struct jinja_run *r, struct buf *b, const struct jinja_print_json *how,
                     const struct jinja_value *v)
{
    struct writer w = {.run = r, .to = b, .how = how};
    return write_value(&w, v);
}
