#include "proto/trust_store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_FILE (1 << 20)

int trust_store_locate(struct trust_store *ret_store, const char *folder, struct err *err)
{
    const char *home = getenv("PACELINE_HOME"), *user = getenv("HOME");
    const size_t size = sizeof ret_store->folder;
    int n;
    if (folder)
        n = snprintf(ret_store->folder, size, "%s", folder);
    else if (home && home[0])
        n = snprintf(ret_store->folder, size, "%s/trust", home);
    else
        n = snprintf(ret_store->folder, size, "%s/.cache/paceline/trust", user ? user : "");
    if (n <= 0 || (size_t)n >= size)
        return err_set(err, ERR_CONFIG, "the folder of keys has an empty or too long name");
    return 0;
}

static void store_path(const struct trust_store *s, const char *name, char to[TRUST_STORE_PATH])
{
    snprintf(to, TRUST_STORE_PATH, "%s/%.60s", s->folder, name);
}

/* What is there must be this user's, and closed to all others. Root acts for whoever has it. */
static int store_check(const char *path, const struct stat *st, const char *mode, struct err *err)
{
    if (st->st_uid != geteuid() && geteuid() != 0)
        return err_set(err, ERR_CONFIG, "%s belongs to another user: run this as its owner", path);
    if (st->st_mode & 077)
        return err_set(err, ERR_CONFIG,
                       "%s is open to other users of this machine: chmod %s it, and if one may "
                       "have looked, delete it and join anew",
                       path, mode);
    return 0;
}

/* What root makes belongs to the owner of the folder that it is in. */
static void store_give(int fd, const char *folder)
{
    struct stat st;
    if (geteuid() == 0 && stat(folder, &st) == 0 && st.st_uid != 0 &&
        fchown(fd, st.st_uid, st.st_gid) != 0)
        return; /* then its owner will say that it is another's */
}

static void store_give_folder(const char folder[TRUST_STORE_PATH])
{
    char parent[TRUST_STORE_PATH + 4];
    snprintf(parent, sizeof parent, "%s/..", folder);
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return;
    store_give(fd, parent);
    close(fd);
}

int trust_store_open(const struct trust_store *s, struct err *err)
{
    char path[TRUST_STORE_PATH];
    snprintf(path, sizeof path, "%s", s->folder);
    for (char *p = path + 1; *p; p++) {
        if (*p != '/')
            continue;
        *p = '\0';
        mkdir(path, 0777); /* what stays missing is told below */
        *p = '/';
    }
    if (mkdir(path, 0700) == 0)
        store_give_folder(path);
    else if (errno != EEXIST)
        return err_set(err, ERR_IO, "%s: cannot make the folder: %s", path, strerror(errno));
    struct stat st;
    if (stat(path, &st) != 0 || !S_ISDIR(st.st_mode))
        return err_set(err, ERR_IO, "%s is no folder", path);
    return store_check(path, &st, "700", err);
}

static int store_read_all(int fd, const char *path, struct buf *to, struct err *err)
{
    char chunk[4096];
    ssize_t n;
    while ((n = read(fd, chunk, sizeof chunk)) > 0 && to->length <= MAX_FILE)
        buf_append(to, chunk, (size_t)n);
    if (n < 0)
        return err_set(err, ERR_IO, "%s: %s", path, strerror(errno));
    if (to->length > MAX_FILE)
        return err_set(err, ERR_CONFIG, "%s is longer than %d bytes", path, MAX_FILE);
    return buf_failed(to) ? err_set(err, ERR_MEMORY, "%s: no memory to read it", path) : 0;
}

int trust_store_read(const struct trust_store *s, const char *name, struct buf *ret_text,
                     struct err *err)
{
    char path[TRUST_STORE_PATH];
    store_path(s, name, path);
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0 && errno == ENOENT)
        return 0;
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0) {
        int rc = err_set(err, ERR_CONFIG, "%s: %s", path, strerror(errno));
        if (fd >= 0)
            close(fd);
        return rc;
    }
    struct buf text;
    buf_init(&text);
    int rc = S_ISREG(st.st_mode) ? store_check(path, &st, "600", err)
                                 : err_set(err, ERR_CONFIG, "%s is no file", path);
    if (rc == 0)
        rc = store_read_all(fd, path, &text, err);
    close(fd);
    if (rc != 0) {
        buf_clear(&text);
        return rc;
    }
    *ret_text = text;
    return 1;
}

static int store_write_all(int fd, const char *text, size_t length)
{
    while (length) {
        ssize_t n = write(fd, text, length);
        if (n < 0 && errno != EINTR)
            return -1;
        if (n > 0) {
            text += n;
            length -= (size_t)n;
        }
    }
    return fsync(fd);
}

int trust_store_write(const struct trust_store *s, const char *name, const char *text,
                      size_t length, struct err *err)
{
    char path[TRUST_STORE_PATH], beside[TRUST_STORE_PATH + 24];
    store_path(s, name, path);
    snprintf(beside, sizeof beside, "%s.%ld", path, (long)getpid());
    unlink(beside); /* of a process that had our number before */
    int fd = open(beside, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_set(err, ERR_IO, "%s: %s", beside, strerror(errno));
    store_give(fd, s->folder);
    int failed = store_write_all(fd, text, length) != 0;
    failed = close(fd) != 0 || failed;
    if (failed || rename(beside, path) != 0) {
        int rc = err_set(err, ERR_IO, "%s: %s", path, strerror(errno));
        unlink(beside);
        return rc;
    }
    int folder = open(s->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder >= 0) {
        fsync(folder); /* so that the name is on the disk too */
        close(folder);
    }
    return 0;
}

int trust_store_lock(const struct trust_store *s, int *ret_lock, struct err *err)
{
    char path[TRUST_STORE_PATH];
    store_path(s, "lock", path);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    int rc;
    do
        rc = fd < 0 ? -1 : flock(fd, LOCK_EX);
    while (rc != 0 && errno == EINTR && fd >= 0);
    if (rc != 0) {
        rc = err_set(err, ERR_IO, "%s: %s", path, strerror(errno));
        if (fd >= 0)
            close(fd);
        return rc;
    }
    store_give(fd, s->folder);
    *ret_lock = fd;
    return 0;
}

void trust_store_unlock(int lock)
{
    close(lock); /* the lock goes with it */
}

static int store_make_key(const struct trust_store *s, const char *name, struct key_pair *ret_pair,
                          struct err *err)
{
    struct key_pair pair;
    int rc = keys_make(&pair, err);
    if (rc != 0)
        return rc;
    char text[KEYS_TEXT_BYTES], line[128];
    keys_format(pair.secret_key, text);
    int n = snprintf(line, sizeof line, "secret %s\n", text);
    rc = trust_store_write(s, name, line, (size_t)n, err);
    if (rc == 0)
        *ret_pair = pair;
    return rc;
}

int trust_store_key(const struct trust_store *s, const char *name, struct key_pair *ret_pair,
                    struct err *err)
{
    int lock;
    struct buf text;
    int rc = trust_store_open(s, err);
    if (rc == 0)
        rc = trust_store_lock(s, &lock, err);
    if (rc != 0)
        return rc;
    rc = trust_store_read(s, name, &text, err);
    if (rc == 0) {
        rc = store_make_key(s, name, ret_pair, err);
    } else if (rc > 0) {
        const char *word = "secret ", *line = buf_text(&text);
        unsigned char secret[KEYS_BYTES];
        bool is_key = strncmp(line, word, strlen(word)) == 0 &&
                      keys_parse(line + strlen(word), strcspn(line + strlen(word), "\n"), secret);
        rc = is_key ? keys_derive(secret, ret_pair, err)
                    : err_set(err, ERR_CONFIG, "%s/%s holds no key: delete it and join anew",
                              s->folder, name);
        buf_clear(&text);
    }
    trust_store_unlock(lock);
    return rc;
}
