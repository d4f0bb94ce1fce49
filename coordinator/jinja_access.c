#include "coordinator/jinja_access.h"

#include "coordinator/jinja_callable.h"
#include "coordinator/jinja_text.h"

#include <string.h>

/* depth counts the levels of recursive loops, which do not exist here. */
static int loop_attribute(struct jinja_run *r, const struct jinja_value *v,
                          struct jinja_string name, struct jinja_value *ret)
{
    const struct jinja_loop *loop = v->loop;
    int64_t index = (int64_t)loop->index, count = (int64_t)loop->list->count;
    const struct {
        const char *name;
        int64_t value;
    } numbers[] = {
        {"index", index + 1}, {"index0", index}, {"revindex", count - index},     {"length", count},
        {"depth", 1},         {"depth0", 0},     {"revindex0", count - index - 1}};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (jinja_value_is(name, numbers[i].name)) {
            *ret = jinja_value_int(numbers[i].value);
            return 0;
        }
    bool before = jinja_value_is(name, "previtem"), after = jinja_value_is(name, "nextitem");
    if (jinja_value_is(name, "first"))
        *ret = jinja_value_bool(index == 0);
    else if (jinja_value_is(name, "last"))
        *ret = jinja_value_bool(index == count - 1);
    else if (before && index > 0)
        *ret = loop->list->items[index - 1];
    else if (after && index < count - 1)
        *ret = loop->list->items[index + 1];
    else
        return jinja_value_undefined(r, v, name, ret);
    return 0;
}

static int field(struct jinja_run *r, const struct jinja_value *owner, struct jinja_string name,
                 struct jinja_value *ret)
{
    struct jinja_value key = jinja_value_string(name.bytes, name.length);
    int rc = jinja_value_get(r, owner->dict, &key, ret);
    if (rc == 0 && ret->kind == JINJA_MISSING)
        rc = jinja_value_undefined(r, owner, name, ret);
    return rc;
}

int jinja_access_attribute(struct jinja_run *r, const struct jinja_value *owner,
                           struct jinja_string name, struct jinja_value *ret)
{
    if (owner->kind == JINJA_UNDEFINED)
        return jinja_value_refuse(r, owner);
    if (owner->kind == JINJA_LOOP)
        return loop_attribute(r, owner, name, ret);
    if (jinja_methods_hide(owner->kind, name)) { /* Python's own attributes come before keys */
        *ret = (struct jinja_value){.kind = JINJA_METHOD, .string = name};
        return 0;
    }
    if (owner->kind == JINJA_DICT || owner->kind == JINJA_NAMESPACE)
        return field(r, owner, name, ret);
    return jinja_value_undefined(r, owner, name, ret);
}

static int element(struct jinja_run *r, const struct jinja_value *owner, int64_t index,
                   struct jinja_value *ret)
{
    int64_t count;
    int rc = jinja_value_length(r, owner, &count);
    if (rc < 0)
        return rc;
    int64_t at = index < 0 ? index + count : index;
    if (at < 0 || at >= count) {
        struct jinja_hint *hint;
        rc = jinja_run_alloc(r, 1, sizeof *hint, &hint);
        if (rc < 0)
            return rc;
        *hint = (struct jinja_hint){jinja_value_type(owner), {NULL, 0}, index, true};
        *ret = (struct jinja_value){.kind = JINJA_UNDEFINED, .hint = hint};
    } else if (owner->kind == JINJA_STRING) {
        size_t start = jinja_text_offset(owner->string, (size_t)at), size;
        jinja_text_decode(owner->string.bytes + start, owner->string.length - start, &size);
        *ret = jinja_value_string(owner->string.bytes + start, size);
    } else {
        *ret = owner->list->items[at];
    }
    return 0;
}

int jinja_access_item(struct jinja_run *r, const struct jinja_value *owner,
                      const struct jinja_value *item, struct jinja_value *ret)
{
    int64_t index;
    if (owner->kind == JINJA_UNDEFINED)
        return jinja_value_refuse(r, owner);
    bool sequence =
        owner->kind == JINJA_LIST || owner->kind == JINJA_TUPLE || owner->kind == JINJA_STRING;
    if (sequence && jinja_value_to_int(item, &index))
        return element(r, owner, index, ret);
    bool hashable = item->kind != JINJA_LIST && item->kind != JINJA_DICT;
    if (owner->kind == JINJA_DICT && hashable) {
        int rc = jinja_value_get(r, owner->dict, item, ret);
        if (rc < 0 || ret->kind != JINJA_MISSING)
            return rc;
        if (item->kind == JINJA_STRING && !jinja_methods_hide(owner->kind, item->string))
            return jinja_value_undefined(r, owner, item->string, ret);
    }
    if (item->kind == JINJA_STRING)
        return jinja_access_attribute(r, owner, item->string, ret);
    return jinja_value_undefined(r, owner, jinja_value_text(jinja_value_type(item)), ret);
}

/* Python's slice.indices(): ret = first position, number of positions, step. */
static int resolve(struct jinja_run *r, const struct jinja_value bounds[3], int64_t count,
                   int64_t ret[3])
{
    int64_t given[3] = {0, 0, 1};
    bool has[3];
    for (int i = 0; i < 3; i++) {
        has[i] = bounds[i].kind != JINJA_MISSING && bounds[i].kind != JINJA_NONE;
        if (has[i] && bounds[i].kind == JINJA_UNDEFINED)
            return jinja_value_refuse(r, &bounds[i]);
        if (has[i] && !jinja_value_to_int(&bounds[i], &given[i]))
            return jinja_run_fail(r, "slice indices must be integers or None");
    }
    int64_t step = given[2];
    if (step == 0)
        return jinja_run_fail(r, "slice step cannot be zero");
    int64_t low = step < 0 ? -1 : 0, high = step < 0 ? count - 1 : count;
    int64_t ends[2] = {step < 0 ? high : low, step < 0 ? low : high};
    for (int i = 0; i < 2; i++)
        if (has[i]) {
            int64_t at = given[i] < 0 ? given[i] + count : given[i];
            ends[i] = at < low ? low : at > high ? high : at;
        }
    int64_t distance = step < 0 ? ends[0] - ends[1] : ends[1] - ends[0];
    uint64_t stride = step < 0 ? 0 - (uint64_t)step : (uint64_t)step;
    ret[0] = ends[0];
    ret[1] = distance <= 0 ? 0 : 1 + (int64_t)((uint64_t)(distance - 1) / stride);
    ret[2] = ret[1] > 1 ? step : 1; /* so that adding it cannot overflow */
    return 0;
}

static int slice_string(struct jinja_run *r, struct jinja_string s, const int64_t range[3],
                        struct jinja_value *ret)
{
    size_t start = jinja_text_offset(s, (size_t)(range[1] ? range[0] : 0));
    if (range[1] == 0 || range[2] == 1) {
        struct jinja_string rest = {s.bytes + start, s.length - start};
        *ret = jinja_value_string(rest.bytes, jinja_text_offset(rest, (size_t)range[1]));
        return 0;
    }
    struct jinja_value all = jinja_value_string(s.bytes, s.length);
    struct jinja_list *characters;
    int rc = jinja_value_items(r, &all, &characters);
    struct buf b;
    buf_init(&b);
    int64_t at = range[0];
    for (int64_t i = 0; rc == 0 && i < range[1]; i++, at += range[2])
        rc = jinja_run_append(r, &b, characters->items[at].string.bytes,
                              characters->items[at].string.length);
    if (rc == 0)
        rc = jinja_run_keep(r, &b, ret);
    buf_clear(&b);
    return rc;
}

int jinja_access_slice(struct jinja_run *r, const struct jinja_value *owner,
                       const struct jinja_value bounds[3], struct jinja_value *ret)
{
    if (owner->kind == JINJA_UNDEFINED)
        return jinja_value_refuse(r, owner);
    if (owner->kind != JINJA_LIST && owner->kind != JINJA_TUPLE && owner->kind != JINJA_STRING)
        return jinja_run_fail(r, "'%s' object cannot be sliced", jinja_value_type(owner));
    int64_t count = 0, range[3] = {0};
    int rc = jinja_value_length(r, owner, &count);
    if (rc == 0)
        rc = resolve(r, bounds, count, range);
    if (rc < 0)
        return rc;
    if (owner->kind == JINJA_STRING)
        return slice_string(r, owner->string, range, ret);
    rc = jinja_value_list(r, owner->kind, (size_t)range[1], ret);
    int64_t at = range[0];
    for (int64_t i = 0; rc == 0 && i < range[1]; i++, at += range[2])
        ret->list->items[i] = owner->list->items[at];
    return rc;
}
