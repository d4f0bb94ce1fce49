#include "worker/worker.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/version.h"
#include "proto/known_answers.h"
#include "proto/wire.h"
#include "worker/duty.h"
#include "worker/temperature.h"
#include "worker/worker_crash.h"
#include "worker/worker_door.h"
#include "worker/worker_exam.h"
#include "worker/worker_finder.h"
#include "worker/worker_join.h"
#include "worker/worker_runner.h"

#include <errno.h>
#include <inttypes.h>
#include <netdb.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define HELLO_EVERY_MS  500
#define SILENCE_MS      3000 /* without a word from the coordinator it is taken for gone */
#define REMIND_EVERY_MS 10000
#define DEPART_EVERY_MS 500
#define DEPART_MOST_MS  60000 /* then it goes, whatever depends on it */
#define OWNER_MOST_MS   1000  /* whoever comes to their own machine waits for nobody */
#define TELL_EVERY_MS   200   /* while weights are fetched */
#define LOG_EVERY_MS    5000  /* the same, for the log */
#define HAVE_EVERY_MS   1000
#define WARMTH_EVERY_MS 5000
#define LAST_WORDS_MS   200

struct worker {
    struct worker_settings *settings;
    struct worker_finder *finder;
    bool has_moved; /* the coordinator has another address: all begins anew */
    const struct kernels *kernels;
    const struct placement *placement;
    void *zmq, *control;
    struct worker_door door; /* where links are encrypted */
    int signals;
    struct worker_runner *runner;
    struct content *content;
    char models[4096], cache[4096], measures[4096];
    char data_endpoint[320];
    char kernel_text[1024];
    uint64_t incarnation;
    uint64_t newest_epoch; /* of a Load or Unload; older ones are stale */
    uint64_t told_epoch;   /* the same, and not forgotten when the coordinator is */

    struct worker_exam exam; /* the last self-test */
    bool is_examined;        /* there is one */
    bool welcome, stopping;
    bool released; /* nothing depends on it any more */
    int64_t stopping_ms, last_depart_ms;
    struct duty *duty; /* NULL: always on */
    bool is_off;       /* duty; it hands over, */
    bool is_resting;   /* or has, and is no part of the cluster */
    int heartbeat_ms;
    int64_t last_heard_ms, last_hello_ms, last_beat_ms, last_reminder_ms;
    int64_t last_warmth_ms;
    uint32_t temperature_mk; /* then; 0: not known */

    struct worker_news packed; /* how far the newest load has come */
    struct content_progress told;
    unsigned serial_before; /* of the content's loads, when this one came */
    int64_t last_told_ms, last_logged_ms, last_have_ms;
    unsigned have_generation; /* of what the coordinator was told */
    bool is_loading, has_told_have;
};

static void worker_send(struct worker *w, Paceline__Control__BodyCase kind, void *body)
{
    Paceline__Control c = PACELINE__CONTROL__INIT;
    c.body_case = kind;
    c.hello = body; /* every member of the union is a pointer */
    wire_send_control(w->control, NULL, &c, NULL);
}

static void worker_say_hello(struct worker *w)
{
    Paceline__Hello hello = PACELINE__HELLO__INIT;
    hello.protocol_version = PACELINE_PROTOCOL_VERSION;
    hello.numerics_version = PACELINE_NUMERICS_VERSION;
    hello.program_version = (char *)PACELINE_VERSION;
    hello.name = w->settings->name;
    hello.threads = (uint32_t)w->settings->threads;
    hello.isa = (char *)w->kernels->isa_name;
    hello.memory_bytes = w->settings->memory_bytes;
    hello.data_endpoint = w->data_endpoint;
    hello.incarnation = w->incarnation;
    hello.cores = (uint32_t)placement_cores(w->placement);
    hello.efficient_cores = (uint32_t)placement_efficient_cores(w->placement);
    hello.numa_nodes = (uint32_t)placement_numa_nodes(w->placement);
    hello.most_threads = hello.threads > hello.cores ? hello.threads : hello.cores;
    hello.stage = worker_runner_stage(w->runner, &hello.stages);
    hello.content_endpoint = (char *)content_endpoint(w->content);
    hello.exam = &w->exam.message;
    worker_send(w, PACELINE__CONTROL__BODY_HELLO, &hello);
    w->last_hello_ms = clock_now_ms();
}

/* The last words: given a moment to get out, for the process ends without closing anything. */
static _Noreturn void worker_say_crashed(struct worker *w, const char *fault)
{
    struct worker_counters counters;
    worker_runner_counters(w->runner, &counters);
    log_error("%s in step %" PRIu64 " of epoch %" PRIu64 ": this is a fault of the program", fault,
              counters.busy_step, counters.busy_epoch);
    Paceline__Crashed crashed = PACELINE__CRASHED__INIT;
    crashed.fault = (char *)fault;
    crashed.epoch = counters.busy_epoch;
    crashed.step = counters.busy_step;
    worker_send(w, PACELINE__CONTROL__BODY_CRASHED, &crashed);
    zmq_poll(NULL, 0, LAST_WORDS_MS);
    worker_crash_end();
}

static void worker_say_leave(struct worker *w, const char *reason)
{
    Paceline__Leave leave = PACELINE__LEAVE__INIT;
    leave.reason = (char *)reason;
    worker_send(w, PACELINE__CONTROL__BODY_LEAVE, &leave);
}

/* Anonymous memory of this process (proc(5), RssAnon). */
static int64_t worker_anonymous_bytes(void)
{
    FILE *f = fopen("/proc/self/status", "r");
    if (!f)
        return 0;
    char line[128];
    long long kib = 0;
    while (fgets(line, sizeof line, f))
        if (sscanf(line, "RssAnon: %lld kB", &kib) == 1)
            break;
    fclose(f);
    return (int64_t)kib * 1024;
}

/* Sensors are slow to read, and slow to change. */
static uint32_t worker_temperature(struct worker *w)
{
    int64_t now = clock_now_ms();
    if (!w->last_warmth_ms || now - w->last_warmth_ms >= WARMTH_EVERY_MS) {
        w->last_warmth_ms = now;
        w->temperature_mk = temperature_read("/sys/class");
    }
    return w->temperature_mk;
}

/* answered: the coordinator's beat that is answered, which came at received_us; or NULL */
static void worker_beat(struct worker *w, const Paceline__Heartbeat *answered, int64_t received_us)
{
    struct worker_counters counters;
    worker_runner_counters(w->runner, &counters);
    Paceline__Heartbeat beat = PACELINE__HEARTBEAT__INIT;
    beat.epoch = w->told_epoch;
    beat.ready_epoch = counters.epoch;
    beat.standby_epoch = counters.standby_epoch;
    beat.steps = counters.steps;
    beat.busy_us = counters.busy_us;
    beat.memory_bytes = worker_anonymous_bytes();
    beat.sent_bytes = counters.sent_bytes;
    beat.damaged_messages = counters.damaged;
    beat.scrubbed_bytes = counters.scrubbed_bytes;
    beat.temperature_mk = worker_temperature(w);
    if (answered) {
        beat.echo_us = answered->sent_us;
        beat.echo_received_us = (uint64_t)received_us;
    }
    beat.sent_us = (uint64_t)clock_now_us();
    worker_send(w, PACELINE__CONTROL__BODY_HEARTBEAT, &beat);
    w->last_beat_ms = clock_now_ms();
}

/* Another one, or the same after a restart, is told who is here. Stages are kept: it may want them.
 */
static void worker_forget_coordinator(struct worker *w)
{
    struct err err = {0};
    if (worker_runner_forget(w->runner, &err) != 0)
        log_error("%s", err.text);
    w->welcome = false;
    w->newest_epoch = 0; /* a restarted coordinator counts from the beginning */
    w->last_hello_ms = 0;
    w->has_told_have = false;
}

static void worker_tell_measured(struct worker *w, const struct worker_news *news)
{
    Paceline__Measured measured = PACELINE__MEASURED__INIT;
    struct measure_result r = news->measured;
    if (news->failure.code) {
        log_warning("no measurement: %s", news->failure.text);
        measured.failure = (char *)news->failure.text;
    } else {
        log_info("measured: %.1f GB/s with one thread, %.1f with all; prompts %.0f GOPS",
                 r.read_one / 1e9, r.read_all / 1e9, r.int8_ops / 1e9);
        measured.n_seconds = (MEASURE_KINDS + 1) * MEASURE_POINTS;
        measured.seconds = &r.seconds[0][0];
        measured.attend_s = r.attend_s;
        measured.attend_many_s = r.attend_many_s;
        measured.read_one = r.read_one;
        measured.read_all = r.read_all;
    }
    worker_send(w, PACELINE__CONTROL__BODY_MEASURED, &measured);
}

/* Of the newest load, if it makes a stage: one that is kept was fetched for another. */
static bool worker_fetching(struct worker *w, struct content_progress *ret_progress)
{
    return content_progress(w->content, ret_progress) && ret_progress->serial > w->serial_before &&
           ret_progress->epoch == w->packed.epoch;
}

static void worker_tell_progress(struct worker *w)
{
    const struct content_progress *p = &w->told;
    bool fetches = p->epoch == w->packed.epoch && p->fetched_bytes < p->fetch_bytes;
    Paceline__Progress progress = PACELINE__PROGRESS__INIT;
    progress.deployment = w->packed.deployment;
    progress.epoch = w->packed.epoch;
    progress.bytes_done = w->packed.bytes_done;
    progress.bytes_total = w->packed.bytes_total;
    progress.doing = (char *)(fetches ? "fetching weights" : "verifying and packing weights");
    if (p->epoch == w->packed.epoch) {
        progress.fetch_bytes = p->fetch_bytes;
        progress.fetched_bytes = p->fetched_bytes;
        progress.bytes_per_second = p->bytes_per_second;
    }
    worker_send(w, PACELINE__CONTROL__BODY_PROGRESS, &progress);
    w->last_told_ms = clock_now_ms();
}

/* The runner speaks between tensors; while one is fetched, for long maybe, this does. */
static void worker_watch_fetching(struct worker *w)
{
    int64_t now = clock_now_ms();
    struct content_progress p;
    if (!w->is_loading || now - w->last_told_ms < TELL_EVERY_MS || !worker_fetching(w, &p))
        return;
    bool moved = p.fetched_bytes != w->told.fetched_bytes || p.fetch_bytes != w->told.fetch_bytes;
    w->told = p;
    if (moved)
        worker_tell_progress(w);
    if (p.fetched_bytes < p.fetch_bytes && now - w->last_logged_ms >= LOG_EVERY_MS) {
        int64_t rate = p.bytes_per_second, left = p.fetch_bytes - p.fetched_bytes;
        log_info("fetching weights: %.0f of %.0f MB, %.0f MB/s, %.0f s left",
                 (double)p.fetched_bytes / 1e6, (double)p.fetch_bytes / 1e6, (double)rate / 1e6,
                 rate > 0 ? (double)left / (double)rate : 0.0);
        w->last_logged_ms = now;
    }
}

static void worker_log_fetched(struct worker *w)
{
    struct content_progress p;
    if (worker_fetching(w, &p) && p.fetched_bytes > 0)
        log_info("%.1f MB of weights were fetched, %.1f MB of them from other workers",
                 (double)p.fetched_bytes / 1e6,
                 (double)(p.fetched_bytes - p.coordinator_bytes) / 1e6);
}

/* What others can be sent here for. */
static void worker_tell_have(struct worker *w)
{
    int64_t now = clock_now_ms();
    unsigned generation = content_generation(w->content);
    if (!w->welcome || (w->has_told_have && generation == w->have_generation) ||
        now - w->last_have_ms < HAVE_EVERY_MS)
        return;
    w->last_have_ms = now;
    unsigned char(*digests)[32] = calloc(CONTENT_MAX_HAVE, sizeof *digests);
    if (!digests)
        return;
    Paceline__Have have = PACELINE__HAVE__INIT;
    have.digests.len = content_have(w->content, digests, CONTENT_MAX_HAVE) * sizeof *digests;
    have.digests.data = digests[0];
    worker_send(w, PACELINE__CONTROL__BODY_HAVE, &have);
    free(digests);
    w->has_told_have = true;
    w->have_generation = generation;
}

static void worker_on_ready(struct worker *w, const struct worker_news *news)
{
    struct worker_counters counters;
    worker_runner_counters(w->runner, &counters);
    worker_log_fetched(w);
    log_info("%s for epoch %" PRIu64 ": %.0f MiB claimed",
             news->epoch == counters.standby_epoch ? "standing by" : "ready", news->epoch,
             (double)news->memory_bytes / (1 << 20));
    Paceline__Ready ready = PACELINE__READY__INIT;
    ready.deployment = news->deployment;
    ready.epoch = news->epoch;
    ready.memory_bytes = news->memory_bytes;
    ready.kernels = w->kernel_text;
    worker_send(w, PACELINE__CONTROL__BODY_READY, &ready);
}

static void worker_on_news(struct worker *w, const struct worker_news *news)
{
    if (news->kind != WORKER_PROGRESS)
        w->is_loading = w->is_loading && news->epoch != w->packed.epoch;
    switch (news->kind) {
    case WORKER_PROGRESS:
        if (news->epoch == w->packed.epoch) {
            w->packed = *news;
            if (!worker_fetching(w, &w->told))
                w->told = (struct content_progress){0};
            worker_tell_progress(w);
        }
        break;
    case WORKER_READY:
        worker_on_ready(w, news);
        break;
    case WORKER_MEASURED:
        worker_tell_measured(w, news);
        break;
    case WORKER_EXAMINED:
        worker_exam_set(&w->exam, &news->exam);
        w->is_examined = true;
        if (w->welcome)
            worker_send(w, PACELINE__CONTROL__BODY_EXAMINED, &w->exam.message);
        break;
    case WORKER_FAILED: {
        log_error("%s", news->failure.text);
        Paceline__Failed failed = PACELINE__FAILED__INIT;
        failed.deployment = news->deployment;
        failed.epoch = news->epoch;
        failed.code = news->failure.code;
        failed.step = news->step;
        failed.reason = (char *)news->failure.text;
        worker_send(w, PACELINE__CONTROL__BODY_FAILED, &failed);
        break;
    }
    case WORKER_LOADED:
        break;
    }
}

static int worker_on_load(struct worker *w, Paceline__Control **c, struct err *err)
{
    const Paceline__Load *load = (*c)->load;
    if (load->epoch < w->newest_epoch)
        return 0;
    w->newest_epoch = w->told_epoch = load->epoch;
    if (load->standby)
        log_info("epoch %" PRIu64 ": standby, packs layers %u to %u of %s beforehand", load->epoch,
                 load->first_layer, load->end_layer - 1, load->model_file);
    else
        log_info("epoch %" PRIu64 ": stage %u of %u, layers %u to %u of %s", load->epoch,
                 load->stage + 1, load->n_stages, load->first_layer, load->end_layer - 1,
                 load->model_file);
    w->packed = (struct worker_news){.deployment = load->deployment, .epoch = load->epoch};
    struct content_progress before;
    w->serial_before = content_progress(w->content, &before) ? before.serial : 0;
    w->told = (struct content_progress){0};
    w->is_loading = true;
    w->last_logged_ms = clock_now_ms();
    int rc = w->settings->is_encrypted ? worker_door_on_load(&w->door, load, err) : 0;
    if (rc == 0)
        rc = worker_runner_load(w->runner, *c, err);
    if (rc == 0)
        *c = NULL; /* the runner's now */
    return rc;
}

/* A beacon was right: the next start goes there at once. */
static void worker_keep_address(struct worker *w)
{
    struct err err = {0};
    if (w->settings->is_hearsay && w->settings->is_encrypted &&
        worker_join_keep_address(w->settings, &err) != 0)
        log_warning("%s", err.text);
    w->settings->is_hearsay = false;
}

static int worker_on_peers(struct worker *w, const Paceline__Peers *peers, struct err *err)
{
    if (!w->settings->is_encrypted)
        return 0;
    int rc = worker_door_on_peers(&w->door, peers->keys, peers->n_keys, err);
    return rc == 0 ? content_let_in(w->content, w->door.peers, w->door.n_peers, err) : rc;
}

static int worker_on_message(struct worker *w, Paceline__Control **c, struct err *err)
{
    w->last_heard_ms = clock_now_ms();
    switch ((*c)->body_case) {
    case PACELINE__CONTROL__BODY_WELCOME:
        if (w->is_resting) { /* the answer to a hello from before */
            worker_say_leave(w, "off duty");
            return 0;
        }
        if (!w->welcome)
            log_info("joined %s:%d as %s, %" PRId64 " threads, %s", w->settings->coordinator_host,
                     w->settings->coordinator_port, (*c)->welcome->name, w->settings->threads,
                     w->kernels->isa_name);
        if (!w->welcome && w->settings->name && strcmp(w->settings->name, (*c)->welcome->name) != 0)
            log_info("the cluster knows this worker as %s, not %s: the name is that of its first "
                     "start, or another's",
                     (*c)->welcome->name, w->settings->name);
        if ((*c)->welcome->kept_out_ms)
            log_warning("this worker was lost %u times in a row: the coordinator plans without it "
                        "for %.0f s",
                        (*c)->welcome->losses, (*c)->welcome->kept_out_ms / 1000.0);
        w->welcome = true;
        w->released = false;
        worker_keep_address(w);
        w->heartbeat_ms = (*c)->welcome->heartbeat_ms >= 10 && (*c)->welcome->heartbeat_ms < 60000
                              ? (int)(*c)->welcome->heartbeat_ms
                              : 250;
        return 0;
    case PACELINE__CONTROL__BODY_REFUSE:
        return err_set(err, ERR_NETWORK, "the coordinator refuses this worker: %s",
                       (*c)->refuse->reason);
    case PACELINE__CONTROL__BODY_LOAD:
        return w->is_resting ? 0 : worker_on_load(w, c, err);
    case PACELINE__CONTROL__BODY_MEASURE:
        return w->is_resting ? 0 : worker_runner_measure(w->runner, (*c)->measure, err);
    case PACELINE__CONTROL__BODY_EXAMINE:
        return worker_runner_examine(w->runner, (*c)->examine->round, err);
    case PACELINE__CONTROL__BODY_EXPELLED:
        log_error("the coordinator has expelled this worker: %s", (*c)->expelled->reason);
        return 0;
    case PACELINE__CONTROL__BODY_PROBE:
        worker_send(w, PACELINE__CONTROL__BODY_PROBE, (*c)->probe);
        return 0;
    case PACELINE__CONTROL__BODY_PEERS:
        return worker_on_peers(w, (*c)->peers, err);
    case PACELINE__CONTROL__BODY_UNLOAD:
        if ((*c)->unload->epoch > w->newest_epoch)
            w->newest_epoch = w->told_epoch = (*c)->unload->epoch;
        return worker_runner_unload(w->runner, (*c)->unload->epoch, (*c)->unload->only,
                                    (*c)->unload->standby, err);
    case PACELINE__CONTROL__BODY_HEARTBEAT:
        if (w->welcome)
            worker_beat(w, (*c)->heartbeat, clock_now_us());
        return 0;
    case PACELINE__CONTROL__BODY_UNKNOWN:
        if (w->welcome)
            worker_forget_coordinator(w);
        return 0;
    case PACELINE__CONTROL__BODY_RELEASED:
        w->released = true;
        return 0;
    default:
        return 0;
    }
}

static int worker_receive(struct worker *w, struct err *err)
{
    for (int i = 0; i < 64; i++) {
        Paceline__Control *c = NULL;
        struct err refused = {0};
        int rc = wire_receive_control(w->control, NULL, &c, &refused);
        if (rc == 0)
            return 0;
        if (rc < 0) {
            log_warning("from the coordinator: %s", refused.text);
            continue;
        }
        rc = worker_on_message(w, &c, err);
        if (c)
            paceline__control__free_unpacked(c, NULL);
        if (rc != 0)
            return rc;
    }
    return 0;
}

/* Keeps the coordinator informed, and notices when it is gone: then hello starts over. */
static void worker_keep_time(struct worker *w)
{
    int64_t now = clock_now_ms();
    if (w->welcome && now - w->last_heard_ms > SILENCE_MS) {
        log_warning("no word from the coordinator for %d s: knocking again", SILENCE_MS / 1000);
        worker_forget_coordinator(w);
    }
    if (w->is_resting)
        return;
    if (!w->welcome && w->is_examined && now - w->last_hello_ms >= HELLO_EVERY_MS)
        worker_say_hello(w);
    if (!w->welcome && now - w->last_reminder_ms >= REMIND_EVERY_MS) {
        if (w->last_reminder_ms)
            log_info("still waiting for a coordinator at %s:%d: is it running, and %s?",
                     w->settings->coordinator_host, w->settings->coordinator_port,
                     w->settings->is_encrypted ? "is this worker still on its list"
                                               : "are its links plain, as here");
        w->last_reminder_ms = now;
    }
    if (w->welcome && now - w->last_beat_ms >= w->heartbeat_ms)
        worker_beat(w, NULL, 0);
    worker_watch_fetching(w);
    worker_tell_have(w);
}

/* After some seconds without a coordinator where it should be, beacons count. */
static void worker_look_around(struct worker *w)
{
    struct worker_settings *s = w->settings;
    char host[BEACON_HOST];
    int port;
    if (w->welcome || w->is_resting || clock_now_ms() - w->last_heard_ms < SILENCE_MS ||
        !worker_finder_look(w->finder, s, host, &port))
        return;
    log_info("a beacon says that the coordinator is at %s:%d", host, port);
    snprintf(s->coordinator_host, sizeof s->coordinator_host, "%s", host);
    s->coordinator_port = port;
    s->is_hearsay = true;
    w->has_moved = true;
}

static void worker_read_signals(struct worker *w)
{
    struct signalfd_siginfo info;
    while (read(w->signals, &info, sizeof info) == sizeof info) {
        if (w->stopping)
            _exit(128 + (int)info.ssi_signo); /* asked twice */
        w->stopping = true;
        w->stopping_ms = clock_now_ms();
    }
}

/* true: nothing keeps it here. Until then it computes as before, while the others get ready to do
 * without it. */
static bool worker_may_leave(struct worker *w)
{
    int64_t now = clock_now_ms(), most_ms = w->stopping ? DEPART_MOST_MS : OWNER_MOST_MS;
    struct worker_counters counters;
    worker_runner_counters(w->runner, &counters);
    if (!w->welcome || w->released || !counters.epoch || now - w->stopping_ms > most_ms)
        return true;
    if (now - w->last_depart_ms >= DEPART_EVERY_MS) {
        if (!w->last_depart_ms && w->stopping)
            log_info("leaving as soon as the others can do without this worker; once more leaves "
                     "at once");
        Paceline__Depart depart = PACELINE__DEPART__INIT;
        worker_send(w, PACELINE__CONTROL__BODY_DEPART, &depart);
        w->last_depart_ms = now;
    }
    return false;
}

/* Off duty: hands over for a moment, leaves, gives the memory back and rests; on duty: knocks. */
static int worker_heed_duty(struct worker *w, struct err *err)
{
    char why[96];
    bool is_on = duty_is_on(w->duty, why);
    if (!is_on && !w->is_off) {
        w->is_off = true;
        w->stopping_ms = clock_now_ms();
        w->last_depart_ms = 0;
        log_info("off duty: %s", why);
    }
    if (w->is_off && !w->is_resting && worker_may_leave(w)) {
        w->is_resting = true;
        if (w->welcome)
            worker_say_leave(w, why);
        w->welcome = w->has_told_have = false;
        return worker_runner_unload(w->runner, w->told_epoch, false, true, err);
    }
    if (is_on && w->is_resting) {
        w->is_off = w->is_resting = false;
        worker_forget_coordinator(w);
        log_info("on duty again: %s", why);
    }
    return 0;
}

static int worker_loop(struct worker *w, struct err *err)
{
    zmq_pollitem_t items[] = {{.socket = w->control, .events = ZMQ_POLLIN},
                              {.socket = worker_runner_socket(w->runner), .events = ZMQ_POLLIN},
                              {.fd = w->signals, .events = ZMQ_POLLIN},
                              {.socket = w->door.zap.socket, .events = ZMQ_POLLIN}};
    const bool has_door = w->door.zap.socket != NULL;
    w->last_heard_ms = clock_now_ms();
    while ((!w->stopping || !worker_may_leave(w)) && !w->has_moved) {
        int rc = worker_heed_duty(w, err);
        if (rc != 0)
            return rc;
        worker_keep_time(w);
        worker_look_around(w);
        if (zmq_poll(items, has_door ? 4 : 3, 50) < 0 && errno != EINTR)
            return err_set(err, ERR_INTERNAL, "zmq_poll: %s", zmq_strerror(errno));
        worker_read_signals(w);
        if (worker_crash_name())
            worker_say_crashed(w, worker_crash_name());
        struct worker_news news;
        while (worker_runner_next_news(w->runner, &news))
            worker_on_news(w, &news);
        rc = worker_receive(w, err);
        if (rc != 0)
            return rc;
        if (has_door) /* now that the newest plan is known */
            worker_door_serve(&w->door);
    }
    if (w->has_moved)
        return 0;
    log_info("leaving");
    worker_say_leave(w, "stopped");
    return 0;
}

/* The address of ours that faces the coordinator, as its neighbours can reach it. */
static int worker_facing_address(const char *host, int port, char *ret_address, size_t size,
                                 struct err *err)
{
    char service[16];
    snprintf(service, sizeof service, "%d", port);
    struct addrinfo hints = {.ai_socktype = SOCK_DGRAM}, *found = NULL;
    int rc = getaddrinfo(host, service, &hints, &found);
    if (rc != 0)
        return err_set(err, ERR_NETWORK, "coordinator %s: %s", host, gai_strerror(rc));
    struct sockaddr_storage own;
    socklen_t own_size = sizeof own;
    int s = socket(found->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    bool known = s >= 0 && connect(s, found->ai_addr, found->ai_addrlen) == 0 &&
                 getsockname(s, (struct sockaddr *)&own, &own_size) == 0 &&
                 getnameinfo((struct sockaddr *)&own, own_size, ret_address, (socklen_t)size, NULL,
                             0, NI_NUMERICHOST) == 0;
    int why = errno;
    if (s >= 0)
        close(s);
    freeaddrinfo(found);
    if (!known)
        return err_set(err, ERR_NETWORK, "no route to the coordinator %s: %s", host, strerror(why));
    return 0;
}

static void worker_folder(const char *name, char *to, size_t size)
{
    const char *home = getenv("PACELINE_HOME"), *user = getenv("HOME");
    if (home && home[0])
        snprintf(to, size, "%s/%s", home, name);
    else
        snprintf(to, size, "%s/.cache/paceline/%s", user ? user : "", name);
}

static void worker_log_content(bool is_fault, const char *text)
{
    if (is_fault)
        log_warning("%s", text);
    else
        log_info("%s", text);
}

static int worker_open_content(struct worker *w, const char *listen, const char *told,
                               struct err *err)
{
    const struct worker_settings *s = w->settings;
    if (s->models)
        snprintf(w->models, sizeof w->models, "%s", s->models);
    else
        worker_folder("models", w->models, sizeof w->models);
    worker_folder("content", w->cache, sizeof w->cache);
    struct content_spec spec = {.zmq = w->zmq,
                                .own = s->is_encrypted ? &s->own : NULL,
                                .coordinator_host = s->coordinator_host,
                                .host = listen,
                                .advertised_host = told,
                                .models_dir = w->models,
                                .cache_dir = s->ship ? w->cache : NULL,
                                .cache_bytes = s->cache_bytes,
                                .ignores_files = !s->model_files,
                                .ships = s->ship,
                                .tell = worker_log_content};
    return content_open(&w->content, &spec, err);
}

static int worker_open_runner(struct worker *w, struct err *err)
{
    const struct worker_settings *s = w->settings;
    char facing[256];
    int rc =
        worker_facing_address(s->coordinator_host, s->coordinator_port, facing, sizeof facing, err);
    if (rc != 0)
        return rc;
    const char *listen = s->data ? s->data_host : facing;
    const char *host = s->advertise                                ? s->advertise_host
                       : worker_settings_is_wildcard(s->data_host) ? facing
                                                                   : listen;
    rc = worker_open_content(w, listen, host, err);
    if (rc != 0)
        return rc;
    worker_folder("measures", w->measures, sizeof w->measures);
    struct worker_runner_spec spec = {.zmq = w->zmq,
                                      .kernels = w->kernels,
                                      .threads = (int)s->threads,
                                      .placement = s->pin ? w->placement : NULL,
                                      .memory_bytes = s->memory_bytes,
                                      .scrub_bytes_per_s = s->scrub_gb_per_hour * 1e9 / 3600,
                                      .content = w->content,
                                      .measures_dir = w->measures,
                                      .coordinator_host = s->coordinator_host,
                                      .own = s->is_encrypted ? &s->own : NULL,
                                      .data_host = listen,
                                      .data_port = s->data_port,
                                      .first_exam = (uint32_t)(w->incarnation % KNOWN_ANSWERS)};
    rc = worker_runner_start(&w->runner, &spec, err);
    if (rc != 0)
        return rc;
    int port = worker_runner_data_port(w->runner);
    if (s->advertise)
        port = s->advertise_port ? s->advertise_port : port;
    bool bare = strchr(host, ':') != NULL;
    snprintf(w->data_endpoint, sizeof w->data_endpoint, "tcp://%s%s%s:%d", bare ? "[" : "", host,
             bare ? "]" : "", port);
    return 0;
}

static int worker_open(struct worker *w, struct err *err)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    pthread_sigmask(SIG_BLOCK, &set, NULL); /* before threads exist: they inherit it */
    signal(SIGXFSZ, SIG_IGN);               /* a limit of file sizes is like a full disk */
    worker_crash_watch();
    w->signals = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    if (w->signals < 0)
        return err_set(err, ERR_IO, "signalfd: %s", strerror(errno));
    if (getrandom(&w->incarnation, sizeof w->incarnation, 0) != sizeof w->incarnation)
        return err_set(err, ERR_IO, "getrandom: %s", strerror(errno));
    kernels_describe(w->kernels, w->kernel_text, sizeof w->kernel_text);
    const struct worker_settings *s = w->settings;
    const struct wire_security security = {.own = &s->own, .server_key = s->coordinator_key};
    int rc = wire_context(&w->zmq, err);
    if (rc == 0 && s->is_encrypted)
        rc = worker_door_open(&w->door, w->zmq, s->coordinator_key, err);
    if (rc == 0)
        rc = wire_socket(&w->control, w->zmq, ZMQ_DEALER, s->is_encrypted ? &security : NULL, err);
    if (rc != 0)
        return rc;
    /* A name of its own, so that a reconnected socket is still the same worker. */
    unsigned char identity[1 + sizeof w->incarnation] = {'w'};
    memcpy(identity + 1, &w->incarnation, sizeof w->incarnation);
    zmq_setsockopt(w->control, ZMQ_ROUTING_ID, identity, sizeof identity);
    char endpoint[320];
    bool bare = strchr(s->coordinator_host, ':') != NULL;
    snprintf(endpoint, sizeof endpoint, "tcp://%s%s%s:%d", bare ? "[" : "", s->coordinator_host,
             bare ? "]" : "", s->coordinator_port);
    const int linger_ms = 500; /* so that a Leave gets out */
    const int high_water = 64; /* so that a night without coordinator does not end in a flood */
    zmq_setsockopt(w->control, ZMQ_LINGER, &linger_ms, sizeof linger_ms);
    zmq_setsockopt(w->control, ZMQ_SNDHWM, &high_water, sizeof high_water);
    if (zmq_connect(w->control, endpoint) != 0)
        return err_set(err, ERR_NETWORK, "coordinator address %s: %s", endpoint,
                       zmq_strerror(errno));
    return worker_open_runner(w, err);
}

static int worker_start_duty(struct worker *w, struct err *err)
{
    const struct worker_settings *s = w->settings;
    struct duty_rules rules = {.only_idle = s->policy_choice == WORKER_IDLE,
                               .has_hours = s->hours != NULL,
                               .idle_load = (double)s->idle_load / 100,
                               .idle_after_ms = 1000 * s->idle_after_s,
                               .probe = s->idle_probe};
    int rc = s->hours ? hours_read(&rules.hours, s->hours, err) : 0;
    if (rc == 0 && (rules.only_idle || rules.has_hours))
        rc = duty_start(&w->duty, &rules, err);
    return rc;
}

/* Nobody reads them any more: a signal that comes while all is closed ends the program at once. */
static void worker_end_signals(struct worker *w)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    close(w->signals);
    w->signals = -1;
}

static int worker_run_at(struct worker_settings *settings, const struct kernels *kernels,
                         const struct placement *placement, struct worker_finder *finder,
                         bool *ret_has_moved, struct err *err)
{
    struct worker w = {.settings = settings,
                       .finder = finder,
                       .kernels = kernels,
                       .placement = placement,
                       .signals = -1,
                       .heartbeat_ms = 250};
    int rc = worker_open(&w, err);
    if (rc == 0)
        rc = worker_start_duty(&w, err);
    if (rc == 0)
        rc = worker_loop(&w, err);
    duty_stop(w.duty);
    if (w.signals >= 0)
        worker_end_signals(&w);
    worker_runner_stop(w.runner);
    content_close(w.content);
    if (w.control)
        zmq_close(w.control);
    worker_door_close(&w.door);
    if (w.zmq)
        zmq_ctx_term(w.zmq);
    *ret_has_moved = w.has_moved;
    return rc;
}

int worker_run(struct worker_settings *settings, const struct kernels *kernels,
               const struct placement *placement, struct err *err)
{
    struct worker_finder finder = {0};
    bool has_moved = true;
    int rc = 0;
    worker_finder_open(&finder, settings);
    while (rc == 0 && has_moved) {
        rc = worker_run_at(settings, kernels, placement, &finder, &has_moved, err);
    }
    worker_finder_close(&finder);
    return rc;
}
