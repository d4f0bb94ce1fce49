#include "worker/memory_limits.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PATH_BYTES 4096

/* Where a version of control groups keeps what. */
struct group_files {
    const char *folder, *limit, *used, *reclaimable;
};
static const struct group_files group_v1 = {"/sys/fs/cgroup/memory", "memory.limit_in_bytes",
                                            "memory.usage_in_bytes", "total_inactive_file"};
static const struct group_files group_v2 = {"/sys/fs/cgroup", "memory.max", "memory.current",
                                            "inactive_file"};

/* The number behind a word at a line's begin; word "": the file is a number. -1: there is none. */
static int64_t memory_limits_number(const char *path, const char *word)
{
    char line[256];
    long long value = -1;
    const size_t length = strlen(word);
    FILE *f = fopen(path, "re");
    while (f && value < 0 && fgets(line, sizeof line, f))
        if (strncmp(line, word, length) == 0 && sscanf(line + length, " %lld", &value) != 1)
            value = -1;
    if (f)
        fclose(f);
    return value;
}

static void memory_limits_read_machine(const char *root, struct memory_limits *l)
{
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "%s/proc/meminfo", root);
    int64_t total = memory_limits_number(path, "MemTotal:");
    int64_t free = memory_limits_number(path, "MemAvailable:");
    l->total = total > 0 ? total * 1024 : 0;
    l->free = free > 0 ? free * 1024 : 0;
}

static int64_t memory_limits_of_group(const char *root, const struct group_files *g,
                                      const char *group, const char *file, const char *word)
{
    char path[PATH_BYTES];
    if (snprintf(path, sizeof path, "%s%s%s/%s", root, g->folder, group, file) >= (int)sizeof path)
        return -1;
    return memory_limits_number(path, word);
}

/* The group and all above it; what is not there, as inside of a container, limits nothing. */
static void memory_limits_heed(const char *root, const struct group_files *g, char *group,
                               struct memory_limits *l)
{
    for (;;) {
        int64_t limit = memory_limits_of_group(root, g, group, g->limit, "");
        int64_t used = memory_limits_of_group(root, g, group, g->used, "");
        int64_t pages = memory_limits_of_group(root, g, group, "memory.stat", g->reclaimable);
        int64_t left = limit - (used > 0 ? used : 0) + (pages > 0 ? pages : 0);
        if (limit > 0 && limit < l->total)
            l->total = limit;
        if (limit > 0 && left < l->free)
            l->free = left > 0 ? left : 0;
        char *slash = strrchr(group, '/');
        if (!slash)
            return;
        *slash = '\0';
    }
}

/* Lines of /proc/self/cgroup: "number:controllers:/group", of version 2 "0::/group". */
struct memory_limits memory_limits_read(const char *root)
{
    struct memory_limits l;
    char path[PATH_BYTES], line[PATH_BYTES];
    memory_limits_read_machine(root, &l);
    snprintf(path, sizeof path, "%s/proc/self/cgroup", root);
    FILE *f = fopen(path, "re");
    while (f && fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = '\0';
        char *controllers = strchr(line, ':');
        char *group = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!group)
            continue;
        *group++ = '\0';
        if (strcmp(group, "/") == 0)
            *group = '\0';
        if (!controllers[1])
            memory_limits_heed(root, &group_v2, group, &l);
        else if (strcmp(controllers + 1, "memory") == 0)
            memory_limits_heed(root, &group_v1, group, &l);
    }
    if (f)
        fclose(f);
    return l;
}
