#include "worker/content_fetch.h"

#include "base/clock.h"
#include "base/timed_wait.h"
#include "model/manifest.h"
#include "proto/wire.h"
#include "worker/content_plan.h"

#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define LOOK_EVERY_MS     50
#define STALL_MS          5000
#define GIVE_UP_MS        60000
#define RATE_WINDOW_MS    500
#define LATER_MS          100
#define BLIND_MS          20
#define BLIND_MOST_MS     500
#define FIRST_CREDIT      2
#define MOST_CREDIT       6
#define QUICK_MS          1000
#define SLOW_MS           3000
#define PAUSE_MOST_FACTOR 8

struct source {
    struct content_fetch_source about;
    void *socket;     /* the thread's */
    bool is_bad;      /* it gave something false */
    bool has_no_link; /* yet, or any more */
    bool is_stalled;
    bool has_told_absent;
    int owed;   /* requests that were not answered */
    int late;   /* of them, given up: their answers may still come */
    int credit; /* how many there may be */
    int pause_factor;
    int64_t last_heard_ms, paused_until_ms, blind_until_ms;
    int blind_ms;
    double latency_ms; /* smoothed */
    int64_t good_bytes;
};

struct asked {
    size_t tensor, chunk;
    int source;
    int64_t at_ms;
};

struct content_fetch {
    struct content_fetch_spec spec;
    char own_endpoint[CONTENT_ENDPOINT_BYTES];
    pthread_t thread;
    bool runs;
    int wake; /* eventfd */

    pthread_mutex_t lock; /* of all below */
    pthread_cond_t changed;
    bool stops;
    struct source sources[CONTENT_FETCH_MAX_SOURCES];
    int n_sources;
    struct content_plan plan;
    struct asked asked[2 * CONTENT_FETCH_WINDOW];
    int n_asked;
    struct content_arrival queue[CONTENT_FETCH_WINDOW];
    int n_queued, n_taken; /* n_taken: being verified */
    int64_t wanted_bytes, good_bytes;
    int64_t last_good_ms; /* or when something was wanted first */
    int64_t rate_ms, rate_bytes, bytes_per_second;
    struct err failure;
};

static void fetch_tell(struct content_fetch *f, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
static void fetch_tell(struct content_fetch *f, const char *format, ...)
{
    char text[400];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    f->spec.tell(f->spec.context, text);
}

static void fetch_wake(struct content_fetch *f)
{
    const uint64_t one = 1;
    if (write(f->wake, &one, sizeof one) < 0) { /* full: it is awake anyway */
    }
}

/* ---- asking ---- */

static bool source_can_be_asked(const struct source *s, int64_t now)
{
    return !s->is_bad && !s->has_no_link && s->owed < s->credit && now >= s->paused_until_ms;
}

static bool fetch_is_asked(const struct content_fetch *f, size_t tensor, size_t chunk, int source)
{
    for (int i = 0; i < f->n_asked; i++)
        if (f->asked[i].tensor == tensor && f->asked[i].chunk == chunk &&
            (source < 0 || f->asked[i].source == source))
            return true;
    return false;
}

/* A chunk that somebody else owes for much longer than this one takes: asked for twice. */
static bool fetch_pick_late(const struct content_fetch *f, int source, int64_t now,
                            struct content_pick *ret_pick)
{
    const struct source *s = &f->sources[source];
    if (!s->good_bytes || f->n_asked >= 2 * CONTENT_FETCH_WINDOW)
        return false;
    for (int i = 0; i < f->n_asked; i++) {
        const struct asked *a = &f->asked[i];
        int n = 0;
        for (int k = 0; k < f->n_asked; k++)
            n += f->asked[k].tensor == a->tensor && f->asked[k].chunk == a->chunk;
        double patience_ms = 4 * fmax(s->latency_ms, f->sources[a->source].latency_ms);
        if (a->source == source || n > 1 || (double)(now - a->at_ms) < fmax(patience_ms, 500))
            continue;
        *ret_pick = (struct content_pick){a->tensor, a->chunk, true};
        return true;
    }
    return false;
}

static void fetch_ask(struct content_fetch *f, int source, const struct content_pick *pick,
                      int64_t now)
{
    struct source *s = &f->sources[source];
    struct content_request q = {.chunk = (uint32_t)pick->chunk, .insist = pick->insist};
    memcpy(q.digest, f->spec.tensors[pick->tensor].digest, sizeof q.digest);
    snprintf(q.endpoint, sizeof q.endpoint, "%s", f->own_endpoint);
    zmq_msg_t envelope, frame;
    struct err err;
    if (content_request_pack(&q, &envelope, &err) != 0)
        return;
    zmq_msg_init(&frame);
    if (zmq_msg_send(&envelope, s->socket, ZMQ_DONTWAIT) < 0) {
        zmq_msg_close(&envelope); /* the chunk stays wanted */
        s->has_no_link = true;
        return;
    }
    content_plan_set(&f->plan, pick->tensor, pick->chunk, CONTENT_ASKED);
    f->asked[f->n_asked++] = (struct asked){pick->tensor, pick->chunk, source, now};
    if (s->owed++ == 0)
        s->last_heard_ms = now; /* its silence begins to count */
}

static bool fetch_ask_one(struct content_fetch *f, int source, int64_t now)
{
    struct source *s = &f->sources[source];
    struct content_pick pick;
    if (!source_can_be_asked(s, now) ||
        f->n_asked + f->n_queued + f->n_taken >= CONTENT_FETCH_WINDOW)
        return false;
    bool found = content_plan_pick(&f->plan, source, now >= s->blind_until_ms, now, &pick);
    if (!found)
        found = fetch_pick_late(f, source, now, &pick);
    if (found)
        fetch_ask(f, source, &pick, now);
    return found;
}

/* In turn, so that the first does not take the whole window. */
static void fetch_ask_all(struct content_fetch *f)
{
    int64_t now = clock_now_ms();
    bool some = true;
    while (some) {
        some = false;
        for (int i = 0; i < f->n_sources; i++)
            some = fetch_ask_one(f, i, now) || some;
    }
}

/* ---- answers ---- */

/* Takes the entry out; when it was asked, or -1. */
static int64_t fetch_unask(struct content_fetch *f, size_t tensor, size_t chunk, int source)
{
    for (int i = 0; i < f->n_asked; i++) {
        struct asked a = f->asked[i];
        if (a.tensor != tensor || a.chunk != chunk || a.source != source)
            continue;
        f->asked[i] = f->asked[--f->n_asked];
        return a.at_ms;
    }
    return -1;
}

/* Where several give, none holds more of the window than its part: one that is slow, because many
 * ask it, must not keep the others idle. */
static int fetch_most_credit(const struct content_fetch *f)
{
    int part = CONTENT_FETCH_WINDOW / (f->n_sources ? f->n_sources : 1);
    return part < FIRST_CREDIT ? FIRST_CREDIT : part > MOST_CREDIT ? MOST_CREDIT : part;
}

static void source_learn(struct source *s, int most_credit, int64_t latency_ms)
{
    s->latency_ms += s->latency_ms > 0 ? ((double)latency_ms - s->latency_ms) / 4
                                       : (double)(latency_ms > 0 ? latency_ms : 1);
    if (latency_ms < QUICK_MS && s->credit < most_credit)
        s->credit++;
    else if (latency_ms > SLOW_MS && s->credit > 1)
        s->credit--;
    s->is_stalled = false;
    s->pause_factor = 1;
    s->blind_ms = BLIND_MS;
}

/* true: the frame was moved into the queue. */
static bool fetch_on_chunk(struct content_fetch *f, int source, size_t tensor, size_t chunk,
                           zmq_msg_t *frame)
{
    enum content_chunk_state state = content_plan_state(&f->plan, tensor, chunk);
    if ((state != CONTENT_ASKED && state != CONTENT_WANTED) || f->sources[source].is_bad ||
        f->n_queued + f->n_taken >= CONTENT_FETCH_WINDOW)
        return false; /* twice, or from one that lies */
    struct content_arrival *a = &f->queue[f->n_queued++];
    *a = (struct content_arrival){.tensor = tensor, .chunk = chunk, .source = source};
    zmq_msg_init(&a->frame);
    zmq_msg_move(&a->frame, frame);
    content_plan_set(&f->plan, tensor, chunk, CONTENT_HELD);
    pthread_cond_broadcast(&f->changed);
    return true;
}

static void fetch_want_again(struct content_fetch *f, size_t tensor, size_t chunk)
{
    if (content_plan_state(&f->plan, tensor, chunk) == CONTENT_ASKED &&
        !fetch_is_asked(f, tensor, chunk, -1))
        content_plan_set(&f->plan, tensor, chunk, CONTENT_WANTED);
}

static int fetch_find_source(const struct content_fetch *f, const char *endpoint)
{
    for (int i = 1; i < f->n_sources; i++)
        if (!f->sources[i].is_bad && !f->sources[i].is_stalled &&
            strcmp(f->sources[i].about.endpoint, endpoint) == 0)
            return i;
    return -1;
}

static void fetch_on_refusal(struct content_fetch *f, int source, const struct content_reply *r,
                             size_t tensor, int64_t now)
{
    struct source *s = &f->sources[source];
    if (r->status == CONTENT_ELSEWHERE) {
        content_plan_hint(&f->plan, tensor, r->chunk, fetch_find_source(f, r->elsewhere), now);
    } else if (r->status == CONTENT_LATER) {
        s->paused_until_ms = now + LATER_MS;
    } else if (source == 0) {
        if (!s->has_told_absent)
            fetch_tell(f, "%s does not have tensor %s", s->about.name,
                       f->spec.tensors[tensor].name);
        s->has_told_absent = true;
        s->paused_until_ms = now + LATER_MS;
    } else if (r->status == CONTENT_ABSENT) {
        content_plan_hint(&f->plan, tensor, r->chunk, -1, now);
        s->blind_until_ms = now + BLIND_MOST_MS;
    } else if (!content_plan_defer(&f->plan, tensor, r->chunk, source, now, now + BLIND_MS)) {
        s->blind_until_ms = now + s->blind_ms;
        s->blind_ms = 2 * s->blind_ms < BLIND_MOST_MS ? 2 * s->blind_ms : BLIND_MOST_MS;
    }
}

static void fetch_forget_asked(struct content_fetch *f, int source)
{
    for (int i = f->n_asked - 1; i >= 0; i--) {
        struct asked a = f->asked[i];
        if (a.source != source)
            continue;
        f->asked[i] = f->asked[--f->n_asked];
        fetch_want_again(f, a.tensor, a.chunk);
    }
    content_plan_forget_source(&f->plan, source);
}

static void fetch_drop_source(struct content_fetch *f, int source, const char *why)
{
    struct source *s = &f->sources[source];
    s->is_bad = true;
    fetch_forget_asked(f, source);
    fetch_tell(f, "%s %s: it is not asked any more", s->about.name, why);
}

static bool fetch_has_digest(const struct content_fetch *f, size_t tensor,
                             const struct content_reply *r)
{
    return memcmp(f->spec.tensors[tensor].digest, r->digest, sizeof r->digest) == 0;
}

/* Of several with equal content, the one for which this source was asked. */
static bool fetch_find_tensor(const struct content_fetch *f, int source,
                              const struct content_reply *r, size_t *ret_tensor)
{
    for (int i = 0; i < f->n_asked; i++) {
        const struct asked *a = &f->asked[i];
        if (a->source != source || a->chunk != r->chunk || !fetch_has_digest(f, a->tensor, r))
            continue;
        *ret_tensor = a->tensor;
        return true;
    }
    for (size_t i = 0; i < f->spec.n_tensors; i++) {
        if (!fetch_has_digest(f, i, r))
            continue;
        *ret_tensor = i;
        return r->chunk < manifest_chunk_count(f->spec.tensors[i].bytes);
    }
    return false;
}

static void fetch_on_reply(struct content_fetch *f, int source, zmq_msg_t *envelope,
                           zmq_msg_t *frame)
{
    struct source *s = &f->sources[source];
    struct content_reply r;
    size_t tensor;
    int64_t now = clock_now_ms();
    bool known = s->owed + s->late > 0 &&
                 content_reply_unpack(&r, zmq_msg_data(envelope), zmq_msg_size(envelope)) &&
                 fetch_find_tensor(f, source, &r, &tensor);
    bool moved = false;
    if (!known) {
        if (!s->is_bad)
            fetch_drop_source(f, source, "sent what nobody asked for");
    } else {
        int64_t asked_ms = fetch_unask(f, tensor, r.chunk, source);
        s->last_heard_ms = now;
        if (asked_ms >= 0 || s->late == 0)
            s->owed--;
        else
            s->late--;
        if (r.status == CONTENT_HERE &&
            zmq_msg_size(frame) == manifest_chunk_bytes(f->spec.tensors[tensor].bytes, r.chunk)) {
            if (asked_ms >= 0)
                source_learn(s, fetch_most_credit(f), now - asked_ms);
            moved = fetch_on_chunk(f, source, tensor, r.chunk, frame);
        } else if (r.status == CONTENT_HERE) {
            fetch_drop_source(f, source, "sent a chunk of another size");
        } else {
            fetch_on_refusal(f, source, &r, tensor, now);
        }
        fetch_want_again(f, tensor, r.chunk);
    }
    zmq_msg_close(envelope);
    if (!moved)
        zmq_msg_close(frame);
}

static void fetch_receive(struct content_fetch *f, int source)
{
    for (int i = 0; i < 2 * CONTENT_FETCH_WINDOW; i++) {
        zmq_msg_t envelope, frame;
        int rc = wire_receive_data(f->sources[source].socket, &envelope, &frame, NULL);
        if (rc == 0)
            return;
        if (rc > 0)
            fetch_on_reply(f, source, &envelope, &frame);
    }
}

/* ---- sources that fail ---- */

static void fetch_look_for_stalls(struct content_fetch *f, int64_t now)
{
    for (int i = 0; i < f->n_sources; i++) {
        struct source *s = &f->sources[i];
        int64_t patience = f->spec.stall_ms + (int64_t)(4 * s->latency_ms);
        if (s->is_bad || s->owed == 0 || now - s->last_heard_ms < patience)
            continue;
        if (!s->is_stalled)
            fetch_tell(f, "%s has sent nothing for %.1f s: others are asked meanwhile",
                       s->about.name, (double)(now - s->last_heard_ms) / 1000);
        s->is_stalled = true;
        s->late += s->owed;
        s->owed = 0;
        s->credit = 1;
        s->paused_until_ms = now + f->spec.stall_ms * s->pause_factor / 5;
        if (s->pause_factor < PAUSE_MOST_FACTOR)
            s->pause_factor *= 2;
        fetch_forget_asked(f, i);
    }
}

static void fetch_look_for_failure(struct content_fetch *f, int64_t now)
{
    if (f->failure.code || !content_plan_wants(&f->plan))
        return;
    int n_left = 0;
    for (int i = 0; i < f->n_sources; i++)
        n_left += !f->sources[i].is_bad;
    bool absent = f->n_sources > 0 && f->sources[0].has_told_absent;
    int64_t limit = absent ? f->spec.give_up_ms / 6 : f->spec.give_up_ms;
    if (n_left > 0 && now - f->last_good_ms < limit)
        return;
    size_t tensor = content_plan_first_wanted(&f->plan);
    err_set(&f->failure, ERR_NETWORK, "tensor %s: %s", f->spec.tensors[tensor].name,
            n_left == 0 ? "no source for it is left that can be believed"
            : absent    ? "the coordinator does not have it, and no other worker gives it"
                        : "neither the coordinator nor another worker has sent anything for too "
                          "long: is the coordinator's content port (two above the cluster's) open?");
    pthread_cond_broadcast(&f->changed);
}

/* ---- the thread ---- */

static int fetch_connect(struct content_fetch *f, struct err *err)
{
    const int once_connected = 1; /* else a request waits for a host that is not there */
    for (int i = 0; i < f->n_sources; i++) {
        struct source *s = &f->sources[i];
        if (f->spec.own && !s->about.has_key)
            return err_set(err, ERR_NETWORK, "%s shall give weights, and its key is not told",
                           s->about.name);
        const struct wire_security security = {.own = f->spec.own,
                                               .server_key = s->about.server_key};
        int rc =
            wire_socket(&s->socket, f->spec.zmq, ZMQ_DEALER, f->spec.own ? &security : NULL, err);
        if (rc != 0)
            return rc;
        content_socket_set_up(s->socket, CONTENT_CHUNK_BYTES + CONTENT_MAX_ENVELOPE);
        zmq_setsockopt(s->socket, ZMQ_IMMEDIATE, &once_connected, sizeof once_connected);
        if (zmq_connect(s->socket, s->about.endpoint) != 0) {
            fetch_tell(f, "%s cannot be asked at %s: %s", s->about.name, s->about.endpoint,
                       zmq_strerror(errno));
            s->is_bad = true;
        }
    }
    return 0;
}

static void fetch_turn(struct content_fetch *f, zmq_pollitem_t *items)
{
    for (int i = 0; i < f->n_sources; i++) {
        if (items[1 + i].revents & ZMQ_POLLIN)
            fetch_receive(f, i);
        if (items[1 + i].revents & ZMQ_POLLOUT)
            f->sources[i].has_no_link = false;
    }
    int64_t now = clock_now_ms();
    fetch_look_for_stalls(f, now);
    fetch_look_for_failure(f, now);
    fetch_ask_all(f);
    for (int i = 0; i < f->n_sources; i++)
        items[1 + i].events = f->sources[i].has_no_link ? ZMQ_POLLIN | ZMQ_POLLOUT : ZMQ_POLLIN;
}

static void *fetch_main(void *argument)
{
    struct content_fetch *f = argument;
    zmq_pollitem_t items[1 + CONTENT_FETCH_MAX_SOURCES] = {{.fd = f->wake, .events = ZMQ_POLLIN}};
    for (int i = 0; i < f->n_sources; i++)
        items[1 + i] = (zmq_pollitem_t){.socket = f->sources[i].socket, .events = ZMQ_POLLIN};
    bool stops = false;
    while (!stops) {
        if (zmq_poll(items, 1 + f->n_sources, LOOK_EVERY_MS) < 0 && errno != EINTR)
            break;
        uint64_t count;
        if (items[0].revents && read(f->wake, &count, sizeof count) < 0) { /* nothing to do */
        }
        pthread_mutex_lock(&f->lock);
        fetch_turn(f, items);
        stops = f->stops;
        pthread_mutex_unlock(&f->lock);
    }
    for (int i = 0; i < f->n_sources; i++)
        zmq_close(f->sources[i].socket);
    return NULL;
}

static int fetch_start(struct content_fetch *f, struct err *err)
{
    const char *endpoints[CONTENT_FETCH_MAX_SOURCES] = {f->own_endpoint};
    for (int i = 1; i < f->n_sources; i++)
        endpoints[i] = f->sources[i].about.endpoint;
    int rc = content_plan_init(&f->plan, f->spec.tensors, f->spec.n_tensors, endpoints,
                               f->n_sources, err);
    f->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (rc == 0 && f->wake < 0)
        rc = err_set(err, ERR_MEMORY, "eventfd: %s", strerror(errno));
    if (rc == 0)
        rc = fetch_connect(f, err);
    if (rc != 0)
        return rc;
    /* The sockets change owner here, once. */
    int failed = pthread_create(&f->thread, NULL, fetch_main, f);
    if (failed)
        return err_set(err, ERR_MEMORY, "fetching thread: %s", strerror(failed));
    f->runs = true;
    return 0;
}

int content_fetch_open(struct content_fetch **ret_fetch, const struct content_fetch_spec *spec,
                       struct err *err)
{
    struct content_fetch *f = calloc(1, sizeof *f);
    if (!f)
        return err_set(err, ERR_MEMORY, "no memory for fetching");
    f->spec = *spec;
    f->spec.stall_ms = spec->stall_ms ? spec->stall_ms : STALL_MS;
    f->spec.give_up_ms = spec->give_up_ms ? spec->give_up_ms : GIVE_UP_MS;
    snprintf(f->own_endpoint, sizeof f->own_endpoint, "%s", spec->own_endpoint);
    f->wake = -1;
    pthread_mutex_init(&f->lock, NULL);
    timed_wait_init(&f->changed);
    for (size_t i = 0; i < spec->n_sources && i < CONTENT_FETCH_MAX_SOURCES; i++)
        f->sources[f->n_sources++] = (struct source){.about = spec->sources[i],
                                                     .credit = FIRST_CREDIT,
                                                     .pause_factor = 1,
                                                     .blind_ms = BLIND_MS};
    f->last_good_ms = clock_now_ms();
    int rc = fetch_start(f, err);
    if (rc == 0) {
        *ret_fetch = f;
        f = NULL;
    }
    content_fetch_close(f);
    return rc;
}

void content_fetch_close(struct content_fetch *f)
{
    if (!f)
        return;
    if (f->runs) {
        pthread_mutex_lock(&f->lock);
        f->stops = true;
        pthread_mutex_unlock(&f->lock);
        fetch_wake(f);
        pthread_join(f->thread, NULL);
    } else {
        for (int i = 0; i < f->n_sources; i++)
            if (f->sources[i].socket)
                zmq_close(f->sources[i].socket);
    }
    for (int i = 0; i < f->n_queued; i++)
        zmq_msg_close(&f->queue[i].frame);
    content_plan_clear(&f->plan);
    if (f->wake >= 0)
        close(f->wake);
    pthread_cond_destroy(&f->changed);
    pthread_mutex_destroy(&f->lock);
    free(f);
}

/* ---- for those who wait ---- */

void content_fetch_want(struct content_fetch *f, size_t tensor, size_t chunk)
{
    pthread_mutex_lock(&f->lock);
    if (!content_plan_wants(&f->plan))
        f->last_good_ms = clock_now_ms();
    if (content_plan_state(&f->plan, tensor, chunk) == CONTENT_DONE) {
        content_plan_set(&f->plan, tensor, chunk, CONTENT_WANTED);
        f->wanted_bytes += (int64_t)manifest_chunk_bytes(f->spec.tensors[tensor].bytes, chunk);
    }
    pthread_mutex_unlock(&f->lock);
    fetch_wake(f);
}

void content_fetch_hurry(struct content_fetch *f, size_t tensor, bool hurry)
{
    pthread_mutex_lock(&f->lock);
    content_plan_hurry(&f->plan, tensor, hurry);
    pthread_mutex_unlock(&f->lock);
    fetch_wake(f);
}

void content_fetch_restrain(struct content_fetch *f)
{
    pthread_mutex_lock(&f->lock);
    f->plan.only_hurried = true;
    pthread_mutex_unlock(&f->lock);
}

bool content_fetch_take(struct content_fetch *f, int wait_ms, struct content_arrival *ret_arrival)
{
    pthread_mutex_lock(&f->lock);
    if (!f->n_queued && !f->failure.code)
        timed_wait(&f->changed, &f->lock, wait_ms);
    bool taken = f->n_queued > 0;
    if (taken) {
        struct content_arrival *first = &f->queue[0];
        *ret_arrival = *first;
        zmq_msg_init(&ret_arrival->frame);
        zmq_msg_move(&ret_arrival->frame, &first->frame);
        zmq_msg_close(&first->frame);
        f->n_queued--;
        f->n_taken++;
        for (int i = 0; i < f->n_queued; i++) {
            struct content_arrival *next = &f->queue[i + 1];
            f->queue[i] = *next;
            zmq_msg_init(&f->queue[i].frame);
            zmq_msg_move(&f->queue[i].frame, &next->frame);
        }
    }
    pthread_mutex_unlock(&f->lock);
    return taken;
}

static void fetch_count_good(struct content_fetch *f, const struct content_arrival *a)
{
    int64_t bytes = (int64_t)zmq_msg_size(&a->frame), now = clock_now_ms();
    f->good_bytes += bytes;
    f->sources[a->source].good_bytes += bytes;
    f->last_good_ms = now;
    if (!f->rate_ms) {
        f->rate_ms = now;
        f->rate_bytes = 0;
    }
    f->rate_bytes += bytes;
    if (now - f->rate_ms >= RATE_WINDOW_MS) {
        int64_t rate = f->rate_bytes * 1000 / (now - f->rate_ms);
        f->bytes_per_second = f->bytes_per_second ? (f->bytes_per_second + rate) / 2 : rate;
        f->rate_ms = now;
        f->rate_bytes = 0;
    }
}

void content_fetch_settle(struct content_fetch *f, struct content_arrival *a, bool good)
{
    pthread_mutex_lock(&f->lock);
    f->n_taken--;
    content_plan_set(&f->plan, a->tensor, a->chunk, good ? CONTENT_DONE : CONTENT_WANTED);
    if (good) {
        fetch_count_good(f, a);
    } else if (!f->sources[a->source].is_bad) {
        char why[200];
        snprintf(why, sizeof why, "sent a damaged chunk %zu of tensor %.100s", a->chunk,
                 f->spec.tensors[a->tensor].name);
        fetch_drop_source(f, a->source, why);
    }
    pthread_cond_broadcast(&f->changed);
    pthread_mutex_unlock(&f->lock);
    zmq_msg_close(&a->frame);
    fetch_wake(f);
}

int content_fetch_failure(struct content_fetch *f, struct err *err)
{
    pthread_mutex_lock(&f->lock);
    int code = f->failure.code;
    if (code)
        *err = f->failure;
    pthread_mutex_unlock(&f->lock);
    return code;
}

void content_fetch_state(struct content_fetch *f, struct content_fetch_state *ret_state)
{
    pthread_mutex_lock(&f->lock);
    *ret_state = (struct content_fetch_state){.wanted_bytes = f->wanted_bytes,
                                              .good_bytes = f->good_bytes,
                                              .bytes_per_second = f->bytes_per_second};
    if (!f->bytes_per_second && f->rate_ms && clock_now_ms() > f->rate_ms)
        ret_state->bytes_per_second = f->rate_bytes * 1000 / (clock_now_ms() - f->rate_ms);
    for (int i = 0; i < f->n_sources; i++)
        ret_state->n_sources += f->sources[i].good_bytes > 0;
    if (f->n_sources)
        ret_state->coordinator_bytes = f->sources[0].good_bytes;
    pthread_mutex_unlock(&f->lock);
}
