#include "coordinator/bpe.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define NO_RANK  UINT32_MAX
#define NO_PLACE UINT32_MAX

struct bpe {
    struct bpe_rule *rules; /* by rank */
    uint32_t *slots;        /* open addressing, linear probing: rank or NO_RANK */
    size_t mask;            /* slots - 1; at most half of them are taken */
};

static size_t bpe_hash(uint32_t left, uint32_t right)
{
    uint64_t x = ((uint64_t)left << 32 | right) * 0x9E3779B97F4A7C15u;
    return (size_t)((x ^ x >> 32) * 0xD6E8FEB86659FD93u >> 24);
}

/* The slot of this pair, or the free one where it would stand. */
static uint32_t *bpe_slot(const struct bpe *b, uint32_t left, uint32_t right)
{
    for (size_t at = bpe_hash(left, right);; at++) {
        uint32_t *slot = &b->slots[at & b->mask];
        if (*slot == NO_RANK)
            return slot;
        const struct bpe_rule *rule = &b->rules[*slot];
        if (rule->left == left && rule->right == right)
            return slot;
    }
}

int bpe_new(struct bpe **ret_bpe, const struct bpe_rule *rules, size_t n, struct err *err)
{
    if (n >= NO_RANK / 4)
        return err_set_param(err, ERR_MODEL, "merges", "%zu merges are more than any model has", n);
    size_t n_slots = 16;
    while (n_slots < 2 * n)
        n_slots *= 2;
    struct bpe *b = calloc(1, sizeof *b);
    if (b) {
        b->mask = n_slots - 1;
        b->rules = malloc((n + 1) * sizeof *b->rules);
        b->slots = malloc(n_slots * sizeof *b->slots);
    }
    if (!b || !b->rules || !b->slots) {
        bpe_free(b);
        return err_set(err, ERR_MEMORY, "no memory for the %zu merges of the tokenizer", n);
    }
    if (n)
        memcpy(b->rules, rules, n * sizeof *rules);
    memset(b->slots, 0xFF, n_slots * sizeof *b->slots);
    for (size_t rank = 0; rank < n; rank++) {
        uint32_t *slot = bpe_slot(b, rules[rank].left, rules[rank].right);
        if (*slot != NO_RANK) {
            int rc =
                err_set_param(err, ERR_MODEL, "merges", "merge %zu repeats merge %u", rank, *slot);
            bpe_free(b);
            return rc;
        }
        *slot = (uint32_t)rank;
    }
    *ret_bpe = b;
    return 0;
}

void bpe_free(struct bpe *b)
{
    if (!b)
        return;
    free(b->rules);
    free(b->slots);
    free(b);
}

void bpe_scratch_clear(struct bpe_scratch *s)
{
    free(s->next);
    free(s->previous);
    free(s->heap);
    *s = (struct bpe_scratch){0};
}

static int bpe_scratch_reserve(struct bpe_scratch *s, size_t n, struct err *err)
{
    if (n <= s->capacity)
        return 0;
    size_t capacity = n < 256 ? 256 : n + n / 2;
    bpe_scratch_clear(s);
    s->next = malloc(capacity * sizeof *s->next);
    s->previous = malloc(capacity * sizeof *s->previous);
    /* n - 1 pairs at first; each of at most n - 1 merges takes one entry and adds two. */
    s->heap = malloc(2 * capacity * sizeof *s->heap);
    if (!s->next || !s->previous || !s->heap) {
        bpe_scratch_clear(s);
        return err_set(err, ERR_MEMORY, "no memory to split a word of %zu bytes into tokens", n);
    }
    s->capacity = capacity;
    return 0;
}

static void bpe_heap_push(uint64_t *heap, size_t *n, uint64_t entry)
{
    size_t at = (*n)++;
    while (at && heap[(at - 1) / 2] > entry) {
        heap[at] = heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    heap[at] = entry;
}

static uint64_t bpe_heap_pop(uint64_t *heap, size_t *n)
{
    uint64_t top = heap[0], last = heap[--*n];
    size_t at = 0, child;
    while ((child = 2 * at + 1) < *n) {
        if (child + 1 < *n && heap[child + 1] < heap[child])
            child++;
        if (heap[child] >= last)
            break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = last;
    return top;
}

static void bpe_offer(const struct bpe *b, const uint32_t *ids, struct bpe_scratch *s, size_t *size,
                      uint32_t left, uint32_t right)
{
    uint32_t rank = *bpe_slot(b, ids[left], ids[right]);
    if (rank != NO_RANK)
        bpe_heap_push(s->heap, size, (uint64_t)rank << 32 | left);
}

/* A token that was merged into its left neighbour stays in its place as BPE_NO_ID, so that an
 * entry of the heap that has become stale is known by the ids it finds. */
static void bpe_merge_pairs(const struct bpe *b, uint32_t *ids, struct bpe_scratch *s, size_t size)
{
    while (size) {
        uint64_t entry = bpe_heap_pop(s->heap, &size);
        const struct bpe_rule *rule = &b->rules[entry >> 32];
        uint32_t left = (uint32_t)entry, right = s->next[left];
        if (ids[left] != rule->left || right == NO_PLACE || ids[right] != rule->right)
            continue;
        ids[left] = rule->result;
        ids[right] = BPE_NO_ID;
        uint32_t after = s->next[right], before = s->previous[left];
        s->next[left] = after;
        if (after != NO_PLACE) {
            s->previous[after] = left;
            bpe_offer(b, ids, s, &size, left, after);
        }
        if (before != NO_PLACE)
            bpe_offer(b, ids, s, &size, before, left);
    }
}

int bpe_merge(const struct bpe *b, uint32_t *ids, size_t *n, struct bpe_scratch *s, struct err *err)
{
    if (*n < 2)
        return 0;
    assert(*n <= BPE_MAX_WORD);
    int rc = bpe_scratch_reserve(s, *n, err);
    if (rc != 0)
        return rc;
    uint32_t count = (uint32_t)*n;
    size_t size = 0;
    for (uint32_t i = 0; i < count; i++) {
        s->next[i] = i + 1 < count ? i + 1 : NO_PLACE;
        s->previous[i] = i ? i - 1 : NO_PLACE;
        if (i + 1 < count)
            bpe_offer(b, ids, s, &size, i, i + 1);
    }
    bpe_merge_pairs(b, ids, s, size);
    size_t kept = 0;
    for (uint32_t at = 0; at != NO_PLACE; at = s->next[at])
        ids[kept++] = ids[at];
    *n = kept;
    return 0;
}
