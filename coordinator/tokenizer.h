/* tokenizer.h - text to ids: byte-level BPE with Qwen's pre-tokenizer pattern (PCRE2, Unicode
 * properties), NFC normalisation (utf8proc) and special tokens. Immutable once made, so any number
 * of threads may use it. */
#ifndef PACELINE_COORDINATOR_TOKENIZER_H
#define PACELINE_COORDINATOR_TOKENIZER_H

#include "base/err.h"
#include "model/weight_file.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tokenizer;

/* A vocabulary from anywhere; everything is copied. */
enum token_kind { TOKEN_NORMAL, TOKEN_CONTROL, TOKEN_USER_DEFINED, TOKEN_UNUSED, TOKEN_BYTE };
struct tokenizer_source {
    size_t n_tokens;
    const char *const *tokens;    /* in GPT-2's byte alphabet, specials as they are */
    const size_t *lengths;        /* bytes; NULL: NUL-terminated */
    const enum token_kind *kinds; /* NULL: all normal */
    size_t n_merges;
    const char *const *merges; /* "left right" */
    const char *pre;           /* "qwen2", "qwen35"; NULL: "qwen2" */
    int64_t end_of_text;       /* -1: none */
    int64_t begin_of_text;     /* -1: none; never added for Qwen, kept for templates */
};
int tokenizer_new(struct tokenizer **ret_tokenizer, const struct tokenizer_source *source,
                  struct err *err);
/* From tokenizer.ggml.* metadata. ERR_MODEL names the key that is wrong. */
int tokenizer_from_file(struct tokenizer **ret_tokenizer, const struct weight_file *f,
                        struct err *err);
void tokenizer_free(struct tokenizer *t);

enum { TOKENIZER_SPECIALS_AS_TEXT = 1 }; /* control tokens in the text are plain text */
/* text must be valid UTF-8 (ERR_INPUT says at which byte it is not). *ret_ids: malloc'd. Time is
 * linear-logarithmic in the length, whatever the text. */
int tokenizer_encode(const struct tokenizer *t, const char *text, size_t length, unsigned flags,
                     uint32_t **ret_ids, size_t *ret_count, struct err *err);

/* Bytes of the longest token, at least 1. */
size_t tokenizer_longest_token(const struct tokenizer *t);
/* As many tokens at least will be made of the text; costs next to nothing beside encoding it. */
size_t tokenizer_fewest_tokens(const struct tokenizer *t, const char *text, size_t length);

size_t tokenizer_size(const struct tokenizer *t); /* ids below this have text */
/* The bytes of one token (not always whole UTF-8 characters); "" for ids beyond the vocabulary. */
const char *tokenizer_piece(const struct tokenizer *t, uint32_t id, size_t *ret_length);
bool tokenizer_is_control(const struct tokenizer *t, uint32_t id);
int64_t tokenizer_find(const struct tokenizer *t, const char *token); /* special by text, or -1 */
/* Ids that end a generation: eos, Qwen's <|im_end|> and <|endoftext|>, and what ends a part that is
 * filled in, <|fim_pad|>, <|file_sep|> and <|repo_name|>, as far as they exist. */
size_t tokenizer_end_ids(const struct tokenizer *t, const uint32_t **ret_ids);

#endif
