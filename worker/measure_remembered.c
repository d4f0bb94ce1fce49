/* measure_remembered.c - measurements of earlier starts: measure.h. */
#include "base/version.h"
#include "worker/measure.h"

#include <inttypes.h>
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define NUMBERS ((MEASURE_KINDS + 1) * MEASURE_POINTS + 5)
#define STILL   1.25 /* times as fast or slow as remembered, and it is measured anew */

static void remembered_processor(char *to, size_t size)
{
    FILE *f = fopen("/proc/cpuinfo", "re");
    char line[256];
    snprintf(to, size, "unknown");
    while (f && fgets(line, sizeof line, f)) {
        const char *colon = strchr(line, ':');
        if (!colon || (strncmp(line, "model name", 10) != 0 && strncmp(line, "CPU part", 8) != 0))
            continue;
        snprintf(to, size, "%.*s", (int)strcspn(colon + 1, "\n"), colon + 1);
        break;
    }
    if (f)
        fclose(f);
}

/* Everything that the numbers depend on, in one line. */
static void remembered_key(const struct measure_spec *spec, char *to, size_t size)
{
    const struct model_config *c = &spec->config;
    char processor[200];
    remembered_processor(processor, sizeof processor);
    int n =
        snprintf(to, size, "1 %s|%s|%s|%d of %d|%d %d %d %d %d %d %d %d|%d %d", PACELINE_VERSION,
                 processor, spec->kernels->isa_name, omp_get_max_threads(), omp_get_num_procs(),
                 c->hidden_size, c->intermediate_size, c->n_heads, c->n_kv_heads, c->head_dim,
                 c->vocabulary_size, c->qkv_bias, c->qk_norm, spec->head_type, (int)spec->kv_type);
    for (int kind = 0; kind < spec->n_kinds; kind++)
        for (int i = 0; i < MODEL_SHAPE_MATRICES && n < (int)size; i++)
            n += snprintf(to + n, size - (size_t)n, "%c%d", i ? ',' : '|', spec->types[kind][i]);
}

static void remembered_path(const char *folder, const char *key, char *to, size_t size)
{
    uint64_t hash = 14695981039346656037u; /* FNV-1a; the file holds the key itself */
    for (const char *p = key; *p; p++)
        hash = (hash ^ (unsigned char)*p) * 1099511628211u;
    snprintf(to, size, "%s/%016" PRIx64 ".txt", folder, hash);
}

static void remembered_numbers(struct measure_result *r, double *to[NUMBERS])
{
    int n = 0;
    for (int kind = 0; kind <= MEASURE_KINDS; kind++)
        for (int i = 0; i < MEASURE_POINTS; i++)
            to[n++] = &r->seconds[kind][i];
    to[n++] = &r->attend_s;
    to[n++] = &r->attend_many_s;
    to[n++] = &r->read_one;
    to[n++] = &r->read_all;
    to[n++] = &r->int8_ops;
}

/* false: there is none, or it is damaged. */
static bool remembered_load(const char *path, const char *key, struct measure_result *ret_result)
{
    char line[1024];
    double *numbers[NUMBERS];
    struct measure_result r = {.attend_s = 0};
    FILE *f = fopen(path, "re");
    if (!f)
        return false;
    bool ok = fgets(line, sizeof line, f) != NULL;
    line[strcspn(line, "\n")] = '\0';
    ok = ok && strcmp(line, key) == 0;
    remembered_numbers(&r, numbers);
    for (int i = 0; ok && i < NUMBERS; i++)
        ok = fscanf(f, "%lf", numbers[i]) == 1 && isfinite(*numbers[i]) && *numbers[i] >= 0;
    fclose(f);
    if (ok)
        *ret_result = r;
    return ok;
}

/* What cannot be written is measured again next time. */
static void remembered_save(const char *folder, const char *path, const char *key,
                            struct measure_result *r)
{
    char partial[4200];
    double *numbers[NUMBERS];
    mkdir(folder, 0755);
    snprintf(partial, sizeof partial, "%s.%ld", path, (long)getpid());
    FILE *f = fopen(partial, "we");
    if (!f)
        return;
    fprintf(f, "%s\n", key);
    remembered_numbers(r, numbers);
    for (int i = 0; i < NUMBERS; i++)
        fprintf(f, "%.9g\n", *numbers[i]);
    bool ok = ferror(f) == 0;
    ok = fclose(f) == 0 && ok;
    if (!ok || rename(partial, path) != 0)
        unlink(partial);
}

int measure_remembered(const struct measure_spec *spec, const char *folder,
                       struct measure_result *ret_result, struct err *err)
{
    char key[1024], path[4160];
    struct measure_result r;
    double layer_s;
    remembered_key(spec, key, sizeof key);
    if (folder) {
        remembered_path(folder, key, path, sizeof path);
        if (remembered_load(path, key, &r) && measure_glance(spec, &layer_s, err) == 0 &&
            layer_s < r.seconds[0][0] * STILL && layer_s > r.seconds[0][0] / STILL) {
            *ret_result = r;
            return 0;
        }
    }
    int rc = measure_run(spec, &r, err);
    if (rc != 0)
        return rc;
    if (folder)
        remembered_save(folder, path, key, &r);
    *ret_result = r;
    return 0;
}
