#include "coordinator/jinja_split.h"

#include "coordinator/jinja_text.h"

/* Every splitter runs twice: to count the pieces, then to note them. */
struct pieces {
    struct jinja_value *items; /* NULL while counting */
    size_t count;
};

static void add(struct pieces *p, const char *bytes, size_t length)
{
    if (p->items)
        p->items[p->count] = jinja_value_string(bytes, length);
    p->count++;
}

static void split_left(struct pieces *p, struct jinja_string s, struct jinja_string separator,
                       int64_t most)
{
    size_t start = 0, hit;
    while (most-- != 0 && (hit = jinja_text_find(s, separator, start)) != SIZE_MAX) {
        add(p, s.bytes + start, hit - start);
        start = hit + separator.length;
    }
    add(p, s.bytes + start, s.length - start);
}

/* From the last piece to the first. */
static void split_right(struct pieces *p, struct jinja_string s, struct jinja_string separator,
                        int64_t most)
{
    size_t end = s.length, hit;
    while (most-- != 0 && (hit = jinja_text_find_last(s, separator, end)) != SIZE_MAX) {
        add(p, s.bytes + hit + separator.length, end - hit - separator.length);
        end = hit;
    }
    add(p, s.bytes, end);
}

static void split_spaces(struct pieces *p, struct jinja_string s, int64_t most)
{
    s = jinja_text_strip(s, NULL, true, false);
    while (s.length) {
        if (most-- == 0) {
            add(p, s.bytes, s.length);
            return;
        }
        size_t end = 0, size;
        while (end < s.length &&
               !jinja_text_is_space(jinja_text_decode(s.bytes + end, s.length - end, &size)))
            end += size;
        add(p, s.bytes, end);
        s = (struct jinja_string){s.bytes + end, s.length - end};
        s = jinja_text_strip(s, NULL, true, false);
    }
}

static void split_once(struct pieces *p, struct jinja_string s,
                       const struct jinja_string *separator, int64_t most, bool from_right)
{
    p->count = 0;
    if (!separator)
        split_spaces(p, s, most);
    else if (from_right)
        split_right(p, s, *separator, most);
    else
        split_left(p, s, *separator, most);
}

int jinja_split_string(struct jinja_run *r, struct jinja_string s,
                       const struct jinja_string *separator, int64_t most, bool from_right,
                       struct jinja_value *ret)
{
    if (separator && !separator->length)
        return jinja_run_fail(r, "empty separator");
    if (!separator && from_right && most >= 0)
        return jinja_run_fail(r, "rsplit() at white space with a limit is not supported");
    struct pieces p = {NULL, 0};
    size_t width = from_right && separator ? separator->length / 16 : 0; /* may be compared whole */
    int rc = jinja_run_charge(r, s.length / 16 + s.length / 64 * width);
    if (rc < 0)
        return rc;
    split_once(&p, s, separator, most, from_right);
    rc = jinja_value_list(r, JINJA_LIST, p.count, ret);
    if (rc < 0)
        return rc;
    p.items = ret->list->items;
    split_once(&p, s, separator, most, from_right);
    for (size_t i = 0, j = p.count - 1; separator && from_right && i < j; i++, j--) {
        struct jinja_value swapped = p.items[i];
        p.items[i] = p.items[j];
        p.items[j] = swapped;
    }
    return 0;
}

static bool ends_line(uint32_t c)
{
    return (c >= 0x0a && c <= 0x0d) || (c >= 0x1c && c <= 0x1e) || c == 0x85 || c == 0x2028 ||
           c == 0x2029;
}

static void split_into_lines(struct pieces *p, struct jinja_string s, bool keep_ends)
{
    size_t start = 0, size;
    p->count = 0;
    for (size_t at = 0; at < s.length; at += size) {
        uint32_t code = jinja_text_decode(s.bytes + at, s.length - at, &size);
        if (!ends_line(code))
            continue;
        if (code == '\r' && at + 1 < s.length && s.bytes[at + 1] == '\n')
            size = 2;
        add(p, s.bytes + start, (keep_ends ? at + size : at) - start);
        start = at + size;
    }
    if (start < s.length)
        add(p, s.bytes + start, s.length - start);
}

int jinja_split_lines(struct jinja_run *r, struct jinja_string s, bool keep_ends,
                      struct jinja_value *ret)
{
    struct pieces p = {NULL, 0};
    int rc = jinja_run_charge(r, s.length / 16);
    if (rc < 0)
        return rc;
    split_into_lines(&p, s, keep_ends);
    rc = jinja_value_list(r, JINJA_LIST, p.count, ret);
    if (rc < 0)
        return rc;
    p.items = ret->list->items;
    split_into_lines(&p, s, keep_ends);
    return 0;
}

int jinja_split_replace(struct jinja_run *r, struct jinja_string s, struct jinja_string from,
                        struct jinja_string to, int64_t most, struct jinja_value *ret)
{
    struct buf b;
    buf_init(&b);
    size_t at = 0;
    int rc = jinja_run_charge(r, s.length / 16);
    while (rc == 0 && most-- != 0) {
        size_t hit = jinja_text_find(s, from, at), size = 0;
        if (hit == SIZE_MAX)
            break;
        rc = jinja_run_append(r, &b, s.bytes + at, hit - at);
        if (rc == 0)
            rc = jinja_run_append(r, &b, to.bytes, to.length);
        at = hit + from.length;
        if (from.length)
            continue;
        if (at == s.length) /* nothing is found between all characters, and at the end */
            break;
        jinja_text_decode(s.bytes + at, s.length - at, &size);
        if (rc == 0)
            rc = jinja_run_append(r, &b, s.bytes + at, size);
        at += size;
    }
    if (rc == 0)
        rc = jinja_run_append(r, &b, s.bytes + at, s.length - at);
    if (rc == 0)
        rc = jinja_run_keep(r, &b, ret);
    buf_clear(&b);
    return rc;
}
