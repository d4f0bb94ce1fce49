/* Digests against FIPS 180-4's example values, and a cache that is believed only when whole. */
#include "model/manifest.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define MODEL TEST_DATA "/models/qwen3-sharded/gguf/qwen3-sharded-F32.gguf"

static int make_folder(void **state)
{
    static char folder[64];
    strcpy(folder, "/tmp/test_manifest.XXXXXX");
    *state = mkdtemp(folder);
    return *state ? 0 : -1;
}

static int remove_folder(void **state)
{
    char command[128];
    snprintf(command, sizeof command, "rm -r '%s'", (const char *)*state);
    return system(command);
}

static struct weight_file *open_good(const char *path)
{
    struct weight_file *f = NULL;
    struct err err = {0};
    if (weight_file_open(&f, path, &err) != 0)
        fail_msg("%s", err.text);
    return f;
}

static void test_known_digest(void **state)
{
    (void)state;
    unsigned char digest[DIGEST_BYTES];
    char hex[2 * DIGEST_BYTES + 1];
    manifest_digest_chunk("abc", 3, digest);
    manifest_hex(digest, hex);
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    /* printf 'paceline tensor 1\n\3\0\0\0\0\0\0\0' and these 32 bytes, through sha256sum */
    const struct tensor abc = {.data = "abc", .bytes = 3};
    manifest_digest_tensor(&abc, digest);
    manifest_hex(digest, hex);
    assert_string_equal(hex, "9e58ef9474818e3ff95fb3ae4dccc6353316a03c0ec1d2f2eab2dff736c75fe5");
}

/* A tensor of two whole chunks and a bit, hashed whole, and from its chunks. */
static void test_chunks(void **state)
{
    (void)state;
    const size_t bytes = 2 * MANIFEST_CHUNK_BYTES + 5;
    assert_int_equal(manifest_chunk_count(bytes), 3);
    assert_int_equal(manifest_chunk_count(bytes - 5), 2);
    assert_int_equal(manifest_chunk_count(0), 0);
    assert_int_equal(manifest_chunk_bytes(bytes, 1), MANIFEST_CHUNK_BYTES);
    assert_int_equal(manifest_chunk_bytes(bytes, 2), 5);
    unsigned char *data = malloc(bytes);
    assert_non_null(data);
    for (size_t i = 0; i < bytes; i++)
        data[i] = (unsigned char)(i * 7 + (i >> 13));
    unsigned char chunks[3][DIGEST_BYTES], whole[DIGEST_BYTES], digest[DIGEST_BYTES];
    for (size_t i = 0; i < 3; i++)
        manifest_digest_chunk(data + i * MANIFEST_CHUNK_BYTES, manifest_chunk_bytes(bytes, i),
                              chunks[i]);
    const struct tensor t = {.data = data, .bytes = bytes};
    manifest_digest_tensor(&t, whole);
    manifest_digest_chunks(bytes, chunks, 3, digest);
    assert_memory_equal(whole, digest, DIGEST_BYTES);
    manifest_digest_chunks(bytes + 1, chunks, 3, digest); /* its length is part of it */
    assert_memory_not_equal(whole, digest, DIGEST_BYTES);
    free(data);
}

struct reports {
    int64_t last;
    int count;
};

static bool report(void *context, int64_t bytes_done)
{
    struct reports *r = context;
    r->last = bytes_done;
    r->count++;
    return true;
}

static bool give_up(void *context, int64_t bytes_done)
{
    (void)bytes_done;
    ++*(int *)context;
    return false;
}

static void compute(struct manifest *m, const struct weight_file *f, const char *cache,
                    struct reports *reports)
{
    struct err err = {0};
    *reports = (struct reports){0};
    if (manifest_compute(m, f, cache, report, reports, &err) != 0)
        fail_msg("%s", err.text);
}

static void test_digests(void **state)
{
    (void)state;
    struct weight_file *f = open_good(MODEL);
    struct manifest m;
    struct reports reports;
    compute(&m, f, NULL, &reports);
    assert_int_equal(m.n_tensors, weight_file_tensor_count(f));
    int64_t bytes = 0;
    for (size_t i = 0; i < m.n_tensors; i++) {
        unsigned char digest[DIGEST_BYTES];
        manifest_digest_tensor(weight_file_tensor(f, i), digest);
        assert_memory_equal(digest, m.digests[i], DIGEST_BYTES);
        bytes += (int64_t)weight_file_tensor(f, i)->bytes;
    }
    assert_int_equal(reports.last, bytes);
    manifest_clear(&m);
    weight_file_close(f);
}

static void test_cancelled(void **state)
{
    (void)state;
    struct weight_file *f = open_good(MODEL);
    struct manifest m;
    struct err err = {0};
    int count = 0;
    assert_int_equal(manifest_compute(&m, f, NULL, give_up, &count, &err), ERR_CANCELLED);
    assert_int_equal(count, 1);
    weight_file_close(f);
}

/* The only file in the folder. */
static void find_cache(const char *folder, char *to, size_t size)
{
    DIR *dir = opendir(folder);
    assert_non_null(dir);
    int n = 0;
    for (struct dirent *entry; (entry = readdir(dir));)
        if (entry->d_name[0] != '.') {
            snprintf(to, size, "%s/%s", folder, entry->d_name);
            n++;
        }
    closedir(dir);
    assert_int_equal(n, 1);
}

static void test_cache(void **state)
{
    char cache[128], path[512];
    snprintf(cache, sizeof cache, "%s/deep/manifests", (const char *)*state);
    struct weight_file *f = open_good(MODEL);
    struct manifest fresh, cached;
    struct reports reports;
    compute(&fresh, f, cache, &reports);
    assert_true(reports.count > 0);
    find_cache(cache, path, sizeof path);
    compute(&cached, f, cache, &reports);
    assert_int_equal(reports.count, 0); /* nothing was hashed */
    assert_memory_equal(fresh.root, cached.root, DIGEST_BYTES);
    assert_memory_equal(fresh.digests, cached.digests, fresh.n_tensors * DIGEST_BYTES);
    assert_memory_equal(fresh.chunks, cached.chunks,
                        fresh.first_chunks[fresh.n_tensors] * DIGEST_BYTES);
    manifest_clear(&cached);

    struct stat whole;
    assert_int_equal(stat(path, &whole), 0);
    for (off_t at = 0; at < whole.st_size; at += 37) { /* any damage: computed, written anew */
        FILE *file = fopen(path, "r+b");
        assert_non_null(file);
        fseek(file, at, SEEK_SET);
        int c = fgetc(file);
        fseek(file, at, SEEK_SET);
        fputc(c == '0' ? '1' : '0', file);
        fclose(file);
        compute(&cached, f, cache, &reports);
        assert_true(reports.count > 0);
        assert_memory_equal(fresh.root, cached.root, DIGEST_BYTES);
        manifest_clear(&cached);
    }
    assert_int_equal(truncate(path, whole.st_size / 2), 0);
    compute(&cached, f, cache, &reports);
    assert_true(reports.count > 0);
    manifest_clear(&cached);
    compute(&cached, f, cache, &reports);
    assert_int_equal(reports.count, 0);
    manifest_clear(&cached);
    manifest_clear(&fresh);
    weight_file_close(f);
}

/* One changed weight, in a copy, is another digest and another root. */
static void test_change(void **state)
{
    char copy[128], command[512], cache[128];
    snprintf(copy, sizeof copy, "%s/copy.gguf", (const char *)*state);
    snprintf(cache, sizeof cache, "%s/manifests", (const char *)*state);
    snprintf(command, sizeof command, "cp '%s' '%s' && chmod u+w '%s'", MODEL, copy, copy);
    assert_int_equal(system(command), 0);
    struct manifest before, after;
    struct reports reports;
    struct weight_file *f = open_good(copy);
    compute(&before, f, cache, &reports);
    weight_file_close(f);
    FILE *file = fopen(copy, "r+b");
    assert_non_null(file);
    fseek(file, -1, SEEK_END);
    int c = fgetc(file);
    fseek(file, -1, SEEK_END);
    fputc(c ^ 1, file);
    fclose(file);
    f = open_good(copy);
    compute(&after, f, cache, &reports);
    assert_true(reports.count > 0); /* the cache is of the file as it was */
    size_t n_changed = 0;
    for (size_t i = 0; i < after.n_tensors; i++)
        n_changed += memcmp(before.digests[i], after.digests[i], DIGEST_BYTES) != 0;
    assert_int_equal(n_changed, 1);
    assert_memory_not_equal(before.root, after.root, DIGEST_BYTES);
    manifest_clear(&before);
    manifest_clear(&after);
    weight_file_close(f);
}

/* Whatever of the metadata reaches a result changes the digest. */
static void test_configuration(void **state)
{
    (void)state;
    struct weight_file *f = open_good(MODEL);
    struct model_config c;
    struct err err = {0};
    assert_int_equal(model_config_read(&c, f, &err), 0);
    unsigned char digest[DIGEST_BYTES], other[DIGEST_BYTES];
    manifest_digest_config(&c, digest);
#define CHANGED(field, value)                                                                      \
    do {                                                                                           \
        struct model_config changed = c;                                                           \
        changed.field = value;                                                                     \
        manifest_digest_config(&changed, other);                                                   \
        assert_memory_not_equal(digest, other, DIGEST_BYTES);                                      \
    } while (0)
    CHANGED(n_heads, c.n_heads + 1);
    CHANGED(head_dim, c.head_dim + 2);
    CHANGED(rms_eps, c.rms_eps * 1.0001F);
    CHANGED(rope_base, c.rope_base + 0.001);
    CHANGED(rope_dim, c.rope_dim + 2);
    CHANGED(yarn_factor, 4);
    CHANGED(yarn_original_context, c.yarn_original_context + 1);
    CHANGED(yarn_beta_fast, 31);
    CHANGED(yarn_beta_slow, 2);
    CHANGED(yarn_attention_factor, 1.5);
    CHANGED(qkv_bias, !c.qkv_bias);
    CHANGED(tied_head, !c.tied_head);
    struct model_config named = c;
    snprintf(named.name, sizeof named.name, "another name");
    manifest_digest_config(&named, other);
    assert_memory_equal(digest, other, DIGEST_BYTES);
    weight_file_close(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_digest),
        cmocka_unit_test(test_chunks),
        cmocka_unit_test(test_digests),
        cmocka_unit_test(test_cancelled),
        cmocka_unit_test(test_configuration),
        cmocka_unit_test_setup_teardown(test_cache, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_change, make_folder, remove_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
