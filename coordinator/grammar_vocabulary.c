#include "coordinator/grammar_vocabulary.h"

#include "coordinator/grammar.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

struct entry {
    const unsigned char *bytes;
    uint32_t length, token;
};

static int entry_compare(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;
    int order = memcmp(x->bytes, y->bytes, x->length < y->length ? x->length : y->length);
    if (order == 0)
        order = (x->length > y->length) - (x->length < y->length);
    return order ? order : (x->token > y->token) - (x->token < y->token);
}

bool grammar_vocabulary_ends(const struct grammar_vocabulary *v, uint32_t token)
{
    for (size_t i = 0; i < v->n_ends; i++)
        if (v->ends[i] == token)
            return true;
    return false;
}

static void vocabulary_add_ends(struct grammar_vocabulary *v)
{
    const uint32_t *ends;
    size_t n = tokenizer_end_ids(v->tokenizer, &ends);
    for (size_t i = 0; i < n && v->n_ends < sizeof v->ends / sizeof v->ends[0]; i++) {
        if (ends[i] >= v->n_ids)
            continue;
        size_t at = v->n_ends++;
        for (; at > 0 && v->ends[at - 1] > ends[i]; at--)
            v->ends[at] = v->ends[at - 1];
        v->ends[at] = ends[i];
    }
}

static struct entry *vocabulary_entries(const struct grammar_vocabulary *v, uint32_t *ret_n)
{
    const struct tokenizer *t = v->tokenizer;
    uint32_t n = 0, size = (uint32_t)tokenizer_size(t);
    struct entry *entries = calloc((size_t)size + 1, sizeof *entries);
    for (uint32_t i = 0; entries && i < size && i < v->n_ids; i++) {
        size_t length;
        const char *piece = tokenizer_piece(t, i, &length);
        if (length && length <= GRAMMAR_TOKEN_BYTES && !tokenizer_is_control(t, i) &&
            !grammar_vocabulary_ends(v, i))
            entries[n++] = (struct entry){(const unsigned char *)piece, (uint32_t)length, i};
    }
    if (entries && n)
        qsort(entries, n, sizeof *entries, entry_compare);
    *ret_n = n;
    return entries;
}

static uint32_t entry_common(const struct entry *x, const struct entry *y)
{
    uint32_t n = 0;
    while (n < x->length && n < y->length && x->bytes[n] == y->bytes[n])
        n++;
    return n;
}

static bool vocabulary_claim(struct grammar_vocabulary *v, const struct entry *entries)
{
    size_t n_nodes = 0;
    for (uint32_t i = 0; i < v->n_tokens; i++)
        n_nodes += entries[i].length - (i ? entry_common(&entries[i - 1], &entries[i]) : 0);
    v->bytes = malloc(n_nodes + 1);
    v->depths = malloc(n_nodes + 1);
    v->heights = malloc(n_nodes + 1);
    v->past = malloc((n_nodes + 1) * sizeof *v->past);
    v->first_token = malloc((n_nodes + 1) * sizeof *v->first_token);
    v->tokens = malloc(((size_t)v->n_tokens + 1) * sizeof *v->tokens);
    return v->bytes && v->depths && v->heights && v->past && v->first_token && v->tokens;
}

/* Entries are sorted, so each one adds nodes below the last node that it shares. */
static void vocabulary_fill(struct grammar_vocabulary *v, const struct entry *entries)
{
    uint32_t path[GRAMMAR_TOKEN_BYTES]; /* nodes to the entry before */
    uint32_t depth = 0;
    for (uint32_t i = 0; i < v->n_tokens; i++) {
        const struct entry *e = &entries[i];
        uint32_t shared = i ? entry_common(&entries[i - 1], e) : 0;
        while (depth > shared)
            v->past[path[--depth]] = v->n_nodes;
        for (; depth < e->length; depth++) {
            path[depth] = v->n_nodes;
            v->bytes[v->n_nodes] = e->bytes[depth];
            v->depths[v->n_nodes] = (uint8_t)(depth + 1);
            v->first_token[v->n_nodes++] = i;
        }
        v->tokens[i] = e->token;
    }
    while (depth > 0)
        v->past[path[--depth]] = v->n_nodes;
    v->first_token[v->n_nodes] = v->n_tokens;
}

/* From the last node to the first, so that those below are known. */
static void vocabulary_measure(struct grammar_vocabulary *v)
{
    for (uint32_t i = v->n_nodes; i-- > 0;) {
        bool loops = true;
        uint8_t height = 1;
        for (uint32_t k = i + 1; loops && k < v->past[i]; k = v->past[k]) {
            loops = v->heights[k] && grammar_is_loop_byte(v->bytes[k]);
            if (v->heights[k] + 1 > height)
                height = (uint8_t)(v->heights[k] + 1);
        }
        v->heights[i] = loops ? height : 0;
    }
}

int grammar_vocabulary_new(struct grammar_vocabulary **ret_vocabulary, const struct tokenizer *t,
                           uint32_t n_ids, struct err *err)
{
    struct grammar_vocabulary *v = calloc(1, sizeof *v);
    struct entry *entries = NULL;
    if (v) {
        v->tokenizer = t;
        v->n_ids = n_ids;
        vocabulary_add_ends(v);
        entries = vocabulary_entries(v, &v->n_tokens);
    }
    if (!entries || !vocabulary_claim(v, entries)) {
        free(entries);
        grammar_vocabulary_free(v);
        return err_set(err, ERR_MEMORY, "no memory for the bytes of %u tokens", n_ids);
    }
    vocabulary_fill(v, entries);
    vocabulary_measure(v);
    free(entries);
    *ret_vocabulary = v;
    return 0;
}

void grammar_vocabulary_free(struct grammar_vocabulary *v)
{
    if (!v)
        return;
    free(v->bytes);
    free(v->depths);
    free(v->heights);
    free(v->past);
    free(v->first_token);
    free(v->tokens);
    free(v);
}
