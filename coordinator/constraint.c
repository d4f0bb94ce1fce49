#include "coordinator/constraint_parts.h"

#include "coordinator/grammar_automaton.h"
#include "coordinator/grammar_ebnf.h"
#include "coordinator/grammar_regex.h"
#include "coordinator/schema.h"

#include <stdlib.h>
#include <string.h>

/* Behind what was thought, or called. */
#define MOST_LINES 4

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

int constraint_text_without(struct grammar_builder *b, const char *mark,
                            const struct grammar_expr **ret_expr, struct err *err)
{
    const struct grammar_expr *any = grammar_repeat(
        b, grammar_range(b, 0, GRAMMAR_LAST_CHARACTER, GRAMMAR_PLAIN), 0, GRAMMAR_UNBOUNDED);
    const struct grammar_expr *text = grammar_text(b, mark, strlen(mark));
    const struct grammar_automaton *with = NULL, *without = NULL;
    int rc = grammar_automaton_from(&with, b, GRAMMAR_SEQUENCE_OF(b, any, text, any), err);
    if (rc == 0)
        rc = grammar_automaton_other(&without, b, with, err);
    if (rc == 0)
        *ret_expr = grammar_from_automaton(b, without, GRAMMAR_PLAIN);
    return rc;
}

static int read_up_to(struct grammar_builder *b, const char *mark,
                      const struct grammar_expr **ret_expr, struct err *err)
{
    const struct grammar_expr *without = NULL;
    int rc = constraint_text_without(b, mark, &without, err);
    if (rc == 0)
        *ret_expr = GRAMMAR_SEQUENCE_OF(b, without, grammar_text(b, mark, strlen(mark)));
    return rc;
}

static const struct grammar_expr *mark(struct grammar_builder *b, const char *text)
{
    return grammar_text(b, text, strlen(text));
}

/* What comes before the text that the source describes. */
static int read_thinking(struct grammar_builder *b, const struct constraint_manner *how,
                         const struct grammar_expr *lines, const struct grammar_expr **ret_expr,
                         struct err *err)
{
    const struct grammar_expr *thought = NULL;
    *ret_expr = grammar_empty();
    if (!how->think_end)
        return 0;
    int rc = read_up_to(b, how->think_end, &thought, err);
    if (rc != 0)
        return rc;
    thought = GRAMMAR_SEQUENCE_OF(b, thought, lines);
    *ret_expr =
        how->thinks_at_once
            ? thought
            : grammar_optional(b, GRAMMAR_SEQUENCE_OF(b, mark(b, how->think_begin), thought));
    return 0;
}

/* What may come instead of it. */
static int read_calls(struct grammar_builder *b, const struct constraint_source *source,
                      const struct grammar_expr *lines, const struct grammar_expr **ret_expr,
                      struct err *err)
{
    const struct constraint_manner *how = &source->manner;
    const struct grammar_expr *call = NULL, *first;
    uint32_t most = source->calls && source->calls->is_single ? 1 : GRAMMAR_UNBOUNDED;
    int rc = 0;
    *ret_expr = grammar_never();
    if (!how->call_end)
        return 0;
    if (source->calls)
        rc = constraint_calls_read(b, source->calls, &first, &call, err);
    else
        rc = read_up_to(b, how->call_end, &call, err);
    if (rc == 0 && !source->calls)
        call = GRAMMAR_SEQUENCE_OF(b, mark(b, how->call_begin), call);
    if (rc == 0)
        *ret_expr = grammar_repeat(b, GRAMMAR_SEQUENCE_OF(b, call, lines), 1, most);
    return rc;
}

/* Rules that call the first one mean it without its surroundings. */
static int add_surroundings(struct grammar_builder *b, const struct constraint_source *source,
                            struct err *err)
{
    const struct grammar_expr *thinking = NULL, *calls = NULL;
    const struct grammar_expr *lines =
        grammar_repeat(b, grammar_range(b, '\n', '\n', GRAMMAR_PLAIN), 0, MOST_LINES);
    int rc = read_thinking(b, &source->manner, lines, &thinking, err);
    if (rc == 0)
        rc = read_calls(b, source, lines, &calls, err);
    uint32_t whole = grammar_builder_rule(b);
    if (rc != 0 || b->failed)
        return rc;
    const struct grammar_expr *answer = grammar_call(b, b->start);
    b->rules[whole].expr = GRAMMAR_SEQUENCE_OF(b, thinking, GRAMMAR_CHOICE_OF(b, answer, calls));
    b->start = whole;
    return 0;
}

int constraint_compile(struct grammar **ret_grammar, const struct constraint_source *source,
                       struct err *err)
{
    struct grammar_builder b;
    int rc;
    grammar_builder_init(&b);
    switch (source->kind) {
    case CONSTRAINT_SCHEMA:
        rc = schema_read(&b, source->json, &b.start, err);
        break;
    case CONSTRAINT_CALLS:
        rc = constraint_calls_alone(&b, source->calls, err);
        break;
    case CONSTRAINT_TALK:
        rc = constraint_calls_in_talk(&b, source->calls, err);
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
        rc = add_surroundings(&b, source, err);
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
    size_t n_seen;      /* tokens */
    uint64_t sort_work; /* that its masks have cost, beside the matcher's own */
};

int constraint_run_new(struct constraint_run **ret_run, struct constraint *c, struct err *err)
{
    struct constraint_run *r = calloc(1, sizeof *r);
    if (!r)
        return err_set(err, ERR_MEMORY, "There is no memory for the request.");
    r->constraint = constraint_hold(c);
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
    return p->is_end && p->n_active == 0;
}

int constraint_run_mask(struct constraint_run *r, struct buf *out, struct err *err)
{
    struct grammar_masks *masks = r->constraint->masks;
    const uint64_t before = grammar_masks_work(masks);
    int rc = grammar_masks_write(masks, &r->matcher, out, err);
    r->sort_work += grammar_masks_work(masks) - before;
    if (rc == 0 && r->sort_work + r->matcher.work > RUN_WORK + r->n_seen * RUN_WORK_BESIDE)
        rc = err_set(err, ERR_INPUT, "%s", GRAMMAR_AMBIGUOUS);
    return rc;
}
