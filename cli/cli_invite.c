#include "cli/cli.h"

#include "base/clock.h"
#include "cli/verb.h"
#include "proto/allow_list.h"
#include "proto/invite.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { DEFAULT_PORT = 7470 };

struct invite_settings {
    char *expires, *coordinator, *trust;
};

#define FIELD(name) offsetof(struct invite_settings, name)

static int invite_check_expires(const char *text, struct err *err)
{
    int64_t ignored;
    return invite_duration(text, &ignored, err);
}

static const struct conf_option invite_options[] = {
    {.name = "expires",
     .letter = 'e',
     .type = CONF_STRING,
     .offset = FIELD(expires),
     .check = invite_check_expires,
     .value = "TIME",
     .initial = "1h",
     .help = "how long the line is good: 90s, 30m, 1h, 7d"},
    {.name = "coordinator",
     .type = CONF_STRING,
     .offset = FIELD(coordinator),
     .check = conf_check_endpoint,
     .value = "HOST:PORT",
     .help = "cluster address of the coordinator as workers reach it (default: where it listened "
             "last)"},
    {.name = "trust",
     .type = CONF_STRING,
     .offset = FIELD(trust),
     .value = "DIR",
     .help = "folder of the coordinator's keys (default: $PACELINE_HOME/trust)"},
};

static const struct conf_program invite_program = {
    .name = "paceline invite",
    .synopsis = "[OPTION...]",
    .summary = "Prints one line that lets one worker join: address and public key of the "
               "coordinator, a token that\nworks once, and its end. Run it where the coordinator "
               "runs, as its user; it need not run just now.",
    .epilogue = "Example:\n"
                "  paceline invite --expires 10m\n"
                "  paceline-worker --join LINE            (on the new machine, once)",
    .file = VERB_CONFIG_FILE,
    .group = "invite",
    .groups = verb_groups,
    .options = invite_options,
    .n_options = sizeof invite_options / sizeof *invite_options,
};

static bool invite_is_wildcard(const char *host)
{
    return !host[0] || !strcmp(host, "*") || !strcmp(host, "0.0.0.0") || !strcmp(host, "::");
}

/* The first address of this machine that others may reach; IPv4 before IPv6. */
static int invite_own_address(char *ret_host, size_t size, int *ret_n)
{
    struct ifaddrs *all = NULL;
    *ret_n = 0;
    if (getifaddrs(&all) != 0)
        return -1;
    for (int pass = 0; pass < 2 && !*ret_n; pass++) {
        const int family = pass == 0 ? AF_INET : AF_INET6;
        for (const struct ifaddrs *a = all; a; a = a->ifa_next) {
            char text[NI_MAXHOST];
            if (!a->ifa_addr || a->ifa_addr->sa_family != family || !(a->ifa_flags & IFF_UP) ||
                a->ifa_flags & IFF_LOOPBACK)
                continue;
            const socklen_t length =
                pass == 0 ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
            if (getnameinfo(a->ifa_addr, length, text, sizeof text, NULL, 0, NI_NUMERICHOST) != 0 ||
                strchr(text, '%')) /* an address of one link is none for others */
                continue;
            if (!(*ret_n)++)
                snprintf(ret_host, size, "%s", text);
        }
    }
    freeifaddrs(all);
    return *ret_n ? 0 : -1;
}

/* Where workers find the coordinator, if the command line does not say it. */
static int invite_find_address(const struct trust_store *store, struct invite *i, struct err *err)
{
    struct buf text;
    int rc = trust_store_read(store, "address", &text, err);
    if (rc < 0)
        return rc;
    i->port = DEFAULT_PORT;
    if (rc == 1) {
        int port;
        if (sscanf(buf_text(&text), "%255s %d", i->host, &port) == 2 && port > 0 && port < 65536)
            i->port = port;
        else
            i->host[0] = '\0';
        buf_clear(&text);
    }
    if (!invite_is_wildcard(i->host))
        return 0;
    int n;
    if (invite_own_address(i->host, sizeof i->host, &n) != 0)
        return err_set(err, ERR_NETWORK,
                       "this machine has no address that others could reach: say where workers "
                       "find the coordinator with --coordinator HOST:PORT");
    if (n > 1)
        fprintf(stderr,
                "paceline: this machine has %d addresses and the line names %s; --coordinator "
                "names another\n",
                n, i->host);
    return 0;
}

static int invite_run(const struct invite_settings *s, struct err *err)
{
    struct trust_store store;
    struct key_pair coordinator;
    struct allow_list list;
    struct invite invite = {0};
    int64_t seconds;
    int rc = invite_duration(s->expires, &seconds, err);
    if (rc == 0)
        rc = trust_store_locate(&store, s->trust, err);
    if (rc == 0)
        rc = trust_store_key(&store, "coordinator.key", &coordinator, err);
    if (rc == 0)
        rc = s->coordinator ? conf_endpoint(s->coordinator, invite.host, &invite.port, err)
                            : invite_find_address(&store, &invite, err);
    if (rc == 0 && (invite_is_wildcard(invite.host) || invite.port < 1))
        rc = err_set(err, ERR_USAGE, "\"%.80s\" is no address that a worker can connect to",
                     s->coordinator);
    if (rc == 0)
        rc = keys_make(&invite.token, err);
    if (rc == 0)
        rc = allow_list_open(&list, &store, err);
    if (rc != 0)
        return rc;
    memcpy(invite.coordinator_key, coordinator.public_key, KEYS_BYTES);
    invite.expires_s = clock_unix_s() + seconds;
    rc = allow_list_invite(&list, invite.token.public_key, invite.expires_s, err);
    allow_list_close(&list);
    if (rc == 0) {
        char line[INVITE_LINE];
        invite_format(&invite, line);
        puts(line);
    }
    return rc;
}

int cli_invite(int argc, char **argv)
{
    struct invite_settings s = {0};
    struct err err = {0};
    enum conf_outcome outcome = CONF_EXIT;
    int n = 0, rc = conf_read(&invite_program, &s, argc, argv, NULL, &n, &outcome, &err);
    if (rc == 0 && outcome == CONF_RUN)
        rc = invite_run(&s, &err);
    conf_clear(&invite_program, &s);
    return rc < 0 ? verb_fail(&err) : 0;
}
