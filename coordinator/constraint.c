#include "coordinator/constraint_parts.h"

#include "coordinator/grammar_ebnf.h"
#include "coordinator/grammar_regex.h"
#include "coordinator/schema.h"

#include <stdlib.h>
#include <string.h>

/* ---- from a source to a grammar ---- */

static int read_choices(struct grammar_builder *b, const json_t *choices, struct err *err)
{
    struct grammar_list list = {0};
    const json_t *item;
    size_t i;
    grammar_builder_rule(b);
    if (json_array_size(choices) == 0)
        return err_set(err, ERR_INPUT, "must be an array of one text or more");
    json_array_foreach(choices, i, item)
    {
        if (!json_is_string(item))
            return err_set(err, ERR_INPUT, "must be an array of texts, but element %zu is none", i);
        grammar_list_add(b, &list,
                         grammar_text(b, json_string_value(item), json_string_length(item)));
    }
    if (!b->failed)
        b->rules[0].expr = grammar_choice(b, list.items, list.n);
    return 0;
}

static int read_regex(struct grammar_builder *b, const struct constraint_source *source,
                      struct err *err)
{
    const struct grammar_regex regex = {.pattern = source->text, .length = source->length};
    const struct grammar_expr *e = NULL;
    grammar_builder_rule(b);
    int rc = grammar_regex_read(&e, b, &regex, err);
    if (rc == 0 && !b->failed)
        b->rules[0].expr = e;
    return rc;
}

/* Rules that call the first one mean it without its surroundings. */
static void add_surroundings(struct grammar_builder *b, const struct constraint_source *source)
{
    const char *before = source->before ? source->before : "";
    const char *after = source->after ? source->after : "";
    uint32_t whole = *before || *after ? grammar_builder_rule(b) : 0;
    if (b->failed || whole == 0)
        return;
    b->rules[whole].expr =
        GRAMMAR_SEQUENCE_OF(b, grammar_text(b, before, strlen(before)), grammar_call(b, b->start),
                            grammar_text(b, after, strlen(after)));
    b->start = whole;
}

int constraint_compile(struct grammar **ret_grammar, const struct constraint_source *source,
                       struct err *err)
{
    struct grammar_builder b;
    int rc;
    grammar_builder_init(&b);
    switch (source->kind) {
    case CONSTRAINT_SCHEMA:
        rc = schema_read(&b, source->json, err);
        break;
    case CONSTRAINT_CHOICES:
        rc = read_choices(&b, source->json, err);
        break;
    case CONSTRAINT_REGEX:
        rc = read_regex(&b, source, err);
        break;
    default:
        rc = grammar_ebnf_read(&b, source->text, source->length, err);
        break;
    }
    if (rc == 0)
        add_surroundings(&b, source);
    if (rc == 0)
        rc = grammar_compile(ret_grammar, &b, err);
    grammar_builder_clear(&b);
    return rc;
}

/* ---- runs ---- */

/* What following one token may cost, and what all of a run may: so much at once, and for each token
 * so much more. In items and links of the matcher: some nanoseconds each. */
#define MOST_WORK       ((uint64_t)1 << 20)
#define RUN_WORK        ((uint64_t)128 << 20)
#define RUN_WORK_BESIDE ((uint64_t)1 << 16)

struct constraint_run {
    struct constraint *constraint; /* held */
    struct grammar_matcher matcher;
    int64_t begins_after; /* -1: it has begun */
    size_t n_seen;        /* tokens */
    uint64_t sort_work;   /* that its masks have cost, beside the matcher's own */
};

int constraint_run_new(struct constraint_run **ret_run, struct constraint *c, int64_t begins_after,
                       struct err *err)
{
    struct constraint_run *r = calloc(1, sizeof *r);
    if (r) {
        r->constraint = constraint_hold(c);
        r->begins_after = begins_after;
    }
    if (!r)
        return err_set(err, ERR_MEMORY, "There is no memory for the request.");
    if (!grammar_matcher_init(&r->matcher, c->grammar)) {
        constraint_run_free(r);
        return err_set(err, ERR_INPUT, "%s", GRAMMAR_AMBIGUOUS);
    }
    *ret_run = r;
    return 0;
}

void constraint_run_free(struct constraint_run *r)
{
    if (!r)
        return;
    grammar_matcher_clear(&r->matcher);
    constraint_release(r->constraint);
    free(r);
}

/* A token that ends the text leaves the position as it is. */
static bool run_take(struct constraint_run *r, uint32_t token)
{
    const struct grammar_vocabulary *v = r->constraint->vocabulary->tree;
    size_t length;
    if (r->begins_after >= 0) {
        if (token == r->begins_after)
            r->begins_after = -1;
        return true;
    }
    if (grammar_vocabulary_ends(v, token))
        return grammar_matcher_now(&r->matcher)->is_end;
    const char *bytes = tokenizer_piece(v->tokenizer, token, &length);
    if (length == 0 || length > GRAMMAR_TOKEN_BYTES || tokenizer_is_control(v->tokenizer, token))
        return false;
    grammar_matcher_allow(&r->matcher, MOST_WORK);
    for (size_t i = 0; i < length; i++)
        if (!grammar_matcher_push(&r->matcher, (unsigned char)bytes[i]))
            return false;
    grammar_matcher_commit(&r->matcher);
    return true;
}

int constraint_run_follow(struct constraint_run *r, const uint32_t *tokens, size_t n,
                          struct err *err)
{
    for (; r->n_seen < n; r->n_seen++) {
        if (run_take(r, tokens[r->n_seen]))
            continue;
        if (r->matcher.failed)
            return err_set(err, ERR_INPUT, "%s", GRAMMAR_AMBIGUOUS);
        return err_set(
            err, ERR_INTERNAL,
            "token %u, which the last stage chose, is not one of those that were allowed",
            tokens[r->n_seen]);
    }
    return 0;
}

bool constraint_run_is_over(const struct constraint_run *r)
{
    const struct matcher_position *p = grammar_matcher_now(&r->matcher);
    return r->begins_after < 0 && p->is_end && p->n_active == 0;
}

int constraint_run_mask(struct constraint_run *r, struct buf *out, struct err *err)
{
    if (r->begins_after >= 0) {
        constraint_vocabulary_write_open(r->constraint->vocabulary, out);
        return buf_failed(out) ? err_set(err, ERR_MEMORY, "there is no memory for a mask of tokens")
                               : 0;
    }
    struct grammar_masks *masks = r->constraint->masks;
    const uint64_t before = grammar_masks_work(masks);
    int rc = grammar_masks_write(masks, &r->matcher, out, err);
    r->sort_work += grammar_masks_work(masks) - before;
    if (rc == 0 && r->sort_work + r->matcher.work > RUN_WORK + r->n_seen * RUN_WORK_BESIDE)
        rc = err_set(err, ERR_INPUT, "%s", GRAMMAR_AMBIGUOUS);
    return rc;
}
