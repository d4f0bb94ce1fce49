#include "worker/worker_finder.h"

#include "base/log.h"

#include <string.h>
#include <unistd.h>

void worker_finder_open(struct worker_finder *f, const struct worker_settings *s)
{
    struct err err = {0};
    f->fd = -1;
    if (!s->coordinator && s->beacon && beacon_listen(&f->fd, (int)s->beacon_port, &err) != 0)
        log_warning("%s", err.text);
}

void worker_finder_close(struct worker_finder *f)
{
    if (f->fd >= 0)
        close(f->fd);
    f->fd = -1;
}

bool worker_finder_believes(struct worker_finder *f, const struct worker_settings *s,
                            const struct beacon *b, const char *host)
{
    if (s->is_encrypted && b->is_encrypted && keys_are_equal(b->key, s->coordinator_key))
        return true;
    const bool is_ours = strcmp(b->cluster, s->cluster_name) == 0;
    if (is_ours && !s->is_encrypted && !b->is_encrypted && s->insecure)
        return true;
    if (!is_ours || s->is_encrypted) {
        if (!f->told_foreign)
            log_info("a coordinator at %s:%d belongs to another cluster, \"%s\": it is ignored",
                     host, b->port, b->cluster);
        f->told_foreign = true;
    } else {
        if (!f->told_locked)
            log_info("a coordinator is at %s:%d, and %s", host, b->port,
                     b->is_encrypted ? "lets in who has an invite: see \"paceline invite\""
                                     : "its links are plain: this worker joins with --insecure");
        f->told_locked = true;
    }
    return false;
}

bool worker_finder_look(struct worker_finder *f, const struct worker_settings *s,
                        char ret_host[BEACON_HOST], int *ret_port)
{
    struct beacon b;
    char host[BEACON_HOST];
    bool is_found = false;
    for (int i = 0; i < 64 && f->fd >= 0 && beacon_receive(f->fd, &b, host); i++) {
        if (!worker_finder_believes(f, s, &b, host) ||
            (strcmp(host, s->coordinator_host) == 0 && b.port == s->coordinator_port))
            continue;
        snprintf(ret_host, BEACON_HOST, "%s", host);
        *ret_port = b.port;
        is_found = true;
    }
    return is_found;
}
