#include "coordinator/jinja_callable.h"
#include "coordinator/jinja_print.h"
#include "coordinator/jinja_split.h"
#include "coordinator/jinja_text.h"

enum { MAX_STRIP_BYTES = 256 }; /* each is looked at for each character that goes */

static int wrong_type(struct jinja_run *r, const char *method, const struct jinja_value *v)
{
    if (v->kind == JINJA_UNDEFINED)
        return jinja_value_refuse(r, v);
    return jinja_run_fail(r, "%s() cannot take a '%s'", method, jinja_value_type(v));
}

/* prefixes: a string, or a tuple of some */
static int meets(struct jinja_run *r, const struct jinja_value *subject,
                 const struct jinja_value *affix, bool at_end, struct jinja_value *ret)
{
    const char *method = at_end ? "endswith" : "startswith";
    size_t count = affix->kind == JINJA_TUPLE ? affix->list->count : 1;
    bool any = false;
    for (size_t i = 0; i < count && !any; i++) {
        const struct jinja_value *v = affix->kind == JINJA_TUPLE ? &affix->list->items[i] : affix;
        if (v->kind != JINJA_STRING)
            return wrong_type(r, method, v);
        int rc = jinja_run_charge(r, v->string.length / 64);
        if (rc < 0)
            return rc;
        any = at_end ? jinja_text_ends(subject->string, v->string)
                     : jinja_text_starts(subject->string, v->string);
    }
    *ret = jinja_value_bool(any);
    return 0;
}

static int call_startswith(struct jinja_run *r, const struct jinja_value *subject,
                           const struct jinja_value *args, struct jinja_value *ret)
{
    return meets(r, subject, &args[0], false, ret);
}

static int call_endswith(struct jinja_run *r, const struct jinja_value *subject,
                         const struct jinja_value *args, struct jinja_value *ret)
{
    return meets(r, subject, &args[0], true, ret);
}

static int strip(struct jinja_run *r, const struct jinja_value *subject,
                 const struct jinja_value *chars, bool left, bool right, struct jinja_value *ret)
{
    bool given = chars->kind != JINJA_MISSING && chars->kind != JINJA_NONE;
    if (given && chars->kind != JINJA_STRING)
        return wrong_type(r, "strip", chars);
    if (given && chars->string.length > MAX_STRIP_BYTES)
        return jinja_run_fail(r, "strip() with more than %d bytes of characters", MAX_STRIP_BYTES);
    struct jinja_string s =
        jinja_text_strip(subject->string, given ? &chars->string : NULL, left, right);
    *ret = jinja_value_string(s.bytes, s.length);
    size_t work = (subject->string.length - s.length) / 16;
    return jinja_run_charge(r, given ? work * (1 + chars->string.length) : work);
}

static int call_strip(struct jinja_run *r, const struct jinja_value *subject,
                      const struct jinja_value *args, struct jinja_value *ret)
{
    return strip(r, subject, &args[0], true, true, ret);
}

static int call_lstrip(struct jinja_run *r, const struct jinja_value *subject,
                       const struct jinja_value *args, struct jinja_value *ret)
{
    return strip(r, subject, &args[0], true, false, ret);
}

static int call_rstrip(struct jinja_run *r, const struct jinja_value *subject,
                       const struct jinja_value *args, struct jinja_value *ret)
{
    return strip(r, subject, &args[0], false, true, ret);
}

static int limit(struct jinja_run *r, const char *method, const struct jinja_value *arg,
                 int64_t *ret)
{
    *ret = -1;
    if (arg->kind != JINJA_MISSING && !jinja_value_to_int(arg, ret))
        return wrong_type(r, method, arg);
    return 0;
}

static int split(struct jinja_run *r, const struct jinja_value *subject,
                 const struct jinja_value *args, bool from_right, struct jinja_value *ret)
{
    bool given = args[0].kind != JINJA_MISSING && args[0].kind != JINJA_NONE;
    int64_t most;
    if (given && args[0].kind != JINJA_STRING)
        return wrong_type(r, "split", &args[0]);
    int rc = limit(r, "split", &args[1], &most);
    return rc < 0 ? rc
                  : jinja_split_string(r, subject->string, given ? &args[0].string : NULL, most,
                                       from_right, ret);
}

static int call_split(struct jinja_run *r, const struct jinja_value *subject,
                      const struct jinja_value *args, struct jinja_value *ret)
{
    return split(r, subject, args, false, ret);
}

static int call_rsplit(struct jinja_run *r, const struct jinja_value *subject,
                       const struct jinja_value *args, struct jinja_value *ret)
{
    return split(r, subject, args, true, ret);
}

static int call_splitlines(struct jinja_run *r, const struct jinja_value *subject,
                           const struct jinja_value *args, struct jinja_value *ret)
{
    return jinja_split_lines(r, subject->string, jinja_value_truth(&args[0]), ret);
}

static int call_replace(struct jinja_run *r, const struct jinja_value *subject,
                        const struct jinja_value *args, struct jinja_value *ret)
{
    int64_t most;
    for (int i = 0; i < 2; i++)
        if (args[i].kind != JINJA_STRING)
            return wrong_type(r, "replace", &args[i]);
    int rc = limit(r, "replace", &args[2], &most);
    return rc < 0
               ? rc
               : jinja_split_replace(r, subject->string, args[0].string, args[1].string, most, ret);
}

/* upper, lower, or for a capitalized word the first and the others */
static int change_case(struct jinja_run *r, struct jinja_string s, bool first_upper,
                       bool rest_upper, struct jinja_value *ret)
{
    struct buf b;
    buf_init(&b);
    int rc = jinja_run_charge(r, s.length / 8);
    size_t size = 0;
    if (rc == 0 && s.length)
        jinja_text_decode(s.bytes, s.length, &size);
    struct jinja_string first = {s.bytes, size}, rest = {s.bytes + size, s.length - size};
    if (rc == 0) {
        (first_upper ? jinja_text_upper : jinja_text_lower)(&b, first);
        (rest_upper ? jinja_text_upper : jinja_text_lower)(&b, rest);
        rc = jinja_run_keep(r, &b, ret);
    }
    buf_clear(&b);
    return rc;
}

static int call_upper(struct jinja_run *r, const struct jinja_value *subject,
                      const struct jinja_value *args, struct jinja_value *ret)
{
    return change_case(r, subject->string, true, true, ret);
}

static int call_lower(struct jinja_run *r, const struct jinja_value *subject,
                      const struct jinja_value *args, struct jinja_value *ret)
{
    return change_case(r, subject->string, false, false, ret);
}

static int call_capitalize(struct jinja_run *r, const struct jinja_value *subject,
                           const struct jinja_value *args, struct jinja_value *ret)
{
    return change_case(r, subject->string, true, false, ret);
}

static int call_find(struct jinja_run *r, const struct jinja_value *subject,
                     const struct jinja_value *args, struct jinja_value *ret)
{
    if (args[0].kind != JINJA_STRING)
        return wrong_type(r, "find", &args[0]);
    struct jinja_string s = subject->string;
    size_t hit = jinja_text_find(s, args[0].string, 0);
    s.length = hit == SIZE_MAX ? 0 : hit;
    *ret = jinja_value_int(hit == SIZE_MAX ? -1 : (int64_t)jinja_text_count(s));
    return jinja_run_charge(r, subject->string.length / 64);
}

static int call_count(struct jinja_run *r, const struct jinja_value *subject,
                      const struct jinja_value *args, struct jinja_value *ret)
{
    if (args[0].kind != JINJA_STRING)
        return wrong_type(r, "count", &args[0]);
    struct jinja_string s = subject->string, needle = args[0].string;
    int64_t count = 0;
    if (!needle.length)
        count = (int64_t)jinja_text_count(s) + 1;
    else
        for (size_t at = 0; (at = jinja_text_find(s, needle, at)) != SIZE_MAX; count++)
            at += needle.length;
    *ret = jinja_value_int(count);
    return jinja_run_charge(r, s.length / 16);
}

static int call_join(struct jinja_run *r, const struct jinja_value *subject,
                     const struct jinja_value *args, struct jinja_value *ret)
{
    struct jinja_list *list;
    struct buf b;
    buf_init(&b);
    int rc = jinja_value_items(r, &args[0], &list);
    for (size_t i = 0; rc == 0 && i < list->count; i++) {
        if (list->items[i].kind != JINJA_STRING)
            rc = wrong_type(r, "join", &list->items[i]);
        if (rc == 0 && i > 0)
            rc = jinja_run_append(r, &b, subject->string.bytes, subject->string.length);
        if (rc == 0)
            rc = jinja_print_value(r, &b, &list->items[i]);
    }
    if (rc == 0)
        rc = jinja_run_keep(r, &b, ret);
    buf_clear(&b);
    return rc;
}

static int call_removeprefix(struct jinja_run *r, const struct jinja_value *subject,
                             const struct jinja_value *args, struct jinja_value *ret)
{
    if (args[0].kind != JINJA_STRING)
        return wrong_type(r, "removeprefix", &args[0]);
    struct jinja_string s = subject->string;
    size_t cut = jinja_text_starts(s, args[0].string) ? args[0].string.length : 0;
    *ret = jinja_value_string(s.bytes + cut, s.length - cut);
    return 0;
}

static int call_removesuffix(struct jinja_run *r, const struct jinja_value *subject,
                             const struct jinja_value *args, struct jinja_value *ret)
{
    if (args[0].kind != JINJA_STRING)
        return wrong_type(r, "removesuffix", &args[0]);
    struct jinja_string s = subject->string;
    size_t cut = jinja_text_ends(s, args[0].string) ? args[0].string.length : 0;
    *ret = jinja_value_string(s.bytes, s.length - cut);
    return 0;
}

static int call_get(struct jinja_run *r, const struct jinja_value *subject,
                    const struct jinja_value *args, struct jinja_value *ret)
{
    int rc = jinja_value_get(r, subject->dict, &args[0], ret);
    if (rc == 0 && ret->kind == JINJA_MISSING)
        *ret = args[1].kind == JINJA_MISSING ? jinja_value_none() : args[1];
    return rc;
}

static int call_keys(struct jinja_run *r, const struct jinja_value *subject,
                     const struct jinja_value *args, struct jinja_value *ret)
{
    const struct jinja_dict *d = subject->dict;
    int rc = jinja_value_list(r, JINJA_VIEW, d->count, ret);
    for (size_t i = 0; rc == 0 && i < d->count; i++)
        ret->list->items[i] = d->pairs[i].key;
    return rc;
}

static int call_values(struct jinja_run *r, const struct jinja_value *subject,
                       const struct jinja_value *args, struct jinja_value *ret)
{
    const struct jinja_dict *d = subject->dict;
    int rc = jinja_value_list(r, JINJA_VIEW, d->count, ret);
    for (size_t i = 0; rc == 0 && i < d->count; i++)
        ret->list->items[i] = d->pairs[i].value;
    return rc;
}

static int call_items(struct jinja_run *r, const struct jinja_value *subject,
                      const struct jinja_value *args, struct jinja_value *ret)
{
    const struct jinja_dict *d = subject->dict;
    int rc = jinja_value_list(r, JINJA_VIEW, d->count, ret);
    for (size_t i = 0; rc == 0 && i < d->count; i++) {
        struct jinja_value *pair = &ret->list->items[i];
        rc = jinja_value_list(r, JINJA_TUPLE, 2, pair);
        if (rc == 0) {
            pair->list->items[0] = d->pairs[i].key;
            pair->list->items[1] = d->pairs[i].value;
        }
    }
    return rc;
}

static const struct jinja_callable of_strings[] = {
    {.name = "startswith", .call = call_startswith, .n_required = 1, .params = {"prefix"}},
    {.name = "endswith", .call = call_endswith, .n_required = 1, .params = {"suffix"}},
    {.name = "strip", .call = call_strip, .params = {"chars"}},
    {.name = "lstrip", .call = call_lstrip, .params = {"chars"}},
    {.name = "rstrip", .call = call_rstrip, .params = {"chars"}},
    {.name = "split", .call = call_split, .params = {"sep", "maxsplit"}},
    {.name = "rsplit", .call = call_rsplit, .params = {"sep", "maxsplit"}},
    {.name = "splitlines", .call = call_splitlines, .params = {"keepends"}},
    {.name = "replace", .call = call_replace, .n_required = 2, .params = {"old", "new", "count"}},
    {.name = "upper", .call = call_upper},
    {.name = "lower", .call = call_lower},
    {.name = "capitalize", .call = call_capitalize},
    {.name = "find", .call = call_find, .n_required = 1, .params = {"sub"}},
    {.name = "count", .call = call_count, .n_required = 1, .params = {"sub"}},
    {.name = "join", .call = call_join, .n_required = 1, .params = {"iterable"}},
    {.name = "removeprefix", .call = call_removeprefix, .n_required = 1, .params = {"prefix"}},
    {.name = "removesuffix", .call = call_removesuffix, .n_required = 1, .params = {"suffix"}},
};

static const struct jinja_callable of_dicts[] = {
    {.name = "get", .call = call_get, .n_required = 1, .params = {"key", "default"}},
    {.name = "keys", .call = call_keys},
    {.name = "values", .call = call_values},
    {.name = "items", .call = call_items},
};

static const struct jinja_callable *find(const struct jinja_callable *table, size_t count,
                                         struct jinja_string name)
{
    for (size_t i = 0; i < count; i++)
        if (jinja_value_is(name, table[i].name))
            return &table[i];
    return NULL;
}

const struct jinja_callable *jinja_methods_find(enum jinja_kind receiver, struct jinja_string name)
{
    const struct jinja_callable *found = NULL;
    if (receiver == JINJA_STRING || receiver == JINJA_MISSING)
        found = find(of_strings, sizeof of_strings / sizeof *of_strings, name);
    if (!found && (receiver == JINJA_DICT || receiver == JINJA_MISSING))
        found = find(of_dicts, sizeof of_dicts / sizeof *of_dicts, name);
    return found;
}

bool jinja_methods_hide(enum jinja_kind receiver, struct jinja_string name)
{
    static const char *const dict[] = {"clear", "copy",    "fromkeys",   "get",    "items",  "keys",
                                       "pop",   "popitem", "setdefault", "update", "values", NULL};
    static const char *const list[] = {"append", "clear", "copy",   "count",   "extend", "index",
                                       "insert", "pop",   "remove", "reverse", "sort",   NULL};
    static const char *const tuple[] = {"count", "index", NULL};
    static const char *const string[] = {"casefold",     "center",     "encode",    "expandtabs",
                                         "format",       "format_map", "index",     "isalnum",
                                         "isalpha",      "isascii",    "isdecimal", "isdigit",
                                         "isidentifier", "islower",    "isnumeric", "isprintable",
                                         "isspace",      "istitle",    "isupper",   "ljust",
                                         "maketrans",    "partition",  "rfind",     "rindex",
                                         "rjust",        "rpartition", "swapcase",  "title",
                                         "translate",    "zfill",      NULL};
    const char *const *names = receiver == JINJA_DICT     ? dict
                               : receiver == JINJA_LIST   ? list
                               : receiver == JINJA_TUPLE  ? tuple
                               : receiver == JINJA_STRING ? string
                                                          : NULL;
    for (; names && *names; names++)
        if (jinja_value_is(name, *names))
            return true;
    return receiver == JINJA_STRING && jinja_methods_find(receiver, name);
}
