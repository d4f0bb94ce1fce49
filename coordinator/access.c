#include "coordinator/access.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

enum { ACCESS_KEY_BYTES = 512, ACCESS_NAME_BYTES = 64, ACCESS_MOST_KEYS = 4096 };

/* A field of a line, ended by spaces; NULL when there is none. *line moves behind it. */
static char *access_field(char **line)
{
    char *field = *line + strspn(*line, " \t"), *end = field + strcspn(field, " \t");
    *line = *end ? end + 1 : end;
    *end = '\0';
    return *field ? field : NULL;
}

/* Room for one key and one tenant more. */
static int access_grow(struct access_keys *keys, struct err *err)
{
    if (keys->n >= ACCESS_MOST_KEYS)
        return err_set(err, ERR_CONFIG, "more than %d keys", ACCESS_MOST_KEYS);
    size_t n = keys->n + 1; /* there are no more tenants than keys */
    char **k = realloc(keys->keys, n * sizeof *k);
    keys->keys = k ? k : keys->keys;
    int *t = realloc(keys->tenants, n * sizeof *t);
    keys->tenants = t ? t : keys->tenants;
    char **names = realloc(keys->names, n * sizeof *names);
    keys->names = names ? names : keys->names;
    double *weights = realloc(keys->weights, n * sizeof *weights);
    keys->weights = weights ? weights : keys->weights;
    if (!k || !t || !names || !weights)
        return err_set(err, ERR_MEMORY, "no memory for the keys");
    return 0;
}

static bool access_is_printable(const char *text)
{
    for (; *text; text++)
        if (*text < 0x21 || *text > 0x7e)
            return false;
    return true;
}

/* weight 0: not given. Until all lines are read a tenant's may be 0, too. */
static int access_add_tenant(struct access_keys *keys, const char *name, double weight,
                             struct err *err)
{
    int at = keys->n_tenants;
    char own[32];
    for (int i = 0; name && i < keys->n_tenants; i++)
        if (strcmp(keys->names[i], name) == 0)
            at = i;
    if (at == keys->n_tenants) {
        snprintf(own, sizeof own, "key-%zu", keys->n + 1);
        keys->names[at] = strdup(name ? name : own);
        if (!keys->names[at])
            return err_set(err, ERR_MEMORY, "no memory for the keys");
        keys->weights[at] = 0;
        keys->n_tenants++;
    }
    if (weight > 0 && keys->weights[at] > 0 && weight != keys->weights[at])
        return err_set(err, ERR_CONFIG, "tenant %s has the weight %g already", name,
                       keys->weights[at]);
    if (weight > 0)
        keys->weights[at] = weight;
    keys->tenants[keys->n] = at;
    return 0;
}

static int access_read_weight(const char *text, double *ret_weight, struct err *err)
{
    char *end;
    errno = 0;
    *ret_weight = strtod(text, &end);
    if (errno || *end || !(*ret_weight >= 0.001 && *ret_weight <= 1000))
        return err_set(err, ERR_CONFIG, "'%s' is no weight: a number from 0.001 to 1000", text);
    return 0;
}

static int access_add(struct access_keys *keys, char *line, struct err *err)
{
    const char *key = access_field(&line), *name = access_field(&line);
    const char *weight_text = access_field(&line);
    double weight = 0;
    if (access_field(&line))
        return err_set(err, ERR_CONFIG, "a line is KEY [TENANT [WEIGHT]], and no more");
    if (!access_is_printable(key) || (name && !access_is_printable(name)))
        return err_set(err, ERR_CONFIG,
                       "keys and tenants consist of printable ASCII characters without spaces");
    if (name && strlen(name) >= ACCESS_NAME_BYTES)
        return err_set(err, ERR_CONFIG, "a tenant's name has at most %d characters",
                       ACCESS_NAME_BYTES - 1);
    if (name && strncmp(name, "key-", 4) == 0)
        return err_set(err, ERR_CONFIG, "names that begin with key- are those of unnamed tenants");
    for (size_t i = 0; i < keys->n; i++)
        if (strcmp(keys->keys[i], key) == 0)
            return err_set(err, ERR_CONFIG, "this key stands in the file twice");
    int rc = weight_text ? access_read_weight(weight_text, &weight, err) : 0;
    if (rc == 0)
        rc = access_grow(keys, err);
    if (rc == 0)
        rc = access_add_tenant(keys, name, weight, err);
    if (rc != 0)
        return rc;
    keys->keys[keys->n] = strdup(key);
    if (!keys->keys[keys->n])
        return err_set(err, ERR_MEMORY, "no memory for the keys");
    keys->n++;
    return 0;
}

static int access_read_lines(struct access_keys *keys, FILE *file, const char *path,
                             struct err *err)
{
    char line[ACCESS_KEY_BYTES + 2];
    for (int number = 1; fgets(line, sizeof line, file); number++) {
        size_t length = strlen(line);
        bool is_whole = feof(file) || (length && line[length - 1] == '\n');
        while (length && strchr(" \t\r\n", line[length - 1]))
            line[--length] = '\0';
        char *start = line + strspn(line, " \t");
        if (!is_whole)
            return err_set(err, ERR_CONFIG, "%s:%d: the line is longer than %d bytes", path, number,
                           ACCESS_KEY_BYTES);
        if (!*start || *start == '#')
            continue;
        int rc = access_add(keys, start, err);
        if (rc != 0) {
            err_prefix(err, "%s:%d", path, number);
            return rc;
        }
    }
    if (ferror(file))
        return err_set(err, ERR_IO, "%s: %s", path, strerror(errno));
    if (!keys->n)
        return err_set(err, ERR_CONFIG, "%s holds no key: write one on a line of its own", path);
    for (int i = 0; i < keys->n_tenants; i++)
        if (keys->weights[i] == 0)
            keys->weights[i] = 1;
    return 0;
}

int access_read(struct access_keys *ret_keys, const char *path, struct err *err)
{
    FILE *file = fopen(path, "re");
    if (!file)
        return err_set(err, ERR_IO, "%s: %s", path, strerror(errno));
    struct access_keys keys = {0};
    struct stat about;
    if (fstat(fileno(file), &about) == 0)
        keys.is_exposed = S_ISREG(about.st_mode) && (about.st_mode & (S_IRGRP | S_IROTH)) != 0;
    int rc = access_read_lines(&keys, file, path, err);
    fclose(file);
    if (rc == 0)
        *ret_keys = keys;
    else
        access_clear(&keys);
    return rc;
}

void access_clear(struct access_keys *keys)
{
    for (size_t i = 0; i < keys->n; i++) {
        explicit_bzero(keys->keys[i], strlen(keys->keys[i]));
        free(keys->keys[i]);
    }
    for (int i = 0; i < keys->n_tenants; i++)
        free(keys->names[i]);
    free(keys->keys);
    free(keys->tenants);
    free(keys->names);
    free(keys->weights);
    *keys = (struct access_keys){0};
}

/* Runs over the given key's bytes only, so time tells no more than the length that the client
 * knows anyway. */
static bool access_matches(const char *key, const char *given)
{
    size_t key_length = strlen(key), given_length = strlen(given);
    volatile uint32_t difference = key_length != given_length;
    for (size_t i = 0; i < given_length; i++)
        difference |= (uint32_t)((unsigned char)given[i] ^
                                 (unsigned char)key[key_length ? i % key_length : 0]);
    return difference == 0;
}

size_t access_find(const char *const *keys, size_t n_keys, const char *given)
{
    size_t found = n_keys;
    for (size_t i = 0; given && *given && i < n_keys; i++) {
        size_t mask = (size_t)0 - (size_t)access_matches(keys[i], given); /* no branch on it */
        found = (found & ~mask) | (i & mask);
    }
    return found;
}

const char *access_bearer(const char *authorization)
{
    if (!authorization || strncasecmp(authorization, "Bearer ", 7) != 0)
        return NULL;
    return authorization + 7 + strspn(authorization + 7, " ");
}
