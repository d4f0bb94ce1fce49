#include "coordinator/constraint_parts.h"

#include <stdlib.h>
#include <string.h>

/* What is kept for the next one who asks, least recently used first to go. Masks grow while a
 * constraint is used, so bytes are counted when one is added. */
#define MOST_KEPT       64
#define MOST_KEPT_BYTES ((size_t)96 << 20)

struct constraint_store {
    struct constraint_vocabulary *vocabulary;
    struct constraint *newest;
};

/* ---- the vocabulary ---- */

static void vocabulary_release(struct constraint_vocabulary *v)
{
    if (!v || --v->n_holders > 0)
        return;
    grammar_vocabulary_free(v->tree);
    free(v);
}

/* ---- constraints ---- */

struct constraint *constraint_hold(struct constraint *c)
{
    c->n_holders++;
    return c;
}

void constraint_release(struct constraint *c)
{
    if (!c || --c->n_holders > 0)
        return;
    grammar_masks_free(c->masks);
    grammar_free(c->grammar);
    vocabulary_release(c->vocabulary);
    free(c->key);
    free(c);
}

int constraint_store_new(struct constraint_store **ret_store, const struct tokenizer *t,
                         uint32_t vocabulary, struct err *err)
{
    struct constraint_store *s = calloc(1, sizeof *s);
    if (s)
        s->vocabulary = calloc(1, sizeof *s->vocabulary);
    if (!s || !s->vocabulary) {
        constraint_store_free(s);
        return err_set(err, ERR_MEMORY, "no memory for constraints");
    }
    s->vocabulary->n_holders = 1;
    int rc = grammar_vocabulary_new(&s->vocabulary->tree, t, vocabulary, err);
    if (rc != 0) {
        constraint_store_free(s);
        return rc;
    }
    *ret_store = s;
    return 0;
}

void constraint_store_free(struct constraint_store *s)
{
    if (!s)
        return;
    while (s->newest) {
        struct constraint *c = s->newest;
        s->newest = c->next;
        constraint_release(c);
    }
    vocabulary_release(s->vocabulary);
    free(s);
}

/* ---- by their source ---- */

static void key_add(struct buf *key, const char *text)
{
    buf_printf(key, "%zu:%s", text ? strlen(text) : 0, text ? text : "");
}

static void key_add_calls(struct buf *key, const struct constraint_calls *calls)
{
    char *tools = json_dumps(calls->tools, JSON_COMPACT);
    buf_printf(key, "%zu,%d,%d", calls->n_begun, calls->is_single, calls->in_tags);
    key_add(key, calls->mark);
    key_add(key, calls->end);
    key_add(key, tools);
    key->failed |= !tools;
    free(tools);
}

/* Everything that makes two sources the same. NULL: no memory. */
static char *source_key(const struct constraint_source *source)
{
    char *json = source->json ? json_dumps(source->json, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
    struct buf key;
    buf_init(&key);
    buf_printf(&key, "%d%d", (int)source->kind, source->manner.thinks_at_once);
    key_add(&key, source->manner.think_begin);
    key_add(&key, source->manner.think_end);
    key_add(&key, source->manner.call_begin);
    key_add(&key, source->manner.call_end);
    if (source->calls)
        key_add_calls(&key, source->calls);
    if (json)
        buf_puts(&key, json);
    else
        buf_append(&key, source->text, source->length);
    bool failed = buf_failed(&key) || (source->json && !json);
    char *copy = failed ? NULL : strdup(buf_text(&key));
    buf_clear(&key);
    free(json);
    return copy;
}

/* Takes it out of the list. */
static struct constraint *store_take(struct constraint_store *s, const char *key)
{
    for (struct constraint **at = &s->newest; *at; at = &(*at)->next) {
        struct constraint *c = *at;
        if (strcmp(c->key, key) != 0)
            continue;
        *at = c->next;
        return c;
    }
    return NULL;
}

static void store_put(struct constraint_store *s, struct constraint *c)
{
    size_t n = 0, bytes = 0;
    c->next = s->newest;
    s->newest = c;
    for (struct constraint **at = &s->newest; *at;) {
        struct constraint *kept = *at;
        n++;
        bytes += grammar_bytes(kept->grammar) + grammar_masks_bytes(kept->masks);
        if (n == 1 || (n <= MOST_KEPT && bytes <= MOST_KEPT_BYTES)) {
            at = &kept->next;
            continue;
        }
        *at = kept->next;
        constraint_release(kept);
    }
}

/* The first mask: what is too ambiguous from the beginning is refused before it is taken. */
static int constraint_try(struct constraint *c, struct err *err)
{
    struct constraint_run *run = NULL;
    struct buf mask;
    buf_init(&mask);
    int rc = constraint_run_new(&run, c, err);
    if (rc == 0)
        rc = constraint_run_mask(run, &mask, err);
    constraint_run_free(run);
    buf_clear(&mask);
    return rc;
}

static int constraint_new(struct constraint **ret_constraint, struct constraint_store *s,
                          const struct constraint_source *source, struct err *err)
{
    struct constraint *c = calloc(1, sizeof *c);
    if (!c)
        return err_set(err, ERR_MEMORY, "There is no memory for the request.");
    c->n_holders = 1;
    c->vocabulary = s->vocabulary;
    c->vocabulary->n_holders++;
    int rc = constraint_compile(&c->grammar, source, err);
    if (rc == 0)
        rc = grammar_masks_new(&c->masks, c->grammar, s->vocabulary->tree, err);
    if (rc == 0)
        rc = constraint_try(c, err);
    if (rc != 0) {
        constraint_release(c);
        return rc;
    }
    *ret_constraint = c;
    return 0;
}

int constraint_get(struct constraint **ret_constraint, struct constraint_store *s,
                   const struct constraint_source *source, struct err *err)
{
    char *key = source_key(source);
    if (!key)
        return err_set(err, ERR_MEMORY, "There is no memory for the request.");
    struct constraint *c = store_take(s, key);
    int rc = 0;
    if (!c) {
        rc = constraint_new(&c, s, source, err);
        if (rc == 0) {
            c->key = key;
            key = NULL;
        }
    }
    free(key);
    if (rc != 0)
        return rc;
    store_put(s, c);
    *ret_constraint = constraint_hold(c);
    return 0;
}

int constraint_from_schema(struct constraint **ret_constraint, struct constraint_store *s,
                           const json_t *schema, struct err *err)
{
    const struct constraint_source source = {.kind = CONSTRAINT_SCHEMA, .json = schema};
    return constraint_get(ret_constraint, s, &source, err);
}
