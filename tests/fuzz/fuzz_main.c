/* Where there is no fuzzing engine, one of these programs is this and its LLVMFuzzerTestOneInput():
 *   fuzz_… FILE…                    each file once
 *   fuzz_… --mutate N SEED FILE…    N bent copies of each
 *   fuzz_… --random N SEED          N strings of random bytes */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_RANDOM = 400 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

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

static void run_random(long rounds, uint64_t seed)
{
    uint8_t data[MOST_RANDOM];
    for (long i = 0; i < rounds; i++) {
        size_t size = next_random(&seed) % sizeof data;
        for (size_t k = 0; k < size; k++)
            data[k] = (uint8_t)next_random(&seed);
        LLVMFuzzerTestOneInput(data, size);
    }
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
    if (argc == 4 && strcmp(argv[1], "--random") == 0) {
        run_random(strtol(argv[2], NULL, 10), strtoull(argv[3], NULL, 10));
        return 0;
    }
    if (first >= argc) {
        fprintf(stderr, "usage: fuzz_… [--mutate N SEED] FILE... | --random N SEED\n");
        return 1;
    }
    for (int i = first; i < argc; i++)
        run_file(argv[i], rounds, &seed);
    return 0;
}
