#include "coordinator/grammar_sort.h"

#include <stdlib.h>
#include <string.h>

/* What one sorting may cost, in items of the matcher: some nanoseconds each. */
#define MOST_WORK ((uint64_t)6 << 20)
/* Ids that are kept as a list. */
#define MOST_ALLOWED   6000
#define MOST_FORBIDDEN 12000

/* What a wide one keeps of a token: that it is allowed as long as so many repetitions are left (and
 * whether callers may allow it if they are not), that it is allowed, nobody knows with how many; or
 * that it is not. */
enum { REPEATS_AT_MOST = 63, REPEATS_MAY_LIVE = 64, REPEATS_UNKNOWN = 254, REPEATS_NOTHING = 255 };

int grammar_sorter_init(struct grammar_sorter *k, const struct grammar *g,
                        const struct grammar_vocabulary *v, struct err *err)
{
    *k = (struct grammar_sorter){.grammar = g, .vocabulary = v, .n_words = v->n_ids / 64 + 1};
    for (unsigned byte = 0; byte < 128; byte++)
        if (grammar_is_loop_byte((unsigned char)byte))
            k->loop_bytes.bits[byte / 64] |= (uint64_t)1 << byte % 64;
    k->words = calloc(k->n_words, sizeof *k->words);
    k->ids = calloc((size_t)v->n_ids + v->n_ends, sizeof *k->ids);
    k->tried = calloc((size_t)v->n_ids + v->n_ends, sizeof *k->tried);
    return k->words && k->ids && k->tried
               ? 0
               : err_set(err, ERR_MEMORY, "there is no memory for masks of %u tokens", v->n_ids);
}

void grammar_sorter_clear(struct grammar_sorter *k)
{
    free(k->words);
    free(k->ids);
    free(k->tried);
    *k = (struct grammar_sorter){0};
}

void grammar_sorted_clear(struct grammar_sorted *s)
{
    free(s->ids);
    free(s->words);
    free(s->unsure);
    free(s->repeats);
    *s = (struct grammar_sorted){0};
}

size_t grammar_sorted_bytes(const struct grammar_sorted *s, const struct grammar_vocabulary *v)
{
    return ((size_t)s->n_ids + s->n_unsure) * sizeof *s->ids + (s->repeats ? v->n_tokens : 0) +
           (s->words ? v->n_ids / 8 : 0);
}

/* ---- the walk ---- */

/* A walk through the tree of tokens. As long as a position has one item, whose state is plain, only
 * the state is kept; the matcher stays behind, and catches up where there is more to know. */
struct walk {
    struct grammar_sorter *sorter;
    const struct matcher_item *endless; /* the one among the items, or NULL */
    struct grammar_matcher matcher;     /* callers unknown */
    uint32_t deepest;                   /* tokens that are longer are unsure */
    /* By depth: byte, state where the matcher is behind, and whether callers may have gone on. */
    unsigned char path[GRAMMAR_TOKEN_BYTES + 1];
    uint32_t states[GRAMMAR_TOKEN_BYTES + 1];
    bool may_live[GRAMMAR_TOKEN_BYTES + 1];
    uint8_t *repeats; /* of the sorted vocabulary; or NULL */
    uint32_t n_unsure, n_allowed;
};

/* Tokens of the tree's order. repeats: what is to be kept of them. */
static void walk_allow(struct walk *w, uint32_t first, uint32_t past, uint8_t repeats)
{
    struct grammar_sorter *k = w->sorter;
    for (uint32_t i = first; i < past; i++) {
        uint32_t token = k->vocabulary->tokens[i];
        k->words[token / 64] |= (uint64_t)1 << token % 64;
    }
    for (uint32_t i = first; w->repeats && i < past; i++)
        w->repeats[i] = repeats;
    w->n_allowed += past - first;
}

static void walk_doubt(struct walk *w, uint32_t first, uint32_t past)
{
    for (uint32_t i = first; i < past; i++)
        w->sorter->tried[w->n_unsure++] = w->sorter->vocabulary->tokens[i];
}

/* The only item at that depth, if it is the only one and its state is known to lead on. */
static bool walk_single(const struct walk *w, uint32_t depth, struct matcher_item *ret_item)
{
    const struct grammar_matcher *m = &w->matcher;
    if (depth > m->depth) {
        *ret_item = (struct matcher_item){.state = w->states[depth]};
        return true;
    }
    const struct matcher_position *p = grammar_matcher_now(m);
    if (p->n_items != 1 || p->n_active != 1)
        return false;
    *ret_item = m->items[p->first_item];
    return true;
}

/* The byte at that depth. false: nothing goes on like this within the rules that are known. */
static bool walk_push(struct walk *w, uint32_t depth, unsigned char byte)
{
    const struct grammar *g = w->sorter->grammar;
    struct matcher_item item;
    w->path[depth] = byte;
    w->may_live[depth] = w->may_live[depth - 1];
    if (depth - 1 < w->matcher.depth)
        grammar_matcher_pop(&w->matcher, depth - 1);
    if (depth - 1 == w->matcher.depth)
        w->may_live[depth] = w->may_live[depth] ||
                             grammar_bytes_have(&grammar_matcher_now(&w->matcher)->follow, byte);
    if (walk_single(w, depth - 1, &item)) {
        uint32_t to = grammar_next(g, item.state, byte);
        if (!to || g->states[to].is_plain) {
            w->states[depth] = to;
            return to;
        }
    }
    while (w->matcher.depth < depth - 1)
        grammar_matcher_push(&w->matcher, w->path[w->matcher.depth + 1]);
    return grammar_matcher_push(&w->matcher, byte);
}

/* What to keep of tokens that end at this depth. */
static uint8_t walk_repeats(const struct walk *w, uint32_t depth, bool may_live)
{
    const struct grammar_sorter *k = w->sorter;
    struct matcher_item item;
    if (!w->repeats || depth > w->matcher.depth || !walk_single(w, depth, &item) ||
        !item.is_endless)
        return REPEATS_UNKNOWN;
    int32_t n = item.count - w->endless->count;
    n += !k->grammar->states[item.state].is_head; /* one more has begun */
    return n < 0 || n > REPEATS_AT_MOST ? REPEATS_UNKNOWN
                                        : (uint8_t)(n | (may_live ? REPEATS_MAY_LIVE : 0));
}

/* Whether the item stays where it is after every byte below the node. */
static bool walk_item_loops(const struct walk *w, uint32_t node, const struct matcher_item *item)
{
    const struct grammar_state *s = &w->sorter->grammar->states[item->state];
    return s->loops && (!s->is_head || item->is_endless || s->max == GRAMMAR_UNBOUNDED ||
                        (int64_t)s->max - item->count >= w->sorter->vocabulary->heights[node]);
}

/* Whether all tokens below the node are allowed, since some item loops. */
static bool walk_loops(const struct walk *w, uint32_t node)
{
    const struct grammar_vocabulary *v = w->sorter->vocabulary;
    struct matcher_item item;
    if (!v->heights[node] || v->depths[node] + v->heights[node] - 1U > w->deepest)
        return false;
    if (walk_single(w, v->depths[node], &item))
        return walk_item_loops(w, node, &item);
    const struct matcher_position *p = grammar_matcher_now(&w->matcher);
    for (uint32_t i = 0; i < p->n_items; i++)
        if (walk_item_loops(w, node, &w->matcher.items[p->first_item + i]))
            return true;
    return false;
}

/* Whether callers may go on with one of the bytes of a loop. */
static bool walk_callers_loop(const struct walk *w, uint32_t state)
{
    const struct grammar *g = w->sorter->grammar;
    const struct grammar_bytes *follow = &g->follow[g->states[state].rule];
    return (follow->bits[0] & w->sorter->loop_bytes.bits[0]) ||
           (follow->bits[1] & w->sorter->loop_bytes.bits[1]);
}

/* All tokens below the node are allowed; where the loop is a head, each of their bytes repeats. */
static void walk_allow_loop(struct walk *w, uint32_t node)
{
    const struct grammar_vocabulary *v = w->sorter->vocabulary;
    const uint32_t past = v->past[node], depth = v->depths[node];
    struct matcher_item item = {0};
    if (!w->repeats || !walk_single(w, depth, &item)) {
        walk_allow(w, v->first_token[node], v->first_token[past], REPEATS_UNKNOWN);
        return;
    }
    const bool may_live = w->may_live[depth] || walk_callers_loop(w, item.state);
    const uint8_t repeats = walk_repeats(w, depth, may_live);
    const bool is_known =
        repeats != REPEATS_UNKNOWN && w->sorter->grammar->states[item.state].is_head;
    for (uint32_t i = node; i < past; i++) {
        uint32_t n = (repeats & REPEATS_AT_MOST) + v->depths[i] - depth;
        bool fits = is_known && n <= REPEATS_AT_MOST;
        walk_allow(w, v->first_token[i], v->first_token[i + 1 < past ? i + 1 : past],
                   fits ? (uint8_t)(n | (repeats & REPEATS_MAY_LIVE)) : REPEATS_UNKNOWN);
    }
}

/* Judges the tokens that end at the node, or all below it; returns the next node to visit. */
static uint32_t walk_visit(struct walk *w, uint32_t node)
{
    const struct grammar_vocabulary *v = w->sorter->vocabulary;
    const uint32_t depth = v->depths[node], past = v->past[node];
    if (depth > w->deepest) {
        walk_doubt(w, v->first_token[node], v->first_token[past]);
        return past;
    }
    if (!walk_push(w, depth, v->bytes[node])) {
        if (w->may_live[depth])
            walk_doubt(w, v->first_token[node], v->first_token[past]);
        return past;
    }
    if (walk_loops(w, node)) {
        walk_allow_loop(w, node);
        return past;
    }
    walk_allow(w, v->first_token[node], v->first_token[node + 1 < past ? node + 1 : past],
               walk_repeats(w, depth, w->may_live[depth]));
    return node + 1;
}

static int walk_vocabulary(struct walk *w, const struct matcher_item *items, uint32_t n,
                           struct err *err)
{
    struct grammar_sorter *k = w->sorter;
    memset(k->words, 0, k->n_words * sizeof *k->words);
    if (!grammar_matcher_init_at(&w->matcher, k->grammar, items, n))
        return err_set(err, ERR_MEMORY, "there is no memory for a mask of tokens");
    grammar_matcher_allow(&w->matcher, MOST_WORK);
    /* Callers that could go on here have done so: their items are at this position, too. */
    memset(&w->matcher.positions[0].follow, 0, sizeof w->matcher.positions[0].follow);
    for (uint32_t node = 0; node < k->vocabulary->n_nodes && !w->matcher.failed;)
        node = walk_visit(w, node);
    k->work += w->matcher.work;
    return w->matcher.failed ? err_set(err, ERR_INPUT, "%s", GRAMMAR_AMBIGUOUS) : 0;
}

/* ---- the result ---- */

/* Ids whose bit is as told. */
static uint32_t words_list(const uint64_t *words, uint32_t n_ids, bool is_set, uint32_t *ids)
{
    uint32_t n = 0;
    for (uint32_t w = 0; w <= n_ids / 64; w++) {
        uint64_t word = is_set ? words[w] : ~words[w];
        for (; word; word &= word - 1) {
            uint32_t id = w * 64 + (uint32_t)__builtin_ctzll(word);
            if (id < n_ids)
                ids[n++] = id;
        }
    }
    return n;
}

/* From k->words (allowed) and k->tried (unsure). */
static bool sorted_fill(struct grammar_sorted *s, struct grammar_sorter *k, uint32_t n_allowed,
                        uint32_t n_unsure)
{
    const uint32_t n_ids = k->vocabulary->n_ids, n_forbidden = n_ids - n_allowed - n_unsure;
    s->form = n_allowed <= MOST_ALLOWED       ? TOKEN_MASK_ALLOWED
              : n_forbidden <= MOST_FORBIDDEN ? TOKEN_MASK_FORBIDDEN
                                              : TOKEN_MASK_BITS;
    s->n_unsure = n_unsure;
    s->unsure = malloc((n_unsure + 1) * sizeof *s->unsure);
    if (s->form == TOKEN_MASK_BITS) {
        s->words = malloc(k->n_words * sizeof *s->words);
    } else {
        s->n_ids = s->form == TOKEN_MASK_ALLOWED ? n_allowed : n_forbidden;
        s->ids = malloc((s->n_ids + 1) * sizeof *s->ids);
    }
    if (!s->unsure || (!s->words && !s->ids))
        return false;
    memcpy(s->unsure, k->tried, n_unsure * sizeof *s->unsure);
    if (s->form == TOKEN_MASK_FORBIDDEN) /* the unsure ones are not certainly forbidden */
        for (uint32_t i = 0; i < n_unsure; i++)
            k->words[k->tried[i] / 64] |= (uint64_t)1 << k->tried[i] % 64;
    if (s->form == TOKEN_MASK_BITS) {
        memcpy(s->words, k->words, k->n_words * sizeof *s->words);
    } else {
        words_list(k->words, n_ids, s->form == TOKEN_MASK_ALLOWED, k->ids);
        memcpy(s->ids, k->ids, s->n_ids * sizeof *s->ids);
    }
    return true;
}

int grammar_sort(struct grammar_sorter *k, const struct matcher_item *items, uint32_t n,
                 struct grammar_sorted *ret_sorted, struct err *err)
{
    const uint32_t n_tokens = k->vocabulary->n_tokens;
    struct grammar_sorted s = {0};
    struct walk w = {.sorter = k, .deepest = GRAMMAR_TOKEN_BYTES};
    for (uint32_t i = 0; i < n; i++) {
        if (k->grammar->states[items[i].state].is_counted)
            w.deepest = GRAMMAR_COUNTED_BYTES;
        if (items[i].is_endless)
            w.endless = &items[i];
    }
    if (w.endless) {
        w.repeats = s.repeats = malloc((size_t)n_tokens + 1);
        if (!s.repeats)
            return err_set(err, ERR_MEMORY, "there is no memory for a mask of tokens");
        memset(s.repeats, REPEATS_NOTHING, n_tokens);
    }
    int rc = walk_vocabulary(&w, items, n, err);
    grammar_matcher_clear(&w.matcher);
    if (rc == 0 && !sorted_fill(&s, k, w.n_allowed, w.n_unsure))
        rc = err_set(err, ERR_MEMORY, "there is no memory for a mask of tokens");
    if (rc == 0)
        *ret_sorted = s;
    else
        grammar_sorted_clear(&s);
    return rc;
}

/* Tokens that need more repetitions than are left may be allowed by callers alone. */
int grammar_sort_narrow(struct grammar_sorter *k, const struct grammar_sorted *wide, uint32_t left,
                        struct grammar_sorted *ret_sorted, struct err *err)
{
    uint32_t n_allowed = 0, n_unsure = 0;
    struct grammar_sorted s = {0};
    memset(k->words, 0, k->n_words * sizeof *k->words);
    for (uint32_t i = 0; i < k->vocabulary->n_tokens; i++) {
        const uint8_t repeats = wide->repeats[i];
        const uint32_t token = k->vocabulary->tokens[i];
        if (repeats == REPEATS_NOTHING)
            continue;
        if (repeats != REPEATS_UNKNOWN && (repeats & REPEATS_AT_MOST) <= left) {
            k->words[token / 64] |= (uint64_t)1 << token % 64;
            n_allowed++;
        } else if (repeats == REPEATS_UNKNOWN || repeats & REPEATS_MAY_LIVE) {
            k->tried[n_unsure++] = token;
        }
    }
    for (uint32_t i = 0; i < wide->n_unsure; i++)
        k->tried[n_unsure++] = wide->unsure[i];
    if (!sorted_fill(&s, k, n_allowed, n_unsure)) {
        grammar_sorted_clear(&s);
        return err_set(err, ERR_MEMORY, "there is no memory for a mask of tokens");
    }
    *ret_sorted = s;
    return 0;
}
