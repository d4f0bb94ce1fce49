/* bpe_split.h - cuts text into the words inside which tokens are merged: Qwen's pre-tokenizer. */
#ifndef PACELINE_COORDINATOR_BPE_SPLIT_H
#define PACELINE_COORDINATOR_BPE_SPLIT_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>

enum bpe_split_pattern {
    BPE_SPLIT_QWEN2, /* Qwen 1.5, 2, 2.5, 3 */
    BPE_SPLIT_QWEN35 /* Qwen 3.5: combining marks belong to words */
};

struct bpe_split; /* immutable: for any number of threads */
/* use_jit: machine code if PCRE2 can make it, else and otherwise its interpreter. */
int bpe_split_new(struct bpe_split **ret_split, enum bpe_split_pattern pattern, bool use_jit,
                  struct err *err);
void bpe_split_free(struct bpe_split *s);

struct bpe_split_run; /* what one caller needs to match */
int bpe_split_run_new(struct bpe_split_run **ret_run, const struct bpe_split *s, struct err *err);
void bpe_split_run_free(struct bpe_split_run *r);
/* text: valid UTF-8; at < length: where a word begins. *ret_end: where it ends, always > at. */
int bpe_split_next(struct bpe_split_run *r, const char *text, size_t length, size_t at,
                   size_t *ret_end, struct err *err);

#endif
