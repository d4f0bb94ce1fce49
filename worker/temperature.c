#include "worker/temperature.h"

#include <dirent.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ZERO_CELSIUS_MK 273150
/* What is beyond is a sensor that is not connected. */
#define COLDEST_MC (-50000)
#define HOTTEST_MC 150000

/* A sensor is of processors when its driver's name, or its zone's type, begins so. */
static const char *const temperature_drivers[] = {"coretemp", "k10temp", "k8temp",  "zenpower",
                                                  "cpu",      "soc",     "armada_", NULL};
static const char *const temperature_zones[] = {"x86_pkg_temp", "cpu", "soc", "acpitz", NULL};

static bool temperature_line(const char *path, char *to, size_t size)
{
    FILE *f = fopen(path, "re");
    bool ok = f && fgets(to, (int)size, f);
    if (f)
        fclose(f);
    if (ok)
        to[strcspn(to, "\n")] = '\0';
    return ok;
}

static bool temperature_is_one_of(const char *path, const char *const *names)
{
    char name[64];
    if (!temperature_line(path, name, sizeof name))
        return false;
    for (; *names; names++)
        if (strncmp(name, *names, strlen(*names)) == 0)
            return true;
    return false;
}

static void temperature_take(const char *path, uint32_t *hottest_mk)
{
    char text[32];
    if (!temperature_line(path, text, sizeof text))
        return;
    char *end;
    long mc = strtol(text, &end, 10);
    if (end == text || mc < COLDEST_MC || mc > HOTTEST_MC)
        return;
    uint32_t mk = (uint32_t)(mc + ZERO_CELSIUS_MK);
    if (mk > *hottest_mk)
        *hottest_mk = mk;
}

/* The files temp1_input, temp2_input … of a driver. */
static void temperature_take_driver(const char *folder, uint32_t *hottest_mk)
{
    DIR *d = opendir(folder);
    for (const struct dirent *e; d && (e = readdir(d));) {
        char path[1024];
        size_t n = strlen(e->d_name);
        if (strncmp(e->d_name, "temp", 4) != 0 || n < 7 || strcmp(e->d_name + n - 6, "_input") != 0)
            continue;
        if (snprintf(path, sizeof path, "%s/%s", folder, e->d_name) < (int)sizeof path)
            temperature_take(path, hottest_mk);
    }
    if (d)
        closedir(d);
}

/* Each folder of `sys`/`kind` whose file `label` names processors. */
static uint32_t temperature_search(const char *sys, const char *kind, const char *label,
                                   const char *const *names)
{
    char folder[512], path[1024];
    uint32_t hottest_mk = 0;
    snprintf(folder, sizeof folder, "%s/%s", sys, kind);
    DIR *d = opendir(folder);
    for (const struct dirent *e; d && (e = readdir(d));) {
        if (e->d_name[0] == '.' ||
            snprintf(path, sizeof path, "%s/%s/%s", folder, e->d_name, label) >= (int)sizeof path ||
            !temperature_is_one_of(path, names))
            continue;
        path[strlen(path) - strlen(label) - 1] = '\0';
        if (strcmp(kind, "hwmon") == 0) {
            temperature_take_driver(path, &hottest_mk);
        } else if (strlen(path) + sizeof "/temp" <= sizeof path) {
            strcat(path, "/temp");
            temperature_take(path, &hottest_mk);
        }
    }
    if (d)
        closedir(d);
    return hottest_mk;
}

uint32_t temperature_read(const char *sys)
{
    uint32_t mk = temperature_search(sys, "hwmon", "name", temperature_drivers);
    return mk ? mk : temperature_search(sys, "thermal", "type", temperature_zones);
}
