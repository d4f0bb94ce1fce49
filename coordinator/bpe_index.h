/* bpe_index.h - token strings to ids, while a vocabulary is being read. */
#ifndef PACELINE_COORDINATOR_BPE_INDEX_H
#define PACELINE_COORDINATOR_BPE_INDEX_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

struct bpe_index_entry {
    const char *text; /* borrowed; NULL: the slot is free */
    uint32_t length, id;
};
struct bpe_index {
    struct bpe_index_entry *slots; /* open addressing, linear probing */
    size_t mask;
};

/* Room for n strings. */
int bpe_index_init(struct bpe_index *x, size_t n, struct err *err);
void bpe_index_clear(struct bpe_index *x);
/* The id that has this text already, or BPE_NO_ID (bpe.h) when it is new. */
uint32_t bpe_index_add(struct bpe_index *x, const char *text, size_t length, uint32_t id);
/* The id of first+second, or BPE_NO_ID. */
uint32_t bpe_index_find(const struct bpe_index *x, const char *first, size_t first_length,
                        const char *second, size_t second_length);

#endif
