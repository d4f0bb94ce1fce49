/* Keys, invites and lists: their text, their files, and what is refused. */
#include "proto/allow_list.h"
#include "proto/beacon.h"
#include "proto/invite.h"
#include "proto/membership.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define NOW 1800000000

struct room { /* a trust folder that is gone after the test */
    char folder[64];
    struct trust_store store;
};

static int room_open(void **state)
{
    static struct room r;
    struct err err;
    char parent[] = "trust_XXXXXX";
    if (!mkdtemp(parent))
        return -1;
    snprintf(r.folder, sizeof r.folder, "%s", parent);
    char path[80];
    snprintf(path, sizeof path, "%s/trust", parent);
    *state = &r;
    return trust_store_locate(&r.store, path, &err);
}

static int room_close(void **state)
{
    const struct room *r = *state;
    char command[128];
    snprintf(command, sizeof command, "rm -r %s", r->folder);
    return system(command);
}

static void fill(unsigned char key[KEYS_BYTES], int with)
{
    memset(key, with, KEYS_BYTES);
}

static void put(const struct room *r, const char *name, const char *text, mode_t mode)
{
    char path[TRUST_STORE_PATH];
    snprintf(path, sizeof path, "%s/%s", r->store.folder, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    assert_int_equal(fchmod(fd, mode), 0);
    close(fd);
}

static mode_t mode_of(const struct room *r, const char *name)
{
    char path[TRUST_STORE_PATH];
    struct stat st;
    snprintf(path, sizeof path, "%s/%s", r->store.folder, name);
    assert_int_equal(stat(path, &st), 0);
    return st.st_mode & 07777;
}

/* ---- keys ---- */

static void test_key_text(void **state)
{
    for (int i = 0; i < 300; i++) {
        unsigned char key[KEYS_BYTES], back[KEYS_BYTES];
        char text[KEYS_TEXT_BYTES];
        for (int k = 0; k < KEYS_BYTES; k++)
            key[k] = (unsigned char)(i == 0 ? 255 : rand());
        keys_format(key, text);
        assert_int_equal(strlen(text), KEYS_TEXT_BYTES - 1);
        assert_int_equal(strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz01234567"
                                      "89-_"),
                         KEYS_TEXT_BYTES - 1);
        assert_true(keys_parse(text, strlen(text), back));
        assert_memory_equal(key, back, KEYS_BYTES);
        assert_false(keys_parse(text, strlen(text) - 1, back));
        text[42] = text[42] == 'B' ? 'D' : 'B'; /* the last two bits must be zero */
        assert_false(keys_parse(text, strlen(text), back));
        text[42] = '=';
        assert_false(keys_parse(text, strlen(text), back));
    }
}

static void test_pairs(void **state)
{
    struct key_pair a, b, again;
    struct err err;
    assert_int_equal(keys_make(&a, &err), 0);
    assert_int_equal(keys_make(&b, &err), 0);
    assert_false(keys_are_equal(a.secret_key, b.secret_key));
    assert_int_equal(keys_derive(a.secret_key, &again, &err), 0);
    assert_memory_equal(&a, &again, sizeof a);
}

/* ---- the line ---- */

static void test_line(void **state)
{
    const char *const hosts[] = {"192.168.1.10", "desk-1.example", "fe80::1", "::1"};
    for (size_t i = 0; i < sizeof hosts / sizeof *hosts; i++) {
        struct invite a = {.port = 7470, .expires_s = NOW}, b;
        struct err err = {0};
        char line[INVITE_LINE], padded[INVITE_LINE + 8];
        snprintf(a.host, sizeof a.host, "%s", hosts[i]);
        fill(a.coordinator_key, 7);
        assert_int_equal(keys_make(&a.token, &err), 0);
        invite_format(&a, line);
        assert_null(strpbrk(line, " \t\n$&;|<>()[]{}*?!'\"\\`~#%")); /* nothing for a shell */
        snprintf(padded, sizeof padded, "  %s \n", line);
        assert_int_equal(invite_parse(padded, &b, &err), 0);
        assert_string_equal(b.host, hosts[i]);
        assert_int_equal(b.port, 7470);
        assert_int_equal(b.expires_s, NOW);
        assert_memory_equal(b.coordinator_key, a.coordinator_key, KEYS_BYTES);
        assert_memory_equal(&b.token, &a.token, sizeof a.token);
    }
}

static void test_broken_lines(void **state)
{
    struct invite whole = {.host = "h", .port = 1, .expires_s = NOW}, b;
    struct err err = {0};
    char line[INVITE_LINE];
    fill(whole.coordinator_key, 7);
    assert_int_equal(keys_make(&whole.token, &err), 0);
    invite_format(&whole, line);
    assert_int_equal(invite_parse(line, &b, &err), 0);
    for (size_t n = 0; n + 11 < strlen(line); n++) { /* cut anywhere but within the expiry */
        char cut[INVITE_LINE];
        snprintf(cut, sizeof cut, "%.*s", (int)n, line);
        assert_int_equal(invite_parse(cut, &b, &err), ERR_USAGE);
        assert_non_null(strstr(err.text, "paceline invite"));
        assert_int_equal(invite_parse(line + n + 1, &b, &err), ERR_USAGE);
    }
    const char *key = strchr(strchr(strchr(line, ':') + 1, ':') + 1, ':') + 1;
    const char *const heads[] = {
        "paceline2:h:1:", "paceline1::1:",    "paceline1:h:0:",  "paceline1:h:65536:",
        "paceline1:h:x:", "paceline1:a b:1:", "paceline1:a/b:1:"};
    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++) {
        char other[INVITE_LINE];
        snprintf(other, sizeof other, "%s%s", heads[i], key);
        assert_int_equal(invite_parse(other, &b, &err), ERR_USAGE);
    }
}

static void test_durations(void **state)
{
    int64_t s;
    struct err err;
    const struct {
        const char *text;
        int64_t seconds;
    } good[] = {{"90s", 90}, {"30m", 1800}, {"1h", 3600}, {"7d", 604800}, {"365d", 31536000}};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_int_equal(invite_duration(good[i].text, &s, &err), 0);
        assert_int_equal(s, good[i].seconds);
    }
    const char *const bad[] = {"",     "0s",           "h",   "1", "1w", "1h ", "-1h",
                               "366d", "99999999999s", "1.5h"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(invite_duration(bad[i], &s, &err), ERR_USAGE);
}

/* ---- the folder ---- */

static void test_key_file(void **state)
{
    const struct room *r = *state;
    struct key_pair a, b;
    struct err err = {0};
    assert_int_equal(trust_store_key(&r->store, "worker.key", &a, &err), 0);
    assert_int_equal(mode_of(r, ""), 0700);
    assert_int_equal(mode_of(r, "worker.key"), 0600);
    assert_int_equal(trust_store_key(&r->store, "worker.key", &b, &err), 0);
    assert_memory_equal(&a, &b, sizeof a);
    put(r, "worker.key", "secret nonsense\n", 0600);
    assert_int_equal(trust_store_key(&r->store, "worker.key", &b, &err), ERR_CONFIG);
    assert_non_null(strstr(err.text, "worker.key"));
}

static void test_open_to_others(void **state)
{
    const struct room *r = *state;
    struct key_pair pair;
    struct err err = {0};
    assert_int_equal(trust_store_key(&r->store, "worker.key", &pair, &err), 0);
    char path[TRUST_STORE_PATH];
    snprintf(path, sizeof path, "%s/worker.key", r->store.folder);
    const mode_t modes[] = {0640, 0604, 0620};
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
        assert_int_equal(chmod(path, modes[i]), 0);
        assert_int_equal(trust_store_key(&r->store, "worker.key", &pair, &err), ERR_CONFIG);
        assert_non_null(strstr(err.text, "chmod 600"));
    }
    assert_int_equal(chmod(path, 0600), 0);
    assert_int_equal(chmod(r->store.folder, 0755), 0);
    assert_int_equal(trust_store_key(&r->store, "worker.key", &pair, &err), ERR_CONFIG);
    assert_non_null(strstr(err.text, "chmod 700"));
    assert_int_equal(chmod(r->store.folder, 0700), 0);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(symlink("/dev/null", path), 0);
    assert_int_equal(trust_store_key(&r->store, "worker.key", &pair, &err), ERR_CONFIG);
}

static void test_membership(void **state)
{
    const struct room *r = *state;
    struct membership a = {.host = "::1", .port = 7470, .name = "desk"}, b = {0};
    struct err err = {0};
    fill(a.coordinator_key, 3);
    assert_int_equal(membership_read(&r->store, &b, &err), 0);
    assert_int_equal(trust_store_open(&r->store, &err), 0);
    assert_int_equal(membership_write(&r->store, &a, &err), 0);
    assert_int_equal(membership_read(&r->store, &b, &err), 1);
    assert_memory_equal(&a, &b, sizeof a);
    const char *const broken[] = {"", "desk\n", "127.0.0.1 x y\n", "127.0.0.1:1 short desk\n"};
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
        put(r, "cluster", broken[i], 0600);
        assert_int_equal(membership_read(&r->store, &b, &err), ERR_CONFIG);
    }
}

/* ---- the list ---- */

static void test_invite_once(void **state)
{
    const struct room *r = *state;
    struct allow_list l;
    struct err err = {0};
    unsigned char token[KEYS_BYTES], worker[KEYS_BYTES], other[KEYS_BYTES];
    fill(token, 1);
    fill(worker, 2);
    fill(other, 3);
    const int64_t now_s = (int64_t)time(NULL);
    assert_int_equal(allow_list_open(&l, &r->store, &err), 0);
    assert_int_equal(allow_list_enroll(&l, token, worker, "desk", now_s, &err), ERR_AUTH);
    assert_int_equal(allow_list_invite(&l, token, now_s + 100, &err), 0);
    assert_true(allow_list_is_invited(&l, token, now_s + 99));
    assert_false(allow_list_is_invited(&l, token, now_s + 100));
    assert_false(allow_list_is_invited(&l, worker, now_s));
    assert_int_equal(allow_list_enroll(&l, token, worker, "desk", now_s + 100, &err), ERR_AUTH);
    assert_null(allow_list_worker(&l, worker));
    assert_int_equal(allow_list_enroll(&l, token, worker, "desk", now_s, &err), 0);
    assert_string_equal(allow_list_worker(&l, worker)->name, "desk");
    assert_int_equal(allow_list_worker(&l, worker)->since_s, now_s);
    assert_false(allow_list_is_invited(&l, token, now_s));
    assert_int_equal(allow_list_enroll(&l, token, other, "desk", now_s, &err), ERR_AUTH);
    allow_list_close(&l);
    assert_int_equal(allow_list_open(&l, &r->store, &err), 0); /* all of it is on the disk */
    assert_int_equal(l.n_workers, 1);
    assert_int_equal(l.n_invites, 0);
    assert_int_equal(allow_list_worker(&l, worker)->since_s, now_s);
    assert_int_equal(mode_of(r, "workers"), 0600);
    assert_int_equal(mode_of(r, "invites"), 0600);
    allow_list_close(&l);
}

static void test_names(void **state)
{
    const struct room *r = *state;
    struct allow_list l;
    struct err err = {0};
    const char *const names[] = {"desk", "desk-2", "desk-3"};
    unsigned char key[KEYS_BYTES];
    assert_int_equal(allow_list_open(&l, &r->store, &err), 0);
    for (int i = 0; i < 3; i++) {
        fill(key, i);
        assert_int_equal(allow_list_enroll(&l, NULL, key, "desk", NOW, &err), 0);
        assert_string_equal(allow_list_worker(&l, key)->name, names[i]);
        assert_int_equal(allow_list_enroll(&l, NULL, key, "else", NOW, &err), 0); /* it keeps it */
        assert_string_equal(allow_list_worker(&l, key)->name, names[i]);
    }
    assert_int_equal(allow_list_revoke(&l, "desk-4", &err), ERR_NOT_FOUND);
    assert_int_equal(allow_list_revoke(&l, "desk-2", &err), 0);
    fill(key, 1);
    assert_null(allow_list_worker(&l, key));
    assert_int_equal(l.n_workers, 2);
    fill(key, 9);
    assert_int_equal(allow_list_enroll(&l, NULL, key, "desk", NOW, &err), 0);
    assert_string_equal(allow_list_worker(&l, key)->name, "desk-2");
    allow_list_close(&l);
}

static void test_refresh(void **state)
{
    const struct room *r = *state;
    struct allow_list coordinator, command;
    struct err err = {0};
    unsigned char key[KEYS_BYTES];
    fill(key, 5);
    assert_int_equal(allow_list_open(&coordinator, &r->store, &err), 0);
    assert_int_equal(allow_list_open(&command, &r->store, &err), 0);
    assert_int_equal(allow_list_refresh(&coordinator, &err), 0);
    assert_int_equal(allow_list_enroll(&command, NULL, key, "desk", NOW, &err), 0);
    assert_null(allow_list_worker(&coordinator, key));
    assert_int_equal(allow_list_refresh(&coordinator, &err), 1);
    assert_non_null(allow_list_worker(&coordinator, key));
    assert_int_equal(allow_list_refresh(&coordinator, &err), 0);
    assert_int_equal(allow_list_refresh(&command, &err), 0); /* its own edit is no news */
    assert_int_equal(allow_list_revoke(&coordinator, "desk", &err), 0);
    assert_int_equal(allow_list_refresh(&command, &err), 1);
    assert_null(allow_list_worker(&command, key));
    assert_int_equal(allow_list_enroll(&command, NULL, key, "desk", NOW, &err), 0);
    assert_int_equal(allow_list_refresh(&coordinator, &err), 1);
    put(r, "workers", "desk\n", 0600); /* an edit by hand that went wrong */
    assert_int_equal(allow_list_refresh(&coordinator, &err), ERR_CONFIG);
    assert_non_null(strstr(err.text, "line 1"));
    assert_non_null(allow_list_worker(&coordinator, key)); /* as it was, and told once */
    assert_int_equal(allow_list_refresh(&coordinator, &err), 0);
    allow_list_close(&coordinator);
    allow_list_close(&command);
}

static void test_broken_lists(void **state)
{
    const struct room *r = *state;
    const char *good = "# by hand\n\ndesk AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA "
                       "2026-01-02T03:04:05Z";
    const char *const broken[] = {
        "desk\n",
        "desk AAAA 2026-01-02T03:04:05Z\n",
        "desk AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n",
        "desk AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA yesterday\n",
        "desk AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA 2026-01-02T03:04:05Z more\n",
        "0123456789012345678901234567890123456789012345678901234567890123456789 "
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA 2026-01-02T03:04:05Z\n"};
    struct allow_list l;
    struct err err = {0};
    assert_int_equal(trust_store_open(&r->store, &err), 0);
    put(r, "workers", good, 0600);
    assert_int_equal(allow_list_open(&l, &r->store, &err), 0);
    assert_int_equal(l.n_workers, 1);
    assert_int_equal(l.workers[0].since_s, 1767323045);
    allow_list_close(&l);
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
        char text[512];
        snprintf(text, sizeof text, "%s\n%s", good, broken[i]);
        put(r, "workers", text, 0600);
        assert_int_equal(allow_list_open(&l, &r->store, &err), ERR_CONFIG);
        assert_non_null(strstr(err.text, "workers, line 4"));
    }
    put(r, "workers", good, 0644);
    assert_int_equal(allow_list_open(&l, &r->store, &err), ERR_CONFIG);
    put(r, "workers", good, 0600);
    put(r, "invites", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA soon\n", 0600);
    assert_int_equal(allow_list_open(&l, &r->store, &err), ERR_CONFIG);
    assert_non_null(strstr(err.text, "invites, line 1"));
}

enum { EDITORS = 4, EDITS = 12 };

/* In a child: each edit reads what the others have written. */
static int edit(const struct room *r, int editor)
{
    struct allow_list l;
    unsigned char key[KEYS_BYTES];
    if (allow_list_open(&l, &r->store, NULL) != 0)
        return 1;
    for (int i = 0; i < EDITS; i++) {
        fill(key, editor * EDITS + i);
        if (allow_list_enroll(&l, NULL, key, "desk", NOW, NULL) != 0)
            return 1;
    }
    allow_list_close(&l);
    return 0;
}

static void test_editors(void **state)
{
    const struct room *r = *state;
    struct err err = {0};
    assert_int_equal(trust_store_open(&r->store, &err), 0);
    for (int i = 0; i < EDITORS; i++)
        if (fork() == 0)
            _exit(edit(r, i));
    for (int i = 0; i < EDITORS; i++) {
        int status;
        assert_true(wait(&status) > 0);
        assert_int_equal(status, 0);
    }
    struct allow_list l;
    assert_int_equal(allow_list_open(&l, &r->store, &err), 0);
    assert_int_equal(l.n_workers, EDITORS * EDITS);
    for (size_t i = 0; i < l.n_workers; i++)
        for (size_t k = 0; k < i; k++)
            assert_string_not_equal(l.workers[i].name, l.workers[k].name);
    allow_list_close(&l);
}

/* ---- beacons ---- */

static void test_beacon(void **state)
{
    struct beacon a = {.is_encrypted = true, .port = 7470, .cluster = "office"}, b = {0};
    unsigned char bytes[BEACON_BYTES + 1];
    fill(a.key, 200);
    beacon_pack(&a, bytes);
    assert_true(beacon_unpack(bytes, BEACON_BYTES, &b));
    assert_memory_equal(&a, &b, sizeof a);
    assert_false(beacon_unpack(bytes, BEACON_BYTES - 1, &b));
    assert_false(beacon_unpack(bytes, BEACON_BYTES + 1, &b));
    const struct {
        int at, value;
    } damage[] = {{0, 'p'}, {8, 2}, {44, 0}, {45, '\n'}, {75, 'x'}};
    for (size_t i = 0; i < sizeof damage / sizeof *damage; i++) {
        beacon_pack(&a, bytes);
        bytes[damage[i].at] = (unsigned char)damage[i].value;
        assert_false(beacon_unpack(bytes, BEACON_BYTES, &b));
    }
    beacon_pack(&a, bytes);
    bytes[10] = bytes[11] = 0;
    assert_false(beacon_unpack(bytes, BEACON_BYTES, &b));
    struct err err;
    assert_int_equal(beacon_check_name("office-2.a_b", &err), 0);
    assert_int_equal(beacon_check_name("", &err), ERR_CONFIG);
    assert_int_equal(beacon_check_name("a b", &err), ERR_CONFIG);
    assert_int_equal(beacon_check_name("12345678901234567890123456789012", &err), ERR_CONFIG);
}

#define IN_ROOM(f) cmocka_unit_test_setup_teardown(f, room_open, room_close)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_key_text),
        cmocka_unit_test(test_pairs),
        cmocka_unit_test(test_line),
        cmocka_unit_test(test_broken_lines),
        cmocka_unit_test(test_durations),
        IN_ROOM(test_key_file),
        IN_ROOM(test_open_to_others),
        IN_ROOM(test_membership),
        IN_ROOM(test_invite_once),
        IN_ROOM(test_names),
        IN_ROOM(test_refresh),
        IN_ROOM(test_broken_lists),
        IN_ROOM(test_editors),
        cmocka_unit_test(test_beacon),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
