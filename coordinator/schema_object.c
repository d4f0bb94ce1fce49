#include "coordinator/schema_parts.h"

#include <string.h>

/* Members that are named in `properties` or `required`, in the order in which they are met. */
struct member {
    const char *name; /* borrowed from the schema */
    size_t length;
    bool is_required;
    uint32_t next; /* in the same slot: 1 + number, or 0 */
};

enum { MEMBER_SLOTS = 256, MOST_MEMBERS = 2000 };

struct members {
    struct member *items; /* [n] */
    size_t n, capacity;
    uint32_t slots[MEMBER_SLOTS];
};

static uint32_t name_slot(const char *name, size_t length)
{
    uint32_t h = 2166136261u;
    for (size_t i = 0; i < length; i++)
        h = (h ^ (unsigned char)name[i]) * 16777619u;
    return h % MEMBER_SLOTS;
}

/* The member of that name, added when it is new; NULL: no memory. */
static struct member *members_get(struct schema *s, struct members *m, const char *name,
                                  size_t length)
{
    uint32_t slot = name_slot(name, length);
    for (uint32_t i = m->slots[slot]; i; i = m->items[i - 1].next)
        if (m->items[i - 1].length == length && memcmp(m->items[i - 1].name, name, length) == 0)
            return &m->items[i - 1];
    if (m->n == m->capacity) {
        size_t capacity = m->capacity ? 2 * m->capacity : 16;
        struct member *grown = arena_array(&s->builder->arena, capacity, sizeof *grown);
        if (!grown)
            return NULL;
        if (m->n)
            memcpy(grown, m->items, m->n * sizeof *grown);
        m->items = grown;
        m->capacity = capacity;
    }
    m->items[m->n] = (struct member){.name = name, .length = length, .next = m->slots[slot]};
    m->slots[slot] = (uint32_t)++m->n;
    return &m->items[m->n - 1];
}

static int members_check(const struct schema *s, const struct members *m, const json_t *part)
{
    return m->n <= MOST_MEMBERS
               ? 0
               : schema_fail(s, part, NULL, "an object has more than %d properties", MOST_MEMBERS);
}

static int members_of_part(struct schema *s, struct members *m, const json_t *part)
{
    int rc = 0;
    json_t *item;
    void *at;
    size_t i;
    json_t *properties = json_object_get(part, "properties");
    for (at = json_object_iter(properties); at && rc == 0;
         at = json_object_iter_next(properties, at)) {
        const char *name = json_object_iter_key(at);
        if (!members_get(s, m, name, strlen(name)))
            return schema_no_memory(s);
        rc = members_check(s, m, part);
    }
    json_array_foreach(json_object_get(part, "required"), i, item)
    {
        if (rc != 0)
            return rc;
        if (!json_is_string(item))
            return schema_fail(s, part, "required", "must be an array of names");
        struct member *named = members_get(s, m, json_string_value(item), json_string_length(item));
        if (!named)
            return schema_no_memory(s);
        named->is_required = true;
        rc = members_check(s, m, part);
    }
    return rc;
}

/* ---- values of members ---- */

/* What the value of a member of that name must satisfy (NULL: of a name that is not in
 * `properties`). */
static int member_parts(struct schema *s, const struct schema_form *f, const char *name,
                        struct schema_parts *ret_parts)
{
    struct schema_parts parts = {0};
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < f->parts.n; i++) {
        const json_t *properties = json_object_get(f->parts.items[i], "properties");
        const json_t *own = name ? json_object_get(properties, name) : NULL;
        if (!own)
            own = json_object_get(f->parts.items[i], "additionalProperties");
        if (own && !json_is_true(own))
            rc = schema_add_part(s, &parts, own);
    }
    *ret_parts = parts;
    return rc;
}

static bool parts_are_never(const struct schema_parts *parts)
{
    for (size_t i = 0; i < parts->n; i++)
        if (json_is_false(parts->items[i]))
            return true;
    return false;
}

/* key : value */
static const struct grammar_expr *member_text(struct schema *s, const struct grammar_expr *key,
                                              const struct schema_parts *value)
{
    if (parts_are_never(value))
        return grammar_never();
    return GRAMMAR_SEQUENCE_OF(s->builder, key, schema_mark(s, ":"), schema_space(s),
                               schema_value(s, value));
}

/* A string that is none of the names. */
static int other_key(struct schema *s, const struct members *m, const struct grammar_expr **ret_key)
{
    struct grammar_builder *b = s->builder;
    const struct grammar_automaton *names = NULL, *others = NULL;
    struct grammar_list list = {0};
    if (m->n == 0) {
        *ret_key = schema_any_string(s);
        return 0;
    }
    for (size_t i = 0; i < m->n; i++)
        grammar_list_add(b, &list, grammar_text(b, m->items[i].name, m->items[i].length));
    int rc = grammar_automaton_from(&names, b, grammar_choice(b, list.items, list.n), s->err);
    if (rc == 0)
        rc = grammar_automaton_other(&others, b, names, s->err);
    if (rc == 0)
        *ret_key = GRAMMAR_SEQUENCE_OF(b, schema_mark(s, "\""),
                                       grammar_from_automaton(b, others, GRAMMAR_JSON),
                                       schema_mark(s, "\""));
    return rc;
}

/* ---- the object ---- */

/* Three nodes for each member, and three for those of other names, which come last: nothing is
 * written yet, something is, and the member comes now. Where nothing is written behind a member
 * that must be, nobody gets. */
enum { NOTHING, SOMETHING, NOW };

static uint32_t object_node(uint32_t member, uint32_t kind)
{
    return 3 * member + kind;
}

static const struct grammar_expr *object_graph(struct schema *s, const struct members *m,
                                               const struct grammar_expr *const *texts,
                                               const struct grammar_expr *other)
{
    struct grammar_builder *b = s->builder;
    const uint32_t n = (uint32_t)m->n, end = object_node(n + 1, 0);
    const struct grammar_expr *nothing = grammar_empty();
    const struct grammar_expr *comma = GRAMMAR_SEQUENCE_OF(b, schema_mark(s, ","), schema_space(s));
    struct grammar_expr *g = grammar_graph(b, end + 1, end);
    for (uint32_t i = 0; i <= n; i++) {
        bool may_be_left_out = i < n && !m->items[i].is_required;
        grammar_graph_add(b, g, object_node(i, NOTHING), nothing, object_node(i, NOW));
        grammar_graph_add(b, g, object_node(i, SOMETHING), comma, object_node(i, NOW));
        grammar_graph_add(b, g, object_node(i, NOW), i < n ? texts[i] : other,
                          object_node(i < n ? i + 1 : n, SOMETHING));
        for (uint32_t kind = NOTHING; may_be_left_out && kind <= SOMETHING; kind++)
            grammar_graph_add(b, g, object_node(i, kind), nothing, object_node(i + 1, kind));
    }
    grammar_graph_add(b, g, object_node(n, NOTHING), nothing, end);
    grammar_graph_add(b, g, object_node(n, SOMETHING), schema_space(s), end);
    return g;
}

int schema_object(struct schema *s, const struct schema_form *f,
                  const struct grammar_expr **ret_expr)
{
    struct grammar_builder *b = s->builder;
    struct members m = {0};
    struct schema_parts parts = {0};
    struct grammar_list texts = {0};
    const struct grammar_expr *other = grammar_never(), *key = NULL;
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < f->parts.n; i++)
        rc = members_of_part(s, &m, f->parts.items[i]);
    for (size_t i = 0; rc == 0 && i < m.n; i++) {
        rc = member_parts(s, f, m.items[i].name, &parts);
        key = schema_quoted(s, m.items[i].name, m.items[i].length);
        if (rc == 0)
            grammar_list_add(b, &texts, member_text(s, key, &parts));
    }
    if (rc == 0)
        rc = member_parts(s, f, NULL, &parts);
    if (rc != 0)
        return rc;
    if (m.n == 0 && parts.n == 0) {
        *ret_expr = schema_any_object(s);
        return 0;
    }
    if (!parts_are_never(&parts)) {
        rc = other_key(s, &m, &key);
        if (rc == 0)
            other = member_text(s, key, &parts);
    }
    if (rc == 0 && !b->failed)
        *ret_expr =
            GRAMMAR_SEQUENCE_OF(b, schema_mark(s, "{"), schema_space(s),
                                object_graph(s, &m, texts.items, other), schema_mark(s, "}"));
    return rc;
}
