#include "worker/content_cache.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define DISK_BLOCK 4096 /* what a file takes at least, mostly */
#define HEX_DIGITS (2 * (size_t)DIGEST_BYTES)

struct cached {
    char name[HEX_DIGITS + sizeof ".part"];
    int64_t bytes; /* on disk */
    struct timespec used;
};

struct listing {
    struct cached *files;
    size_t n, room;
    int64_t bytes;
};

static bool is_hex(const char *text)
{
    return strspn(text, "0123456789abcdef") == HEX_DIGITS;
}

static void listing_add(struct listing *l, const char *name, const struct stat *st)
{
    if (l->n == l->room) {
        size_t room = l->room ? 2 * l->room : 256;
        struct cached *more = realloc(l->files, room * sizeof *more);
        if (!more)
            return; /* it is not seen this time */
        l->files = more;
        l->room = room;
    }
    struct cached *file = &l->files[l->n];
    const size_t length = strlen(name);
    if (length >= sizeof file->name)
        return;
    l->n++;
    memcpy(file->name, name, length + 1);
    file->bytes = (int64_t)st->st_blocks * 512;
    file->used = st->st_mtim;
    l->bytes += file->bytes;
}

/* All of ours in the folder, whole or not. */
static struct listing listing_read(const char *folder)
{
    struct listing l = {0};
    DIR *dir = opendir(folder);
    for (const struct dirent *e; dir && (e = readdir(dir));) {
        size_t length = strlen(e->d_name);
        struct stat st;
        if (is_hex(e->d_name) &&
            (length == HEX_DIGITS || strcmp(e->d_name + HEX_DIGITS, ".part") == 0) &&
            fstatat(dirfd(dir), e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode))
            listing_add(&l, e->d_name, &st);
    }
    if (dir)
        closedir(dir);
    return l;
}

static int compare_times(const void *a, const void *b)
{
    const struct timespec *x = &((const struct cached *)a)->used;
    const struct timespec *y = &((const struct cached *)b)->used;
    if (x->tv_sec != y->tv_sec)
        return x->tv_sec < y->tv_sec ? -1 : 1;
    return (x->tv_nsec > y->tv_nsec) - (x->tv_nsec < y->tv_nsec);
}

/* The least recently used first. */
static void listing_sort(struct listing *l)
{
    if (l->n)
        qsort(l->files, l->n, sizeof *l->files, compare_times);
}

static int make_folders(char *path)
{
    for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        mkdir(path, 0755);
        *slash = '/';
    }
    return mkdir(path, 0755) == 0 || errno == EEXIST ? 0 : -1;
}

int content_cache_open(struct content_cache *c, const char *folder, int64_t limit, struct err *err)
{
    *c = (struct content_cache){.limit = limit};
    pthread_mutex_init(&c->lock, NULL);
    if (limit == 0)
        return 0;
    c->folder = strdup(folder);
    if (!c->folder)
        return err_set(err, ERR_MEMORY, "no memory for the cache's name");
    struct statvfs fs;
    if (make_folders(c->folder) < 0 || access(c->folder, W_OK | X_OK) < 0 ||
        statvfs(c->folder, &fs) < 0) {
        int rc = err_set(err, ERR_IO, "%s cannot be used as a cache: %s", folder, strerror(errno));
        free(c->folder);
        c->folder = NULL;
        return rc;
    }
    if (limit < 0) {
        struct listing l = listing_read(c->folder);
        c->limit = ((int64_t)(fs.f_bavail * fs.f_frsize) + l.bytes) / 5;
        free(l.files);
    }
    content_cache_make_room(c, 0);
    return 0;
}

void content_cache_close(struct content_cache *c)
{
    free(c->folder);
    c->folder = NULL;
    pthread_mutex_destroy(&c->lock);
}

bool content_cache_path(const struct content_cache *c, const unsigned char digest[DIGEST_BYTES],
                        bool part, char *to, size_t size)
{
    char hex[HEX_DIGITS + 1];
    if (!c->folder)
        return false;
    manifest_hex(digest, hex);
    return snprintf(to, size, "%s/%s%s", c->folder, hex, part ? ".part" : "") < (int)size;
}

bool content_cache_has(const struct content_cache *c, const unsigned char digest[DIGEST_BYTES],
                       size_t bytes)
{
    char path[4096];
    struct stat st;
    return content_cache_path(c, digest, false, path, sizeof path) && stat(path, &st) == 0 &&
           (size_t)st.st_size == bytes;
}

/* Whoever uses it holds a lock. One that is begun to be used just now is lost to the next user
 * alone: this one has it open. */
static bool remove_unused(const char *folder, const char *name)
{
    char path[4096];
    if (snprintf(path, sizeof path, "%s/%s", folder, name) >= (int)sizeof path)
        return false;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return false;
    bool gone = flock(fd, LOCK_EX | LOCK_NB) == 0 && unlink(path) == 0;
    close(fd);
    return gone;
}

void content_cache_make_room(struct content_cache *c, int64_t bytes)
{
    if (!c->folder)
        return;
    struct listing l = listing_read(c->folder);
    listing_sort(&l);
    for (size_t i = 0; i < l.n && l.bytes > c->limit - bytes; i++)
        if (remove_unused(c->folder, l.files[i].name))
            l.bytes -= l.files[i].bytes;
    pthread_mutex_lock(&c->lock);
    c->room = c->limit - l.bytes;
    pthread_mutex_unlock(&c->lock);
    free(l.files);
}

bool content_cache_reserve(struct content_cache *c, int64_t bytes)
{
    bytes = (bytes + DISK_BLOCK - 1) / DISK_BLOCK * DISK_BLOCK;
    pthread_mutex_lock(&c->lock);
    bool fits = c->folder && bytes <= c->room;
    if (fits)
        c->room -= bytes;
    pthread_mutex_unlock(&c->lock);
    return fits;
}

void content_cache_is_full(struct content_cache *c)
{
    pthread_mutex_lock(&c->lock);
    c->room = 0;
    pthread_mutex_unlock(&c->lock);
}

static unsigned char hex_value(char c)
{
    return (unsigned char)(c <= '9' ? c - '0' : c - 'a' + 10);
}

size_t content_cache_list(const struct content_cache *c, unsigned char (*to)[DIGEST_BYTES],
                          size_t most)
{
    if (!c->folder)
        return 0;
    struct listing l = listing_read(c->folder);
    listing_sort(&l);
    size_t n = 0;
    for (size_t i = l.n; i > 0 && n < most; i--) {
        const char *name = l.files[i - 1].name;
        if (name[HEX_DIGITS])
            continue;
        for (size_t b = 0; b < DIGEST_BYTES; b++)
            to[n][b] = (unsigned char)(hex_value(name[2 * b]) << 4 | hex_value(name[2 * b + 1]));
        n++;
    }
    free(l.files);
    return n;
}
