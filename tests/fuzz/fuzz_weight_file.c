/* Foreign bytes as a model file: opened, every entry and tensor looked at, the configuration read.
 *
 * Built for a fuzzing engine it offers LLVMFuzzerTestOneInput(); without one (PACELINE_FUZZ_MAIN)
 * it is a program of its own:
 *   fuzz_weight_file FILE…                    each file once
 *   fuzz_weight_file --mutate N SEED FILE…    N bent copies of each */
#include "model/manifest.h"
#include "model/model_config.h"
#include "model/weight_file.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Reads what the reader hands out: the sanitizer sees whether it is all there. */
static void look_at(const struct weight_file *f)
{
    static const char *const keys[] = {"general.name",          "general.architecture",
                                       "general.alignment",     "tokenizer.ggml.tokens",
                                       "tokenizer.ggml.merges", "tokenizer.ggml.token_type",
                                       "qwen2.rope.freq_base",  "tokenizer.ggml.add_bos_token"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        size_t length = 0, total = 0;
        int64_t integer;
        double real;
        bool boolean;
        const char *text = weight_file_string(f, keys[i], &length);
        if (text && text[length] != '\0')
            abort();
        weight_file_integer(f, keys[i], &integer);
        weight_file_real(f, keys[i], &real);
        weight_file_boolean(f, keys[i], &boolean);
        int64_t count = weight_file_array_count(f, keys[i]);
        for (int64_t k = 0; k <= count; k++) {
            text = weight_file_array_string(f, keys[i], k, &length);
            if (text)
                total += strlen(text) + length;
            weight_file_array_integer(f, keys[i], k, &integer);
            weight_file_array_real(f, keys[i], k, &real);
        }
        if (total == SIZE_MAX)
            abort();
    }
    for (size_t i = 0; i < weight_file_tensor_count(f); i++) {
        unsigned char digest[DIGEST_BYTES];
        const struct tensor *t = weight_file_tensor(f, i);
        manifest_digest_tensor(t, digest); /* reads every byte */
        if (weight_file_find(f, t->name) != t)
            abort();
        weight_file_release(f, t);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[64];
    int fd = memfd_create("model", MFD_CLOEXEC);
    if (fd < 0 || write(fd, data, size) != (ssize_t)size) {
        perror("memfd");
        exit(1);
    }
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    struct weight_file *f = NULL;
    struct model_config config;
    struct err err = {0};
    int rc = weight_file_open(&f, path, &err);
    if (rc == 0) {
        look_at(f);
        rc = model_config_read(&config, f, &err);
    }
    if (rc != 0 && (rc > 0 || err.code != rc || err.text[0] == '\0'))
        abort(); /* a refusal without a sentence */
    weight_file_close(f);
    close(fd);
    return 0;
}

#ifdef PACELINE_FUZZ_MAIN

static uint64_t next_random(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return *state >> 33;
}

/* Bytes, and whole 8-byte fields with values where arithmetic bends; most of them near the front,
 * where the header is. Sometimes the end is cut. */
static size_t mutate(uint8_t *data, size_t size, uint64_t *seed)
{
    static const uint64_t edges[] = {0,          1,          UINT64_MAX,     INT64_MAX,
                                     1ull << 63, 1ull << 32, UINT64_MAX - 7, UINT32_MAX,
                                     1ull << 61, 255,        1ull << 31,     64};
    size_t reach = size;
    while (reach > 64 && next_random(seed) % 2)
        reach /= 2;
    for (uint64_t n = 1 + next_random(seed) % 3; n > 0; n--) {
        size_t at = next_random(seed) % reach;
        uint64_t edge = edges[next_random(seed) % (sizeof edges / sizeof *edges)];
        size_t bytes = (size_t)1 << next_random(seed) % 4;
        if (next_random(seed) % 3 == 0)
            data[at] ^= (uint8_t)(1u << next_random(seed) % 8);
        else
            memcpy(data + at, &edge, bytes < size - at ? bytes : size - at);
    }
    return next_random(seed) % 16 == 0 ? next_random(seed) % size : size;
}

static void run_file(const char *path, long rounds, uint64_t *seed)
{
    FILE *file = fopen(path, "rb");
    if (!file || fseek(file, 0, SEEK_END) != 0) {
        perror(path);
        exit(1);
    }
    size_t size = (size_t)ftell(file);
    uint8_t *data = malloc(size + 1), *bent = malloc(size + 1);
    rewind(file);
    if (!data || !bent || fread(data, 1, size, file) != size) {
        perror(path);
        exit(1);
    }
    fclose(file);
    if (rounds == 0)
        LLVMFuzzerTestOneInput(data, size);
    for (long i = 0; i < rounds && size > 0; i++) {
        memcpy(bent, data, size);
        LLVMFuzzerTestOneInput(bent, mutate(bent, size, seed));
    }
    free(data);
    free(bent);
}

int main(int argc, char **argv)
{
    long rounds = 0;
    uint64_t seed = 1;
    int first = 1;
    if (argc > 3 && strcmp(argv[1], "--mutate") == 0) {
        rounds = strtol(argv[2], NULL, 10);
        seed = strtoull(argv[3], NULL, 10);
        first = 4;
    }
    if (first >= argc) {
        fprintf(stderr, "usage: fuzz_weight_file [--mutate N SEED] FILE...\n");
        return 1;
    }
    for (int i = first; i < argc; i++)
        run_file(argv[i], rounds, &seed);
    return 0;
}

#endif
