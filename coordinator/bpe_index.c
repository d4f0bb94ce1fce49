#include "coordinator/bpe_index.h"
#include "coordinator/bpe.h"

#include <stdlib.h>
#include <string.h>

int bpe_index_init(struct bpe_index *x, size_t n, struct err *err)
{
    size_t n_slots = 16;
    while (n_slots < 2 * n)
        n_slots *= 2;
    x->mask = n_slots - 1;
    x->slots = calloc(n_slots, sizeof *x->slots);
    if (!x->slots)
        return err_set(err, ERR_MEMORY, "no memory for an index of %zu tokens", n);
    return 0;
}

void bpe_index_clear(struct bpe_index *x)
{
    free(x->slots);
    *x = (struct bpe_index){0};
}

/* FNV-1a, 64 bits, continued from `hash`. */
static uint64_t bpe_index_hash(uint64_t hash, const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++)
        hash = (hash ^ (unsigned char)text[i]) * 0x100000001B3u;
    return hash;
}

static struct bpe_index_entry *bpe_index_slot(const struct bpe_index *x, const char *first,
                                              size_t first_length, const char *second,
                                              size_t second_length)
{
    uint64_t hash = bpe_index_hash(0xCBF29CE484222325u, first, first_length);
    hash = bpe_index_hash(hash, second, second_length);
    for (size_t at = (size_t)(hash ^ hash >> 32);; at++) {
        struct bpe_index_entry *e = &x->slots[at & x->mask];
        if (!e->text)
            return e;
        if (e->length == first_length + second_length && !memcmp(e->text, first, first_length) &&
            !memcmp(e->text + first_length, second, second_length))
            return e;
    }
}

uint32_t bpe_index_add(struct bpe_index *x, const char *text, size_t length, uint32_t id)
{
    struct bpe_index_entry *e = bpe_index_slot(x, text, length, "", 0);
    if (e->text)
        return e->id;
    *e = (struct bpe_index_entry){text, (uint32_t)length, id};
    return BPE_NO_ID;
}

uint32_t bpe_index_find(const struct bpe_index *x, const char *first, size_t first_length,
                        const char *second, size_t second_length)
{
    const struct bpe_index_entry *e = bpe_index_slot(x, first, first_length, second, second_length);
    return e->text ? e->id : BPE_NO_ID;
}
