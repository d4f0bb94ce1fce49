/* constraint.h - what a text must be: JSON that a schema accepts, any JSON object, one of some
 * texts, what a regular expression or a grammar matches. Compiled once, shared by all who ask for
 * the same; each choice of a request has a run of its own, which follows its tokens.
 *
 * One thread, the coordinator's event loop. What a source may cost is bounded: states, memory, and
 * work both to compile it and to make one mask. */
#ifndef PACELINE_COORDINATOR_CONSTRAINT_H
#define PACELINE_COORDINATOR_CONSTRAINT_H

#include "base/buf.h"
#include "base/err.h"
#include "coordinator/tokenizer.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum constraint_kind {
    CONSTRAINT_SCHEMA,  /* json: a JSON schema */
    CONSTRAINT_CHOICES, /* json: an array of texts */
    CONSTRAINT_REGEX,   /* text: an expression that matches all of it */
    CONSTRAINT_GRAMMAR, /* text: rules in EBNF */
    CONSTRAINT_CALLS,   /* calls, and nothing else */
    CONSTRAINT_TALK     /* any words, and calls among them */
};

/* Calls of tools: each a beginning, JSON or tags that a schema accepts, and the end. */
struct constraint_calls {
    json_t *tools;    /* array of {"begin": …, "schema": …} */
    const char *mark; /* with which every beginning begins */
    const char *end;
    size_t
        n_begun; /* CONSTRAINT_CALLS: bytes of the first call's beginning that are there already */
    bool is_single; /* nothing may follow the first */
    bool in_tags;
};

struct constraint_source {
    enum constraint_kind kind;
    const json_t *json;
    const char *text; /* valid UTF-8 */
    size_t length;
    struct constraint_manner {
        /* Before all that the model may think, in any words up to this mark; NULL: not. Unless it
         * does so from the beginning, there is the other mark, or nothing is thought. */
        const char *think_begin, *think_end;
        bool thinks_at_once;
        /* Instead of all that, behind a thought, it may call tools, in any words between these
         * marks, as often as it likes; NULL: not. */
        const char *call_begin, *call_end;
    } manner;
    /* What the calls are, instead of any words; NULL: they are not bound. */
    const struct constraint_calls *calls;
};

/* ---- the ones that were compiled, kept for whoever asks next ---- */

struct constraint_store;
/* vocabulary: ids of the model, at least those of the tokenizer, which is borrowed. */
int constraint_store_new(struct constraint_store **ret_store, const struct tokenizer *t,
                         uint32_t vocabulary, struct err *err);
void constraint_store_free(struct constraint_store *s); /* constraints that are held live on */

struct constraint;
/* The source is not used after the call. The caller holds what it gets. ERR_INPUT: why there is no
 * such text, or where the source cannot be understood. */
int constraint_get(struct constraint **ret_constraint, struct constraint_store *s,
                   const struct constraint_source *source, struct err *err);
/* The same for the most usual source. */
int constraint_from_schema(struct constraint **ret_constraint, struct constraint_store *s,
                           const json_t *schema, struct err *err);
struct constraint *constraint_hold(struct constraint *c);
void constraint_release(struct constraint *c); /* NULL is fine */

/* ---- a choice on its way ---- */

struct constraint_run;
/* At the beginning of a text. Holds c. ERR_INPUT: it is too ambiguous. */
int constraint_run_new(struct constraint_run **ret_run, struct constraint *c, struct err *err);
void constraint_run_free(struct constraint_run *r); /* NULL is fine */
/* Follows generated tokens, those that it has not seen yet of the n. So a run can be made again
 * from a choice's tokens. ERR_INTERNAL: one of them is none that the mask allowed. */
int constraint_run_follow(struct constraint_run *r, const uint32_t *tokens, size_t n,
                          struct err *err);
/* Nothing can follow any more: the text is whole. */
bool constraint_run_is_over(const struct constraint_run *r);
/* Appends the mask of the next token (proto/token_mask.h). */
int constraint_run_mask(struct constraint_run *r, struct buf *out, struct err *err);

#endif
