#include "coordinator/jinja_callable.h"
#include "coordinator/jinja_print.h"

#include <string.h>
#include <time.h>

enum { MAX_RANGE = 100000 };

static int call_range(struct jinja_run *r, const struct jinja_value *subject,
                      const struct jinja_value *args, struct jinja_value *ret)
{
    int64_t given[3] = {0, 0, 1};
    for (int i = 0; i < 3; i++)
        if (args[i].kind == JINJA_UNDEFINED)
            return jinja_value_refuse(r, &args[i]);
        else if (args[i].kind != JINJA_MISSING && !jinja_value_to_int(&args[i], &given[i]))
            return jinja_run_fail(r, "range() cannot take a '%s'", jinja_value_type(&args[i]));
    bool one = args[1].kind == JINJA_MISSING;
    int64_t from = one ? 0 : given[0], to = one ? given[0] : given[1], step = given[2];
    if (step == 0)
        return jinja_run_fail(r, "the step of range() must not be zero");
    bool empty = step > 0 ? from >= to : from <= to;
    uint64_t distance = step > 0 ? (uint64_t)to - (uint64_t)from : (uint64_t)from - (uint64_t)to;
    uint64_t stride = step > 0 ? (uint64_t)step : 0 - (uint64_t)step;
    uint64_t count = empty ? 0 : (distance - 1) / stride + 1;
    if (count > MAX_RANGE)
        return jinja_run_fail(r, "range() has more than %d numbers", MAX_RANGE);
    int rc = jinja_value_list(r, JINJA_LIST, (size_t)count, ret);
    for (uint64_t i = 0; rc == 0 && i < count; i++)
        ret->list->items[i] = jinja_value_int((int64_t)((uint64_t)from + i * (uint64_t)step));
    return rc;
}

static int call_namespace(struct jinja_run *r, const struct jinja_value *subject,
                          const struct jinja_value *args, struct jinja_value *ret)
{
    *ret = args[0];
    ret->kind = JINJA_NAMESPACE;
    return 0;
}

static int call_dict(struct jinja_run *r, const struct jinja_value *subject,
                     const struct jinja_value *args, struct jinja_value *ret)
{
    *ret = args[0];
    return 0;
}

static int call_raise_exception(struct jinja_run *r, const struct jinja_value *subject,
                                const struct jinja_value *args, struct jinja_value *ret)
{
    struct jinja_string text;
    int rc = jinja_print_string(r, &args[0], &text);
    if (rc < 0)
        return rc;
    int length = text.length > 500 ? 500 : (int)text.length;
    return err_set_param(r->err, ERR_INPUT, "messages", "%.*s", length,
                         text.length ? text.bytes : "");
}

static int call_strftime_now(struct jinja_run *r, const struct jinja_value *subject,
                             const struct jinja_value *args, struct jinja_value *ret)
{
    char format[128], text[512];
    if (args[0].kind != JINJA_STRING || args[0].string.length >= sizeof format)
        return jinja_run_fail(r, "strftime_now() needs a short format");
    if (args[0].string.length)
        memcpy(format, args[0].string.bytes, args[0].string.length);
    format[args[0].string.length] = '\0';
    time_t now = time(NULL);
    struct tm local;
    if (!localtime_r(&now, &local))
        return jinja_run_fail(r, "strftime_now(): the time is unknown");
    size_t length = strftime(text, sizeof text, format, &local);
    struct buf b;
    buf_init(&b);
    int rc = jinja_run_append(r, &b, text, length);
    if (rc == 0)
        rc = jinja_run_keep(r, &b, ret);
    buf_clear(&b);
    return rc;
}

static const struct jinja_callable functions[] = {
    {.name = "range", .call = call_range, .n_required = 1, .params = {"start", "stop", "step"}},
    {.name = "namespace", .call = call_namespace, .by_name = true},
    {.name = "dict", .call = call_dict, .by_name = true},
    {.name = "raise_exception",
     .call = call_raise_exception,
     .n_required = 1,
     .params = {"message"}},
    {.name = "strftime_now", .call = call_strftime_now, .n_required = 1, .params = {"format"}},
};

const struct jinja_callable *jinja_functions_find(struct jinja_string name)
{
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++)
        if (jinja_value_is(name, functions[i].name))
            return &functions[i];
    return NULL;
}
