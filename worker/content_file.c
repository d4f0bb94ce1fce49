#include "worker/content_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum kind {
    KIND_WHOLE,   /* HEX; a shared lock is held */
    KIND_PART,    /* HEX.part; the lock is held */
    KIND_UNNAMED, /* another process writes HEX.part: on the same disk, without a name */
    KIND_MEMORY
};

struct content_file {
    struct content_cache *cache;
    unsigned char digest[DIGEST_BYTES];
    size_t bytes, n_chunks;
    enum kind kind;
    bool is_begun;
    int fd;
    unsigned char *data;  /* mapped */
    atomic_uchar *good;   /* [n_chunks] */
    atomic_size_t n_good; /* of them */
    /* shared: bytes are read or written; exclusive: fd, data or kind change */
    pthread_rwlock_t lock;
};

static bool file_map(struct content_file *f)
{
    void *data = mmap(NULL, f->bytes, PROT_READ, MAP_SHARED, f->fd, 0);
    if (data == MAP_FAILED)
        return false;
    f->data = data;
    return true;
}

static void file_unmap(struct content_file *f)
{
    if (f->data)
        munmap(f->data, f->bytes);
    f->data = NULL;
    if (f->fd >= 0) /* its lock goes with it */
        close(f->fd);
    f->fd = -1;
}

/* Opened, locked, of the right length and mapped; or nothing has happened. */
static bool file_take(struct content_file *f, enum kind kind, const char *path, int flags)
{
    f->fd = open(path, flags | O_RDWR | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (f->fd < 0)
        return false;
    struct stat st;
    int lock = kind == KIND_WHOLE ? LOCK_SH : LOCK_EX;
    bool ok = flock(f->fd, lock | LOCK_NB) == 0 && fstat(f->fd, &st) == 0 && S_ISREG(st.st_mode);
    if (ok && kind == KIND_WHOLE && (size_t)st.st_size != f->bytes) {
        unlink(path); /* cut short, or of something else: as if it were not there */
        ok = false;
    }
    f->is_begun = ok && st.st_blocks > 0;
    if (ok && (size_t)st.st_size != f->bytes)
        ok = ftruncate(f->fd, (off_t)f->bytes) == 0; /* holes: they take no room yet */
    ok = ok && file_map(f);
    if (ok) {
        f->kind = kind;
        futimens(f->fd, NULL);
    } else {
        file_unmap(f);
    }
    return ok;
}

/* Private pages: they count as this worker's memory, and neither a disk nor a limit of file sizes
 * can stop them. */
static bool file_take_memory(struct content_file *f)
{
    void *data = mmap(NULL, f->bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (data == MAP_FAILED)
        return false;
    madvise(data, f->bytes, MADV_HUGEPAGE); /* fewer faults, where it is to be had */
    f->data = data;
    f->kind = KIND_MEMORY;
    f->is_begun = false;
    return true;
}

static bool file_take_any(struct content_file *f)
{
    char path[4096];
    struct content_cache *c = f->cache;
    if (content_cache_path(c, f->digest, false, path, sizeof path) &&
        file_take(f, KIND_WHOLE, path, 0))
        return true;
    if (c->folder && content_cache_reserve(c, (int64_t)f->bytes)) {
        if (content_cache_path(c, f->digest, true, path, sizeof path) &&
            file_take(f, KIND_PART, path, O_CREAT))
            return true;
        if (file_take(f, KIND_UNNAMED, c->folder, O_TMPFILE))
            return true;
    }
    return file_take_memory(f);
}

int content_file_open(struct content_file **ret_file, struct content_cache *cache,
                      const unsigned char digest[DIGEST_BYTES], size_t bytes, struct err *err)
{
    struct content_file *f = calloc(1, sizeof *f);
    if (!f)
        return err_set(err, ERR_MEMORY, "no memory for a tensor");
    f->cache = cache;
    f->bytes = bytes;
    f->n_chunks = manifest_chunk_count(bytes);
    f->fd = -1;
    memcpy(f->digest, digest, DIGEST_BYTES);
    pthread_rwlock_init(&f->lock, NULL);
    f->good = calloc(f->n_chunks + 1, sizeof *f->good);
    if (!f->good || !file_take_any(f)) {
        content_file_close(f);
        return err_set(err, ERR_MEMORY, "no memory for a tensor of %zu bytes", bytes);
    }
    *ret_file = f;
    return 0;
}

void content_file_close(struct content_file *f)
{
    if (!f)
        return;
    file_unmap(f);
    pthread_rwlock_destroy(&f->lock);
    free(f->good);
    free(f);
}

bool content_file_is_in_memory(struct content_file *f)
{
    pthread_rwlock_rdlock(&f->lock);
    bool in_memory = f->kind == KIND_MEMORY;
    pthread_rwlock_unlock(&f->lock);
    return in_memory;
}

bool content_file_is_begun(const struct content_file *f)
{
    return f->is_begun;
}

bool content_file_is_whole(const struct content_file *f)
{
    return atomic_load(&f->n_good) == f->n_chunks;
}

const void *content_file_data(const struct content_file *f)
{
    return f->data;
}

/* It gets its name. Somebody else may have been faster with the same bytes. */
static void file_finish(struct content_file *f)
{
    char part[4096], whole[4096], open_file[64];
    if (!content_cache_path(f->cache, f->digest, true, part, sizeof part) ||
        !content_cache_path(f->cache, f->digest, false, whole, sizeof whole))
        return;
    pthread_rwlock_wrlock(&f->lock);
    bool named = f->kind == KIND_PART && rename(part, whole) == 0;
    if (f->kind == KIND_UNNAMED) {
        snprintf(open_file, sizeof open_file, "/proc/self/fd/%d", f->fd);
        named = linkat(AT_FDCWD, open_file, AT_FDCWD, whole, AT_SYMLINK_FOLLOW) == 0;
    }
    if (named) {
        f->kind = KIND_WHOLE;
        flock(f->fd, LOCK_SH);
    }
    pthread_rwlock_unlock(&f->lock);
}

static void file_mark(struct content_file *f, size_t chunk)
{
    if (atomic_exchange(&f->good[chunk], 1) == 0 &&
        atomic_fetch_add(&f->n_good, 1) + 1 == f->n_chunks)
        file_finish(f);
}

bool content_file_verify(struct content_file *f, size_t chunk,
                         const unsigned char digest[DIGEST_BYTES])
{
    unsigned char found[DIGEST_BYTES];
    const off_t begin = (off_t)(chunk * MANIFEST_CHUNK_BYTES);
    pthread_rwlock_rdlock(&f->lock);
    bool good = atomic_load(&f->good[chunk]), is_whole = f->kind == KIND_WHOLE;
    /* A hole at its begin: it never came. Where holes are not told, hashing tells. */
    if (!good && f->is_begun && (is_whole || lseek(f->fd, begin, SEEK_DATA) == begin)) {
        manifest_digest_chunk(f->data + begin, manifest_chunk_bytes(f->bytes, chunk), found);
        good = memcmp(found, digest, DIGEST_BYTES) == 0;
    }
    pthread_rwlock_unlock(&f->lock);
    if (good)
        file_mark(f, chunk);
    return good;
}

bool content_file_is_damaged(struct content_file *f)
{
    char part[4096], whole[4096];
    pthread_rwlock_wrlock(&f->lock);
    bool was_whole = f->kind == KIND_WHOLE;
    if (was_whole && content_cache_path(f->cache, f->digest, true, part, sizeof part) &&
        content_cache_path(f->cache, f->digest, false, whole, sizeof whole)) {
        rename(whole, part); /* fails if another user has done it: its name comes back with it */
        f->kind = KIND_PART;
    }
    pthread_rwlock_unlock(&f->lock);
    return was_whole;
}

/* 0 or an errno. */
static int write_all(int fd, const unsigned char *bytes, size_t size, off_t at)
{
    while (size > 0) {
        ssize_t n = pwrite(fd, bytes, size, at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? errno : ENOSPC;
        bytes += n;
        at += n;
        size -= (size_t)n;
    }
    return 0;
}

/* What is there comes along; the room on the disk is given back. */
static bool file_move_to_memory(struct content_file *f)
{
    struct content_file old = {.fd = f->fd, .data = f->data, .bytes = f->bytes};
    char part[4096];
    f->fd = -1;
    f->data = NULL;
    bool was_named = f->kind == KIND_PART;
    bool ok = file_take_memory(f);
    for (size_t i = 0; ok && i < f->n_chunks; i++) {
        size_t begin = i * MANIFEST_CHUNK_BYTES;
        if (atomic_load(&f->good[i]))
            memcpy(f->data + begin, old.data + begin, manifest_chunk_bytes(f->bytes, i));
    }
    if (was_named && content_cache_path(f->cache, f->digest, true, part, sizeof part))
        unlink(part);
    file_unmap(&old);
    return ok;
}

int content_file_write(struct content_file *f, size_t chunk, const void *bytes, bool *ret_moved,
                       struct err *ret_why, struct err *err)
{
    const size_t size = manifest_chunk_bytes(f->bytes, chunk);
    const size_t begin = chunk * MANIFEST_CHUNK_BYTES;
    int fault = 0;
    bool has_room = true;
    *ret_moved = false;
    pthread_rwlock_rdlock(&f->lock);
    if (f->kind == KIND_MEMORY)
        memcpy(f->data + begin, bytes, size);
    else
        fault = write_all(f->fd, bytes, size, (off_t)begin);
    pthread_rwlock_unlock(&f->lock);
    if (fault) {
        err_set(ret_why, ERR_IO, "%s: %s", f->cache->folder, strerror(fault));
        content_cache_is_full(f->cache);
        pthread_rwlock_wrlock(&f->lock);
        *ret_moved = f->kind != KIND_MEMORY;
        has_room = !*ret_moved || file_move_to_memory(f);
        if (has_room)
            memcpy(f->data + begin, bytes, size);
        pthread_rwlock_unlock(&f->lock);
    }
    if (!has_room)
        return err_set(err, ERR_MEMORY, "no memory for a tensor of %zu bytes", f->bytes);
    file_mark(f, chunk);
    return 0;
}

bool content_file_read(struct content_file *f, size_t chunk, void *to)
{
    if (chunk >= f->n_chunks || !atomic_load(&f->good[chunk]))
        return false;
    const size_t size = manifest_chunk_bytes(f->bytes, chunk);
    const size_t begin = chunk * MANIFEST_CHUNK_BYTES;
    bool ok = true;
    pthread_rwlock_rdlock(&f->lock);
    if (f->kind == KIND_MEMORY)
        memcpy(to, f->data + begin, size);
    else /* not through the mapping: a file that was cut short is no fault of this process */
        ok = pread(f->fd, to, size, (off_t)begin) == (ssize_t)size;
    /* Looked at once more: it may have been dropped meanwhile. */
    ok = ok && atomic_load(&f->good[chunk]);
    pthread_rwlock_unlock(&f->lock);
    return ok;
}

void content_file_release(struct content_file *f, bool drop_memory)
{
    pthread_rwlock_wrlock(&f->lock);
    if (f->kind != KIND_MEMORY) {
        madvise(f->data, f->bytes, MADV_DONTNEED);
    } else if (drop_memory) {
        for (size_t i = 0; i < f->n_chunks; i++)
            atomic_store(&f->good[i], 0);
        atomic_store(&f->n_good, 0);
        madvise(f->data, f->bytes, MADV_DONTNEED);
    }
    pthread_rwlock_unlock(&f->lock);
}
