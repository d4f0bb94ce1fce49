#include "model/manifest.h"

#include "base/version.h"

#include "base/buf.h"

#include <errno.h>
#include <omp.h>
#include <openssl/evp.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static bool sha256_begin(EVP_MD_CTX **ret_sha)
{
    *ret_sha = EVP_MD_CTX_new();
    return *ret_sha && EVP_DigestInit_ex(*ret_sha, EVP_sha256(), NULL) == 1;
}

static bool sha256_end(EVP_MD_CTX *sha, unsigned char ret_digest[DIGEST_BYTES])
{
    return EVP_DigestFinal_ex(sha, ret_digest, NULL) == 1;
}

size_t manifest_chunk_count(size_t bytes)
{
    return bytes / MANIFEST_CHUNK_BYTES + (bytes % MANIFEST_CHUNK_BYTES != 0);
}

size_t manifest_chunk_bytes(size_t bytes, size_t chunk)
{
    size_t begin = chunk * MANIFEST_CHUNK_BYTES;
    return bytes - begin < MANIFEST_CHUNK_BYTES ? bytes - begin : MANIFEST_CHUNK_BYTES;
}

void manifest_digest_chunk(const void *data, size_t bytes, unsigned char ret_digest[DIGEST_BYTES])
{
    /* Without memory for its context the digest is one that nothing has: the comparison that
     * follows fails, which is the safe side. */
    if (EVP_Digest(data, bytes, ret_digest, NULL, EVP_sha256(), NULL) != 1)
        memset(ret_digest, 0, DIGEST_BYTES);
}

static bool tensor_begin(EVP_MD_CTX **ret_sha, uint64_t bytes)
{
    static const char title[] = "paceline tensor 1\n";
    return sha256_begin(ret_sha) && EVP_DigestUpdate(*ret_sha, title, sizeof title - 1) == 1 &&
           EVP_DigestUpdate(*ret_sha, &bytes, sizeof bytes) == 1;
}

void manifest_digest_chunks(uint64_t bytes, const void *digests, size_t n_chunks,
                            unsigned char ret_digest[DIGEST_BYTES])
{
    EVP_MD_CTX *sha;
    if (!tensor_begin(&sha, bytes) ||
        EVP_DigestUpdate(sha, digests, n_chunks * DIGEST_BYTES) != 1 ||
        !sha256_end(sha, ret_digest))
        memset(ret_digest, 0, DIGEST_BYTES);
    EVP_MD_CTX_free(sha);
}

void manifest_digest_tensor(const struct tensor *t, unsigned char ret_digest[DIGEST_BYTES])
{
    EVP_MD_CTX *sha;
    unsigned char digest[DIGEST_BYTES];
    bool ok = tensor_begin(&sha, t->bytes);
    for (size_t i = 0; ok && i < manifest_chunk_count(t->bytes); i++) {
        manifest_digest_chunk((const unsigned char *)t->data + i * MANIFEST_CHUNK_BYTES,
                              manifest_chunk_bytes(t->bytes, i), digest);
        ok = EVP_DigestUpdate(sha, digest, DIGEST_BYTES) == 1;
    }
    if (!ok || !sha256_end(sha, ret_digest))
        memset(ret_digest, 0, DIGEST_BYTES);
    EVP_MD_CTX_free(sha);
}

void manifest_hex(const unsigned char digest[DIGEST_BYTES], char to[2 * DIGEST_BYTES + 1])
{
    static const char digits[] = "0123456789abcdef";
    for (int i = 0; i < DIGEST_BYTES; i++) {
        to[2 * i] = digits[digest[i] >> 4];
        to[2 * i + 1] = digits[digest[i] & 15];
    }
    to[2 * DIGEST_BYTES] = '\0';
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool hex_read(const char *hex, unsigned char ret_digest[DIGEST_BYTES])
{
    for (int i = 0; i < DIGEST_BYTES; i++) {
        int high = hex_digit(hex[2 * i]), low = high < 0 ? -1 : hex_digit(hex[2 * i + 1]);
        if (low < 0)
            return false;
        ret_digest[i] = (unsigned char)(high << 4 | low);
    }
    return true;
}

void manifest_clear(struct manifest *m)
{
    free(m->digests);
    free(m->first_chunks);
    free(m->chunks);
    *m = (struct manifest){0};
}

/* SHA-256 over the line "paceline tensors 1\n" and, for each tensor in the file's order: its name
 * with the NUL, type u32, dimensions u32, the four sizes u64 (little-endian), its digest. So one
 * file and the same model in parts have one root. */
static bool root_of(const struct weight_file *f, struct manifest *m)
{
    static const char title[] = "paceline tensors 1\n";
    EVP_MD_CTX *sha;
    bool ok = sha256_begin(&sha) && EVP_DigestUpdate(sha, title, sizeof title - 1) == 1;
    for (size_t i = 0; ok && i < m->n_tensors; i++) {
        const struct tensor *t = weight_file_tensor(f, i);
        uint32_t kind[2] = {(uint32_t)t->type, (uint32_t)t->n_dims};
        ok = EVP_DigestUpdate(sha, t->name, strlen(t->name) + 1) == 1 &&
             EVP_DigestUpdate(sha, kind, sizeof kind) == 1 &&
             EVP_DigestUpdate(sha, t->dims, sizeof t->dims) == 1 &&
             EVP_DigestUpdate(sha, m->digests[i], DIGEST_BYTES) == 1;
    }
    ok = ok && sha256_end(sha, m->root);
    EVP_MD_CTX_free(sha);
    return ok;
}

/* A tensor's digests from those of their chunks, and the root from these. */
static bool derive(const struct weight_file *f, struct manifest *m)
{
    for (size_t i = 0; i < m->n_tensors; i++)
        manifest_digest_chunks(weight_file_tensor(f, i)->bytes, m->chunks[m->first_chunks[i]],
                               m->first_chunks[i + 1] - m->first_chunks[i], m->digests[i]);
    return root_of(f, m);
}

/* What all threads hash together. */
struct work {
    const struct weight_file *file;
    struct manifest *manifest;
    atomic_llong done;
    atomic_bool cancelled;
    bool (*progress)(void *context, int64_t bytes_done);
    void *context;
};

/* Pages that were hashed need not stay in this process; the page cache keeps them while it can. */
static void give_back(const void *data, size_t bytes)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    uintptr_t begin = ((uintptr_t)data + page - 1) / page * page;
    uintptr_t end = ((uintptr_t)data + bytes) / page * page;
    if (end > begin)
        madvise((void *)begin, end - begin, MADV_DONTNEED);
}

static void digest_one(struct work *w, const struct tensor *t, size_t chunk,
                       unsigned char ret_digest[DIGEST_BYTES])
{
    size_t bytes = manifest_chunk_bytes(t->bytes, chunk);
    if (chunk == 0)
        weight_file_prefetch(w->file, t);
    const unsigned char *data = (const unsigned char *)t->data + chunk * MANIFEST_CHUNK_BYTES;
    manifest_digest_chunk(data, bytes, ret_digest);
    give_back(data, bytes);
    long long done = atomic_fetch_add(&w->done, (long long)bytes) + (long long)bytes;
    if (w->progress && omp_get_thread_num() == 0) /* the caller's own thread */
        if (!w->progress(w->context, done))
            atomic_store(&w->cancelled, true);
}

static int digest_all(struct work *w, struct err *err)
{
    struct manifest *m = w->manifest;
    size_t n_chunks = m->first_chunks[m->n_tensors];
    size_t *owners = malloc((n_chunks + 1) * sizeof *owners);
    if (!owners)
        return err_set(err, ERR_MEMORY, "%s: no memory for its digests", weight_file_path(w->file));
    for (size_t i = 0; i < m->n_tensors; i++)
        for (size_t c = m->first_chunks[i]; c < m->first_chunks[i + 1]; c++)
            owners[c] = i;
    /* Asked once before: the caller's thread may get no chunk at all of a small file. */
    if (w->progress && !w->progress(w->context, 0))
        atomic_store(&w->cancelled, true);
#pragma omp parallel for schedule(dynamic, 1)
    for (size_t c = 0; c < n_chunks; c++)
        if (!atomic_load(&w->cancelled))
            digest_one(w, weight_file_tensor(w->file, owners[c]), c - m->first_chunks[owners[c]],
                       m->chunks[c]);
    free(owners);
    if (w->cancelled)
        return err_set(err, ERR_CANCELLED, "%s: hashing was given up", weight_file_path(w->file));
    if (w->progress)
        w->progress(w->context, atomic_load(&w->done));
    return 0;
}

/* The cache: one text file per model, named by what identifies its parts without reading them.
 *   paceline manifest 2
 *   HEX  root
 *   HEX  TENSOR NAME
 *   HEX          of each of its chunks
 *   … */
static bool cache_path(const struct weight_file *f, const char *cache_dir, struct buf *path)
{
    EVP_MD_CTX *sha;
    bool ok = sha256_begin(&sha);
    for (size_t i = 0; ok && i < weight_file_part_count(f); i++) {
        const struct weight_part *part = weight_file_part(f, i);
        char *whole = realpath(part->path, NULL);
        char numbers[160];
        int length =
            snprintf(numbers, sizeof numbers, "%lld %llu %llu %lld %lld", (long long)part->bytes,
                     (unsigned long long)part->device, (unsigned long long)part->inode,
                     (long long)part->changed_s, (long long)part->changed_ns);
        ok = whole && EVP_DigestUpdate(sha, whole, strlen(whole) + 1) == 1 &&
             EVP_DigestUpdate(sha, numbers, (size_t)length + 1) == 1;
        free(whole);
    }
    unsigned char digest[DIGEST_BYTES];
    char hex[2 * DIGEST_BYTES + 1];
    ok = ok && sha256_end(sha, digest);
    EVP_MD_CTX_free(sha);
    if (!ok)
        return false;
    manifest_hex(digest, hex);
    buf_printf(path, "%s/%s", cache_dir, hex);
    return !buf_failed(path);
}

static void cache_text(const struct weight_file *f, const struct manifest *m, struct buf *text)
{
    char hex[2 * DIGEST_BYTES + 1];
    manifest_hex(m->root, hex);
    buf_printf(text, "paceline manifest 2\n%s  root\n", hex);
    for (size_t i = 0; i < m->n_tensors; i++) {
        manifest_hex(m->digests[i], hex);
        buf_printf(text, "%s  %s\n", hex, weight_file_tensor(f, i)->name);
        for (size_t c = m->first_chunks[i]; c < m->first_chunks[i + 1]; c++) {
            manifest_hex(m->chunks[c], hex);
            buf_printf(text, "%s\n", hex);
        }
    }
}

/* Believed only if it is, to the byte, what would be written for these chunks; the root, computed
 * again from them, is its checksum. */
static bool cache_read(const struct weight_file *f, const char *path, struct manifest *m)
{
    struct buf expected, text;
    buf_init(&expected);
    buf_init(&text);
    cache_text(f, m, &expected); /* with digests of zeros: the right length */
    FILE *file = fopen(path, "re");
    bool ok = file && !buf_failed(&expected) && buf_reserve(&text, expected.length + 1);
    if (ok)
        text.length = fread(text.data, 1, expected.length + 1, file);
    if (file)
        fclose(file);
    ok = ok && text.length == expected.length;
    const size_t hex = 2 * DIGEST_BYTES;
    size_t at = sizeof "paceline manifest 2\n" - 1 + hex + sizeof "  root\n" - 1;
    for (size_t i = 0; ok && i < m->n_tensors; i++) {
        at += hex + 2 + strlen(weight_file_tensor(f, i)->name) + 1;
        for (size_t c = m->first_chunks[i]; ok && c < m->first_chunks[i + 1]; c++) {
            ok = hex_read(text.data + at, m->chunks[c]);
            at += hex + 1;
        }
    }
    ok = ok && derive(f, m);
    if (ok) {
        buf_reset(&expected);
        cache_text(f, m, &expected);
        ok = !buf_failed(&expected) && memcmp(expected.data, text.data, text.length) == 0;
    }
    buf_clear(&expected);
    buf_clear(&text);
    return ok;
}

static void make_directories(const char *path)
{
    char *copy = strdup(path);
    if (!copy)
        return;
    for (char *slash = strchr(copy + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        mkdir(copy, 0755);
        *slash = '/';
    }
    mkdir(copy, 0755);
    free(copy);
}

static bool parts_are_unchanged(const struct weight_file *f)
{
    for (size_t i = 0; i < weight_file_part_count(f); i++) {
        const struct weight_part *part = weight_file_part(f, i);
        struct stat st;
        if (stat(part->path, &st) < 0 || st.st_size != part->bytes || st.st_dev != part->device ||
            st.st_ino != part->inode || st.st_ctim.tv_sec != part->changed_s ||
            st.st_ctim.tv_nsec != part->changed_ns)
            return false;
    }
    return true;
}

static bool write_all(int fd, const char *bytes, size_t size)
{
    while (size > 0) {
        ssize_t n = write(fd, bytes, size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        bytes += n;
        size -= (size_t)n;
    }
    return true;
}

/* As a whole or not at all. */
static bool replace_file(const char *path, char *temporary, const struct buf *text)
{
    int fd = mkstemp(temporary);
    if (fd < 0)
        return false;
    bool ok = write_all(fd, text->data, text->length);
    int why = errno;
    ok = close(fd) == 0 && ok;
    if (ok && rename(temporary, path) == 0)
        return true;
    why = ok ? errno : why;
    unlink(temporary);
    errno = why;
    return false;
}

/* What cannot be kept costs time at the next start, nothing else. */
static void cache_write(const struct weight_file *f, const char *cache_dir, const char *path,
                        struct manifest *m)
{
    struct buf text, temporary;
    buf_init(&text);
    buf_init(&temporary);
    make_directories(cache_dir);
    cache_text(f, m, &text);
    buf_printf(&temporary, "%s.XXXXXX", path);
    errno = ENOMEM;
    if (buf_failed(&text) || buf_failed(&temporary) || !replace_file(path, temporary.data, &text))
        err_set(&m->not_kept, ERR_IO, "%s: the model's digests cannot be kept: %s", cache_dir,
                strerror(errno));
    buf_clear(&text);
    buf_clear(&temporary);
}

static bool allocate(struct manifest *m, const struct weight_file *f)
{
    m->n_tensors = weight_file_tensor_count(f);
    m->digests = calloc(m->n_tensors + 1, sizeof *m->digests);
    m->first_chunks = calloc(m->n_tensors + 1, sizeof *m->first_chunks);
    if (!m->digests || !m->first_chunks)
        return false;
    for (size_t i = 0; i < m->n_tensors; i++)
        m->first_chunks[i + 1] =
            m->first_chunks[i] + manifest_chunk_count(weight_file_tensor(f, i)->bytes);
    m->chunks = calloc(m->first_chunks[m->n_tensors] + 1, sizeof *m->chunks);
    return m->chunks != NULL;
}

int manifest_compute(struct manifest *ret_manifest, const struct weight_file *f,
                     const char *cache_dir, bool (*progress)(void *context, int64_t bytes_done),
                     void *context, struct err *err)
{
    struct manifest m = {0};
    if (!allocate(&m, f)) {
        manifest_clear(&m);
        return err_set(err, ERR_MEMORY, "%s: no memory for its digests", weight_file_path(f));
    }
    struct buf path;
    buf_init(&path);
    bool has_cache = cache_dir && cache_path(f, cache_dir, &path);
    int rc = 0;
    if (!has_cache || !cache_read(f, path.data, &m)) {
        struct work work = {.file = f, .manifest = &m, .progress = progress, .context = context};
        rc = digest_all(&work, err);
        if (rc == 0 && !derive(f, &m))
            rc = err_set(err, ERR_MEMORY, "%s: SHA-256 of its index failed: no memory",
                         weight_file_path(f));
        if (rc == 0 && has_cache && parts_are_unchanged(f))
            cache_write(f, cache_dir, path.data, &m);
    }
    buf_clear(&path);
    if (rc == 0)
        *ret_manifest = m;
    else
        manifest_clear(&m);
    return rc;
}

void manifest_digest_config(const struct model_config *c, unsigned char ret_digest[DIGEST_BYTES])
{
    char text[1024];
    int n = snprintf(text, sizeof text,
                     "paceline configuration 1\n%d %d %d %d %d %d %d %d %d %a %a %d %a %d %a %a %a "
                     "%d %d %d",
                     (int)c->architecture, c->n_layers, c->hidden_size, c->intermediate_size,
                     c->n_heads, c->n_kv_heads, c->head_dim, c->vocabulary_size, c->context_length,
                     (double)c->rms_eps, c->rope_base, c->rope_dim, c->yarn_factor,
                     c->yarn_original_context, c->yarn_beta_fast, c->yarn_beta_slow,
                     c->yarn_attention_factor, c->qkv_bias, c->qk_norm, c->tied_head);
    EVP_Digest(text, (size_t)n, ret_digest, NULL, EVP_sha256(), NULL);
}

void manifest_fingerprint(const struct manifest *m, const struct model_config *c, char to[16])
{
    unsigned char both[2 * DIGEST_BYTES + 1], digest[DIGEST_BYTES];
    char hex[2 * DIGEST_BYTES + 1];
    memcpy(both, m->root, DIGEST_BYTES);
    manifest_digest_config(c, both + DIGEST_BYTES);
    both[2 * DIGEST_BYTES] = PACELINE_NUMERICS_VERSION;
    EVP_Digest(both, sizeof both, digest, NULL, EVP_sha256(), NULL);
    manifest_hex(digest, hex);
    snprintf(to, 16, "fp_%.12s", hex);
}
