#include "coordinator/plan_desk.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define PLAN_DESK_WAITING 16

struct plan_desk {
    pthread_t thread;
    bool has_thread;
    int wake_fd;
    atomic_bool has_done;   /* done is not empty: looked at without the lock */
    pthread_mutex_t lock;   /* of all below, the owners of the jobs among it */
    pthread_cond_t changed; /* waiting, is_closing */
    struct plan_job *waiting /* in the order in which they came */, *making, *done;
    bool is_closing;
};

struct plan_job *plan_job_new(void)
{
    return calloc(1, sizeof(struct plan_job));
}

void plan_job_free(struct plan_job *j)
{
    if (!j)
        return;
    model_shape_clear(&j->shape);
    json_decref(j->words);
    free(j);
}

static void plan_desk_free_list(struct plan_job *first)
{
    while (first) {
        struct plan_job *next = first->next;
        plan_job_free(first);
        first = next;
    }
}

/* ---- the thread ---- */

/* With the lock held, which is let go meanwhile. */
static void plan_desk_make(struct plan_desk *d)
{
    const uint64_t one = 1;
    struct plan_job *j = d->waiting;
    d->waiting = j->next;
    d->making = j;
    pthread_mutex_unlock(&d->lock);
    j->rc = plan_report_fill(&j->report, &j->err);
    pthread_mutex_lock(&d->lock);
    d->making = NULL;
    j->next = d->done;
    d->done = j;
    atomic_store(&d->has_done, true);
    (void)!write(d->wake_fd, &one, sizeof one);
}

static void *plan_desk_main(void *data)
{
    struct plan_desk *d = data;
    pthread_mutex_lock(&d->lock);
    while (!d->is_closing) {
        if (d->waiting)
            plan_desk_make(d);
        else
            pthread_cond_wait(&d->changed, &d->lock);
    }
    pthread_mutex_unlock(&d->lock);
    return NULL;
}

/* ---- its clients ---- */

int plan_desk_open(struct plan_desk **ret_desk, struct err *err)
{
    struct plan_desk *d = calloc(1, sizeof *d);
    if (!d)
        return err_set(err, ERR_MEMORY, "no memory for plans");
    pthread_mutex_init(&d->lock, NULL);
    pthread_cond_init(&d->changed, NULL);
    d->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (d->wake_fd < 0) {
        plan_desk_close(d);
        return err_set(err, ERR_IO, "no event for plans: too many files are open");
    }
    *ret_desk = d;
    return 0;
}

void plan_desk_close(struct plan_desk *d)
{
    if (!d)
        return;
    if (d->has_thread) {
        pthread_mutex_lock(&d->lock);
        d->is_closing = true;
        pthread_cond_signal(&d->changed);
        pthread_mutex_unlock(&d->lock);
        pthread_join(d->thread, NULL);
    }
    plan_desk_free_list(d->waiting);
    plan_desk_free_list(d->done);
    if (d->wake_fd >= 0)
        close(d->wake_fd);
    pthread_cond_destroy(&d->changed);
    pthread_mutex_destroy(&d->lock);
    free(d);
}

static int plan_desk_start(struct plan_desk *d, struct err *err)
{
    int failed = d->has_thread ? 0 : pthread_create(&d->thread, NULL, plan_desk_main, d);
    if (failed)
        return err_set(err, ERR_MEMORY, "There is no thread to plan: %s.", strerror(failed));
    if (!d->has_thread)
        pthread_setname_np(d->thread, "plan");
    d->has_thread = true;
    return 0;
}

int plan_desk_add(struct plan_desk *d, struct plan_job *j, struct err *err)
{
    int n = 0, rc = plan_desk_start(d, err);
    if (rc != 0)
        return rc;
    pthread_mutex_lock(&d->lock);
    struct plan_job **end = &d->waiting;
    for (; *end; end = &(*end)->next)
        n++;
    if (n < PLAN_DESK_WAITING) {
        j->next = NULL;
        *end = j;
        pthread_cond_signal(&d->changed);
    }
    pthread_mutex_unlock(&d->lock);
    return n < PLAN_DESK_WAITING
               ? 0
               : err_set(err, ERR_LIMIT, "%d plans are waiting to be made already; ask again.", n);
}

struct plan_job *plan_desk_take(struct plan_desk *d)
{
    uint64_t wakes;
    if (!atomic_load(&d->has_done))
        return NULL;
    pthread_mutex_lock(&d->lock);
    struct plan_job *j = d->done;
    d->done = j->next;
    if (!d->done) {
        atomic_store(&d->has_done, false);
        (void)!read(d->wake_fd, &wakes, sizeof wakes);
    }
    pthread_mutex_unlock(&d->lock);
    return j;
}

void plan_desk_forget(struct plan_desk *d, const void *owner)
{
    pthread_mutex_lock(&d->lock);
    struct plan_job **link = &d->waiting, *dropped = NULL;
    while (*link && (*link)->owner != owner)
        link = &(*link)->next;
    if (*link) {
        dropped = *link;
        *link = dropped->next;
    }
    if (d->making && d->making->owner == owner)
        d->making->owner = NULL;
    for (struct plan_job *j = d->done; j; j = j->next)
        if (j->owner == owner)
            j->owner = NULL;
    pthread_mutex_unlock(&d->lock);
    plan_job_free(dropped);
}

int plan_desk_fd(const struct plan_desk *d)
{
    return d->wake_fd;
}
