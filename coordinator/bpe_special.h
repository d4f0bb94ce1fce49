/* bpe_special.h - tokens that are matched as they are, before any splitting: control tokens and
 * those a user added. At one place the longest wins. */
#ifndef PACELINE_COORDINATOR_BPE_SPECIAL_H
#define PACELINE_COORDINATOR_BPE_SPECIAL_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bpe_special_token {
    const char *text; /* borrowed; not empty */
    size_t length;
    uint32_t id;
    bool is_control;
};
struct bpe_special {
    struct bpe_special_token *tokens; /* sorted by their bytes */
    size_t n;
    size_t first[257]; /* tokens that begin with byte c are first[c] .. first[c + 1] - 1 */
};

/* Takes over `tokens` (malloc'd, [n], all different). */
void bpe_special_init(struct bpe_special *s, struct bpe_special_token *tokens, size_t n);
void bpe_special_clear(struct bpe_special *s);
/* The longest token at the beginning of text, or NULL; without_control leaves those out. */
const struct bpe_special_token *bpe_special_match(const struct bpe_special *s, const char *text,
                                                  size_t length, bool without_control);
/* The token with just this text, or NULL. */
const struct bpe_special_token *bpe_special_find(const struct bpe_special *s, const char *text,
                                                 size_t length);

#endif
