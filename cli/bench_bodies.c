#include "cli/bench_bodies.h"

#include "cli/stop_signal.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define AHEAD_BYTES ((size_t)64 << 20)

/* NULL: no memory */
static char *bodies_make(const struct bench_load_plan *p, int64_t number)
{
    json_t *prompt = bench_workload_prompt(&p->work, number);
    if (prompt && p->is_chat)
        prompt = json_pack("[{s:s,s:o}]", "role", "user", "content", prompt);
    json_t *request =
        json_pack("{s:o,s:I,s:b,s:f,s:b,s:{s:b}}", p->is_chat ? "messages" : "prompt", prompt,
                  "max_tokens", (json_int_t)bench_workload_output(&p->work, number), "ignore_eos",
                  1, "temperature", 0.0, "stream", 1, "stream_options", "include_usage", 1);
    int rc = request ? 0 : -1;
    if (rc == 0 && p->model)
        rc = json_object_set_new(request, "model", json_string(p->model));
    /* A token whose text is not complete yet makes no event without it. A server that is sent texts
     * may be one that does not know the field. */
    if (rc == 0 && !p->work.is_text)
        rc = json_object_set_new(request, "return_token_ids", json_true());
    char *body = rc == 0 ? json_dumps(request, JSON_COMPACT) : NULL;
    json_decref(request);
    return body;
}

static bool bodies_are_enough(const struct bench_bodies *b)
{
    return b->n == b->most || (b->n && b->bytes >= AHEAD_BYTES);
}

static void *bodies_main(void *context)
{
    struct bench_bodies *b = context;
    pthread_mutex_lock(&b->lock);
    while (!b->is_stopping && !b->has_failed && b->n_made < b->plan->requests) {
        if (bodies_are_enough(b)) {
            pthread_cond_wait(&b->taken, &b->lock);
            continue;
        }
        pthread_mutex_unlock(&b->lock);
        char *body = bodies_make(b->plan, b->n_made); /* nobody else changes the number */
        pthread_mutex_lock(&b->lock);
        b->has_failed = !body;
        if (body) {
            b->ahead[(b->first + b->n++) % b->most] = body;
            b->bytes += strlen(body);
            b->n_made++;
        }
        pthread_cond_signal(&b->made);
    }
    b->is_done = true;
    pthread_cond_signal(&b->made);
    pthread_mutex_unlock(&b->lock);
    return NULL;
}

int bench_bodies_open(struct bench_bodies *b, const struct bench_load_plan *plan, int most,
                      struct err *err)
{
    *b = (struct bench_bodies){.plan = plan, .most = most};
    pthread_mutex_init(&b->lock, NULL);
    pthread_cond_init(&b->made, NULL);
    pthread_cond_init(&b->taken, NULL);
    b->ahead = calloc((size_t)most, sizeof *b->ahead);
    if (!b->ahead)
        return err_set(err, ERR_MEMORY, "no memory for %d prompts", most);
    /* A signal to stop must wake the thread that waits for answers. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(&b->maker, NULL, bodies_main, b);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failed)
        return err_set(err, ERR_MEMORY, "a thread for prompts: %s", strerror(failed));
    b->has_maker = true;
    return 0;
}

void bench_bodies_wait(struct bench_bodies *b)
{
    pthread_mutex_lock(&b->lock);
    while (!b->is_done && !bodies_are_enough(b) && !stop_signal_is_raised()) {
        struct timespec until; /* a signal wakes nobody here */
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += 100 * 1000 * 1000;
        until.tv_sec += until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        pthread_cond_timedwait(&b->made, &b->lock, &until);
    }
    pthread_mutex_unlock(&b->lock);
}

int bench_bodies_take(struct bench_bodies *b, char **ret_body, struct err *err)
{
    int rc = 0;
    *ret_body = NULL;
    pthread_mutex_lock(&b->lock);
    if (b->n) {
        *ret_body = b->ahead[b->first];
        b->first = (b->first + 1) % b->most;
        b->n--;
        b->bytes -= strlen(*ret_body);
        pthread_cond_signal(&b->taken);
    } else if (b->has_failed) {
        rc = err_set(err, ERR_MEMORY, "no memory for a prompt");
    }
    pthread_mutex_unlock(&b->lock);
    return rc;
}

void bench_bodies_close(struct bench_bodies *b)
{
    if (!b->plan)
        return;
    if (b->has_maker) {
        pthread_mutex_lock(&b->lock);
        b->is_stopping = true;
        pthread_cond_signal(&b->taken);
        pthread_mutex_unlock(&b->lock);
        pthread_join(b->maker, NULL);
    }
    for (int i = 0; i < b->n; i++)
        free(b->ahead[(b->first + i) % b->most]);
    free(b->ahead);
    pthread_cond_destroy(&b->made);
    pthread_cond_destroy(&b->taken);
    pthread_mutex_destroy(&b->lock);
    *b = (struct bench_bodies){0};
}
