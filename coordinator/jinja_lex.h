/* jinja_lex.h - template text to tokens, with jinja2's white-space rules: trim_blocks,
 * lstrip_blocks, the signs of {%- and {%+, one newline at the end of the file dropped. */
#ifndef PACELINE_COORDINATOR_JINJA_LEX_H
#define PACELINE_COORDINATOR_JINJA_LEX_H

#include "base/arena.h"
#include "base/err.h"
#include "coordinator/jinja_value.h"

enum jinja_token_kind {
    JINJA_TOKEN_TEXT,
    JINJA_TOKEN_BLOCK_BEGIN,
    JINJA_TOKEN_BLOCK_END,
    JINJA_TOKEN_PRINT_BEGIN,
    JINJA_TOKEN_PRINT_END,
    JINJA_TOKEN_NAME,
    JINJA_TOKEN_STRING,
    JINJA_TOKEN_INT,
    JINJA_TOKEN_FLOAT,
    JINJA_TOKEN_OPERATOR, /* text: one or two characters */
    JINJA_TOKEN_END
};

struct jinja_token {
    enum jinja_token_kind kind;
    int line;
    struct jinja_string text; /* what stands there; a string literal's value */
    int64_t integer;
    double real;
};

enum { JINJA_LEX_MAX_BRACKETS = 128 };

struct jinja_lex {
    struct arena *arena;
    const char *source;
    size_t length, at;
    int line;
    enum { JINJA_LEX_TEXT, JINJA_LEX_BLOCK, JINJA_LEX_PRINT } state;
    bool line_starting;                    /* what was read last ended with a newline */
    char brackets[JINJA_LEX_MAX_BRACKETS]; /* the ones that close those that are open */
    int n_brackets;
    struct err *err;
};

/* The source is copied into the arena. ERR_MODEL if it is not UTF-8. */
int jinja_lex_open(struct jinja_lex *l, struct arena *arena, const char *source, size_t length,
                   struct err *err);
int jinja_lex_next(struct jinja_lex *l, struct jinja_token *ret);

#endif
