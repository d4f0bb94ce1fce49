#include "coordinator/scheduler.h"

#include "base/clock.h"
#include "coordinator/pace.h"
#include "coordinator/suspects.h"
#include "kernels/attention.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* How long others may pass a choice for which there is no room. */
#define PASSING_US ((int64_t)10 * 1000 * 1000)
/* Bytes of logits that wait for a slow reader, before its request has to wait for him. */
#define LOGITS_UNTAKEN ((size_t)64 << 20)

static int scheduler_blocks_of(int n_tokens)
{
    return (n_tokens + KV_BLOCK_TOKENS - 1) / KV_BLOCK_TOKENS;
}

int scheduler_init(struct scheduler *s, const struct scheduler_spec *spec, struct err *err)
{
    /* A step must hold a row of every sequence, and a lone sequence must never run out of blocks.
     */
    assert(spec->max_rows >= spec->n_slots && spec->max_outputs >= spec->n_slots);
    assert(spec->kv_blocks >= scheduler_blocks_of(spec->context));
    *s = (struct scheduler){.spec = *spec};
    int rc = kv_blocks_init(&s->blocks, spec->kv_blocks, err);
    if (rc == 0)
        rc = step_builder_init(&s->step, spec->max_rows, spec->n_slots, spec->max_outputs,
                               spec->vocabulary, err);
    if (rc == 0)
        rc = wait_queue_init(&s->waiting, spec->tenant_weights,
                             spec->n_tenants ? spec->n_tenants : 1, err);
    if (rc == 0)
        rc = replay_init(&s->replay, spec->n_slots, err);
    if (rc != 0)
        return rc;
    s->slots = calloc((size_t)spec->n_slots, sizeof(struct choice *));
    return s->slots ? 0 : err_set(err, ERR_MEMORY, "no memory for %d sequences", spec->n_slots);
}

void scheduler_clear(struct scheduler *s)
{
    kv_blocks_clear(&s->blocks);
    step_builder_clear(&s->step);
    wait_queue_clear(&s->waiting);
    free(s->slots);
    replay_clear(&s->replay);
    *s = (struct scheduler){0};
}

/* ---- who waits ---- */

int scheduler_check_room(const struct scheduler *s, int64_t n_choices, struct err *err)
{
    int most = s->spec.max_waiting + s->spec.n_slots;
    if (n_choices > most)
        return err_set(err, ERR_INPUT,
                       "%lld answers were asked for, at most %d are possible here: %d at "
                       "once (--concurrency) and %d that wait (--queue)",
                       (long long)n_choices, most, s->spec.n_slots, s->spec.max_waiting);
    if (n_choices > most - s->n_running - s->waiting.n_waiting)
        return err_set(err, ERR_LIMIT, "%d answers are being made and %d wait: try again later",
                       s->n_running, s->waiting.n_waiting);
    return 0;
}

void scheduler_add(struct scheduler *s, struct request *r)
{
    for (int i = 0; i < r->n_choices; i++) {
        struct choice *c = &r->choices[i];
        if (c->finish != FINISH_NONE) /* before the coordinator was restarted */
            continue;
        c->age = ++s->n_arrived;
        c->last_news_us = clock_now_us();
        wait_queue_add(&s->waiting, c, clock_now_us());
    }
}

/* ---- who has what ---- */

/* Its client does not take the rows that it has. */
static bool choice_is_stalled(const struct choice *c)
{
    return c->request->kind == REQUEST_LOGITS && c->request->rows.length > LOGITS_UNTAKEN;
}

/* Others may find what it computes, also after it. */
static bool choice_is_kept(const struct scheduler *s, const struct choice *c)
{
    return !s->spec.without_cache && c->request->cache_prompt;
}

/* Its keys and values are nobody's any more; its tokens stay. */
static void choice_forget_blocks(struct scheduler *s, struct choice *c)
{
    kv_blocks_release(&s->blocks, c->blocks, c->n_blocks, choice_is_kept(s, c));
    c->n_blocks = c->n_blocks_told = c->n_blocks_named = c->n_blocks_next = 0;
    c->copy_from = 0;
    c->n_computed = 0;
    c->counts_told = false;
    c->in_flight = 0;
    if (c->index == 0 && !c->request->first_token_us)
        c->request->n_cached = 0;
    if (request_wants_every_row(c->request)) /* those that were delivered are not asked again */
        c->request->n_replayed = c->request->n_scored + c->request->n_rows;
}

static void scheduler_leave_slot(struct scheduler *s, struct pipeline *p, struct choice *c)
{
    pipeline_forget(p, c);
    choice_forget_blocks(s, c);
    s->slots[c->slot] = NULL;
    s->n_running--;
    c->slot = -1;
    c->is_replaying = false;
}

void scheduler_remove(struct scheduler *s, struct pipeline *p, struct choice *c)
{
    if (c->is_waiting)
        wait_queue_remove(&s->waiting, c);
    else if (c->slot >= 0)
        scheduler_leave_slot(s, p, c);
}

void scheduler_restart(struct scheduler *s)
{
    replay_begin(&s->replay, s->slots, s->spec.n_slots);
    for (int i = 0; i < s->spec.n_slots; i++)
        if (s->slots[i])
            choice_forget_blocks(s, s->slots[i]);
    kv_blocks_forget_names(&s->blocks);
    s->blocked_age = 0;
}

/* Some who ran before the new plan are not where they were yet. */
static bool scheduler_is_replaying(const struct scheduler *s)
{
    for (int i = 0; i < s->replay.n; i++) {
        const struct choice *c = replay_choice(&s->replay, s->slots, i);
        if (c && !choice_is_stalled(c))
            return true;
    }
    return false;
}

/* Who gives way to c, or c itself: of the tenant that has the youngest of all, the least urgent.
 * So priorities count within a tenant alone, and the tenant whose youngest choice is the oldest
 * gives way to nobody else: somebody always gets on. */
static struct choice *scheduler_victim(const struct scheduler *s, struct choice *c)
{
    struct choice *youngest = c, *victim = NULL;
    for (int i = 0; i < s->spec.n_slots; i++) {
        struct choice *other = s->slots[i];
        if (other && other->n_blocks && other->age > youngest->age)
            youngest = other;
    }
    for (int i = 0; i < s->spec.n_slots; i++) {
        struct choice *other = s->slots[i];
        if (other && (other == c || other->n_blocks) &&
            other->request->tenant == youngest->request->tenant &&
            (!victim || wait_queue_is_before(victim, other)))
            victim = other;
    }
    return victim;
}

/* Blocks for `count` more tokens. false: not in this step, or c itself had to go. */
static bool scheduler_make_room(struct scheduler *s, struct pipeline *p, struct choice *c,
                                int count)
{
    int wanted = scheduler_blocks_of(c->n_computed + count);
    while (c->n_blocks < wanted) {
        if (kv_blocks_take(&s->blocks, &c->blocks[c->n_blocks])) {
            c->n_blocks++;
            continue;
        }
        struct choice *victim = scheduler_victim(s, c);
        if (victim->step == s->n_begun) /* its rows are in this step already */
            return false;
        scheduler_leave_slot(s, p, victim);
        wait_queue_return(&s->waiting, victim);
        s->n_preemptions++;
        if (victim == c)
            return false;
    }
    return true;
}

/* ---- what has been computed already ---- */

static void choice_prefix(const struct scheduler *s, const struct choice *c, int n_blocks,
                          struct prefix_name *ret_name)
{
    const struct request *r = c->request;
    if (!choice_is_kept(s, c))
        prefix_name_root(PREFIX_OF_REQUEST, r->choices[0].age, ret_name);
    else
        prefix_name_root(PREFIX_OF_TENANT, (uint64_t)r->tenant, ret_name);
    for (int i = 0; i < n_blocks; i++)
        prefix_name_next(ret_name, c->tokens + (size_t)i * KV_BLOCK_TOKENS, ret_name);
}

/* Who wants something of every row computes it, though others may take that over. */
static bool choice_can_adopt(const struct choice *c)
{
    return !request_wants_every_row(c->request);
}

/* The name of the block that it computes now, or NULL: the block must be full of known tokens, and
 * not hold the last one. That is computed in any case, for its row gives the next. */
static const struct prefix_name *choice_next_name(const struct scheduler *s, struct choice *c)
{
    int next = c->n_blocks_named + 1;
    if (next * KV_BLOCK_TOKENS > c->n_tokens - 1)
        return NULL;
    if (c->n_blocks_next != next) {
        if (next == 1)
            choice_prefix(s, c, 0, &c->prefix);
        prefix_name_next(&c->prefix, c->tokens + (size_t)(next - 1) * KV_BLOCK_TOKENS,
                         &c->next_prefix);
        c->n_blocks_next = next;
    }
    return &c->next_prefix;
}

/* Takes over the next blocks as far as others have computed them; a part that it has computed
 * itself makes room. */
static void scheduler_adopt(struct scheduler *s, struct choice *c)
{
    const struct prefix_name *name;
    uint32_t id;
    while (choice_can_adopt(c) && (name = choice_next_name(s, c)) &&
           kv_blocks_find(&s->blocks, name, &id)) {
        int at = c->n_blocks_named++;
        kv_blocks_release(&s->blocks, c->blocks + at, c->n_blocks - at, choice_is_kept(s, c));
        c->blocks[at] = id;
        c->n_blocks = at + 1;
        c->n_blocks_told = c->n_blocks_told < at ? c->n_blocks_told : at;
        c->prefix = *name;
        if (!c->request->first_token_us && c->index == 0)
            c->request->n_cached += c->n_blocks * KV_BLOCK_TOKENS - c->n_computed;
        c->n_computed = c->n_blocks * KV_BLOCK_TOKENS;
    }
}

/* Somebody older computes the very block: who waits for it has it for nothing. */
static bool scheduler_is_computed_by_another(const struct scheduler *s, struct choice *c)
{
    const struct prefix_name *name = choice_can_adopt(c) ? choice_next_name(s, c) : NULL;
    for (int i = 0; name && i < s->spec.n_slots; i++) {
        struct choice *other = s->slots[i];
        const struct prefix_name *same =
            other && other->age < c->age ? choice_next_name(s, other) : NULL;
        if (same && memcmp(same, name, sizeof *name) == 0)
            return true;
    }
    return false;
}

/* Blocks that are full now: whoever has the same tokens finds them. */
static void scheduler_name_blocks(struct scheduler *s, struct choice *c)
{
    if (c->n_blocks_named == 0)
        choice_prefix(s, c, 0, &c->prefix);
    while ((c->n_blocks_named + 1) * KV_BLOCK_TOKENS <= c->n_computed) {
        prefix_name_next(&c->prefix, c->tokens + (size_t)c->n_blocks_named * KV_BLOCK_TOKENS,
                         &c->prefix);
        kv_blocks_name(&s->blocks, c->blocks[c->n_blocks_named], &c->prefix);
        c->n_blocks_named++;
    }
}

/* Another choice of the request whose prompt is on its way, or has gone. */
static struct choice *scheduler_leader(const struct choice *c)
{
    const struct request *r = c->request;
    for (int i = 0; i < r->n_choices; i++) {
        struct choice *other = &r->choices[i];
        if (other != c && other->slot >= 0 && (i < c->index || other->n_computed >= r->n_prompt))
            return other;
    }
    return NULL;
}

/* Choices after the first wait for its prompt, share its blocks, and get a copy of the last one,
 * which both go on to write. false: not yet. */
static bool scheduler_fork(struct scheduler *s, struct pipeline *p, struct choice *c)
{
    const struct request *r = c->request;
    if (r->kind != REQUEST_GENERATE || r->n_choices == 1 || c->n_tokens != r->n_prompt ||
        c->n_computed >= r->n_prompt - 1 || c->in_flight)
        return true;
    struct choice *leader = scheduler_leader(c);
    if (!leader)
        return true;
    /* The copy is made in this step or not at all: later the block may be somebody else's. It is
     * made before the step's rows, so what it copies must have come in steps before. */
    int n_there = leader->step == s->n_begun ? leader->n_before_step : leader->n_computed;
    if (n_there < r->n_prompt || (int)s->step.batch.n_outputs == s->spec.max_outputs)
        return false;
    int whole = (r->n_prompt - 1) / KV_BLOCK_TOKENS;
    if (c->n_blocks) /* what it had adopted, or begun to compute itself */
        choice_forget_blocks(s, c);
    for (; c->n_blocks < whole; c->n_blocks++) {
        c->blocks[c->n_blocks] = leader->blocks[c->n_blocks];
        kv_blocks_share(&s->blocks, c->blocks[c->n_blocks]);
    }
    c->n_blocks_named = whole;
    choice_prefix(s, c, whole, &c->prefix);
    c->n_computed = whole * KV_BLOCK_TOKENS;
    uint32_t shared = leader->blocks[whole];
    if (!scheduler_make_room(s, p, c, r->n_prompt - c->n_computed))
        return false;
    if (c->n_computed < r->n_prompt - 1 && leader->slot >= 0) { /* it was not the victim */
        c->copy_from = shared + 1;
        c->n_computed = r->n_prompt - 1;
    }
    return true;
}

/* ---- who is suspected ---- */

struct choice *scheduler_suspect(struct scheduler *s, bool is_seen)
{
    struct choice *guilty;
    s->has_suspects = suspects_note(s->slots, s->spec.n_slots, is_seen, &guilty);
    return guilty;
}

static void scheduler_find_turn(struct scheduler *s)
{
    s->turn = NULL;
    s->turn_is_free = true;
    if (s->has_suspects)
        s->has_suspects = suspects_are_left(s->slots, s->spec.n_slots);
    if (s->has_suspects)
        s->turn = suspects_turn(s->slots, s->spec.n_slots, &s->turn_is_free);
}

static int scheduler_allow(const struct scheduler *s, const struct choice *c, int count)
{
    return s->has_suspects ? suspects_allow(c, count, s->turn, s->turn_is_free) : count;
}

/* Nothing was sent and nothing is under way, though it is somebody's turn: he cannot, and is
 * treated like the others. */
static bool scheduler_skip_turn(struct scheduler *s, const struct pipeline *p)
{
    if (!s->turn || p->n_in_flight > 0)
        return false;
    s->turn->suspect_end = 0;
    return true;
}

/* ---- who begins ---- */

/* Blocks that those who run will need for the tokens that they have. */
static int scheduler_blocks_due(const struct scheduler *s)
{
    int due = 0;
    for (int i = 0; i < s->spec.n_slots; i++) {
        const struct choice *c = s->slots[i];
        int wanted = c && !choice_is_stalled(c) ? scheduler_blocks_of(c->n_tokens + 1) : 0;
        due += c && wanted > c->n_blocks ? wanted - c->n_blocks : 0;
    }
    return due;
}

static bool scheduler_has_room(struct scheduler *s, struct choice *c)
{
    scheduler_adopt(s, c);
    int wanted = scheduler_blocks_of(c->n_tokens + 1) - c->n_blocks + scheduler_blocks_due(s);
    if (wanted <= s->blocks.n_free || !s->n_running)
        return true;
    choice_forget_blocks(s, c);
    if (!c->passed_since_us)
        c->passed_since_us = clock_now_us();
    s->blocked_age = c->age;
    s->blocked_released = s->blocks.n_released;
    return false;
}

/* Blocks of all that it can become. */
static int choice_most_blocks(const struct choice *c)
{
    return scheduler_blocks_of(c->request->n_prompt + c->request->max_tokens);
}

/* The first one does not fit. For a while the next may pass it, if there is room for all that it
 * and those who run can become: it asks nobody for blocks, and the first one does not wait for
 * long. */
static struct choice *scheduler_passer(const struct scheduler *s, const struct choice *first)
{
    if (clock_now_us() - first->passed_since_us > PASSING_US)
        return NULL;
    struct choice *c = wait_queue_second(&s->waiting);
    int wanted = c ? choice_most_blocks(c) : 0;
    for (int i = 0; c && i < s->spec.n_slots; i++)
        if (s->slots[i])
            wanted += choice_most_blocks(s->slots[i]) - s->slots[i]->n_blocks;
    return wanted <= s->blocks.n_free ? c : NULL;
}

/* Whose turn it is and who has room. NULL: nobody now. */
static struct choice *scheduler_next(struct scheduler *s)
{
    struct choice *c = wait_queue_first(&s->waiting);
    bool was_blocked = s->blocked_age == c->age && s->blocked_released == s->blocks.n_released;
    return !was_blocked && scheduler_has_room(s, c) ? c : scheduler_passer(s, c);
}

/* Waiting choices move into free slots, as long as there is room for what they bring. */
static void scheduler_admit(struct scheduler *s)
{
    for (int i = 0; i < s->spec.n_slots && s->waiting.n_waiting; i++) {
        if (s->slots[i])
            continue;
        struct choice *c = scheduler_next(s);
        if (!c)
            return;
        wait_queue_remove(&s->waiting, c);
        c->passed_since_us = 0;
        c->slot = i;
        s->slots[i] = c;
        s->n_running++;
        if (c->request->scheduled_us)
            continue;
        c->request->scheduled_us = clock_now_us();
        scheduler_adopt(s, c); /* what is there already costs nothing */
        wait_queue_charge(&s->waiting, c->request->tenant, c->n_tokens - c->n_computed);
    }
}

/* ---- rows ---- */

static int scheduler_take(struct scheduler *s, struct choice *c, int count, struct err *err)
{
    int before = c->n_computed, rc = step_builder_add(&s->step, c, count, err);
    if (rc != 0)
        return rc;
    c->step = s->n_begun;
    c->n_before_step = before;
    c->is_replaying = c->is_replaying && c->n_computed < c->n_tokens;
    scheduler_name_blocks(s, c);
    return 0;
}

static bool choice_is_decoding(const struct choice *c)
{
    return c->request->kind == REQUEST_GENERATE && c->n_computed + 1 == c->n_tokens &&
           c->n_tokens > c->request->n_prompt && c->in_flight == 0;
}

/* What a decode row costs, in rows. */
static double scheduler_weight(const struct scheduler *s, const struct choice *c)
{
    return s->spec.context_per_row > 0 ? 1 + (double)c->n_tokens / s->spec.context_per_row : 1;
}

/* Choices that generate, a row of theirs being due or on its way, and their weights' sum. */
static int scheduler_count_decoding(const struct scheduler *s, double *ret_weight)
{
    int n = 0;
    *ret_weight = 0;
    for (int i = 0; i < s->spec.n_slots; i++) {
        const struct choice *c = s->slots[i];
        if (!c || c->request->kind != REQUEST_GENERATE || c->n_tokens == c->request->n_prompt ||
            c->n_tokens - c->n_computed > 1)
            continue;
        n++;
        *ret_weight += scheduler_weight(s, c);
    }
    return n;
}

/* All that decode, over n_groups steps of even weight, and no more of them, so that who comes
 * later joins the others instead of travelling alone. A step is filled up to its share at least,
 * so together they hold everybody and nobody has to wait for a turn. */
static int scheduler_add_decodes(struct scheduler *s, struct pipeline *p, double weight,
                                 struct err *err)
{
    double share = weight / s->n_groups, filled = 0;
    int first = s->decode_turn, too_large = -1;
    if (p->n_decode_steps >= s->n_groups)
        return 0;
    for (int i = 0; i < s->spec.n_slots && filled < share - 1e-6; i++) {
        int slot = (first + i) % s->spec.n_slots;
        struct choice *c = s->slots[slot];
        if (!c || !choice_is_decoding(c) || !scheduler_allow(s, c, 1))
            continue;
        if (!step_builder_fits(&s->step, c, 1)) {
            too_large = too_large < 0 ? slot : too_large;
            continue;
        }
        if (!scheduler_make_room(s, p, c, 1))
            continue;
        int rc = scheduler_take(s, c, 1, err);
        if (rc != 0)
            return rc;
        filled += scheduler_weight(s, c);
        wait_queue_charge(&s->waiting, c->request->tenant, 1);
        s->step.n_decode_rows++;
        s->decode_turn = (slot + 1) % s->spec.n_slots;
    }
    if (too_large >= 0) /* goes first in the next one */
        s->decode_turn = too_large;
    return 0;
}

/* How many rows of this choice's prompt may join the step. */
static int scheduler_prefill_rows(const struct scheduler *s, const struct choice *c, int budget)
{
    const struct request *r = c->request;
    const struct step_builder *b = &s->step;
    int left = c->n_tokens - c->n_computed, room = s->spec.max_outputs - (int)b->batch.n_outputs;
    int count = scheduler_allow(s, c, left < budget ? left : budget);
    bool is_row = r->kind == REQUEST_LOGITS || r->kind == REQUEST_EMBED;
    if (is_row && room > BATCH_LOGIT_ROWS - b->n_row_outputs)
        room = BATCH_LOGIT_ROWS - b->n_row_outputs;
    if (!request_wants_every_row(r)) /* its last row needs an output, the others none */
        return count == left && room == 0 ? count - 1 : count;
    if (choice_is_stalled(c))
        return 0;
    int silent = r->n_replayed > c->n_computed ? r->n_replayed - c->n_computed : 0;
    return count < silent + room ? count : silent + room;
}

/* Prompt rows that wait, of all who run. */
static int scheduler_rows_left(const struct scheduler *s)
{
    int left = 0;
    for (int i = 0; i < s->spec.n_slots; i++)
        if (s->slots[i])
            left += s->slots[i]->n_tokens - s->slots[i]->n_computed;
    return left;
}

static int scheduler_prefill_budget(const struct scheduler *s, struct pipeline *p, int n_decoding)
{
    int room = s->spec.max_rows - (int)s->step.batch.n_rows;
    if (s->replay.n)
        return pace_rows_alone(&p->cost, scheduler_rows_left(s), room);
    if (s->step.n_decode_rows)
        return pace_rows_beside(&p->cost, s->step.n_decode_rows, room);
    if (n_decoding)
        return pace_rows_between(&p->cost, (n_decoding + s->n_groups - 1) / s->n_groups, room);
    return pace_rows_alone(&p->cost, scheduler_rows_left(s), room);
}

/* Rows of the slot's prompt join the step: how many, or an error. *ret_too_large: the slot, if they
 * would make the message too large, and none did before. */
static int scheduler_add_prefill(struct scheduler *s, struct pipeline *p, int slot, int budget,
                                 int *ret_too_large, struct err *err)
{
    struct choice *c = s->slots[slot];
    if (!c || c->n_computed >= c->n_tokens || c->step == s->n_begun || choice_is_decoding(c))
        return 0;
    scheduler_adopt(s, c);
    if (scheduler_is_computed_by_another(s, c) || !scheduler_fork(s, p, c) || c->slot < 0)
        return 0;
    int count = scheduler_prefill_rows(s, c, budget);
    bool fits = count > 0 && step_builder_fits(&s->step, c, count);
    if (count > 0 && !fits)
        *ret_too_large = *ret_too_large < 0 ? slot : *ret_too_large;
    if (!fits || !scheduler_make_room(s, p, c, count)) {
        if (c->copy_from) /* in a later step it would be a copy of something else */
            choice_forget_blocks(s, c);
        return 0;
    }
    int rc = scheduler_take(s, c, count, err);
    return rc == 0 ? count : rc;
}

/* Those who were interrupted first; the others in turns. */
static int scheduler_add_prefills(struct scheduler *s, struct pipeline *p, int n_decoding,
                                  struct err *err)
{
    int budget = scheduler_prefill_budget(s, p, n_decoding);
    int first = s->prefill_turn, too_large = -1;
    for (int i = 0; i < s->replay.n && budget > 0; i++) {
        int count = replay_choice(&s->replay, s->slots, i)
                        ? scheduler_add_prefill(s, p, s->replay.slots[i], budget, &too_large, err)
                        : 0;
        if (count < 0)
            return count;
        budget -= count;
    }
    for (int i = 0; i < s->spec.n_slots && budget > 0; i++) {
        int slot = (first + i) % s->spec.n_slots;
        int count = scheduler_add_prefill(s, p, slot, budget, &too_large, err);
        if (count < 0)
            return count;
        budget -= count;
        if (count > 0)
            s->prefill_turn = (slot + 1) % s->spec.n_slots;
    }
    s->prompts_first = too_large >= 0 && s->step.n_decode_rows > 0;
    if (too_large >= 0)
        s->prefill_turn = too_large;
    return 0;
}

/* Steps that may be under way. While some decode, prompts fill what their groups leave idle, and
 * no step waits behind another. */
static int scheduler_most_in_flight(const struct scheduler *s, struct pipeline *p, int n_decoding)
{
    int most = s->n_groups > p->n_stages ? s->n_groups : p->n_stages;
    if (n_decoding && !s->replay.n)
        return most;
    int alone = pace_steps_alone(
        &p->cost, pace_rows_alone(&p->cost, scheduler_rows_left(s), s->spec.max_rows));
    return n_decoding && most > alone ? most : alone;
}

/* 1: a step was sent; 0: there is nothing to do now */
static int scheduler_send_one(struct scheduler *s, struct pipeline *p, struct err *err)
{
    double weight;
    int n_decoding = scheduler_count_decoding(s, &weight);
    if (!scheduler_is_replaying(s))
        s->replay.n = 0;
    s->n_groups = pace_groups(&p->cost, n_decoding, s->n_groups);
    if (p->n_in_flight >= scheduler_most_in_flight(s, p, n_decoding))
        return 0;
    s->n_begun++;
    scheduler_find_turn(s);
    int rc = step_builder_begin(&s->step, err);
    bool prompts_first = s->prompts_first;
    if (rc == 0 && prompts_first)
        rc = scheduler_add_prefills(s, p, n_decoding, err);
    if (rc == 0)
        rc = scheduler_add_decodes(s, p, weight, err);
    if (rc == 0 && !prompts_first)
        rc = scheduler_add_prefills(s, p, n_decoding, err);
    if (rc == 0)
        rc = step_builder_send(&s->step, p, err);
    if (rc < 0) /* names were given to what this step should have computed */
        kv_blocks_forget_names(&s->blocks);
    return rc;
}

int scheduler_step(struct scheduler *s, struct pipeline *p, struct err *err)
{
    int rc;
    do {
        scheduler_admit(s);
        rc = scheduler_send_one(s, p, err);
    } while (rc > 0 || (rc == 0 && scheduler_skip_turn(s, p)));
    return rc;
}
