#include "proto/allow_list.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define DATE_FORMAT "%Y-%m-%dT%H:%M:%SZ"

static const char *const files[] = {"workers", "invites"};

static void list_stamp(const struct allow_list *l, int file, struct allow_stamp *ret_stamp)
{
    char path[TRUST_STORE_PATH];
    struct stat st;
    *ret_stamp = (struct allow_stamp){0};
    snprintf(path, sizeof path, "%s/%s", l->store->folder, files[file]);
    if (stat(path, &st) == 0)
        *ret_stamp = (struct allow_stamp){st.st_ino, st.st_size, st.st_ctim};
}

static bool stamp_is_equal(const struct allow_stamp *a, const struct allow_stamp *b)
{
    return a->inode == b->inode && a->size == b->size && a->changed.tv_sec == b->changed.tv_sec &&
           a->changed.tv_nsec == b->changed.tv_nsec;
}

/* ---- reading ---- */

/* The next word of a line, as [*ret_word, *ret_word + result); 0: none. */
static size_t list_word(const char **at, const char **ret_word)
{
    *at += strspn(*at, " \t");
    *ret_word = *at;
    size_t n = strcspn(*at, " \t\n");
    *at += n;
    return n;
}

static bool list_parse_worker(const char *line, struct allow_worker *ret_worker)
{
    const char *name, *key, *date;
    char copy[32];
    struct tm when = {0};
    size_t n = list_word(&line, &name);
    if (n < 1 || n >= sizeof ret_worker->name)
        return false;
    memcpy(ret_worker->name, name, n);
    ret_worker->name[n] = '\0';
    n = list_word(&line, &key);
    if (!keys_parse(key, n, ret_worker->key))
        return false;
    n = list_word(&line, &date);
    if (n >= sizeof copy)
        return false;
    memcpy(copy, date, n);
    copy[n] = '\0';
    const char *end = strptime(copy, DATE_FORMAT, &when);
    if (!end || *end)
        return false;
    ret_worker->since_s = timegm(&when);
    return *line == '\n' || *line == '\0';
}

static bool list_parse_invite(const char *line, struct allow_invite *ret_invite)
{
    const char *key, *expiry;
    size_t n = list_word(&line, &key);
    if (!keys_parse(key, n, ret_invite->key))
        return false;
    n = list_word(&line, &expiry);
    if (n < 1 || n > 12 || strspn(expiry, "0123456789") != n)
        return false;
    ret_invite->expires_s = strtoll(expiry, NULL, 10);
    return *line == '\n' || *line == '\0';
}

/* One file's lines into an array; file 0: workers. */
static int list_read(struct allow_list *l, int file, struct err *err)
{
    struct buf text;
    int rc = trust_store_read(l->store, files[file], &text, err);
    if (rc <= 0)
        return rc;
    size_t n_lines = 1;
    for (const char *p = buf_text(&text); *p; p++)
        n_lines += *p == '\n';
    if (file == 0)
        l->workers = calloc(n_lines, sizeof *l->workers);
    else
        l->invites = calloc(n_lines, sizeof *l->invites);
    rc = (file == 0 ? (void *)l->workers : (void *)l->invites)
             ? 0
             : err_set(err, ERR_MEMORY, "no memory for the list of workers");
    int number = 1;
    const char *line = buf_text(&text);
    while (rc == 0 && *line) {
        const size_t length = strcspn(line, "\n");
        if (length && line[0] != '#') {
            bool is_sound = file == 0 ? list_parse_worker(line, &l->workers[l->n_workers++])
                                      : list_parse_invite(line, &l->invites[l->n_invites++]);
            if (!is_sound)
                rc = err_set(err, ERR_CONFIG, "%s/%s, line %d is not \"%s\"", l->store->folder,
                             files[file], number, file == 0 ? "NAME KEY DATE" : "KEY EXPIRY");
        }
        line += length + (line[length] == '\n');
        number++;
    }
    buf_clear(&text);
    return rc;
}

static void list_clear(struct allow_list *l)
{
    free(l->workers);
    free(l->invites);
    *l = (struct allow_list){.store = l->store, .stamps = {l->stamps[0], l->stamps[1]}};
}

int allow_list_open(struct allow_list *ret_list, const struct trust_store *store, struct err *err)
{
    struct allow_list l = {.store = store};
    int rc = trust_store_open(store, err);
    for (int i = 0; rc == 0 && i < 2; i++) {
        list_stamp(&l, i, &l.stamps[i]); /* before: what changes meanwhile is read once more */
        rc = list_read(&l, i, err);
    }
    if (rc != 0) {
        list_clear(&l);
        return rc;
    }
    *ret_list = l;
    return 0;
}

void allow_list_close(struct allow_list *l)
{
    list_clear(l);
    *l = (struct allow_list){0};
}

int allow_list_refresh(struct allow_list *l, struct err *err)
{
    struct allow_stamp now[2];
    for (int i = 0; i < 2; i++)
        list_stamp(l, i, &now[i]);
    if (stamp_is_equal(&now[0], &l->stamps[0]) && stamp_is_equal(&now[1], &l->stamps[1]))
        return 0;
    struct allow_list fresh;
    int rc = allow_list_open(&fresh, l->store, err);
    if (rc == ERR_CONFIG) /* it will say the same until it is edited; else it is read again */
        memcpy(l->stamps, now, sizeof now);
    if (rc != 0)
        return rc;
    list_clear(l);
    *l = fresh;
    return 1;
}

/* ---- questions ---- */

const struct allow_worker *allow_list_worker(const struct allow_list *l,
                                             const unsigned char key[KEYS_BYTES])
{
    for (size_t i = 0; i < l->n_workers; i++)
        if (keys_are_equal(l->workers[i].key, key))
            return &l->workers[i];
    return NULL;
}

const struct allow_worker *allow_list_named(const struct allow_list *l, const char *name)
{
    for (size_t i = 0; i < l->n_workers; i++)
        if (strcmp(l->workers[i].name, name) == 0)
            return &l->workers[i];
    return NULL;
}

static struct allow_invite *list_invite(const struct allow_list *l, const unsigned char *key)
{
    for (size_t i = 0; i < l->n_invites; i++)
        if (keys_are_equal(l->invites[i].key, key))
            return &l->invites[i];
    return NULL;
}

bool allow_list_is_invited(const struct allow_list *l, const unsigned char key[KEYS_BYTES],
                           int64_t now_s)
{
    const struct allow_invite *invite = list_invite(l, key);
    return invite && now_s < invite->expires_s;
}

/* ---- edits ---- */

static void list_print_worker(struct buf *to, const struct allow_worker *w)
{
    char key[KEYS_TEXT_BYTES], date[32];
    time_t since = (time_t)w->since_s;
    struct tm when;
    keys_format(w->key, key);
    strftime(date, sizeof date, DATE_FORMAT, gmtime_r(&since, &when));
    buf_printf(to, "%s %s %s\n", w->name, key, date);
}

static int list_write(struct allow_list *l, int file, struct err *err)
{
    struct buf text;
    buf_init(&text);
    for (size_t i = 0; file == 0 && i < l->n_workers; i++)
        list_print_worker(&text, &l->workers[i]);
    for (size_t i = 0; file == 1 && i < l->n_invites; i++) {
        char key[KEYS_TEXT_BYTES];
        keys_format(l->invites[i].key, key);
        buf_printf(&text, "%s %" PRId64 "\n", key, l->invites[i].expires_s);
    }
    int rc = buf_failed(&text)
                 ? err_set(err, ERR_MEMORY, "no memory for the list of workers")
                 : trust_store_write(l->store, files[file], buf_text(&text), text.length, err);
    buf_clear(&text);
    if (rc == 0)
        list_stamp(l, file, &l->stamps[file]);
    return rc;
}

/* The lock, and what the files say now. */
static int list_begin(struct allow_list *l, int *ret_lock, struct err *err)
{
    struct allow_list fresh;
    int rc = trust_store_lock(l->store, ret_lock, err);
    if (rc != 0)
        return rc;
    rc = allow_list_open(&fresh, l->store, err);
    if (rc != 0) {
        trust_store_unlock(*ret_lock);
        return rc;
    }
    list_clear(l);
    *l = fresh;
    return 0;
}

/* Room for one more of `size` bytes. */
static int list_grow(void **array, size_t n, size_t size, struct err *err)
{
    void *larger = realloc(*array, (n + 1) * size);
    if (!larger)
        return err_set(err, ERR_MEMORY, "no memory for the list of workers");
    *array = larger;
    return 0;
}

int allow_list_invite(struct allow_list *l, const unsigned char key[KEYS_BYTES], int64_t expires_s,
                      struct err *err)
{
    int lock, rc = list_begin(l, &lock, err);
    if (rc != 0)
        return rc;
    const int64_t now_s = (int64_t)time(NULL);
    size_t kept = 0;
    for (size_t i = 0; i < l->n_invites; i++)
        if (l->invites[i].expires_s > now_s)
            l->invites[kept++] = l->invites[i];
    l->n_invites = kept;
    rc = list_grow((void **)&l->invites, kept, sizeof *l->invites, err);
    if (rc == 0) {
        l->invites[kept].expires_s = expires_s;
        memcpy(l->invites[kept].key, key, KEYS_BYTES);
        l->n_invites++;
        rc = list_write(l, 1, err);
    }
    trust_store_unlock(lock);
    return rc;
}

static int list_add_worker(struct allow_list *l, const unsigned char *key, const char *name,
                           int64_t now_s, struct err *err)
{
    int rc = list_grow((void **)&l->workers, l->n_workers, sizeof *l->workers, err);
    if (rc != 0)
        return rc;
    struct allow_worker w = {.since_s = now_s};
    char base[ALLOW_LIST_NAME - 12];
    snprintf(base, sizeof base, "%s", name);
    snprintf(w.name, sizeof w.name, "%s", base);
    for (int i = 2; allow_list_named(l, w.name); i++)
        snprintf(w.name, sizeof w.name, "%s-%d", base, i);
    memcpy(w.key, key, KEYS_BYTES);
    l->workers[l->n_workers++] = w;
    return list_write(l, 0, err);
}

int allow_list_enroll(struct allow_list *l, const unsigned char *invite,
                      const unsigned char key[KEYS_BYTES], const char *name, int64_t now_s,
                      struct err *err)
{
    int lock, rc = list_begin(l, &lock, err);
    if (rc != 0)
        return rc;
    if (invite && !allow_list_is_invited(l, invite, now_s))
        rc = err_set(err, ERR_AUTH, "the invite is unknown, used or over");
    /* The worker first: a stop between the two leaves an invite that can be used by it again. */
    if (rc == 0 && !allow_list_worker(l, key))
        rc = list_add_worker(l, key, name, now_s, err);
    if (rc == 0 && invite) {
        struct allow_invite *used = list_invite(l, invite);
        *used = l->invites[--l->n_invites];
        rc = list_write(l, 1, err);
    }
    trust_store_unlock(lock);
    return rc;
}

int allow_list_revoke(struct allow_list *l, const char *name, struct err *err)
{
    int lock, rc = list_begin(l, &lock, err);
    if (rc != 0)
        return rc;
    size_t kept = 0;
    for (size_t i = 0; i < l->n_workers; i++)
        if (strcmp(l->workers[i].name, name) != 0)
            l->workers[kept++] = l->workers[i];
    if (kept == l->n_workers) {
        rc = err_set(err, ERR_NOT_FOUND, "no worker is enrolled as \"%.64s\"", name);
    } else {
        l->n_workers = kept;
        rc = list_write(l, 0, err);
    }
    trust_store_unlock(lock);
    return rc;
}
