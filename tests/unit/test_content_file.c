/* Tensors on a worker's disk: whole ones, begun ones, damaged ones, of two workers at once, a disk
 * that takes no more; and which of them go when the cache is full. */
#include "worker/content_file.h"

#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define CHUNKS 3
#define BYTES  (2 * MANIFEST_CHUNK_BYTES + 1000)

struct world {
    char folder[64], content[80];
    struct content_cache cache;
    unsigned char *bytes; /* of one tensor */
    unsigned char chunks[CHUNKS][DIGEST_BYTES], digest[DIGEST_BYTES];
};

static int world_open(void **state)
{
    struct world *w = calloc(1, sizeof *w);
    struct err err;
    assert_non_null(w);
    strcpy(w->folder, "/tmp/test_content.XXXXXX");
    assert_non_null(mkdtemp(w->folder));
    snprintf(w->content, sizeof w->content, "%s/deep/content", w->folder);
    w->bytes = malloc(BYTES);
    assert_non_null(w->bytes);
    for (size_t i = 0; i < BYTES; i++)
        w->bytes[i] = (unsigned char)(i * 31 + (i >> 11));
    for (size_t i = 0; i < CHUNKS; i++)
        manifest_digest_chunk(w->bytes + i * MANIFEST_CHUNK_BYTES, manifest_chunk_bytes(BYTES, i),
                              w->chunks[i]);
    manifest_digest_chunks(BYTES, w->chunks, CHUNKS, w->digest);
    assert_int_equal(content_cache_open(&w->cache, w->content, (int64_t)1 << 30, &err), 0);
    *state = w;
    return 0;
}

static int world_close(void **state)
{
    struct world *w = *state;
    char command[128];
    content_cache_close(&w->cache);
    snprintf(command, sizeof command, "rm -r '%s'", w->folder);
    free(w->bytes);
    free(w);
    return system(command);
}

static struct content_file *file_open(struct world *w)
{
    struct content_file *f;
    struct err err;
    if (content_file_open(&f, &w->cache, w->digest, BYTES, &err) != 0)
        fail_msg("%s", err.text);
    return f;
}

static bool file_write(struct world *w, struct content_file *f, size_t chunk)
{
    struct err why, err;
    bool moved;
    if (content_file_write(f, chunk, w->bytes + chunk * MANIFEST_CHUNK_BYTES, &moved, &why, &err) !=
        0)
        fail_msg("%s", err.text);
    return moved;
}

static int count_good(struct world *w, struct content_file *f)
{
    int n = 0;
    for (size_t i = 0; i < CHUNKS; i++)
        n += content_file_verify(f, i, w->chunks[i]);
    return n;
}

static void fill(struct world *w)
{
    struct content_file *f = file_open(w);
    for (size_t i = 0; i < CHUNKS; i++)
        file_write(w, f, i);
    assert_true(content_file_is_whole(f));
    content_file_close(f);
}

static bool exists(struct world *w, bool part)
{
    char path[4096];
    assert_true(content_cache_path(&w->cache, w->digest, part, path, sizeof path));
    return access(path, F_OK) == 0;
}

static void flip(struct world *w, off_t at)
{
    char path[4096];
    unsigned char byte;
    assert_true(content_cache_path(&w->cache, w->digest, false, path, sizeof path));
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &byte, 1, at), 1);
    byte ^= 1;
    assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    close(fd);
}

static void it_is_kept_when_whole(void **state)
{
    struct world *w = *state;
    struct content_file *f = file_open(w);
    unsigned char *copy = malloc(MANIFEST_CHUNK_BYTES);
    assert_non_null(copy);
    assert_false(content_file_is_begun(f));
    assert_false(content_file_is_in_memory(f));
    assert_int_equal(count_good(w, f), 0);
    assert_false(content_file_read(f, 1, copy));
    file_write(w, f, 1);
    assert_true(content_file_read(f, 1, copy)); /* given on before the rest is there */
    assert_memory_equal(copy, w->bytes + MANIFEST_CHUNK_BYTES, MANIFEST_CHUNK_BYTES);
    assert_false(content_file_read(f, CHUNKS, copy));
    file_write(w, f, 0);
    assert_true(exists(w, true) && !exists(w, false));
    file_write(w, f, 2);
    assert_true(!exists(w, true) && exists(w, false));
    assert_memory_equal(content_file_data(f), w->bytes, BYTES);
    content_file_release(f, true);
    assert_memory_equal(content_file_data(f), w->bytes, BYTES); /* from the disk again */
    content_file_close(f);
    f = file_open(w);
    assert_true(content_file_is_begun(f));
    assert_int_equal(count_good(w, f), CHUNKS);
    content_file_close(f);
    free(copy);
}

static void what_was_begun_goes_on(void **state)
{
    struct world *w = *state;
    struct content_file *f = file_open(w);
    file_write(w, f, 2);
    content_file_close(f);
    assert_true(exists(w, true) && !exists(w, false));
    f = file_open(w);
    assert_true(content_file_is_begun(f));
    assert_false(content_file_verify(f, 0, w->chunks[0]));
    assert_false(content_file_verify(f, 1, w->chunks[1]));
    assert_true(content_file_verify(f, 2, w->chunks[2]));
    file_write(w, f, 0);
    file_write(w, f, 1);
    assert_true(exists(w, false));
    assert_memory_equal(content_file_data(f), w->bytes, BYTES);
    content_file_close(f);
}

static void damage_is_found(void **state)
{
    struct world *w = *state;
    fill(w);
    flip(w, (off_t)MANIFEST_CHUNK_BYTES + 5);
    struct content_file *f = file_open(w);
    assert_true(content_file_verify(f, 0, w->chunks[0]));
    assert_false(content_file_verify(f, 1, w->chunks[1]));
    assert_true(content_file_is_damaged(f));
    assert_true(exists(w, true) && !exists(w, false)); /* nobody takes it for whole */
    assert_false(content_file_is_damaged(f));          /* told once */
    assert_true(content_file_verify(f, 2, w->chunks[2]));
    file_write(w, f, 1);
    assert_true(!exists(w, true) && exists(w, false));
    assert_memory_equal(content_file_data(f), w->bytes, BYTES);
    content_file_close(f);
}

static void a_wrong_length_is_thrown_away(void **state)
{
    struct world *w = *state;
    char path[4096];
    fill(w);
    assert_true(content_cache_path(&w->cache, w->digest, false, path, sizeof path));
    assert_int_equal(truncate(path, 1000), 0);
    struct content_file *f = file_open(w);
    assert_false(content_file_is_begun(f));
    assert_false(exists(w, false));
    content_file_close(f);
}

/* Each has its own copy until one is whole; then both use the same name. */
static void two_write_the_same(void **state)
{
    struct world *w = *state;
    struct content_file *a = file_open(w), *b = file_open(w);
    file_write(w, a, 0);
    assert_int_equal(count_good(w, b), 0);
    for (size_t i = 0; i < CHUNKS; i++)
        file_write(w, b, i);
    assert_true(exists(w, false));
    file_write(w, a, 1);
    file_write(w, a, 2);
    assert_true(content_file_is_whole(a) && exists(w, false) && !exists(w, true));
    assert_memory_equal(content_file_data(a), w->bytes, BYTES);
    assert_memory_equal(content_file_data(b), w->bytes, BYTES);
    content_file_close(a);
    content_file_close(b);
}

/* A limit of file sizes is met as a full disk is: by a write that fails in the middle. */
static void a_full_disk_is_done_without(void **state)
{
    struct world *w = *state;
    struct content_file *f = file_open(w);
    struct rlimit before, tight;
    assert_false(file_write(w, f, 0));
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &before);
    tight = (struct rlimit){MANIFEST_CHUNK_BYTES + 4096, before.rlim_max};
    setrlimit(RLIMIT_FSIZE, &tight);
    bool moved = file_write(w, f, 1);
    setrlimit(RLIMIT_FSIZE, &before);
    assert_true(moved && content_file_is_in_memory(f));
    assert_false(exists(w, true)); /* its room is given back */
    assert_false(file_write(w, f, 2));
    assert_memory_equal(content_file_data(f), w->bytes, BYTES);
    assert_false(content_cache_reserve(&w->cache, 1));
    content_file_release(f, false);
    assert_memory_equal(content_file_data(f), w->bytes, BYTES);
    content_file_release(f, true);
    assert_false(content_file_is_whole(f));
    content_file_close(f);
}

static void no_cache_is_memory(void **state)
{
    struct world *w = *state;
    struct err err;
    content_cache_close(&w->cache);
    assert_int_equal(content_cache_open(&w->cache, "/nowhere", 0, &err), 0);
    struct content_file *f = file_open(w);
    assert_true(content_file_is_in_memory(f));
    for (size_t i = 0; i < CHUNKS; i++)
        file_write(w, f, i);
    assert_memory_equal(content_file_data(f), w->bytes, BYTES);
    content_file_close(f);
    content_cache_close(&w->cache);
    assert_int_equal(content_cache_open(&w->cache, "/proc/nowhere", 1 << 20, &err), ERR_IO);
    assert_non_null(strstr(err.text, "/proc/nowhere"));
}

/* A file of the cache that was used so many seconds ago. */
static void put(struct world *w, unsigned char name, size_t bytes, int seconds_ago, char *path)
{
    unsigned char digest[DIGEST_BYTES] = {name};
    struct timespec times[2];
    assert_true(content_cache_path(&w->cache, digest, false, path, 4096));
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_int_equal(fwrite(w->bytes, 1, bytes, f), bytes);
    fclose(f);
    clock_gettime(CLOCK_REALTIME, &times[0]);
    times[0].tv_sec -= seconds_ago;
    times[1] = times[0];
    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
}

static void the_least_recently_used_go_first(void **state)
{
    struct world *w = *state;
    static char paths[4][4096];
    const size_t size = 1 << 20;
    w->cache.limit = 5 * (int64_t)size;
    fill(w); /* more than 8 MiB, in use below */
    put(w, 1, size, 300, paths[1]);
    put(w, 2, size, 100, paths[2]);
    put(w, 3, size, 200, paths[3]);
    struct content_file *f = file_open(w);
    char foreign[128];
    snprintf(foreign, sizeof foreign, "%s/notes", w->content);
    fclose(fopen(foreign, "w"));
    w->cache.limit = 11 * (int64_t)size;
    content_cache_make_room(&w->cache, (int64_t)size);
    assert_int_not_equal(access(paths[1], F_OK), 0);
    assert_int_equal(access(paths[2], F_OK), 0);
    unsigned char list[8][DIGEST_BYTES];
    assert_int_equal(content_cache_list(&w->cache, list, 8), 3 - (access(paths[3], F_OK) != 0));
    assert_memory_equal(list[0], w->digest, DIGEST_BYTES); /* the most recently used first */
    w->cache.limit = 0;
    content_cache_make_room(&w->cache, 0);
    assert_int_not_equal(access(paths[2], F_OK), 0);
    assert_true(exists(w, false));              /* never what is in use */
    assert_int_equal(access(foreign, F_OK), 0); /* nor what is not ours */
    assert_false(content_cache_reserve(&w->cache, 1));
    content_file_close(f);
    content_cache_make_room(&w->cache, 0);
    assert_false(exists(w, false));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, world_open, world_close)
    const struct CMUnitTest tests[] = {
        TEST(it_is_kept_when_whole), TEST(what_was_begun_goes_on),
        TEST(damage_is_found),       TEST(a_wrong_length_is_thrown_away),
        TEST(two_write_the_same),    TEST(a_full_disk_is_done_without),
        TEST(no_cache_is_memory),    TEST(the_least_recently_used_go_first),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
