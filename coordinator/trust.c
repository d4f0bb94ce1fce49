#include "coordinator/trust.h"

#include "base/clock.h"
#include "base/log.h"

#include <string.h>

#define LOOK_EVERY_MS      250
#define STRANGERS_EVERY_MS 60000

static bool trust_look(struct trust *t)
{
    struct err err = {0};
    t->last_look_ms = clock_now_ms();
    int rc = allow_list_refresh(&t->list, &err);
    if (rc < 0 && strcmp(err.text, t->failure.text) != 0) /* once, though it is tried again */
        log_error("%s: the list of workers stays as it was", err.text);
    t->failure = err;
    return rc > 0;
}

bool trust_knows(const struct trust *t, const unsigned char key[KEYS_BYTES])
{
    return allow_list_worker(&t->list, key) != NULL;
}

static bool trust_judge(void *context, const char *domain, const unsigned char key[KEYS_BYTES])
{
    const struct trust *t = context;
    return trust_knows(t, key) || (strcmp(domain, WIRE_CONTROL) == 0 &&
                                   allow_list_is_invited(&t->list, key, clock_unix_s()));
}

int trust_open(struct trust *t, void *zmq, const char *folder, struct err *err)
{
    *t = (struct trust){0};
    int rc = trust_store_locate(&t->store, folder, err);
    if (rc == 0)
        rc = trust_store_key(&t->store, "coordinator.key", &t->own, err);
    if (rc == 0)
        rc = allow_list_open(&t->list, &t->store, err);
    if (rc == 0)
        rc = zap_open(&t->zap, zmq, trust_judge, t, err);
    return rc;
}

void trust_close(struct trust *t)
{
    zap_close(&t->zap);
    allow_list_close(&t->list);
    *t = (struct trust){0};
}

/* One line, however many they are. */
static void trust_tell_strangers(struct trust *t)
{
    const int64_t now_ms = clock_now_ms();
    if (!t->zap.n_refused || (t->last_told_ms && now_ms - t->last_told_ms < STRANGERS_EVERY_MS))
        return;
    log_warning("connections with unknown keys were refused: %d, the last from %s",
                t->zap.n_refused, t->zap.last_address);
    t->last_told_ms = now_ms;
    zap_forget(&t->zap);
}

bool trust_run(struct trust *t)
{
    bool changed = clock_now_ms() - t->last_look_ms >= LOOK_EVERY_MS && trust_look(t);
    zap_serve(&t->zap);
    trust_tell_strangers(t);
    return changed;
}

const char *trust_enroll(struct trust *t, const unsigned char sender[KEYS_BYTES],
                         const unsigned char key[KEYS_BYTES], const char *name)
{
    struct err err = {0};
    const bool is_known = trust_knows(t, key);
    const bool is_invited = allow_list_is_invited(&t->list, sender, clock_unix_s());
    /* Who has enrolled and missed the answer asks again, with a token that is used by now. */
    if (!is_known && !is_invited)
        return NULL;
    if (is_invited && allow_list_enroll(&t->list, sender, key, name, clock_unix_s(), &err) != 0) {
        log_warning("worker %s was not enrolled: %s", name, err.text);
        return NULL;
    }
    const struct allow_worker *w = allow_list_worker(&t->list, key);
    if (w && !is_known)
        log_info("worker %s was enrolled by an invite", w->name);
    return w ? w->name : NULL;
}

int trust_tell_address(const struct trust *t, const char *host, int port, struct err *err)
{
    char line[320];
    int n = snprintf(line, sizeof line, "%s %d\n", host, port);
    return trust_store_write(&t->store, "address", line, (size_t)n, err);
}
