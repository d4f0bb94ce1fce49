#include "cli/verb.h"

#include "base/buf.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

const char *const verb_groups[] = {"up",         "fetch", "chat",   "tokenize", "logits",
                                   "perplexity", "bench", "trace",  "drain",    "invite",
                                   "workers",    "plan",  "status", "top",      NULL};

int verb_fail(const struct err *err)
{
    fflush(stdout);
    fprintf(stderr, "paceline: %s\n", err->text);
    return err_exit_code(err->code);
}

int verb_read_command_line(const struct conf_program *program, void *settings, int argc,
                           char **argv, struct err *err)
{
    struct conf_option *options = calloc(program->n_options, sizeof *options);
    const char **positionals = calloc((size_t)program->max_positionals + 1, sizeof *positionals);
    int n, rc = 0;
    if (!options || !positionals)
        rc = err_set(err, ERR_MEMORY, "no memory for the options");
    for (size_t i = 0; rc == 0 && i < program->n_options; i++) {
        options[i] = program->options[i];
        options[i].initial = NULL;
        options[i].command_line_only = true;
    }
    struct conf_program alone = *program;
    alone.options = options;
    alone.file = NULL;
    alone.group = ""; /* none of the file that --config names */
    enum conf_outcome outcome;
    if (rc == 0)
        rc = conf_read(&alone, settings, argc, argv, positionals, &n, &outcome, err);
    free(positionals);
    free(options);
    return rc;
}

/* One number from a file of /sys, or -1. */
static long verb_topology(int cpu, const char *name)
{
    char path[128];
    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/topology/%s", cpu, name);
    FILE *in = fopen(path, "re");
    if (!in)
        return -1;
    long value = -1;
    if (fscanf(in, "%ld", &value) != 1)
        value = -1;
    fclose(in);
    return value;
}

int verb_physical_cores(void)
{
    cpu_set_t allowed;
    if (sched_getaffinity(0, sizeof allowed, &allowed) < 0)
        return 1;
    struct {
        long package, core;
    } seen[CPU_SETSIZE];
    int n = 0;
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, &allowed))
            continue;
        long package = verb_topology(cpu, "physical_package_id");
        long core = verb_topology(cpu, "core_id");
        int i = 0;
        while (i < n && (core < 0 || seen[i].package != package || seen[i].core != core))
            i++;
        if (i < n)
            continue;
        seen[n].package = package;
        seen[n++].core = core;
    }
    return n ? n : 1;
}

int verb_read_file(const char *path, size_t limit, char **ret_text, size_t *ret_length,
                   struct err *err)
{
    bool standard = !strcmp(path, "-");
    FILE *in = standard ? stdin : fopen(path, "re");
    if (!in)
        return err_set(err, ERR_IO, "%s: %s", path, strerror(errno));
    struct buf text;
    buf_init(&text);
    char chunk[65536];
    size_t n;
    while (text.length <= limit && (n = fread(chunk, 1, sizeof chunk, in)) > 0)
        buf_append(&text, chunk, n);
    int rc = 0;
    if (ferror(in))
        rc = err_set(err, ERR_IO, "%s: %s", path, strerror(errno));
    else if (text.length > limit)
        rc = err_set(err, ERR_INPUT, "%s is longer than %zu bytes", path, limit);
    buf_append(&text, "", 0);
    if (rc == 0 && buf_failed(&text))
        rc = err_set(err, ERR_MEMORY, "%s: no memory to read it", path);
    if (!standard)
        fclose(in);
    if (rc < 0) {
        buf_clear(&text);
        return rc;
    }
    *ret_text = text.data;
    *ret_length = text.length;
    return 0;
}

int verb_read_ids(const char *text, const char *where, uint32_t **ret_ids, size_t *ret_count,
                  struct err *err)
{
    size_t count = 0, capacity = 1;
    for (const char *p = text; *p; p++)
        capacity += *p == ',' || isspace((unsigned char)*p);
    uint32_t *ids = malloc(capacity * sizeof *ids);
    if (!ids)
        return err_set(err, ERR_MEMORY, "%s: no memory for %zu tokens", where, capacity);
    const char *p = text + strspn(text, " \t\r\n");
    while (*p) {
        char *end;
        errno = 0;
        unsigned long long id = strtoull(p, &end, 10);
        if (!isdigit((unsigned char)*p) || errno || id > UINT32_MAX ||
            (*end && *end != ',' && !isspace((unsigned char)*end))) {
            int length = (int)strcspn(p, ", \t\r\n");
            free(ids);
            return err_set(err, ERR_INPUT, "%s: number %zu is not a token id: \"%.*s\"", where,
                           count + 1, length > 40 ? 40 : length, p);
        }
        ids[count++] = (uint32_t)id;
        p = end + strspn(end, " \t\r\n");
        if (*p == ',')
            p += 1 + strspn(p + 1, " \t\r\n");
    }
    if (!count) {
        free(ids);
        return err_set(err, ERR_INPUT, "%s: there are no token ids", where);
    }
    *ret_ids = ids;
    *ret_count = count;
    return 0;
}
