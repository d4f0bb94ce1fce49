#include "cli/model_catalogue.h"

#include "cli/paths.h"

#include <errno.h>
#include <libconfig.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct model_catalogue {
    config_t config; /* owns every string */
    char *path;
    struct model_entry *entries;
    int n_entries;
};

static int catalogue_error(const struct model_catalogue *c, const config_setting_t *at,
                           struct err *err, const char *what)
{
    return err_set(err, ERR_CONFIG, "%s:%d: %s", c->path, config_setting_source_line(at), what);
}

/* Refuses keys that are not in the list. */
static int catalogue_check_keys(const struct model_catalogue *c, const config_setting_t *group,
                                const char *const *valid, struct err *err)
{
    if (!config_setting_is_group(group))
        return catalogue_error(c, group, err, "a group { … } is expected here");
    for (int i = 0; i < config_setting_length(group); i++) {
        const config_setting_t *s = config_setting_get_elem(group, (unsigned)i);
        const char *name = config_setting_name(s);
        int k = 0;
        while (valid[k] && strcmp(valid[k], name))
            k++;
        if (valid[k])
            continue;
        char text[256];
        size_t used = (size_t)snprintf(text, sizeof text, "unknown key \"%.40s\"; valid:", name);
        for (k = 0; valid[k] && used < sizeof text; k++)
            used += (size_t)snprintf(text + used, sizeof text - used, " %s", valid[k]);
        return catalogue_error(c, s, err, text);
    }
    return 0;
}

static int catalogue_string(const struct model_catalogue *c, const config_setting_t *group,
                            const char *key, const char **ret_text, struct err *err)
{
    if (config_setting_lookup_string(group, key, ret_text) && **ret_text)
        return 0;
    char text[128];
    snprintf(text, sizeof text, "\"%s\" is missing here, or not a text in quotes", key);
    return catalogue_error(c, group, err, text);
}

static int catalogue_read_packages(const struct model_catalogue *c, const config_setting_t *group,
                                   struct model_source *source, struct err *err)
{
    static const char *const keys[] = {"name", "version", "count", "member", NULL};
    int rc = catalogue_check_keys(c, group, keys, err);
    if (rc == 0)
        rc = catalogue_string(c, group, "name", &source->package, err);
    if (rc == 0)
        rc = catalogue_string(c, group, "version", &source->version, err);
    if (rc == 0 && config_setting_get_member(group, "member"))
        rc = catalogue_string(c, group, "member", &source->member, err);
    if (rc == 0 && (!config_setting_lookup_int(group, "count", &source->count) ||
                    source->count < 1 || source->count > 9999))
        rc = catalogue_error(c, group, err, "\"count\" must be the number of parts, 1 to 9999");
    return rc;
}

static int catalogue_read_source(const struct model_catalogue *c, const config_setting_t *group,
                                 struct model_source *source, struct err *err)
{
    static const char *const keys[] = {"url", "packages", NULL};
    int rc = catalogue_check_keys(c, group, keys, err);
    if (rc < 0)
        return rc;
    config_setting_t *packages = config_setting_get_member(group, "packages");
    if (packages && config_setting_length(group) == 1)
        return catalogue_read_packages(c, packages, source, err);
    if (config_setting_length(group) != 1)
        return catalogue_error(c, group, err, "a source has either \"url\" or \"packages\"");
    rc = catalogue_string(c, group, "url", &source->url, err);
    if (rc == 0 && strncmp(source->url, "https://", 8) && strncmp(source->url, "http://", 7))
        rc = catalogue_error(c, group, err, "\"url\" must begin with https:// or http://");
    return rc;
}

static int catalogue_read_entry(const struct model_catalogue *c, const config_setting_t *group,
                                struct model_entry *entry, struct err *err)
{
    static const char *const keys[] = {"name", "file", "size", "sha256", "about", "sources", NULL};
    int rc = catalogue_check_keys(c, group, keys, err);
    if (rc == 0)
        rc = catalogue_string(c, group, "name", &entry->name, err);
    if (rc == 0)
        rc = catalogue_string(c, group, "file", &entry->file, err);
    if (rc == 0)
        rc = catalogue_string(c, group, "sha256", &entry->sha256, err);
    if (rc < 0)
        return rc;
    entry->about = "";
    config_setting_lookup_string(group, "about", &entry->about);
    long long size = 0;
    config_setting_lookup_int64(group, "size", &size);
    entry->size = size;
    if (strchr(entry->file, '/') || entry->file[0] == '.')
        return catalogue_error(c, group, err, "\"file\" must be a plain file name");
    if (strlen(entry->sha256) != 64 || strspn(entry->sha256, "0123456789abcdef") != 64)
        return catalogue_error(c, group, err, "\"sha256\" must be 64 digits 0-9, a-f");
    if (size < 1)
        return catalogue_error(c, group, err, "\"size\" must be the file's number of bytes");

    config_setting_t *sources = config_setting_get_member(group, "sources");
    if (!sources || !config_setting_is_list(sources) || !config_setting_length(sources))
        return catalogue_error(c, group, err, "\"sources\" must be a list ( {…}, … )");
    int n = config_setting_length(sources);
    entry->sources = calloc((size_t)n, sizeof *entry->sources);
    if (!entry->sources)
        return err_set(err, ERR_MEMORY, "%s: no memory for its sources", c->path);
    for (; entry->n_sources < n && rc == 0; entry->n_sources++)
        rc = catalogue_read_source(c, config_setting_get_elem(sources, (unsigned)entry->n_sources),
                                   &entry->sources[entry->n_sources], err);
    return rc;
}

static int catalogue_read(struct model_catalogue *c, struct err *err)
{
    static const char *const keys[] = {"models", NULL};
    const config_setting_t *root = config_root_setting(&c->config);
    int rc = catalogue_check_keys(c, root, keys, err);
    if (rc < 0)
        return rc;
    config_setting_t *models = config_setting_get_member(root, "models");
    if (!models || !config_setting_is_list(models) || !config_setting_length(models))
        return catalogue_error(c, root, err, "\"models\" must be a list ( {…}, … )");
    int n = config_setting_length(models);
    c->entries = calloc((size_t)n, sizeof *c->entries);
    if (!c->entries)
        return err_set(err, ERR_MEMORY, "%s: no memory for it", c->path);
    for (; c->n_entries < n && rc == 0; c->n_entries++)
        rc = catalogue_read_entry(c, config_setting_get_elem(models, (unsigned)c->n_entries),
                                  &c->entries[c->n_entries], err);
    return rc;
}

int model_catalogue_open(struct model_catalogue **ret_catalogue, const char *path, struct err *err)
{
    struct model_catalogue *c = calloc(1, sizeof *c);
    if (!c)
        return err_set(err, ERR_MEMORY, "no memory for the catalogue of models");
    config_init(&c->config);
    int rc =
        path ? paths_format(&c->path, err, "%s", path) : paths_shipped(&c->path, "models.cfg", err);
    FILE *in = rc == 0 ? fopen(c->path, "re") : NULL;
    if (rc == 0 && !in)
        rc = err_set(err, ERR_CONFIG, "%s: %s", c->path, strerror(errno));
    if (rc == 0 && config_read(&c->config, in) != CONFIG_TRUE)
        rc = err_set(err, ERR_CONFIG, "%s:%d: %s", c->path, config_error_line(&c->config),
                     config_error_text(&c->config));
    if (in)
        fclose(in);
    if (rc == 0)
        rc = catalogue_read(c, err);
    if (rc == 0) {
        *ret_catalogue = c;
        c = NULL;
    }
    model_catalogue_close(c);
    return rc;
}

void model_catalogue_close(struct model_catalogue *c)
{
    if (!c)
        return;
    for (int i = 0; i < c->n_entries; i++)
        free(c->entries[i].sources);
    free(c->entries);
    free(c->path);
    config_destroy(&c->config);
    free(c);
}

int model_catalogue_count(const struct model_catalogue *c)
{
    return c->n_entries;
}

const struct model_entry *model_catalogue_entry(const struct model_catalogue *c, int index)
{
    return &c->entries[index];
}

const struct model_entry *model_catalogue_find(const struct model_catalogue *c, const char *name)
{
    for (int i = 0; i < c->n_entries; i++)
        if (!strcmp(c->entries[i].name, name) || !strcmp(c->entries[i].file, name))
            return &c->entries[i];
    return NULL;
}

void model_catalogue_names(const struct model_catalogue *c, char *ret_names, size_t size)
{
    size_t used = 0;
    ret_names[0] = '\0';
    for (int i = 0; i < c->n_entries && used < size; i++)
        used += (size_t)snprintf(ret_names + used, size - used, "%s%s", i ? ", " : "",
                                 c->entries[i].name);
}

int model_source_expand(const char *pattern, int number, char *ret_text, size_t size)
{
    size_t used = 0;
    while (*pattern && used < size) {
        bool one = !strncmp(pattern, "{n}", 3), two = !strncmp(pattern, "{nn}", 4);
        if (one || two) {
            used += (size_t)snprintf(ret_text + used, size - used, two ? "%02d" : "%d", number);
            pattern += two ? 4 : 3;
        } else {
            ret_text[used++] = *pattern++;
        }
    }
    if (used >= size)
        return ERR_LIMIT;
    ret_text[used] = '\0';
    return 0;
}
