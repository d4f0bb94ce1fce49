#include "coordinator/grammar_masks.h"

#include "coordinator/grammar_sort.h"

#include <stdlib.h>
#include <string.h>

/* Sorted vocabularies that one grammar keeps; then it begins anew. */
#define MOST_BYTES ((size_t)32 << 20)
/* What trying the unsure tokens of one position may cost, in items of the matcher. */
#define MOST_WORK ((uint64_t)3 << 20)

/* An item as far as it matters to a token: how many repetitions are due and how many are left,
 * none of which is more than a token can make. */
struct key_item {
    uint32_t state, due, left;
};

struct kept {
    struct kept *next; /* in the same slot */
    uint64_t hash;
    struct key_item *key; /* [n_key] */
    uint32_t n_key;
    struct grammar_sorted sorted;
};

enum { SLOTS = 1024 };

struct grammar_masks {
    const struct grammar *grammar;
    const struct grammar_vocabulary *vocabulary;
    struct grammar_sorter sorter;
    struct kept *slots[SLOTS];
    size_t bytes;
    uint64_t n_made, n_found;
    /* of the position at hand */
    struct key_item *key;       /* [n_key], sorted */
    struct matcher_item *items; /* [n_key] */
    uint32_t n_key, key_capacity;
    uint32_t n_counted, counted_key; /* those that count; one of them, which is endless if alone */
};

int grammar_masks_new(struct grammar_masks **ret_masks, const struct grammar *g,
                      const struct grammar_vocabulary *v, struct err *err)
{
    struct grammar_masks *k = calloc(1, sizeof *k);
    if (!k)
        return err_set(err, ERR_MEMORY, "there is no memory for masks of %u tokens", v->n_ids);
    k->grammar = g;
    k->vocabulary = v;
    int rc = grammar_sorter_init(&k->sorter, g, v, err);
    if (rc != 0) {
        grammar_masks_free(k);
        return rc;
    }
    *ret_masks = k;
    return 0;
}

static void kept_free(struct kept *s)
{
    if (!s)
        return;
    grammar_sorted_clear(&s->sorted);
    free(s->key);
    free(s);
}

static void masks_forget(struct grammar_masks *k)
{
    for (size_t i = 0; i < SLOTS; i++) {
        while (k->slots[i]) {
            struct kept *s = k->slots[i];
            k->slots[i] = s->next;
            kept_free(s);
        }
    }
    k->bytes = 0;
}

void grammar_masks_free(struct grammar_masks *k)
{
    if (!k)
        return;
    masks_forget(k);
    grammar_sorter_clear(&k->sorter);
    free(k->key);
    free(k->items);
    free(k);
}

/* ---- what a position is, to a token ---- */

static int key_compare(const void *a, const void *b)
{
    return memcmp(a, b, sizeof(struct key_item));
}

static uint32_t clip(uint32_t count)
{
    return count > GRAMMAR_COUNTED_BYTES ? GRAMMAR_COUNTED_BYTES + 1 : count;
}

static bool masks_reserve_key(struct grammar_masks *k, uint32_t n)
{
    if (n <= k->key_capacity)
        return true;
    struct key_item *key = realloc(k->key, n * sizeof *key);
    k->key = key ? key : k->key;
    struct matcher_item *items = realloc(k->items, n * sizeof *items);
    k->items = items ? items : k->items;
    if (!key || !items)
        return false;
    k->key_capacity = n;
    return true;
}

/* Items whose callers are older than the position; the others follow from them. */
static bool masks_read_key(struct grammar_masks *k, const struct grammar_matcher *m)
{
    const struct matcher_position *p = grammar_matcher_now(m);
    uint32_t counted = 0;
    k->n_counted = 0;
    k->n_key = 0;
    if (!masks_reserve_key(k, p->n_items + 1))
        return false;
    for (uint32_t i = 0; i < p->n_items; i++) {
        const struct matcher_item *item = &m->items[p->first_item + i];
        const struct grammar_state *s = &k->grammar->states[item->state];
        if (item->call >= p->n_calls || (!s->has_bytes && !s->n_calls))
            continue;
        struct key_item *key = &k->key[k->n_key];
        *key = (struct key_item){.state = item->state};
        if (s->is_counted) {
            int64_t due = (int64_t)s->min - item->count, left = (int64_t)s->max - item->count;
            key->due = due > 0 ? clip((uint32_t)due) : 0;
            key->left = clip((uint32_t)left);
            k->n_counted++;
            counted = k->n_key;
        }
        k->items[k->n_key++] = *item;
    }
    if (k->n_key)
        qsort(k->key, k->n_key, sizeof *k->key, key_compare);
    for (uint32_t i = 0; i < k->n_key; i++)
        if (k->grammar->states[k->key[i].state].is_counted)
            k->counted_key = i;
    if (k->n_counted == 1)
        k->items[counted].is_endless = true;
    return true;
}

/* ---- what is kept ---- */

static uint64_t key_hash(const struct key_item *key, uint32_t n)
{
    uint64_t h = n;
    for (uint32_t i = 0; i < n; i++) {
        h = (h ^ key[i].state) * 0x9E3779B97F4A7C15u;
        h = (h ^ ((uint64_t)key[i].due << 32 | key[i].left)) * 0x9E3779B97F4A7C15u;
        h ^= h >> 29;
    }
    return h;
}

static struct kept *masks_find(struct grammar_masks *k)
{
    const uint64_t hash = key_hash(k->key, k->n_key);
    struct kept *s = k->slots[hash % SLOTS];
    for (; s; s = s->next)
        if (s->hash == hash && s->n_key == k->n_key &&
            memcmp(s->key, k->key, k->n_key * sizeof *s->key) == 0)
            return s;
    return NULL;
}

/* Room for one that is to be made; NULL: no memory. */
static struct kept *kept_new(const struct grammar_masks *k)
{
    struct kept *s = calloc(1, sizeof *s);
    if (s)
        s->key = malloc((k->n_key + 1) * sizeof *s->key);
    if (!s || !s->key) {
        kept_free(s);
        return NULL;
    }
    memcpy(s->key, k->key, k->n_key * sizeof *s->key);
    s->n_key = k->n_key;
    s->hash = key_hash(k->key, k->n_key);
    return s;
}

/* wide: what it follows from; NULL: the items are walked through. */
static int masks_make(struct grammar_masks *k, const struct kept *wide, struct kept **ret_kept,
                      struct err *err)
{
    struct kept *s = kept_new(k);
    int rc;
    if (!s)
        return err_set(err, ERR_MEMORY, "there is no memory for a mask of tokens");
    if (wide)
        rc = grammar_sort_narrow(&k->sorter, &wide->sorted, k->key[k->counted_key].left, &s->sorted,
                                 err);
    else
        rc = grammar_sort(&k->sorter, k->items, k->n_key, &s->sorted, err);
    if (rc != 0) {
        kept_free(s);
        return rc;
    }
    s->next = k->slots[s->hash % SLOTS];
    k->slots[s->hash % SLOTS] = s;
    k->bytes +=
        sizeof *s + s->n_key * sizeof *s->key + grammar_sorted_bytes(&s->sorted, k->vocabulary);
    k->n_made++;
    *ret_kept = s;
    return 0;
}

/* Where one item counts: by way of the same items with many repetitions left. */
static int masks_make_counted(struct grammar_masks *k, struct kept **ret_kept, struct err *err)
{
    uint32_t *left = &k->key[k->counted_key].left;
    const uint32_t own = *left;
    int rc = 0;
    *left = GRAMMAR_COUNTED_BYTES + 1;
    struct kept *wide = masks_find(k);
    if (!wide)
        rc = masks_make(k, NULL, &wide, err);
    *left = own;
    if (rc == 0 && own <= GRAMMAR_COUNTED_BYTES)
        return masks_make(k, wide, ret_kept, err);
    *ret_kept = wide;
    return rc;
}

/* The vocabulary sorted by the items of k->key, kept or made. */
static int masks_get(struct grammar_masks *k, struct kept **ret_kept, struct err *err)
{
    struct kept *s = masks_find(k);
    int rc = 0;
    k->n_found += s != NULL;
    if (!s && k->bytes > MOST_BYTES)
        masks_forget(k);
    if (!s)
        rc = k->n_counted == 1 ? masks_make_counted(k, &s, err) : masks_make(k, NULL, &s, err);
    if (rc == 0)
        *ret_kept = s;
    return rc;
}

/* ---- the position's own mask ---- */

/* Which of the unsure tokens are allowed: to k->sorter.tried, in the order of their bytes. What a
 * token shares with the one before is not walked again. */
static uint32_t masks_try(struct grammar_masks *k, struct grammar_matcher *m,
                          const struct grammar_sorted *s, bool wanted)
{
    const char *before = "";
    size_t n_before = 0, n_dead = SIZE_MAX; /* of the token before: bytes; the first impossible */
    uint32_t n = 0;
    for (uint32_t i = 0; i < s->n_unsure && !m->failed; i++) {
        size_t length, shared = 0;
        const char *bytes = tokenizer_piece(k->vocabulary->tokenizer, s->unsure[i], &length);
        while (shared < length && shared < n_before && bytes[shared] == before[shared])
            shared++;
        if (n_dead > shared) { /* else the shared bytes are impossible already */
            grammar_matcher_pop(m, (uint32_t)shared);
            n_dead = SIZE_MAX;
            for (size_t at = shared; at < length && n_dead == SIZE_MAX; at++)
                if (!grammar_matcher_push(m, (unsigned char)bytes[at]))
                    n_dead = at + 1;
        }
        before = bytes;
        n_before = n_dead == SIZE_MAX ? length : n_dead;
        if ((n_dead == SIZE_MAX) == wanted)
            k->sorter.tried[n++] = s->unsure[i];
    }
    grammar_matcher_pop(m, 0);
    return n;
}

static int id_compare(const void *a, const void *b)
{
    const uint32_t *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

/* The kept ids and the n_tried ones, ascending, to k->sorter.ids. */
static uint32_t masks_merge(struct grammar_masks *k, const struct grammar_sorted *s,
                            uint32_t n_tried, bool without_ends)
{
    uint32_t n = 0, i = 0, t = 0;
    if (n_tried)
        qsort(k->sorter.tried, n_tried, sizeof *k->sorter.tried, id_compare);
    while (i < s->n_ids || t < n_tried) {
        bool kept = t == n_tried || (i < s->n_ids && s->ids[i] < k->sorter.tried[t]);
        uint32_t id = kept ? s->ids[i++] : k->sorter.tried[t++];
        if (!without_ends || !grammar_vocabulary_ends(k->vocabulary, id))
            k->sorter.ids[n++] = id;
    }
    return n;
}

static int masks_write_list(struct grammar_masks *k, const struct grammar_sorted *s,
                            uint32_t n_tried, bool is_end, struct buf *out, struct err *err)
{
    bool allows = s->form == TOKEN_MASK_ALLOWED;
    if (allows && is_end)
        for (size_t i = 0; i < k->vocabulary->n_ends; i++)
            k->sorter.tried[n_tried++] = k->vocabulary->ends[i];
    uint32_t n = masks_merge(k, s, n_tried, !allows && is_end);
    if (n == (allows ? 0 : k->vocabulary->n_ids))
        return err_set(err, ERR_INTERNAL,
                       "the vocabulary has no token with which the text could go on");
    token_mask_write_ids(out, s->form, k->sorter.ids, n, k->vocabulary->n_ids);
    return 0;
}

static void masks_write_bits(struct grammar_masks *k, const struct grammar_sorted *s,
                             uint32_t n_tried, bool is_end, struct buf *out)
{
    memcpy(k->sorter.words, s->words, k->sorter.n_words * sizeof *k->sorter.words);
    for (uint32_t i = 0; i < n_tried; i++)
        k->sorter.words[k->sorter.tried[i] / 64] |= (uint64_t)1 << k->sorter.tried[i] % 64;
    for (size_t i = 0; is_end && i < k->vocabulary->n_ends; i++)
        k->sorter.words[k->vocabulary->ends[i] / 64] |= (uint64_t)1 << k->vocabulary->ends[i] % 64;
    token_mask_write_bits(out, k->sorter.words, k->vocabulary->n_ids);
}

int grammar_masks_write(struct grammar_masks *k, struct grammar_matcher *m, struct buf *out,
                        struct err *err)
{
    const bool is_end = grammar_matcher_now(m)->is_end;
    struct kept *kept = NULL;
    if (m->failed || m->depth != 0 || !masks_read_key(k, m))
        return err_set(err, ERR_MEMORY, "there is no memory for a mask of tokens");
    int rc = masks_get(k, &kept, err);
    if (rc != 0)
        return rc;
    const struct grammar_sorted *s = &kept->sorted;
    grammar_matcher_allow(m, MOST_WORK);
    uint32_t n_tried = masks_try(k, m, s, s->form != TOKEN_MASK_FORBIDDEN);
    if (m->failed)
        return err_set(err, ERR_INPUT, "%s", GRAMMAR_AMBIGUOUS);
    if (s->form == TOKEN_MASK_BITS)
        masks_write_bits(k, s, n_tried, is_end, out);
    else
        rc = masks_write_list(k, s, n_tried, is_end, out, err);
    if (rc == 0 && buf_failed(out))
        rc = err_set(err, ERR_MEMORY, "there is no memory for a mask of tokens");
    return rc;
}

uint64_t grammar_masks_work(const struct grammar_masks *k)
{
    return k->sorter.work;
}

size_t grammar_masks_bytes(const struct grammar_masks *k)
{
    return k->bytes;
}

void grammar_masks_counts(const struct grammar_masks *k, uint64_t *ret_made, uint64_t *ret_found)
{
    *ret_made = k->n_made;
    *ret_found = k->n_found;
}
