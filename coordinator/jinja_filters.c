#include "coordinator/jinja_callable.h"
#include "coordinator/jinja_print.h"
#include "coordinator/jinja_select.h"
#include "coordinator/jinja_split.h"
#include "coordinator/jinja_text.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static bool is_given(const struct jinja_value *v)
{
    return v->kind != JINJA_MISSING && v->kind != JINJA_NONE;
}

/* json.dumps(): separators, and an indent that is a number of spaces or a text. */
static int read_layout(struct jinja_run *r, const struct jinja_value *args,
                       struct jinja_print_json *ret)
{
    static const char spaces[] = "                                ";
    const struct jinja_value *indent = &args[1], *separators = &args[2];
    int64_t width;
    *ret = (struct jinja_print_json){.ascii = jinja_value_truth(&args[0]),
                                     .sort_keys = jinja_value_truth(&args[3]),
                                     .indented = is_given(indent),
                                     .comma = jinja_value_text(is_given(indent) ? "," : ", "),
                                     .colon = jinja_value_text(": ")};
    if (is_given(indent) && indent->kind == JINJA_STRING) {
        ret->indent = indent->string;
    } else if (is_given(indent)) {
        if (!jinja_value_to_int(indent, &width) || width > (int64_t)strlen(spaces))
            return jinja_run_fail(r, "tojson cannot take that indent");
        ret->indent = (struct jinja_string){spaces, width < 0 ? 0 : (size_t)width};
    }
    if (!is_given(separators))
        return 0;
    bool two = (separators->kind == JINJA_TUPLE || separators->kind == JINJA_LIST) &&
               separators->list->count == 2 && separators->list->items[0].kind == JINJA_STRING &&
               separators->list->items[1].kind == JINJA_STRING;
    if (!two)
        return jinja_run_fail(r, "tojson needs two strings as separators");
    ret->comma = separators->list->items[0].string;
    ret->colon = separators->list->items[1].string;
    return 0;
}

static int filter_tojson(struct jinja_run *r, const struct jinja_value *v,
                         const struct jinja_value *args, struct jinja_value *ret)
{
    struct jinja_print_json how;
    struct buf b;
    buf_init(&b);
    int rc = read_layout(r, args, &how);
    if (rc == 0)
        rc = jinja_print_json(r, &b, &how, v);
    if (rc == 0)
        rc = jinja_run_keep(r, &b, ret);
    buf_clear(&b);
    return rc;
}

static int filter_length(struct jinja_run *r, const struct jinja_value *v,
                         const struct jinja_value *args, struct jinja_value *ret)
{
    int64_t length = 0;
    int rc = jinja_value_length(r, v, &length);
    *ret = jinja_value_int(length);
    return rc;
}

static int filter_string(struct jinja_run *r, const struct jinja_value *v,
                         const struct jinja_value *args, struct jinja_value *ret)
{
    struct jinja_string s;
    int rc = jinja_print_string(r, v, &s);
    if (rc == 0)
        *ret = jinja_value_string(s.bytes, s.length);
    return rc;
}

/* A method of strings, applied to str(v). */
static int as_method(struct jinja_run *r, const char *method, const struct jinja_value *v,
                     const struct jinja_value *args, struct jinja_value *ret)
{
    struct jinja_value text;
    int rc = filter_string(r, v, args, &text);
    const struct jinja_callable *c = jinja_methods_find(JINJA_STRING, jinja_value_text(method));
    return rc < 0 ? rc : c->call(r, &text, args, ret);
}

static int filter_trim(struct jinja_run *r, const struct jinja_value *v,
                       const struct jinja_value *args, struct jinja_value *ret)
{
    return as_method(r, "strip", v, args, ret);
}

static int filter_upper(struct jinja_run *r, const struct jinja_value *v,
                        const struct jinja_value *args, struct jinja_value *ret)
{
    return as_method(r, "upper", v, args, ret);
}

static int filter_lower(struct jinja_run *r, const struct jinja_value *v,
                        const struct jinja_value *args, struct jinja_value *ret)
{
    return as_method(r, "lower", v, args, ret);
}

static int filter_capitalize(struct jinja_run *r, const struct jinja_value *v,
                             const struct jinja_value *args, struct jinja_value *ret)
{
    return as_method(r, "capitalize", v, args, ret);
}

static int filter_replace(struct jinja_run *r, const struct jinja_value *v,
                          const struct jinja_value *args, struct jinja_value *ret)
{
    struct jinja_value texts[JINJA_MAX_PARAMS] = {{0}};
    int rc = filter_string(r, &args[0], args, &texts[0]);
    if (rc == 0)
        rc = filter_string(r, &args[1], args, &texts[1]);
    if (is_given(&args[2]))
        texts[2] = args[2];
    return rc < 0 ? rc : as_method(r, "replace", v, texts, ret);
}

/* Nothing is escaped here, so nothing has to be marked as safe. */
static int filter_safe(struct jinja_run *r, const struct jinja_value *v,
                       const struct jinja_value *args, struct jinja_value *ret)
{
    return filter_string(r, v, args, ret);
}

static int filter_first(struct jinja_run *r, const struct jinja_value *v,
                        const struct jinja_value *args, struct jinja_value *ret)
{
    struct jinja_list *list;
    int rc = jinja_value_items(r, v, &list);
    if (rc < 0)
        return rc;
    if (!list->count)
        return jinja_value_undefined(r, NULL, jinja_value_text("the first of no items"), ret);
    *ret = list->items[0];
    return 0;
}

static int filter_last(struct jinja_run *r, const struct jinja_value *v,
                       const struct jinja_value *args, struct jinja_value *ret)
{
    struct jinja_list *list;
    if (v->kind == JINJA_ITERATOR)
        return jinja_run_fail(r, "'generator' object is not reversible");
    int rc = jinja_value_items(r, v, &list);
    if (rc < 0)
        return rc;
    if (!list->count)
        return jinja_value_undefined(r, NULL, jinja_value_text("the last of no items"), ret);
    *ret = list->items[list->count - 1];
    return 0;
}

static int filter_join(struct jinja_run *r, const struct jinja_value *v,
                       const struct jinja_value *args, struct jinja_value *ret)
{
    struct jinja_list *list;
    struct jinja_string between = {NULL, 0};
    struct buf b;
    buf_init(&b);
    int rc = jinja_value_items(r, v, &list);
    if (rc == 0 && args[0].kind != JINJA_MISSING)
        rc = jinja_print_string(r, &args[0], &between);
    for (size_t i = 0; rc == 0 && i < list->count; i++) {
        struct jinja_value item = list->items[i];
        if (is_given(&args[1]))
            rc = jinja_select_attribute(r, &list->items[i], &args[1], &item);
        if (rc == 0 && i > 0)
            rc = jinja_run_append(r, &b, between.bytes, between.length);
        if (rc == 0)
            rc = jinja_print_value(r, &b, &item);
    }
    if (rc == 0)
        rc = jinja_run_keep(r, &b, ret);
    buf_clear(&b);
    return rc;
}

static int filter_list(struct jinja_run *r, const struct jinja_value *v,
                       const struct jinja_value *args, struct jinja_value *ret)
{
    struct jinja_list *list;
    int rc = jinja_value_items(r, v, &list);
    if (rc == 0)
        *ret = (struct jinja_value){.kind = JINJA_LIST, .list = list};
    return rc;
}

static int filter_items(struct jinja_run *r, const struct jinja_value *v,
                        const struct jinja_value *args, struct jinja_value *ret)
{
    if (v->kind != JINJA_DICT && v->kind != JINJA_UNDEFINED)
        return jinja_run_fail(r, "Can only get item pairs from a mapping.");
    const struct jinja_callable *c = jinja_methods_find(JINJA_DICT, jinja_value_text("items"));
    int rc =
        v->kind == JINJA_DICT ? c->call(r, v, args, ret) : jinja_value_list(r, JINJA_LIST, 0, ret);
    ret->kind = JINJA_ITERATOR;
    return rc;
}

static int filter_default(struct jinja_run *r, const struct jinja_value *v,
                          const struct jinja_value *args, struct jinja_value *ret)
{
    bool replaced =
        v->kind == JINJA_UNDEFINED || (jinja_value_truth(&args[1]) && !jinja_value_truth(v));
    *ret = !replaced ? *v : args[0].kind == JINJA_MISSING ? jinja_value_string("", 0) : args[0];
    return 0;
}

static int filter_reverse(struct jinja_run *r, const struct jinja_value *v,
                          const struct jinja_value *args, struct jinja_value *ret)
{
    struct jinja_list *list;
    int rc = jinja_value_items(r, v, &list);
    if (rc == 0)
        rc = jinja_value_list(r, JINJA_ITERATOR, list->count, ret);
    for (size_t i = 0; rc == 0 && i < list->count; i++)
        ret->list->items[i] = list->items[list->count - 1 - i];
    if (rc < 0 || v->kind != JINJA_STRING)
        return rc;
    struct buf b;
    buf_init(&b);
    for (size_t i = 0; rc == 0 && i < list->count; i++)
        rc = jinja_print_value(r, &b, &ret->list->items[i]);
    if (rc == 0)
        rc = jinja_run_keep(r, &b, ret);
    buf_clear(&b);
    return rc;
}

/* The number that a text is, all of it but white space around. */
static bool read_number(struct jinja_string s, bool integer, struct jinja_value *ret)
{
    char text[64], *end;
    s = jinja_text_strip(s, NULL, true, true);
    bool plain = s.length > 0 && s.length < sizeof text;
    for (size_t i = 0; plain && i < s.length; i++)
        plain = strchr(integer ? "+-0123456789" : "+-.0123456789eE", s.bytes[i]) && s.bytes[i];
    if (!plain)
        return false;
    memcpy(text, s.bytes, s.length);
    text[s.length] = '\0';
    errno = 0;
    if (integer)
        *ret = jinja_value_int(strtoll(text, &end, 10));
    else
        *ret = jinja_value_real(strtod(text, &end));
    return !*end && end != text && !(integer && errno);
}

static int filter_int(struct jinja_run *r, const struct jinja_value *v,
                      const struct jinja_value *args, struct jinja_value *ret)
{
    struct jinja_value number = *v;
    int64_t integer;
    *ret = args[0].kind == JINJA_MISSING ? jinja_value_int(0) : args[0];
    if (v->kind == JINJA_UNDEFINED)
        return jinja_value_refuse(r, v);
    if (v->kind == JINJA_STRING && !read_number(v->string, true, &number) &&
        !read_number(v->string, false, &number))
        return 0;
    if (jinja_value_to_int(&number, &integer))
        *ret = jinja_value_int(integer);
    else if (number.kind == JINJA_FLOAT && fabs(number.real) < 9e18)
        *ret = jinja_value_int((int64_t)number.real);
    return 0;
}

static int filter_float(struct jinja_run *r, const struct jinja_value *v,
                        const struct jinja_value *args, struct jinja_value *ret)
{
    struct jinja_value number = *v;
    *ret = args[0].kind == JINJA_MISSING ? jinja_value_real(0) : args[0];
    if (v->kind == JINJA_UNDEFINED)
        return jinja_value_refuse(r, v);
    if (v->kind == JINJA_STRING && !read_number(v->string, false, &number))
        return 0;
    if (jinja_value_is_number(&number))
        *ret = jinja_value_real(jinja_value_to_real(&number));
    return 0;
}

static const struct jinja_callable filters[] = {
    {.name = "tojson",
     .call = filter_tojson,
     .params = {"ensure_ascii", "indent", "separators", "sort_keys"}},
    {.name = "length", .call = filter_length},
    {.name = "count", .call = filter_length},
    {.name = "string", .call = filter_string},
    {.name = "trim", .call = filter_trim, .params = {"chars"}},
    {.name = "upper", .call = filter_upper},
    {.name = "lower", .call = filter_lower},
    {.name = "capitalize", .call = filter_capitalize},
    {.name = "replace", .call = filter_replace, .n_required = 2, .params = {"old", "new", "count"}},
    {.name = "safe", .call = filter_safe},
    {.name = "first", .call = filter_first},
    {.name = "last", .call = filter_last},
    {.name = "join", .call = filter_join, .params = {"d", "attribute"}},
    {.name = "list", .call = filter_list},
    {.name = "items", .call = filter_items},
    {.name = "default", .call = filter_default, .params = {"default_value", "boolean"}},
    {.name = "d", .call = filter_default, .params = {"default_value", "boolean"}},
    {.name = "reverse", .call = filter_reverse},
    {.name = "int", .call = filter_int, .params = {"default"}},
    {.name = "float", .call = filter_float, .params = {"default"}},
    {.name = "map",
     .call = jinja_select_map,
     .params = {"filter", "attribute", "default"},
     .filter_param = 1},
    {.name = "select",
     .call = jinja_select_by_value,
     .params = {"test", "argument"},
     .test_param = 1},
    {.name = "reject",
     .call = jinja_select_not_by_value,
     .params = {"test", "argument"},
     .test_param = 1},
    {.name = "selectattr",
     .call = jinja_select_by_attribute,
     .n_required = 1,
     .params = {"attribute", "test", "argument"},
     .test_param = 2},
    {.name = "rejectattr",
     .call = jinja_select_not_by_attribute,
     .n_required = 1,
     .params = {"attribute", "test", "argument"},
     .test_param = 2},
};

const struct jinja_callable *jinja_filters_find(struct jinja_string name)
{
    for (size_t i = 0; i < sizeof filters / sizeof *filters; i++)
        if (jinja_value_is(name, filters[i].name))
            return &filters[i];
    return NULL;
}
