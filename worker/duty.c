#include "worker/duty.h"

#include "base/clock.h"
#include "base/timed_wait.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define LOOK_EVERY_MS 250
/* One busy moment is a cron job; this is somebody at work. */
#define BUSY_MS 500

struct duty {
    struct duty_rules rules;
    struct owner *owner; /* or NULL */
    pthread_t thread;
    pthread_mutex_t lock; /* of all that follows */
    pthread_cond_t woken;
    bool stopping;
    struct duty_state state;
};

/* NULL: the owner is away. */
static const char *duty_sees_owner(struct duty_state *s, const struct duty_rules *rules,
                                   const struct owner_sample *sample, int64_t now_ms)
{
    bool is_busy = sample->others_load > rules->idle_load;
    if (!is_busy)
        s->busy_since_ms = 0;
    else if (!s->busy_since_ms)
        s->busy_since_ms = now_ms;
    if (sample->probe == OWNER_IS_THERE)
        return "the idle-probe says that the owner is there";
    if (sample->session == OWNER_IS_THERE)
        return "somebody uses this machine's session";
    if (is_busy && (!s->is_on || now_ms - s->busy_since_ms >= BUSY_MS))
        return "other programs use this machine";
    return NULL;
}

static bool duty_set(struct duty_state *s, bool is_on, const char *why)
{
    if (s->is_on != is_on || !s->has_judged)
        snprintf(s->why, sizeof s->why, "%s", why);
    s->is_on = is_on;
    s->has_judged = true;
    return is_on;
}

bool duty_judge(struct duty_state *s, const struct duty_rules *rules,
                const struct owner_sample *sample, int day, int minute, int64_t now_ms)
{
    if (rules->has_hours && !hours_contain(&rules->hours, day, minute))
        return duty_set(s, false, "it is outside the hours");
    if (!rules->only_idle)
        return duty_set(s, true, "it is within the hours");
    const char *seen = duty_sees_owner(s, rules, sample, now_ms);
    if (seen || !s->has_judged)
        s->there_ms = now_ms; /* at the start nobody knows how long the owner has been away */
    if (seen)
        return duty_set(s, false, seen);
    if (!s->is_on && now_ms - s->there_ms < rules->idle_after_ms)
        return duty_set(s, false, "the owner was here a short time ago");
    return duty_set(s, true, "the owner is away");
}

static void duty_look(struct duty *d)
{
    struct owner_sample sample = {0};
    time_t now = time(NULL);
    struct tm local;
    if (d->owner)
        owner_look(d->owner, &sample);
    localtime_r(&now, &local);
    pthread_mutex_lock(&d->lock);
    duty_judge(&d->state, &d->rules, &sample, (local.tm_wday + 6) % 7,
               60 * local.tm_hour + local.tm_min, clock_now_ms());
    pthread_mutex_unlock(&d->lock);
}

static void *duty_main(void *argument)
{
    struct duty *d = argument;
    pthread_mutex_lock(&d->lock);
    while (!d->stopping) {
        pthread_mutex_unlock(&d->lock);
        duty_look(d);
        pthread_mutex_lock(&d->lock);
        if (!d->stopping)
            timed_wait(&d->woken, &d->lock, LOOK_EVERY_MS);
    }
    pthread_mutex_unlock(&d->lock);
    return NULL;
}

static void duty_free(struct duty *d)
{
    owner_close(d->owner);
    pthread_cond_destroy(&d->woken);
    pthread_mutex_destroy(&d->lock);
    free(d);
}

int duty_start(struct duty **ret_duty, const struct duty_rules *rules, struct err *err)
{
    struct duty *d = calloc(1, sizeof *d);
    if (!d)
        return err_set(err, ERR_MEMORY, "no memory to look for the owner");
    d->rules = *rules;
    pthread_mutex_init(&d->lock, NULL);
    timed_wait_init(&d->woken);
    int rc = rules->only_idle ? owner_open(&d->owner, rules->probe, err) : 0;
    if (rc == 0) {
        duty_look(d); /* known before anybody asks */
        int failed = pthread_create(&d->thread, NULL, duty_main, d);
        if (failed)
            rc = err_set(err, ERR_MEMORY, "a thread to look for the owner: %s", strerror(failed));
    }
    if (rc != 0) {
        duty_free(d);
        return rc;
    }
    *ret_duty = d;
    return 0;
}

void duty_stop(struct duty *d)
{
    if (!d)
        return;
    pthread_mutex_lock(&d->lock);
    d->stopping = true;
    pthread_cond_signal(&d->woken);
    pthread_mutex_unlock(&d->lock);
    pthread_join(d->thread, NULL);
    duty_free(d);
}

bool duty_is_on(struct duty *d, char why[96])
{
    if (!d)
        return true;
    pthread_mutex_lock(&d->lock);
    bool is_on = d->state.is_on;
    if (why)
        memcpy(why, d->state.why, sizeof d->state.why);
    pthread_mutex_unlock(&d->lock);
    return is_on;
}
