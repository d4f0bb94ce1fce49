/* grammar_regex.h - regular expressions, as far as they are regular: what ECMA 262 and Python write
 * alike. Classes such as \d and \w are those of ECMA 262 (ASCII). No look-around, back references,
 * word boundaries, Unicode properties or flags. */
#ifndef PACELINE_COORDINATOR_GRAMMAR_REGEX_H
#define PACELINE_COORDINATOR_GRAMMAR_REGEX_H

#include "base/err.h"
#include "coordinator/grammar_expr.h"

struct grammar_regex {
    const char *pattern; /* valid UTF-8 */
    size_t length;
    enum grammar_spelling spelling;
    bool is_search; /* it may match anywhere in the text, unless it has ^ and $; else all of it */
};

/* ERR_INPUT: the sentence goes on from the name of the source, and has the character's position. */
int grammar_regex_read(const struct grammar_expr **ret_expr, struct grammar_builder *b,
                       const struct grammar_regex *r, struct err *err);

/* The class of a letter after a backslash (d, D, w, W, s, S), sorted; false: there is none. The
 * arena has no memory: *ret_set is empty. */
bool grammar_regex_class(struct arena *a, char letter, struct grammar_charset *ret_set);

#endif
