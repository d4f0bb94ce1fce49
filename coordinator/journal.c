#include "coordinator/journal.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

enum { JOURNAL_LAZY_MS = 250, JOURNAL_RETRY_MS = 2000, JOURNAL_STALL_MS = 2000 };
/* Bytes that may wait for a disk that cannot be written. */
#define JOURNAL_MOST_QUEUED ((size_t)64 << 20)

struct journal_queue {
    struct journal_note *first, *last;
    size_t bytes;
    uint64_t ticket; /* of the newest in it, or of what came before */
};

struct journal {
    struct journal_file *file; /* the thread's, once it runs */
    pthread_t thread;
    bool has_thread;
    int wake_fd;
    atomic_uint_least64_t settled;

    pthread_mutex_t lock; /* of all below */
    pthread_cond_t changed;
    struct journal_queue queue;
    size_t bytes_under_way; /* that the thread has taken and not written */
    bool is_urgent, is_closing, is_writing;
    struct timespec overdue; /* when what is being written has taken too long */
    enum journal_state state;
    struct err why;
};

/* ---- notes ---- */

static void journal_free_notes(struct journal_note *n)
{
    while (n) {
        struct journal_note *next = n->next;
        free(n);
        n = next;
    }
}

static size_t journal_text_bytes(const char *text)
{
    return text ? strlen(text) + 1 : 0;
}

/* A note with room for its data behind it. */
static struct journal_note *journal_note_new(enum journal_kind kind, const char *id, size_t room)
{
    struct journal_note *n = malloc(sizeof *n + room);
    if (!n)
        return NULL;
    memset(n, 0, sizeof *n);
    n->kind = kind;
    assert(strlen(id) < sizeof n->id);
    memcpy(n->id, id, strlen(id) + 1);
    return n;
}

static const void *journal_copy(char **to, const void *from, size_t length)
{
    char *copy = *to;
    if (length)
        memcpy(copy, from, length);
    *to += length;
    return copy;
}

static const char *journal_copy_text(char **to, const char *text)
{
    return journal_copy(to, text, strlen(text) + 1);
}

/* Takes the note (NULL: there was no memory for it). */
static void journal_put(struct journal *j, struct journal_note *n, size_t bytes)
{
    pthread_mutex_lock(&j->lock);
    struct journal_queue *q = &j->queue;
    q->ticket++;
    bytes += sizeof *n;
    if (j->state != JOURNAL_LOST &&
        (!n || q->bytes + j->bytes_under_way + bytes > JOURNAL_MOST_QUEUED)) {
        j->state = JOURNAL_LOST;
        err_set(&j->why, ERR_IO, "%s: the journal is given up",
                n ? "more waits to be written than is kept in memory" : "no memory for a change");
    }
    if (j->state == JOURNAL_LOST) {
        free(n);
    } else {
        *(q->last ? &q->last->next : &q->first) = n;
        q->last = n;
        q->bytes += bytes;
    }
    pthread_mutex_unlock(&j->lock);
}

uint64_t journal_hurry(struct journal *j)
{
    pthread_mutex_lock(&j->lock);
    uint64_t ticket = j->queue.ticket;
    j->is_urgent = true;
    pthread_cond_signal(&j->changed);
    pthread_mutex_unlock(&j->lock);
    return ticket;
}

void journal_add(struct journal *j, const struct journal_call *call)
{
    const char *const texts[] = {call->path, call->tenant, call->request_id, call->bits};
    size_t room = call->body_length + call->prompts_length;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        room += journal_text_bytes(texts[i]);
    struct journal_note *n = journal_note_new(JOURNAL_CALL, call->id, room);
    if (n) {
        char *to = (char *)(n + 1);
        n->call = *call;
        n->call.id = n->id;
        n->call.path = journal_copy_text(&to, call->path);
        n->call.tenant = journal_copy_text(&to, call->tenant);
        n->call.request_id = journal_copy_text(&to, call->request_id);
        n->call.bits = journal_copy_text(&to, call->bits);
        n->call.body = journal_copy(&to, call->body, call->body_length);
        n->call.prompts = journal_copy(&to, call->prompts, call->prompts_length);
    }
    journal_put(j, n, room);
}

void journal_add_tokens(struct journal *j, const char *id, int choice, int64_t at, const void *data,
                        size_t length)
{
    struct journal_note *n = journal_note_new(JOURNAL_TOKENS, id, length);
    if (n) {
        char *to = (char *)(n + 1);
        n->choice = choice;
        n->at = at;
        n->data = journal_copy(&to, data, length);
        n->length = length;
    }
    journal_put(j, n, length);
}

void journal_restarts(struct journal *j, const char *id, int n_restarts)
{
    struct journal_note *n = journal_note_new(JOURNAL_RESTARTS, id, 0);
    if (n)
        n->n_restarts = n_restarts;
    journal_put(j, n, 0);
}

void journal_end(struct journal *j, const char *id, const struct journal_end *end)
{
    size_t room = journal_text_bytes(end->failure);
    struct journal_note *n = journal_note_new(JOURNAL_END, id, room);
    if (n) {
        char *to = (char *)(n + 1);
        n->end = *end;
        n->end.failure = journal_copy_text(&to, end->failure);
    }
    journal_put(j, n, room);
}

void journal_remove(struct journal *j, const char *id)
{
    journal_put(j, journal_note_new(JOURNAL_REMOVE, id, 0), 0);
}

/* ---- the thread ---- */

/* Under the lock. What has settled stays so. */
static void journal_settle(struct journal *j, uint64_t ticket)
{
    uint64_t one = 1;
    if (atomic_load(&j->settled) >= ticket)
        return;
    atomic_store(&j->settled, ticket);
    (void)!write(j->wake_fd, &one, sizeof one);
}

static struct timespec journal_time_in(int64_t ms)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    t.tv_sec += ms / 1000;
    t.tv_nsec += ms % 1000 * 1000000;
    if (t.tv_nsec >= 1000000000) {
        t.tv_sec++;
        t.tv_nsec -= 1000000000;
    }
    return t;
}

/* Under the lock. Until there is something urgent, or the time is over. */
static void journal_rest(struct journal *j, int64_t ms)
{
    struct timespec until = journal_time_in(ms);
    while (!j->is_urgent && !j->is_closing &&
           pthread_cond_timedwait(&j->changed, &j->lock, &until) != ETIMEDOUT)
        continue;
}

/* Under the lock: the queue is the thread's now. */
static struct journal_queue journal_take_queue(struct journal *j)
{
    struct journal_queue taken = j->queue;
    j->queue = (struct journal_queue){.ticket = taken.ticket};
    j->bytes_under_way = taken.bytes;
    j->is_urgent = false;
    return taken;
}

/* Under the lock: it could not be written, and comes before what was queued meanwhile. */
static void journal_return_queue(struct journal *j, const struct journal_queue *taken,
                                 const struct err *why)
{
    if (j->state != JOURNAL_LOST) {
        j->state = JOURNAL_WAITS;
        j->why = *why;
    }
    taken->last->next = j->queue.first;
    if (!j->queue.last)
        j->queue.last = taken->last;
    j->queue.first = taken->first;
    j->queue.bytes += taken->bytes;
}

/* Under the lock, which it gives away meanwhile. false: nothing could be written. */
static bool journal_write_queue(struct journal *j)
{
    struct err why = {0};
    struct journal_queue taken = journal_take_queue(j);
    if (taken.first) {
        j->is_writing = true;
        j->overdue = journal_time_in(JOURNAL_STALL_MS);
        pthread_mutex_unlock(&j->lock);
        int rc = journal_file_write(j->file, taken.first, &why);
        pthread_mutex_lock(&j->lock);
        j->is_writing = false;
        j->bytes_under_way = 0;
        if (rc != 0) {
            journal_return_queue(j, &taken, &why);
            journal_settle(j, j->queue.ticket);
            return false;
        }
        journal_free_notes(taken.first);
    }
    if (j->state == JOURNAL_WAITS)
        j->state = JOURNAL_WORKS;
    journal_settle(j, j->state == JOURNAL_LOST ? j->queue.ticket : taken.ticket);
    return true;
}

/* A file that cannot be written is left alone for a while; who waits for a ticket is not. */
static void journal_wait_for_disk(struct journal *j)
{
    struct timespec until = journal_time_in(JOURNAL_RETRY_MS);
    int rc = 0;
    while (!j->is_closing && rc != ETIMEDOUT) {
        rc = pthread_cond_timedwait(&j->changed, &j->lock, &until);
        journal_settle(j, j->queue.ticket);
    }
}

static void *journal_main(void *context)
{
    struct journal *j = context;
    bool is_well = true;
    pthread_mutex_lock(&j->lock);
    while (!j->is_closing) {
        if (is_well)
            journal_rest(j, JOURNAL_LAZY_MS);
        else
            journal_wait_for_disk(j);
        is_well = journal_write_queue(j);
    }
    if (is_well)
        journal_write_queue(j);
    pthread_mutex_unlock(&j->lock);
    return NULL;
}

/* ---- life ---- */

static int journal_start(struct journal *j, struct err *err)
{
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&j->lock, NULL);
    pthread_cond_init(&j->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    j->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (j->wake_fd < 0)
        return err_set(err, ERR_IO, "eventfd: %s", strerror(errno));
    int failed = pthread_create(&j->thread, NULL, journal_main, j);
    if (failed)
        return err_set(err, ERR_MEMORY, "no thread for the journal: %s", strerror(failed));
    pthread_setname_np(j->thread, "journal");
    j->has_thread = true;
    return 0;
}

int journal_open(struct journal **ret_journal, const char *path,
                 const struct journal_reader *reader, struct err *err)
{
    struct journal *j = calloc(1, sizeof *j);
    if (!j)
        return err_set(err, ERR_MEMORY, "no memory for the journal");
    j->wake_fd = -1;
    int rc = journal_file_open(&j->file, path, err);
    if (rc == 0)
        rc = journal_file_load(j->file, reader, err);
    if (rc == 0)
        rc = journal_start(j, err);
    if (rc != 0) {
        journal_close(j);
        return rc;
    }
    *ret_journal = j;
    return 0;
}

void journal_close(struct journal *j)
{
    if (!j)
        return;
    if (j->has_thread) {
        pthread_mutex_lock(&j->lock);
        j->is_closing = true;
        pthread_cond_signal(&j->changed);
        pthread_mutex_unlock(&j->lock);
        pthread_join(j->thread, NULL);
        pthread_cond_destroy(&j->changed);
        pthread_mutex_destroy(&j->lock);
    }
    journal_free_notes(j->queue.first);
    journal_file_close(j->file);
    if (j->wake_fd >= 0)
        close(j->wake_fd);
    free(j);
}

/* ---- how it stands ---- */

uint64_t journal_settled(const struct journal *j)
{
    return atomic_load(&j->settled);
}

int journal_fd(const struct journal *j)
{
    return j->wake_fd;
}

void journal_take_wake(struct journal *j)
{
    uint64_t count;
    (void)!read(j->wake_fd, &count, sizeof count);
}

/* Under the lock: nobody waits for a disk that does not answer. */
static void journal_check_stall(struct journal *j)
{
    struct timespec now = journal_time_in(0), due = j->overdue;
    if (!j->is_writing ||
        (now.tv_sec == due.tv_sec ? now.tv_nsec < due.tv_nsec : now.tv_sec < due.tv_sec))
        return;
    if (j->state == JOURNAL_WORKS) {
        j->state = JOURNAL_WAITS;
        err_set(&j->why, ERR_IO, "the disk has not taken what was written for %d s",
                JOURNAL_STALL_MS / 1000);
    }
    journal_settle(j, j->queue.ticket);
}

enum journal_state journal_trouble(struct journal *j, struct err *ret_why)
{
    pthread_mutex_lock(&j->lock);
    journal_check_stall(j);
    enum journal_state state = j->state;
    *ret_why = j->why;
    pthread_mutex_unlock(&j->lock);
    return state;
}
