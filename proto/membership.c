#include "proto/membership.h"

#include "base/conf.h"

#include <stdio.h>
#include <string.h>

#define FILE_NAME "cluster"

static bool membership_parse(const char *line, struct membership *ret_membership)
{
    char address[320], key[64];
    struct membership m = {0};
    if (sscanf(line, "%319s %63s %63s", address, key, m.name) != 3 ||
        !keys_parse(key, strlen(key), m.coordinator_key) ||
        conf_endpoint(address, m.host, &m.port, NULL) != 0)
        return false;
    *ret_membership = m;
    return true;
}

int membership_read(const struct trust_store *s, struct membership *ret_membership, struct err *err)
{
    struct buf text;
    int rc = trust_store_read(s, FILE_NAME, &text, err);
    if (rc <= 0)
        return rc;
    if (!membership_parse(buf_text(&text), ret_membership))
        rc = err_set(err, ERR_CONFIG,
                     "%s/" FILE_NAME " is not \"HOST:PORT KEY NAME\": delete it and join anew",
                     s->folder);
    buf_clear(&text);
    return rc;
}

int membership_write(const struct trust_store *s, const struct membership *m, struct err *err)
{
    char key[KEYS_TEXT_BYTES], line[512];
    const bool bare = strchr(m->host, ':') != NULL;
    keys_format(m->coordinator_key, key);
    int n = snprintf(line, sizeof line, "%s%s%s:%d %s %s\n", bare ? "[" : "", m->host,
                     bare ? "]" : "", m->port, key, m->name);
    return trust_store_write(s, FILE_NAME, line, (size_t)n, err);
}
