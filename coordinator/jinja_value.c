#include "coordinator/jinja_value.h"

#include "coordinator/jinja_run.h"
#include "coordinator/jinja_text.h"

#include <string.h>

struct jinja_string jinja_value_text(const char *text)
{
    return (struct jinja_string){text, strlen(text)};
}

bool jinja_value_same(struct jinja_string a, struct jinja_string b)
{
    return a.length == b.length && (!a.length || memcmp(a.bytes, b.bytes, a.length) == 0);
}

bool jinja_value_is(struct jinja_string a, const char *text)
{
    return jinja_value_same(a, jinja_value_text(text));
}

struct jinja_value jinja_value_none(void)
{
    return (struct jinja_value){.kind = JINJA_NONE};
}

struct jinja_value jinja_value_bool(bool truth)
{
    return (struct jinja_value){.kind = JINJA_BOOL, .truth = truth};
}

struct jinja_value jinja_value_int(int64_t integer)
{
    return (struct jinja_value){.kind = JINJA_INT, .integer = integer};
}

struct jinja_value jinja_value_real(double real)
{
    return (struct jinja_value){.kind = JINJA_FLOAT, .real = real};
}

struct jinja_value jinja_value_string(const char *bytes, size_t length)
{
    return (struct jinja_value){.kind = JINJA_STRING, .string = {bytes, length}};
}

int jinja_value_list(struct jinja_run *r, enum jinja_kind kind, size_t count,
                     struct jinja_value *ret)
{
    struct jinja_list *list;
    int rc = jinja_run_alloc(r, 1, sizeof *list, &list);
    if (rc == 0)
        rc = jinja_run_alloc(r, count, sizeof *list->items, &list->items);
    if (rc < 0)
        return rc;
    list->count = count;
    *ret = (struct jinja_value){.kind = kind, .list = list};
    return 0;
}

int jinja_value_dict(struct jinja_run *r, enum jinja_kind kind, struct jinja_value *ret)
{
    struct jinja_dict *dict;
    int rc = jinja_run_alloc(r, 1, sizeof *dict, &dict);
    if (rc < 0)
        return rc;
    *ret = (struct jinja_value){.kind = kind, .dict = dict};
    return 0;
}

static int find(struct jinja_run *r, const struct jinja_dict *d, const struct jinja_value *key,
                size_t *ret_index)
{
    int rc = 0;
    size_t i = 0, work = 0;
    for (; i < d->count && rc == 0; i++) {
        const struct jinja_value *have = &d->pairs[i].key;
        bool equal;
        if (have->kind == JINJA_STRING && key->kind == JINJA_STRING) {
            equal = jinja_value_same(have->string, key->string);
            work += have->string.length == key->string.length ? key->string.length / 64 : 0;
        } else {
            rc = jinja_value_equal(r, have, key, &equal);
        }
        if (rc == 0 && equal)
            break;
    }
    *ret_index = i;
    return rc < 0 ? rc : jinja_run_charge(r, i / 4 + work);
}

static bool is_hashable(const struct jinja_value *v)
{
    return v->kind != JINJA_LIST && v->kind != JINJA_DICT && v->kind != JINJA_VIEW;
}

int jinja_value_get(struct jinja_run *r, const struct jinja_dict *d, const struct jinja_value *key,
                    struct jinja_value *ret)
{
    if (!is_hashable(key))
        return jinja_run_fail(r, "unhashable type: '%s'", jinja_value_type(key));
    size_t i;
    int rc = find(r, d, key, &i);
    if (rc < 0)
        return rc;
    *ret = i < d->count ? d->pairs[i].value : (struct jinja_value){0};
    return 0;
}

int jinja_value_put(struct jinja_run *r, struct jinja_dict *d, const struct jinja_value *key,
                    const struct jinja_value *value)
{
    if (!is_hashable(key))
        return jinja_run_fail(r, "unhashable type: '%s'", jinja_value_type(key));
    size_t i;
    int rc = find(r, d, key, &i);
    if (rc == 0 && i == d->count && d->count == d->capacity) {
        struct jinja_pair *pairs;
        size_t capacity = d->capacity ? d->capacity * 2 : 4;
        rc = jinja_run_alloc(r, capacity, sizeof *pairs, &pairs);
        if (rc == 0) {
            if (d->count)
                memcpy(pairs, d->pairs, d->count * sizeof *pairs);
            d->pairs = pairs;
            d->capacity = capacity;
        }
    }
    if (rc < 0)
        return rc;
    if (i == d->count) {
        d->pairs[i].key = *key;
        d->count++;
    }
    d->pairs[i].value = *value;
    return 0;
}

int jinja_value_undefined(struct jinja_run *r, const struct jinja_value *owner,
                          struct jinja_string name, struct jinja_value *ret)
{
    struct jinja_hint *hint;
    int rc = jinja_run_alloc(r, 1, sizeof *hint, &hint);
    if (rc < 0)
        return rc;
    hint->name = name;
    hint->owner = owner ? jinja_value_type(owner) : NULL;
    *ret = (struct jinja_value){.kind = JINJA_UNDEFINED, .hint = hint};
    return 0;
}

int jinja_value_refuse(struct jinja_run *r, const struct jinja_value *undefined)
{
    const struct jinja_hint *hint = undefined->hint;
    int length = hint->name.length > 80 ? 80 : (int)hint->name.length;
    if (hint->is_element)
        return jinja_run_fail(r, "%s object has no element %lld", hint->owner,
                              (long long)hint->element);
    if (!hint->owner)
        return jinja_run_fail(r, "'%.*s' is undefined", length, hint->name.bytes);
    bool none = strcmp(hint->owner, "NoneType") == 0;
    return jinja_run_fail(r, "'%s%s' has no attribute '%.*s'", none ? "None" : hint->owner,
                          none ? "" : " object", length, hint->name.bytes);
}

/* No object of JSON has the same key twice, so nothing is searched. */
static int from_object(struct jinja_run *r, const json_t *json, struct jinja_value *ret)
{
    int rc = jinja_value_dict(r, JINJA_DICT, ret);
    size_t count = json_object_size(json);
    if (rc == 0)
        rc = jinja_run_alloc(r, count, sizeof *ret->dict->pairs, &ret->dict->pairs);
    if (rc < 0)
        return rc;
    ret->dict->capacity = count;
    json_t *object = (json_t *)json; /* json_object_iter() reads only */
    for (void *i = json_object_iter(object); i && rc == 0; i = json_object_iter_next(object, i)) {
        struct jinja_pair *pair = &ret->dict->pairs[ret->dict->count];
        pair->key = jinja_value_string(json_object_iter_key(i), json_object_iter_key_len(i));
        rc = jinja_value_from_json(r, json_object_iter_value(i), &pair->value);
        ret->dict->count += rc == 0;
    }
    return rc;
}

static int from_array(struct jinja_run *r, const json_t *json, struct jinja_value *ret)
{
    int rc = jinja_value_list(r, JINJA_LIST, json_array_size(json), ret);
    for (size_t i = 0; rc == 0 && i < ret->list->count; i++)
        rc = jinja_value_from_json(r, json_array_get(json, i), &ret->list->items[i]);
    return rc;
}

int jinja_value_from_json(struct jinja_run *r, const json_t *json, struct jinja_value *ret)
{
    int rc = jinja_run_enter(r);
    if (rc < 0)
        return rc;
    switch (json_typeof(json)) {
    case JSON_OBJECT:
        rc = from_object(r, json, ret);
        break;
    case JSON_ARRAY:
        rc = from_array(r, json, ret);
        break;
    case JSON_STRING:
        *ret = jinja_value_string(json_string_value(json), json_string_length(json));
        break;
    case JSON_INTEGER:
        *ret = jinja_value_int(json_integer_value(json));
        break;
    case JSON_REAL:
        *ret = jinja_value_real(json_real_value(json));
        break;
    case JSON_TRUE:
    case JSON_FALSE:
        *ret = jinja_value_bool(json_is_true(json));
        break;
    case JSON_NULL:
        *ret = jinja_value_none();
        break;
    }
    jinja_run_leave(r);
    return rc;
}

const char *jinja_value_type(const struct jinja_value *v)
{
    static const char *const names[] = {
        [JINJA_MISSING] = "missing",
        [JINJA_UNDEFINED] = "Undefined",
        [JINJA_NONE] = "NoneType",
        [JINJA_BOOL] = "bool",
        [JINJA_INT] = "int",
        [JINJA_FLOAT] = "float",
        [JINJA_STRING] = "str",
        [JINJA_LIST] = "list",
        [JINJA_TUPLE] = "tuple",
        [JINJA_VIEW] = "view",
        [JINJA_ITERATOR] = "generator",
        [JINJA_DICT] = "dict",
        [JINJA_NAMESPACE] = "Namespace",
        [JINJA_LOOP] = "LoopContext",
        [JINJA_MACRO] = "Macro",
        [JINJA_FUNCTION] = "function",
        [JINJA_METHOD] = "method",
    };
    return names[v->kind];
}

bool jinja_value_truth(const struct jinja_value *v)
{
    switch (v->kind) {
    case JINJA_MISSING:
    case JINJA_UNDEFINED:
    case JINJA_NONE:
        return false;
    case JINJA_BOOL:
        return v->truth;
    case JINJA_INT:
        return v->integer != 0;
    case JINJA_FLOAT:
        return v->real != 0;
    case JINJA_STRING:
        return v->string.length > 0;
    case JINJA_LIST:
    case JINJA_TUPLE:
    case JINJA_VIEW:
        return v->list->count > 0;
    case JINJA_DICT:
        return v->dict->count > 0;
    default:
        return true;
    }
}

bool jinja_value_is_number(const struct jinja_value *v)
{
    return v->kind == JINJA_INT || v->kind == JINJA_FLOAT || v->kind == JINJA_BOOL;
}

bool jinja_value_to_int(const struct jinja_value *v, int64_t *ret)
{
    if (v->kind == JINJA_BOOL)
        *ret = v->truth;
    else if (v->kind == JINJA_INT)
        *ret = v->integer;
    else
        return false;
    return true;
}

double jinja_value_to_real(const struct jinja_value *v)
{
    int64_t integer = 0;
    return jinja_value_to_int(v, &integer) ? (double)integer : v->real;
}

/* Exact: x86's long double holds every int64 and every double. */
static long double exact(const struct jinja_value *v)
{
    int64_t integer;
    return jinja_value_to_int(v, &integer) ? (long double)integer : (long double)v->real;
}

static int equal_lists(struct jinja_run *r, const struct jinja_list *a, const struct jinja_list *b,
                       bool *ret)
{
    int rc = 0;
    *ret = a->count == b->count;
    for (size_t i = 0; rc == 0 && *ret && i < a->count; i++)
        rc = jinja_value_equal(r, &a->items[i], &b->items[i], ret);
    return rc;
}

static int equal_dicts(struct jinja_run *r, const struct jinja_dict *a, const struct jinja_dict *b,
                       bool *ret)
{
    int rc = 0;
    *ret = a->count == b->count;
    for (size_t i = 0; rc == 0 && *ret && i < a->count; i++) {
        struct jinja_value other;
        rc = jinja_value_get(r, b, &a->pairs[i].key, &other);
        if (rc == 0 && other.kind == JINJA_MISSING)
            *ret = false;
        else if (rc == 0)
            rc = jinja_value_equal(r, &a->pairs[i].value, &other, ret);
    }
    return rc;
}

int jinja_value_equal(struct jinja_run *r, const struct jinja_value *a, const struct jinja_value *b,
                      bool *ret)
{
    int rc = jinja_run_enter(r);
    if (rc < 0)
        return rc;
    *ret = false;
    if (jinja_value_is_number(a) && jinja_value_is_number(b)) {
        *ret = exact(a) == exact(b);
    } else if (a->kind == b->kind) {
        switch (a->kind) {
        case JINJA_UNDEFINED:
        case JINJA_NONE:
            *ret = true;
            break;
        case JINJA_STRING:
            *ret = jinja_value_same(a->string, b->string);
            if (a->string.length == b->string.length)
                rc = jinja_run_charge(r, a->string.length / 64);
            break;
        case JINJA_LIST:
        case JINJA_TUPLE:
            rc = equal_lists(r, a->list, b->list, ret);
            break;
        case JINJA_DICT:
            rc = equal_dicts(r, a->dict, b->dict, ret);
            break;
        case JINJA_FUNCTION:
            *ret = jinja_value_same(a->string, b->string);
            break;
        default:
            *ret = a->list == b->list; /* by identity */
        }
    }
    jinja_run_leave(r);
    return rc;
}

static int compare_strings(struct jinja_string a, struct jinja_string b)
{
    size_t common = a.length < b.length ? a.length : b.length;
    int order = common ? memcmp(a.bytes, b.bytes, common) : 0;
    return order ? order : (a.length > b.length) - (a.length < b.length);
}

static int compare_lists(struct jinja_run *r, const struct jinja_list *a,
                         const struct jinja_list *b, const char *sign, int *ret)
{
    for (size_t i = 0; i < a->count && i < b->count; i++) {
        bool equal;
        int rc = jinja_value_equal(r, &a->items[i], &b->items[i], &equal);
        if (rc < 0)
            return rc;
        if (!equal)
            return jinja_value_compare(r, &a->items[i], &b->items[i], sign, ret);
    }
    *ret = (a->count > b->count) - (a->count < b->count);
    return 0;
}

int jinja_value_compare(struct jinja_run *r, const struct jinja_value *a,
                        const struct jinja_value *b, const char *sign, int *ret)
{
    if (a->kind == JINJA_UNDEFINED)
        return jinja_value_refuse(r, a);
    if (b->kind == JINJA_UNDEFINED)
        return jinja_value_refuse(r, b);
    int rc = jinja_run_enter(r);
    if (rc < 0)
        return rc;
    if (jinja_value_is_number(a) && jinja_value_is_number(b)) {
        *ret = (exact(a) > exact(b)) - (exact(a) < exact(b));
    } else if (a->kind == JINJA_STRING && b->kind == JINJA_STRING) {
        *ret = compare_strings(a->string, b->string);
        rc = jinja_run_charge(r, (a->string.length < b->string.length ? a : b)->string.length / 64);
    } else if (a->kind == b->kind && (a->kind == JINJA_LIST || a->kind == JINJA_TUPLE)) {
        rc = compare_lists(r, a->list, b->list, sign, ret);
    } else {
        rc = jinja_run_fail(r, "'%s' is not supported between '%s' and '%s'", sign,
                            jinja_value_type(a), jinja_value_type(b));
    }
    jinja_run_leave(r);
    return rc;
}

static int characters(struct jinja_run *r, struct jinja_string s, struct jinja_value *ret)
{
    int rc = jinja_run_charge(r, s.length / 64);
    if (rc == 0)
        rc = jinja_value_list(r, JINJA_LIST, jinja_text_count(s), ret);
    size_t i = 0;
    for (size_t at = 0, size; rc == 0 && at < s.length && i < ret->list->count; at += size) {
        jinja_text_decode(s.bytes + at, s.length - at, &size);
        ret->list->items[i++] = jinja_value_string(s.bytes + at, size);
    }
    return rc;
}

int jinja_value_items(struct jinja_run *r, const struct jinja_value *v, struct jinja_list **ret)
{
    struct jinja_value made = {0};
    int rc = 0;
    switch (v->kind) {
    case JINJA_LIST:
    case JINJA_TUPLE:
    case JINJA_VIEW:
        *ret = v->list;
        return 0;
    case JINJA_ITERATOR:
        if (!v->list->spent) {
            v->list->spent = true;
            *ret = v->list;
            return 0;
        }
        rc = jinja_value_list(r, JINJA_LIST, 0, &made);
        break;
    case JINJA_UNDEFINED:
        rc = jinja_value_list(r, JINJA_LIST, 0, &made);
        break;
    case JINJA_DICT:
        rc = jinja_value_list(r, JINJA_LIST, v->dict->count, &made);
        for (size_t i = 0; rc == 0 && i < v->dict->count; i++)
            made.list->items[i] = v->dict->pairs[i].key;
        break;
    case JINJA_STRING:
        rc = characters(r, v->string, &made);
        break;
    default:
        return jinja_run_fail(r, "'%s' object is not iterable", jinja_value_type(v));
    }
    *ret = made.list;
    return rc;
}

int jinja_value_length(struct jinja_run *r, const struct jinja_value *v, int64_t *ret)
{
    int rc = 0;
    switch (v->kind) {
    case JINJA_UNDEFINED:
        *ret = 0;
        break;
    case JINJA_STRING:
        *ret = (int64_t)jinja_text_count(v->string);
        rc = jinja_run_charge(r, v->string.length / 64);
        break;
    case JINJA_LIST:
    case JINJA_TUPLE:
    case JINJA_VIEW:
        *ret = (int64_t)v->list->count;
        break;
    case JINJA_DICT:
        *ret = (int64_t)v->dict->count;
        break;
    case JINJA_LOOP:
        *ret = (int64_t)v->loop->list->count;
        break;
    default:
        rc = jinja_run_fail(r, "object of type '%s' has no len()", jinja_value_type(v));
    }
    return rc;
}
