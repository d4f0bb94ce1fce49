#include "worker/worker_join.h"

#include "base/clock.h"
#include "base/log.h"
#include "proto/invite.h"
#include "proto/membership.h"
#include "proto/wire.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>

#define ANSWER_MS        10000
#define OWN_KEY_AFTER_MS 1500
#define ASK_EVERY_MS     500
#define DEFAULT_HOST     "127.0.0.1"
#define DEFAULT_PORT     7470
#define OWN_KEY          "worker.key"

/* The coordinator is asked in two ways: with the token of the invite, and when that is not answered
 * with the worker's own key, which it knows if the worker has enrolled before. */
struct join {
    void *zmq, *asked[2];
    char endpoint[320];
};

static int join_open(struct join *j, const struct invite *invite, const struct key_pair *own,
                     struct err *err)
{
    const bool bare = strchr(invite->host, ':') != NULL;
    snprintf(j->endpoint, sizeof j->endpoint, "tcp://%s%s%s:%d", bare ? "[" : "", invite->host,
             bare ? "]" : "", invite->port);
    j->zmq = zmq_ctx_new();
    int rc = j->zmq ? 0 : err_set(err, ERR_MEMORY, "no ZeroMQ context");
    for (int i = 0; rc == 0 && i < 2; i++) {
        const struct wire_security security = {.own = i ? own : &invite->token,
                                               .server_key = invite->coordinator_key};
        rc = wire_socket(&j->asked[i], j->zmq, ZMQ_DEALER, &security, err);
    }
    if (rc == 0 && zmq_connect(j->asked[0], j->endpoint) != 0)
        rc = err_set(err, ERR_NETWORK, "coordinator address %s: %s", j->endpoint,
                     zmq_strerror(errno));
    return rc;
}

static void join_close(struct join *j)
{
    for (int i = 0; i < 2; i++)
        if (j->asked[i])
            zmq_close(j->asked[i]);
    if (j->zmq)
        zmq_ctx_term(j->zmq);
}

static void join_ask(struct join *j, int n, const struct key_pair *own, const char *name)
{
    Paceline__Enroll enroll = PACELINE__ENROLL__INIT;
    enroll.public_key = (ProtobufCBinaryData){KEYS_BYTES, (uint8_t *)own->public_key};
    enroll.name = (char *)name;
    Paceline__Control c = PACELINE__CONTROL__INIT;
    c.body_case = PACELINE__CONTROL__BODY_ENROLL;
    c.enroll = &enroll;
    for (int i = 0; i < n; i++)
        wire_send_control(j->asked[i], NULL, &c, NULL);
}

/* true: *ret_name is how the cluster calls us. */
static bool join_hear(struct join *j, char *ret_name, size_t size)
{
    bool is_enrolled = false;
    for (int i = 0; i < 2; i++) {
        Paceline__Control *c = NULL;
        if (wire_receive_control(j->asked[i], NULL, &c, NULL) != 1)
            continue;
        if (c->body_case == PACELINE__CONTROL__BODY_ENROLLED) {
            const char *name = c->enrolled->name;
            is_enrolled = name[0] && strlen(name) < size && !name[strcspn(name, " \t\r\n")];
            if (is_enrolled)
                snprintf(ret_name, size, "%s", name);
        }
        paceline__control__free_unpacked(c, NULL);
    }
    return is_enrolled;
}

static int join_exchange(const struct invite *invite, const struct key_pair *own,
                         const char *own_name, struct membership *ret_membership, struct err *err)
{
    struct join j = {0};
    struct membership m = {.port = invite->port};
    snprintf(m.host, sizeof m.host, "%s", invite->host);
    memcpy(m.coordinator_key, invite->coordinator_key, KEYS_BYTES);
    int rc = join_open(&j, invite, own, err);
    const int64_t start_ms = clock_now_ms();
    int64_t asked_ms = start_ms - ASK_EVERY_MS;
    bool is_enrolled = false, is_own_asked = false;
    while (rc == 0 && !is_enrolled) {
        const int64_t now_ms = clock_now_ms();
        if (now_ms - start_ms >= ANSWER_MS)
            rc = err_set(err, ERR_NETWORK,
                         "no answer from %s:%d in %d s: no coordinator with these keys runs there, "
                         "it cannot be reached from here, a letter of the line is wrong, or this "
                         "invite was used already: then make a new one with \"paceline invite\"",
                         m.host, m.port, ANSWER_MS / 1000);
        if (!is_own_asked && now_ms - start_ms >= OWN_KEY_AFTER_MS) {
            zmq_connect(j.asked[1], j.endpoint);
            is_own_asked = true;
        }
        if (now_ms - asked_ms >= ASK_EVERY_MS) {
            join_ask(&j, is_own_asked ? 2 : 1, own, own_name);
            asked_ms = now_ms;
        }
        zmq_pollitem_t items[] = {{.socket = j.asked[0], .events = ZMQ_POLLIN},
                                  {.socket = j.asked[1], .events = ZMQ_POLLIN}};
        if (rc == 0 && zmq_poll(items, 2, 100) > 0)
            is_enrolled = join_hear(&j, m.name, sizeof m.name);
    }
    join_close(&j);
    if (rc == 0)
        *ret_membership = m;
    return rc;
}

static int join_enroll(const struct worker_settings *s, const struct trust_store *store,
                       struct err *err)
{
    struct invite invite;
    struct membership m = {0};
    struct key_pair own;
    int rc = invite_parse(s->join, &invite, err);
    if (rc == 0)
        rc = trust_store_key(store, OWN_KEY, &own, err);
    if (rc == 0)
        rc = membership_read(store, &m, err);
    if (rc < 0)
        return rc;
    const bool is_member = rc && keys_are_equal(m.coordinator_key, invite.coordinator_key);
    if (clock_unix_s() >= invite.expires_s) {
        if (is_member)
            return 0; /* a line that has stayed in the settings */
        char when[64];
        const time_t expires = (time_t)invite.expires_s;
        struct tm local;
        strftime(when, sizeof when, "%Y-%m-%d %H:%M:%S", localtime_r(&expires, &local));
        return err_set(err, ERR_CONFIG,
                       "this invite was good until %s: make a new one with \"paceline invite\" (or "
                       "set this machine's clock)",
                       when);
    }
    struct err trouble = {0};
    rc = join_exchange(&invite, &own, s->name, &m, &trouble);
    if (rc == 0) {
        log_info("enrolled at %s:%d as %s: from now on paceline-worker needs no invite", m.host,
                 m.port, m.name);
        return membership_write(store, &m, err);
    }
    if (is_member && rc == ERR_NETWORK) {
        log_warning("%s; this worker has enrolled before and waits for its coordinator",
                    trouble.text);
        return 0;
    }
    *err = trouble;
    return rc;
}

static int join_choose(struct worker_settings *s, const struct membership *m, bool is_member,
                       struct err *err)
{
    if (!s->coordinator) {
        snprintf(s->coordinator_host, sizeof s->coordinator_host, "%s",
                 is_member ? m->host : DEFAULT_HOST);
        s->coordinator_port = is_member ? m->port : DEFAULT_PORT;
    }
    const bool is_own =
        is_member && strcmp(s->coordinator_host, m->host) == 0 && s->coordinator_port == m->port;
    const bool is_local = conf_host_is_loopback(s->coordinator_host) &&
                          (!s->data || conf_host_is_loopback(s->data_host));
    s->is_encrypted =
        s->encryption_choice == WORKER_ENCRYPTION_ON ||
        (s->encryption_choice == WORKER_ENCRYPTION_AUTO && (is_own || (!is_local && !s->insecure)));
    if (s->is_encrypted && !is_member)
        return err_set(err, ERR_CONFIG,
                       "this worker is enrolled nowhere, and beyond this machine a coordinator "
                       "lets in none but those it knows: run \"paceline invite\" there and "
                       "paceline-worker --join with the line that it prints (or, if the network "
                       "is trusted, set insecure = true on both)");
    if (!s->is_encrypted && !is_local && !s->insecure)
        return err_set(err, ERR_CONFIG,
                       "without encryption, connections beyond this machine can be read and "
                       "changed by anybody there: leave encryption out, or set insecure = true "
                       "(--insecure) if the network is trusted");
    return 0;
}

int worker_join(struct worker_settings *s, struct err *err)
{
    struct trust_store store;
    struct membership m = {0};
    int rc = trust_store_locate(&store, s->trust, err);
    if (rc == 0 && s->join && s->join[0])
        rc = join_enroll(s, &store, err);
    if (rc == 0)
        rc = membership_read(&store, &m, err);
    if (rc < 0)
        return rc;
    rc = join_choose(s, &m, rc == 1, err);
    if (rc == 0 && s->is_encrypted)
        rc = trust_store_key(&store, OWN_KEY, &s->own, err);
    memcpy(s->coordinator_key, m.coordinator_key, KEYS_BYTES);
    return rc;
}

int worker_join_keep_address(const struct worker_settings *s, struct err *err)
{
    struct trust_store store;
    struct membership m;
    int rc = trust_store_locate(&store, s->trust, err);
    if (rc == 0)
        rc = membership_read(&store, &m, err);
    if (rc <= 0)
        return rc;
    snprintf(m.host, sizeof m.host, "%s", s->coordinator_host);
    m.port = s->coordinator_port;
    return membership_write(&store, &m, err);
}
