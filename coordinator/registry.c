#include "coordinator/registry.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/version.h"
#include "coordinator/examiner.h"
#include "coordinator/links.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define HEARTBEAT_MS 250
#define SILENCE_MS   1000
/* A worker whose connection ended, and that is alive, is back sooner. */
#define UNFIT_MS        INT64_C(30000) /* before a worker that could not load is asked again ... */
#define UNFIT_DOUBLINGS 6              /* ... and longer each time */
#define RECONNECT_MS    500
#define LAST_WORDS_MS   50
#define MAX_WORKERS     1024
/* A plan that a worker still does not know after so many heartbeats was lost on the way to it. */
#define BEATS_ASTRAY 8
#define DIGEST_BYTES 32
#define MAX_HAVE     4096 /* tensors that a worker says it has */

int registry_open(struct registry *r, void *zmq, const char *host, int port, struct trust *trust,
                  int *ret_port, struct err *err)
{
    *r = (struct registry){.silence_ms = SILENCE_MS, .trust = trust};
    const struct wire_security security = {.own = trust ? &trust->own : NULL,
                                           .domain = WIRE_CONTROL};
    int rc = wire_socket(&r->socket, zmq, ZMQ_ROUTER, trust ? &security : NULL, err);
    if (rc != 0)
        return rc;
    const int handover = 1; /* a worker that reconnects takes its name over from the dead link */
    zmq_setsockopt(r->socket, ZMQ_ROUTER_HANDOVER, &handover, sizeof handover);
    rc = wire_monitor(&r->monitor, r->socket, zmq, err);
    if (rc != 0)
        return rc;
    return wire_bind(r->socket, host, port, ret_port, err);
}

void registry_send(struct registry *r, const struct worker_entry *w,
                   Paceline__Control__BodyCase kind, void *body)
{
    Paceline__Control c = PACELINE__CONTROL__INIT;
    c.body_case = kind;
    c.hello = body; /* every member of the union is a pointer */
    wire_send_control(r->socket, &w->identity, &c, NULL);
}

/* They wait for nobody, should they be stopped now. */
static void registry_say_farewell(struct registry *r)
{
    Paceline__Released released = PACELINE__RELEASED__INIT;
    const int linger_ms = 500; /* so that it gets out */
    zmq_setsockopt(r->socket, ZMQ_LINGER, &linger_ms, sizeof linger_ms);
    for (const struct worker_entry *w = r->workers; w; w = w->next)
        registry_send(r, w, PACELINE__CONTROL__BODY_RELEASED, &released);
}

static void registry_free_worker(struct worker_entry *w)
{
    free(w->have);
    free(w);
}

void registry_close(struct registry *r)
{
    if (r->socket)
        registry_say_farewell(r);
    while (r->workers) {
        struct worker_entry *next = r->workers->next;
        registry_free_worker(r->workers);
        r->workers = next;
    }
    if (r->monitor)
        zmq_close(r->monitor);
    if (r->socket)
        zmq_close(r->socket);
    *r = (struct registry){0};
}

static struct worker_entry *registry_find(const struct registry *r, const struct wire_identity *id)
{
    for (struct worker_entry *w = r->workers; w; w = w->next)
        if (w->identity.size == id->size && memcmp(w->identity.bytes, id->bytes, id->size) == 0)
            return w;
    return NULL;
}

struct worker_entry *registry_stage(const struct registry *r, int stage)
{
    for (struct worker_entry *w = r->workers; w; w = w->next)
        if (w->stage == stage)
            return w;
    return NULL;
}

struct worker_entry *registry_named(const struct registry *r, const char *name)
{
    for (struct worker_entry *w = r->workers; w; w = w->next)
        if (strcmp(w->name, name) == 0)
            return w;
    return NULL;
}

/* A peer's words, fit for a log line. */
static void registry_copy(char *to, size_t size, const char *words)
{
    size_t n = 0;
    for (; words[n] && n < size - 1; n++)
        to[n] = (unsigned char)words[n] < ' ' || words[n] == 127 ? '?' : words[n];
    to[n] = '\0';
}

/* tcp://HOST:PORT, as zmq_connect() takes it: a name, an IPv4 address or an IPv6 one in brackets.
 */
static bool registry_is_endpoint(const char *text)
{
    const char *host = text + strlen("tcp://"), *colon = strrchr(text, ':');
    if (strncmp(text, "tcp://", strlen("tcp://")) != 0 || strlen(text) > 127 || colon <= host)
        return false;
    size_t length = (size_t)(colon - host);
    bool is_bare = host[0] == '[' && host[length - 1] == ']';
    const char *letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_";
    if (is_bare) {
        size_t n = 1 + strspn(host + 1, "abcdefABCDEF0123456789.:");
        if (host[n] == '%')
            n += 1 + strspn(host + n + 1, letters); /* the interface */
        if (length < 4 || n != length - 1)
            return false;
    } else if (strspn(host, letters) != length) {
        return false;
    }
    size_t digits = strspn(colon + 1, "0123456789");
    int port = digits && digits <= 5 && !colon[1 + digits] ? atoi(colon + 1) : 0;
    return port >= 1 && port <= 65535;
}

/* The same machine, should it come again: by its key, or else by where it is; and by the name that
 * it gives, for several workers may share these. */
static void registry_identify(const struct registry *r, const struct worker_entry *w,
                              char to[LOSSES_WHO])
{
    char where[KEYS_TEXT_BYTES + sizeof w->address];
    snprintf(where, sizeof where, "%s", w->address);
    if (r->trust)
        keys_format(w->key, where);
    else
        *strrchr(where, ':') = '\0'; /* ports change */
    snprintf(to, LOSSES_WHO, "%s %s", where, w->asked);
}

void registry_lose_stage(struct registry *r, const struct worker_entry *w, enum worker_end end)
{
    /* Of several in one turn the one that crashed tells most. */
    if (w->stage >= 0 && !(r->stage_lost && r->lost_end == WORKER_CRASHED)) {
        r->stage_lost = true;
        r->lost_end = end;
        r->lost_step = 0;
        snprintf(r->lost_name, sizeof r->lost_name, "%s", w->name);
        r->lost_bytes = w->memory_bytes;
    }
    r->next_lost = r->next_lost || w->next_stage >= 0;
}

static void registry_remove(struct registry *r, struct worker_entry *w, enum worker_end end,
                            const char *why)
{
    char who[LOSSES_WHO];
    log_warning("worker %s %s", w->name, why);
    registry_identify(r, w, who);
    if (end != WORKER_LEFT)
        losses_note(&r->losses, who, clock_now_ms());
    registry_lose_stage(r, w, end);
    for (struct worker_entry **p = &r->workers; *p; p = &(*p)->next) {
        if (*p == w) {
            *p = w->next;
            break;
        }
    }
    r->n_workers--;
    r->has_new_peers = true;
    registry_free_worker(w);
}

static void registry_refuse(struct registry *r, const struct wire_identity *from,
                            const char *reason)
{
    log_warning("a worker was refused: %s", reason);
    Paceline__Refuse refuse = PACELINE__REFUSE__INIT;
    refuse.reason = (char *)reason;
    Paceline__Control c = PACELINE__CONTROL__INIT;
    c.body_case = PACELINE__CONTROL__BODY_REFUSE;
    c.refuse = &refuse;
    wire_send_control(r->socket, from, &c, NULL);
}

/* Present under that name, or enrolled with another key. */
static bool registry_name_is_taken(const struct registry *r, const struct wire_identity *from,
                                   const char *name)
{
    if (registry_named(r, name))
        return true;
    const struct allow_worker *enrolled = r->trust ? allow_list_named(&r->trust->list, name) : NULL;
    return enrolled && !keys_are_equal(enrolled->key, from->key);
}

/* Printable, bounded, and nothing that files and JSON take for more than a letter, whatever a peer
 * sent. */
static void registry_clean_name(const char *wanted, char to[56])
{
    size_t n = 0;
    for (const char *p = wanted; *p && n < 55; p++)
        to[n++] = *p > ' ' && *p < 127 && !strchr("#\"\\", *p) ? *p : '_';
    to[n] = '\0';
    if (!n)
        strcpy(to, "worker");
}

/* The name of the key, or of one of several workers with that key: "desk" may call them "desk-1".
 * Made unique with -2, -3 … */
static void registry_make_name(const struct registry *r, const struct wire_identity *from,
                               const char *wanted, char to[64])
{
    char base[56];
    registry_clean_name(wanted, base);
    if (r->trust) {
        const char *enrolled = allow_list_worker(&r->trust->list, from->key)->name;
        const size_t n = strlen(enrolled);
        if (strncmp(base, enrolled, n) != 0 || base[n] != '-' ||
            allow_list_named(&r->trust->list, base))
            snprintf(base, sizeof base, "%s", enrolled);
    }
    snprintf(to, 64, "%s", base);
    for (int i = 2; registry_name_is_taken(r, from, to); i++)
        snprintf(to, 64, "%s-%d", base, i);
}

static void registry_welcome(struct registry *r, const struct worker_entry *w)
{
    Paceline__Welcome welcome = PACELINE__WELCOME__INIT;
    welcome.name = (char *)w->name;
    welcome.heartbeat_ms = HEARTBEAT_MS;
    int64_t kept_out_ms = w->kept_out_until_ms - clock_now_ms();
    if (w->n_losses && kept_out_ms > 0) {
        welcome.kept_out_ms = (uint32_t)kept_out_ms;
        welcome.losses = (uint32_t)w->n_losses;
    }
    registry_send(r, w, PACELINE__CONTROL__BODY_WELCOME, &welcome);
}

/* NULL: fine; else what is wrong with this hello, for its sender. */
static const char *registry_judge(const struct registry *r, const Paceline__Hello *h, char *text,
                                  size_t size)
{
    if (h->protocol_version != PACELINE_PROTOCOL_VERSION)
        snprintf(text, size,
                 "it speaks protocol version %u (program %.32s) and the coordinator version %d "
                 "(program %s): install the same release on both",
                 h->protocol_version, h->program_version, PACELINE_PROTOCOL_VERSION,
                 PACELINE_VERSION);
    else if (h->numerics_version != PACELINE_NUMERICS_VERSION)
        snprintf(text, size,
                 "its numerics have version %u and the coordinator's version %d, so results would "
                 "differ: install the same release on both",
                 h->numerics_version, PACELINE_NUMERICS_VERSION);
    else if (!registry_is_endpoint(h->data_endpoint))
        snprintf(text, size, "its data endpoint is not tcp://HOST:PORT");
    else if (h->threads < 1 || h->threads > 4096 || h->memory_bytes < 0)
        snprintf(text, size, "it offers %u threads and %" PRId64 " bytes", h->threads,
                 h->memory_bytes);
    else if (r->n_workers >= MAX_WORKERS)
        snprintf(text, size, "%d workers are here already", MAX_WORKERS);
    else
        return NULL;
    return text;
}

/* A worker that was started again before its end was noticed keeps its name: it has missed some
 * beats, unlike another one on the same machine. */
static struct worker_entry *
registry_find_namesake(const struct registry *r, const struct wire_identity *from, const char *name)
{
    for (struct worker_entry *w = r->workers; r->trust && w; w = w->next)
        if (keys_are_equal(w->key, from->key) &&
            strncmp(w->asked, name, sizeof w->asked - 1) == 0 &&
            clock_now_ms() - w->last_heard_ms > 3 * HEARTBEAT_MS)
            return w;
    return NULL;
}

static void registry_keep_out(const struct registry *r, struct worker_entry *w)
{
    char who[LOSSES_WHO];
    int64_t now_ms = clock_now_ms();
    registry_identify(r, w, who);
    w->kept_out_until_ms = losses_until(&r->losses, who, now_ms, &w->n_losses);
    if (w->n_losses)
        log_warning("worker %s was lost %d times in a row: plans do without it for %.0f s", w->name,
                    w->n_losses, (double)(w->kept_out_until_ms - now_ms) / 1000);
}

static void registry_on_hello(struct registry *r, const struct wire_identity *from,
                              const Paceline__Hello *h)
{
    struct worker_entry *known = registry_find(r, from);
    if (known && known->incarnation == h->incarnation) {
        known->last_heard_ms = clock_now_ms();
        registry_welcome(r, known); /* it missed ours */
        return;
    }
    if (!known)
        known = registry_find_namesake(r, from, h->name);
    if (known)
        registry_remove(r, known, WORKER_ENDED, "was restarted");
    char text[256], clean[256];
    if (registry_judge(r, h, text, sizeof text)) {
        registry_copy(clean, sizeof clean, text);
        registry_refuse(r, from, clean);
        return;
    }
    struct worker_entry *w = calloc(1, sizeof *w);
    if (!w) {
        registry_refuse(r, from, "the coordinator is out of memory");
        return;
    }
    w->identity = *from;
    w->incarnation = h->incarnation;
    registry_make_name(r, from, h->name, w->name);
    snprintf(w->asked, sizeof w->asked, "%s", h->name);
    memcpy(w->key, from->key, sizeof w->key);
    registry_copy(w->isa, sizeof w->isa, h->isa);
    snprintf(w->address, sizeof w->address, "%s", h->data_endpoint);
    if (registry_is_endpoint(h->content_endpoint))
        snprintf(w->content_address, sizeof w->content_address, "%s", h->content_endpoint);
    w->threads = (int)h->threads;
    w->memory_bytes = h->memory_bytes;
    w->cores = h->cores < 65536 ? (int)h->cores : 0;
    w->efficient_cores = h->efficient_cores < 65536 ? (int)h->efficient_cores : 0;
    w->numa_nodes = h->numa_nodes < 65536 ? (int)h->numa_nodes : 0;
    w->most_threads =
        h->most_threads > h->threads && h->most_threads < 4096 ? (int)h->most_threads : w->threads;
    w->last_heard_ms = w->joined_ms = clock_now_ms();
    w->fd = from->fd;
    w->stage = w->first_layer = w->end_layer = -1;
    w->next_stage = w->next_first_layer = w->next_end_layer = -1;
    w->last_stage = -1;
    w->had_stage = h->stage <= h->stages && h->stages <= MAX_WORKERS ? h->stage : 0;
    w->had_stages = w->had_stage ? h->stages : 0;
    struct worker_entry **place = &r->workers;
    while (*place && !(w->had_stage && (*place)->had_stage > w->had_stage))
        place = &(*place)->next;
    w->next = *place;
    *place = w;
    r->n_workers++;
    r->joined = r->has_new_peers = true;
    log_info("worker %s joined: %d threads, %s, %.1f GiB offered", w->name, w->threads, w->isa,
             (double)w->memory_bytes / (1 << 30));
    registry_keep_out(r, w);
    registry_welcome(r, w);
    examiner_take_hello(r, w, h->exam);
    links_keep(r);
}

/* It stays without; the plan that serves has noticed nothing. */
static void registry_on_standby_failed(struct worker_entry *w, int code, const char *reason)
{
    w->standby_is_ready = false;
    w->standby_failed = code != ERR_CANCELLED;
    if (w->standby_failed)
        log_warning("worker %s holds no layers as a standby: %s", w->name, reason);
}

/* A link, a disk, memory that others have now may be better later; a file that is none stays so. */
static void registry_set_unfit(struct worker_entry *w, int code)
{
    bool may_pass =
        code == ERR_NETWORK || code == ERR_IO || code == ERR_MEMORY || code == ERR_DAMAGED;
    int64_t pause_ms = UNFIT_MS << (w->n_unfit < UNFIT_DOUBLINGS ? w->n_unfit : UNFIT_DOUBLINGS);
    w->unfit = true;
    w->n_unfit++;
    w->unfit_until_ms = may_pass ? clock_now_ms() + pause_ms : 0;
}

static void registry_on_failed(struct registry *r, struct worker_entry *w,
                               const Paceline__Failed *f)
{
    char reason[400];
    registry_copy(reason, sizeof reason, f->reason);
    bool is_known = (f->code < 0 && f->code >= ERR_INTERNAL) || f->code == ERR_DAMAGED;
    int code = is_known ? f->code : ERR_INTERNAL;
    if (code == ERR_DAMAGED)
        examiner_note_damage(r, w, reason);
    if (w->expelled[0])
        return;
    if (w->next_stage >= 0 && f->epoch == w->next_epoch) {
        /* Too little memory for two stages says nothing of one. */
        if (code != ERR_CANCELLED && code != ERR_MEMORY)
            registry_set_unfit(w, code);
        r->next_failed = true;
        err_set(&r->next_failure, code, "worker %s: %s", w->name, reason);
        return;
    }
    if (w->stage < 0 && w->standby_epoch && f->epoch == w->standby_epoch)
        registry_on_standby_failed(w, code, reason);
    if (w->stage < 0 || f->epoch != w->epoch)
        return;
    if (w->state == WORKER_LOADING && code != ERR_CANCELLED)
        registry_set_unfit(w, code);
    r->stage_failed = true;
    r->failed_epoch = f->epoch;
    r->failed_step = f->step;
    err_set(&r->failure, code, "worker %s: %s", w->name, reason);
}

static void registry_on_crashed(struct registry *r, struct worker_entry *w,
                                const Paceline__Crashed *c)
{
    char fault[sizeof r->lost_fault], why[200];
    bool has_stage = w->stage >= 0;
    registry_copy(fault, sizeof fault, c->fault);
    snprintf(why, sizeof why, "crashed (%s) in step %" PRIu64 " of epoch %" PRIu64, fault, c->step,
             c->epoch);
    registry_remove(r, w, WORKER_CRASHED, why);
    if (!has_stage)
        return;
    r->lost_epoch = c->epoch;
    r->lost_step = c->step;
    snprintf(r->lost_fault, sizeof r->lost_fault, "%s", fault);
}

static void registry_on_next_ready(struct registry *r, struct worker_entry *w)
{
    w->next_is_ready = true;
    r->stage_ready = true;
}

/* Numbers that cannot be are those of a worker that knows no better: it is planned by threads. */
static void registry_on_measured(struct registry *r, struct worker_entry *w,
                                 const Paceline__Measured *m)
{
    bool ok = m->n_seconds == (PLAN_KINDS + 1) * PLAN_POINTS && m->attend_s >= 0 &&
              m->attend_s < 1 && m->attend_many_s >= 0 && m->attend_many_s < 1;
    for (size_t i = 0; ok && i < m->n_seconds; i++)
        ok = m->seconds[i] >= 0 && m->seconds[i] < 1e5;
    for (int kind = 0; ok && kind <= PLAN_HEAD; kind++) /* all of a kind, or none of it */
        for (int i = 0; ok && i < PLAN_POINTS; i++)
            ok = (m->seconds[kind * PLAN_POINTS + i] > 0) == (m->seconds[kind * PLAN_POINTS] > 0);
    ok = ok && m->seconds[0] > 0 && m->seconds[PLAN_HEAD * PLAN_POINTS] > 0;
    r->measured = true;
    bool is_at_work = w->stage >= 0 || w->next_stage >= 0; /* a plan did not wait for it */
    w->measure = ok ? MEASURE_KNOWN : is_at_work ? MEASURE_UNASKED : MEASURE_FAILED;
    if (!ok && is_at_work) {
        log_info("worker %s was given layers before it was measured: it is taken to be as fast as "
                 "others by its threads, until it has none",
                 w->name);
        return;
    }
    if (!ok) {
        char reason[300];
        registry_copy(reason, sizeof reason, m->failure[0] ? m->failure : "its numbers cannot be");
        log_warning("worker %s was not measured and is planned by its threads: %s", w->name,
                    reason);
        return;
    }
    for (int i = 0; i < (PLAN_KINDS + 1) * PLAN_POINTS; i++)
        w->speed.seconds[i / PLAN_POINTS][i % PLAN_POINTS] = m->seconds[i];
    w->slower = 0;
    w->speed.attend_s = m->attend_s;
    w->speed.attend_many_s = m->attend_many_s;
    w->read_one = m->read_one >= 0 && m->read_one < 1e15 ? m->read_one : 0;
    w->read_all = m->read_all >= 0 && m->read_all < 1e15 ? m->read_all : 0;
    log_info("worker %s measured: reads %.1f GB/s, a layer takes %.2f ms for a row, %.2f for 64",
             w->name, w->read_all / 1e9, 1000 * w->speed.seconds[0][0],
             1000 * w->speed.seconds[0][3]);
}

static void registry_on_ready(struct registry *r, struct worker_entry *w)
{
    w->state = WORKER_SERVING;
    w->last_busy_ms = clock_now_ms();
    r->stage_ready = true;
}

static int registry_compare_digests(const void *a, const void *b)
{
    return memcmp(a, b, DIGEST_BYTES);
}

static void registry_on_have(struct worker_entry *w, const Paceline__Have *have)
{
    size_t n = have->digests.len / DIGEST_BYTES;
    if (have->digests.len % DIGEST_BYTES != 0 || n > MAX_HAVE)
        return;
    unsigned char *digests = malloc(n * DIGEST_BYTES + 1);
    if (!digests)
        return;
    if (n)
        memcpy(digests, have->digests.data, n * DIGEST_BYTES);
    qsort(digests, n, DIGEST_BYTES, registry_compare_digests);
    free(w->have);
    w->have = digests;
    w->n_have = n;
}

static void registry_on_progress(struct worker_entry *w, const Paceline__Progress *p)
{
    uint64_t expected = w->next_stage >= 0 ? w->next_epoch
                        : w->stage >= 0    ? w->epoch
                                           : w->standby_epoch;
    if (p->epoch != expected)
        return;
    w->load_done = p->bytes_done;
    w->load_total = p->bytes_total;
    w->fetch_done = p->fetched_bytes;
    w->fetch_total = p->fetch_bytes;
    w->fetch_rate = p->bytes_per_second;
}

/* What it was asked to pack, and does not know or has lost, is asked for again. */
static void registry_on_standby_beat(struct worker_entry *w, const Paceline__Heartbeat *beat)
{
    if (!w->standby_epoch)
        return;
    bool holds = beat->standby_epoch == w->standby_epoch;
    w->beats_astray = beat->epoch >= w->standby_epoch ? 0 : w->beats_astray + 1;
    if ((w->standby_is_ready && !holds) || w->beats_astray == BEATS_ASTRAY)
        w->standby_epoch = 0;
    w->standby_is_ready = w->standby_epoch && holds;
}

/* Says what a lost message should have said, so that a link that breaks now and then costs time
 * and nothing else. */
static void registry_on_beat(struct registry *r, struct worker_entry *w,
                             const Paceline__Heartbeat *beat)
{
    if (w->steps != beat->steps || w->busy_us != beat->busy_us)
        w->last_busy_ms = clock_now_ms();
    clock_offset_add(&w->clock, beat->echo_us, beat->echo_received_us, beat->sent_us,
                     clock_now_us());
    w->steps = beat->steps;
    w->busy_us = beat->busy_us;
    w->sent_bytes = beat->sent_bytes;
    w->damaged_messages = beat->damaged_messages;
    w->scrubbed_bytes = beat->scrubbed_bytes;
    w->memory_used = beat->memory_bytes > 0 ? beat->memory_bytes : 0;
    w->temperature_mk = beat->temperature_mk;
    bool has_next = w->next_stage >= 0;
    if (w->stage < 0 && !has_next) {
        registry_on_standby_beat(w, beat);
        return;
    }
    w->beats_astray =
        beat->epoch >= (has_next ? w->next_epoch : w->epoch) ? 0 : w->beats_astray + 1;
    if (w->beats_astray == BEATS_ASTRAY && has_next) {
        log_warning("worker %s does not know its next stage", w->name);
        r->next_lost = true;
    } else if (w->beats_astray == BEATS_ASTRAY) {
        log_warning("worker %s does not know its stage", w->name);
        r->stage_lost = true;
        r->lost_end = WORKER_SILENT;
        snprintf(r->lost_name, sizeof r->lost_name, "%s", w->name);
    } else if (has_next && beat->ready_epoch == w->next_epoch) {
        registry_on_next_ready(r, w);
    } else if (w->state == WORKER_LOADING && beat->ready_epoch == w->epoch) {
        registry_on_ready(r, w);
    }
}

/* Somebody who takes us for the coordinator that was here before, or was taken for lost. */
static void registry_tell_unknown(struct registry *r, const struct wire_identity *from)
{
    Paceline__Unknown unknown = PACELINE__UNKNOWN__INIT;
    Paceline__Control c = PACELINE__CONTROL__INIT;
    c.body_case = PACELINE__CONTROL__BODY_UNKNOWN;
    c.unknown = &unknown;
    wire_send_control(r->socket, from, &c, NULL);
}

static void registry_on_enroll(struct registry *r, const struct wire_identity *from,
                               const Paceline__Enroll *e)
{
    char name[56];
    registry_clean_name(e->name, name);
    const char *enrolled = e->public_key.len == KEYS_BYTES
                               ? trust_enroll(r->trust, from->key, e->public_key.data, name)
                               : NULL;
    if (!enrolled)
        return;
    Paceline__Enrolled answer = PACELINE__ENROLLED__INIT;
    answer.name = (char *)enrolled;
    Paceline__Control c = PACELINE__CONTROL__INIT;
    c.body_case = PACELINE__CONTROL__BODY_ENROLLED;
    c.enrolled = &answer;
    wire_send_control(r->socket, from, &c, NULL);
}

/* With keys: whether the sender may say this. Others get no answer. */
static bool registry_admits(struct registry *r, const struct wire_identity *from,
                            const Paceline__Control *c)
{
    if (!from->has_key)
        return false;
    if (c->body_case == PACELINE__CONTROL__BODY_ENROLL) {
        registry_on_enroll(r, from, c->enroll);
        return false;
    }
    const struct worker_entry *w = registry_find(r, from);
    return trust_knows(r->trust, from->key) && (!w || keys_are_equal(w->key, from->key));
}

void registry_review_trust(struct registry *r)
{
    for (struct worker_entry *w = r->workers, *next; w; w = next) {
        next = w->next;
        if (trust_knows(r->trust, w->key))
            continue;
        Paceline__Refuse refuse = PACELINE__REFUSE__INIT;
        refuse.reason = (char *)"its key was revoked (paceline workers revoke); with a new line of "
                                "\"paceline invite\" it may come again";
        registry_send(r, w, PACELINE__CONTROL__BODY_REFUSE, &refuse);
        registry_remove(r, w, WORKER_LEFT, "was revoked");
    }
}

/* libzmq tells of an end before it hands over what came last by that connection; nobody is back so
 * soon. */
static void registry_note_connection(struct registry *r, struct worker_entry *w, int fd)
{
    if (w->disconnected_ms && fd == w->fd && clock_now_ms() - w->disconnected_ms < LAST_WORDS_MS)
        return;
    r->has_new_peers = r->has_new_peers || w->fd != fd; /* it may have missed the last ones */
    w->fd = fd;
    w->disconnected_ms = 0;
}

static void registry_on_message(struct registry *r, const struct wire_identity *from,
                                const Paceline__Control *c)
{
    if (r->trust && !registry_admits(r, from, c))
        return;
    if (c->body_case == PACELINE__CONTROL__BODY_HELLO) {
        registry_on_hello(r, from, c->hello);
        return;
    }
    struct worker_entry *w = registry_find(r, from);
    if (!w) {
        registry_tell_unknown(r, from);
        return;
    }
    w->last_heard_ms = clock_now_ms();
    registry_note_connection(r, w, from->fd);
    switch (c->body_case) {
    case PACELINE__CONTROL__BODY_HEARTBEAT:
        registry_on_beat(r, w, c->heartbeat);
        break;
    case PACELINE__CONTROL__BODY_PROGRESS:
        registry_on_progress(w, c->progress);
        break;
    case PACELINE__CONTROL__BODY_HAVE:
        registry_on_have(w, c->have);
        break;
    case PACELINE__CONTROL__BODY_READY:
        if (w->next_stage >= 0 && c->ready->epoch == w->next_epoch) {
            w->next_claimed = c->ready->memory_bytes;
            registry_copy(w->kernels, sizeof w->kernels, c->ready->kernels);
            registry_on_next_ready(r, w);
        } else if (w->stage >= 0 && c->ready->epoch == w->epoch) {
            w->memory_claimed = c->ready->memory_bytes;
            registry_copy(w->kernels, sizeof w->kernels, c->ready->kernels);
            registry_on_ready(r, w);
        } else if (w->stage < 0 && w->standby_epoch && c->ready->epoch == w->standby_epoch) {
            w->memory_claimed = c->ready->memory_bytes;
            w->standby_is_ready = true;
        }
        break;
    case PACELINE__CONTROL__BODY_MEASURED:
        registry_on_measured(r, w, c->measured);
        break;
    case PACELINE__CONTROL__BODY_PROBE:
        links_on_probe(r, w, c->probe);
        break;
    case PACELINE__CONTROL__BODY_FAILED:
        registry_on_failed(r, w, c->failed);
        break;
    case PACELINE__CONTROL__BODY_CRASHED:
        registry_on_crashed(r, w, c->crashed);
        break;
    case PACELINE__CONTROL__BODY_EXAMINED:
        examiner_take(r, w, c->examined);
        break;
    case PACELINE__CONTROL__BODY_DEPART:
        if (!w->is_leaving)
            log_info("worker %s wants to leave", w->name);
        w->is_draining = w->is_leaving = true;
        r->joined = true; /* look at the plan */
        break;
    case PACELINE__CONTROL__BODY_LEAVE:
        registry_remove(r, w, WORKER_LEFT, "left");
        break;
    default:
        log_warning("worker %s sent a message that only a coordinator sends", w->name);
        break;
    }
}

/* A process that ended says nothing, but its connection does. */
static void registry_read_monitor(struct registry *r)
{
    for (int fd; (fd = wire_ended_connection(r->monitor)) >= 0;)
        for (struct worker_entry *w = r->workers; w; w = w->next)
            if (w->fd == fd)
                w->disconnected_ms = clock_now_ms();
}

void registry_receive(struct registry *r)
{
    for (int i = 0; i < 64; i++) {
        struct wire_identity from;
        Paceline__Control *c = NULL;
        struct err err = {0};
        int rc = wire_receive_control(r->socket, &from, &c, &err);
        if (rc == 0)
            break;
        if (rc < 0) {
            const struct worker_entry *w = registry_find(r, &from);
            log_warning("from %s: %s", w ? w->name : "a stranger", err.text);
            continue;
        }
        registry_on_message(r, &from, c);
        paceline__control__free_unpacked(c, NULL);
    }
    registry_read_monitor(r);
}

void registry_keep_time(struct registry *r)
{
    int64_t now = clock_now_ms();
    /* Time in which we did not listen is nobody's silence. */
    int64_t deaf_ms = r->last_time_ms ? now - r->last_time_ms - 2 * HEARTBEAT_MS : 0;
    r->last_time_ms = now;
    for (struct worker_entry *w = r->workers, *next; w; w = next) {
        next = w->next;
        if (deaf_ms > 0)
            w->last_heard_ms += deaf_ms;
        if (deaf_ms > 0 && w->disconnected_ms)
            w->disconnected_ms += deaf_ms;
        if (now - w->last_heard_ms > r->silence_ms) {
            registry_remove(r, w, WORKER_SILENT,
                            "has been silent for too long and is taken for lost");
            continue;
        }
        if (w->disconnected_ms && now - w->disconnected_ms > RECONNECT_MS) {
            registry_remove(r, w, WORKER_ENDED, "has closed its connection and is taken for lost");
            continue;
        }
        if (w->unfit && w->unfit_until_ms && now > w->unfit_until_ms) {
            w->unfit = false;
            r->joined = true; /* look at the plan */
        }
        if (w->n_losses && now >= w->kept_out_until_ms) {
            log_info("worker %s may be used again", w->name);
            w->n_losses = 0;
            r->joined = true;
        }
        Paceline__Heartbeat beat = PACELINE__HEARTBEAT__INIT;
        beat.epoch = w->epoch;
        beat.sent_us = (uint64_t)clock_now_us();
        registry_send(r, w, PACELINE__CONTROL__BODY_HEARTBEAT, &beat);
        examiner_ask(r, w, now);
    }
    links_keep(r);
}
