#include "worker/content_plan.h"

#include "model/manifest.h"

#include <stdlib.h>
#include <string.h>

#define INSIST 0x80
/* So long a peer may say that it is coming; and when nothing else is left to ask for. */
#define COMING_MS      10000
#define LAST_COMING_MS 2000
#define NO_CHUNK       SIZE_MAX
#define HASH_SEED      2166136261u

static size_t plan_start(const char *endpoint, size_t n_chunks)
{
    unsigned hash = HASH_SEED;
    for (; *endpoint; endpoint++)
        hash = (hash ^ (unsigned char)*endpoint) * 16777619u; /* FNV-1a */
    return n_chunks ? (hash ^ hash >> 15) % n_chunks : 0;
}

int content_plan_init(struct content_plan *p, const struct content_fetch_tensor *tensors,
                      size_t n_tensors, const char *const *endpoints, int n_endpoints,
                      struct err *err)
{
    *p = (struct content_plan){.n_tensors = n_tensors, .shares = n_endpoints > 1};
    p->firsts = calloc(n_tensors + 1, sizeof *p->firsts);
    if (!p->firsts)
        return err_set(err, ERR_MEMORY, "no memory for %zu tensors", n_tensors);
    for (size_t i = 0; i < n_tensors; i++)
        p->firsts[i + 1] = p->firsts[i] + manifest_chunk_count(tensors[i].bytes);
    size_t n = p->firsts[n_tensors];
    p->states = calloc(n + 1, 1);
    if (!p->states)
        return err_set(err, ERR_MEMORY, "no memory for %zu chunks", n);
    for (int i = 0; p->shares && i < n_endpoints; i++)
        p->starts[i] = plan_start(endpoints[i], n);
    return 0;
}

void content_plan_clear(struct content_plan *p)
{
    free(p->firsts);
    free(p->states);
    *p = (struct content_plan){0};
}

static enum content_chunk_state plan_state(const struct content_plan *p, size_t at)
{
    return p->states[at] & ~INSIST;
}

enum content_chunk_state content_plan_state(const struct content_plan *p, size_t tensor,
                                            size_t chunk)
{
    return plan_state(p, p->firsts[tensor] + chunk);
}

static void plan_drop_hint(struct content_plan *p, size_t index)
{
    p->hints[index] = p->hints[--p->n_hints];
}

static struct content_hint *plan_find_hint(struct content_plan *p, size_t at)
{
    for (size_t i = 0; i < p->n_hints; i++)
        if (p->hints[i].at == at)
            return &p->hints[i];
    return NULL;
}

void content_plan_set(struct content_plan *p, size_t tensor, size_t chunk,
                      enum content_chunk_state state)
{
    size_t at = p->firsts[tensor] + chunk;
    p->n_wanted +=
        (size_t)(state == CONTENT_WANTED) - (size_t)(plan_state(p, at) == CONTENT_WANTED);
    p->states[at] = (unsigned char)(state | (p->states[at] & INSIST));
    struct content_hint *hint = state == CONTENT_HELD ? plan_find_hint(p, at) : NULL;
    if (hint)
        plan_drop_hint(p, (size_t)(hint - p->hints));
}

bool content_plan_wants(const struct content_plan *p)
{
    for (size_t i = 0; i < p->firsts[p->n_tensors]; i++)
        if (plan_state(p, i) == CONTENT_WANTED || plan_state(p, i) == CONTENT_ASKED)
            return true;
    return false;
}

static size_t plan_tensor_of(const struct content_plan *p, size_t at)
{
    size_t low = 0, high = p->n_tensors;
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (p->firsts[middle] <= at)
            low = middle;
        else
            high = middle;
    }
    return low;
}

size_t content_plan_first_wanted(const struct content_plan *p)
{
    for (size_t i = 0; i < p->firsts[p->n_tensors]; i++)
        if (plan_state(p, i) == CONTENT_WANTED || plan_state(p, i) == CONTENT_ASKED)
            return plan_tensor_of(p, i);
    return 0;
}

void content_plan_hurry(struct content_plan *p, size_t tensor, bool hurry)
{
    if (hurry && p->n_hurried < CONTENT_PLAN_HURRIED)
        p->hurried[p->n_hurried++] = tensor;
    for (size_t i = 0; !hurry && i < p->n_hurried; i++) {
        if (p->hurried[i] != tensor)
            continue;
        memmove(&p->hurried[i], &p->hurried[i + 1],
                (--p->n_hurried - i) * sizeof *p->hurried); /* who has waited longest stays first */
        return;
    }
}

/* The first one in [begin, end) that this source may be asked for. */
static size_t plan_scan(struct content_plan *p, size_t begin, size_t end)
{
    for (size_t at = begin; at < end; at++)
        if (plan_state(p, at) == CONTENT_WANTED && !plan_find_hint(p, at))
            return at;
    return NO_CHUNK;
}

static size_t plan_scan_hurried(struct content_plan *p)
{
    for (size_t i = 0; i < p->n_hurried; i++) {
        size_t at = plan_scan(p, p->firsts[p->hurried[i]], p->firsts[p->hurried[i] + 1]);
        if (at != NO_CHUNK)
            return at;
    }
    return NO_CHUNK;
}

static size_t plan_scan_all(struct content_plan *p, int source)
{
    size_t n = p->firsts[p->n_tensors], start = p->starts[source];
    if (p->only_hurried)
        return NO_CHUNK;
    size_t at = plan_scan(p, start, n);
    return at != NO_CHUNK ? at : plan_scan(p, 0, start);
}

/* Of workers that share, each asks in turn for what it waits for and for what the others do not
 * ask for yet; and the others for what they began with. */
static size_t plan_scan_both(struct content_plan *p, int source)
{
    p->turn = p->shares && !p->turn;
    bool all_first = p->turn || source > 0;
    size_t at = all_first ? plan_scan_all(p, source) : plan_scan_hurried(p);
    if (at == NO_CHUNK)
        at = all_first ? plan_scan_hurried(p) : plan_scan_all(p, source);
    return at;
}

/* What was said to be elsewhere for too long is the coordinator's to give. */
static size_t plan_expired_hint(struct content_plan *p, int64_t now_ms, int64_t coming_ms)
{
    for (size_t i = 0; i < p->n_hints; i++) {
        struct content_hint hint = p->hints[i];
        if (!hint.coming_since_ms || now_ms - hint.coming_since_ms < coming_ms ||
            plan_state(p, hint.at) != CONTENT_WANTED)
            continue;
        plan_drop_hint(p, i);
        p->states[hint.at] |= INSIST;
        return hint.at;
    }
    return NO_CHUNK;
}

static size_t plan_hinted(const struct content_plan *p, int source, int64_t now_ms)
{
    for (size_t i = 0; i < p->n_hints; i++)
        if (p->hints[i].source == source && now_ms >= p->hints[i].not_before_ms &&
            plan_state(p, p->hints[i].at) == CONTENT_WANTED)
            return p->hints[i].at;
    return NO_CHUNK;
}

bool content_plan_pick(struct content_plan *p, int source, bool blind, int64_t now_ms,
                       struct content_pick *ret_pick)
{
    size_t at;
    if (!p->n_wanted)
        return false;
    if (source == 0) {
        at = plan_expired_hint(p, now_ms, COMING_MS);
        if (at == NO_CHUNK)
            at = plan_scan_both(p, source);
        if (at == NO_CHUNK)
            at = plan_expired_hint(p, now_ms, LAST_COMING_MS);
    } else {
        at = plan_hinted(p, source, now_ms);
        if (at == NO_CHUNK && blind)
            at = plan_scan_both(p, source);
    }
    if (at == NO_CHUNK)
        return false;
    size_t tensor = plan_tensor_of(p, at);
    *ret_pick =
        (struct content_pick){tensor, at - p->firsts[tensor], (p->states[at] & INSIST) != 0};
    return true;
}

void content_plan_hint(struct content_plan *p, size_t tensor, size_t chunk, int source,
                       int64_t now_ms)
{
    size_t at = p->firsts[tensor] + chunk;
    const struct content_hint *known = plan_find_hint(p, at);
    if (source < 0 || p->n_hints == CONTENT_PLAN_HINTS) {
        p->states[at] |= INSIST;
        if (known)
            plan_drop_hint(p, (size_t)(known - p->hints));
    } else if (!known) {
        p->hints[p->n_hints++] = (struct content_hint){at, source, 0, now_ms};
    }
}

bool content_plan_defer(struct content_plan *p, size_t tensor, size_t chunk, int source,
                        int64_t now_ms, int64_t until_ms)
{
    struct content_hint *hint = plan_find_hint(p, p->firsts[tensor] + chunk);
    if (!hint || hint->source != source)
        return false;
    if (!hint->coming_since_ms)
        hint->coming_since_ms = now_ms;
    hint->not_before_ms = until_ms;
    return true;
}

void content_plan_forget_source(struct content_plan *p, int source)
{
    for (size_t i = p->n_hints; i > 0; i--) {
        if (p->hints[i - 1].source != source)
            continue;
        p->states[p->hints[i - 1].at] |= INSIST;
        plan_drop_hint(p, i - 1);
    }
}
