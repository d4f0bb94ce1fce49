#include "coordinator/access.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

enum { ACCESS_KEY_BYTES = 512, ACCESS_MOST_KEYS = 4096 };

static int access_add(struct access_keys *keys, const char *line, size_t length, struct err *err)
{
    if (keys->n >= ACCESS_MOST_KEYS)
        return err_set(err, ERR_CONFIG, "more than %d keys", ACCESS_MOST_KEYS);
    for (size_t i = 0; i < length; i++)
        if (line[i] < 0x21 || line[i] > 0x7e)
            return err_set(err, ERR_CONFIG,
                           "a key consists of printable ASCII characters without spaces");
    char **more = realloc(keys->keys, (keys->n + 1) * sizeof *more);
    if (!more)
        return err_set(err, ERR_MEMORY, "no memory for the keys");
    keys->keys = more;
    keys->keys[keys->n] = strndup(line, length);
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
        const char *start = line + strspn(line, " \t");
        length -= (size_t)(start - line);
        if (!is_whole)
            return err_set(err, ERR_CONFIG, "%s:%d: the line is longer than %d bytes", path, number,
                           ACCESS_KEY_BYTES);
        if (!length || *start == '#')
            continue;
        int rc = access_add(keys, start, length, err);
        if (rc != 0) {
            err_prefix(err, "%s:%d", path, number);
            return rc;
        }
    }
    if (ferror(file))
        return err_set(err, ERR_IO, "%s: %s", path, strerror(errno));
    if (!keys->n)
        return err_set(err, ERR_CONFIG, "%s holds no key: write one on a line of its own", path);
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
    free(keys->keys);
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

bool access_is_granted(const char *const *keys, size_t n_keys, const char *given)
{
    bool granted = false;
    for (size_t i = 0; given && i < n_keys; i++)
        granted |= access_matches(keys[i], given);
    return granted && *given;
}

const char *access_bearer(const char *authorization)
{
    if (!authorization || strncasecmp(authorization, "Bearer ", 7) != 0)
        return NULL;
    return authorization + 7 + strspn(authorization + 7, " ");
}
