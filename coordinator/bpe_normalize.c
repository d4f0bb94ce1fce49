#include "coordinator/bpe_normalize.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#define DECOMPOSED_MAX 16 /* code points; the longest canonical decomposition has four */
#define SHORT_RUN      24 /* marks: below this, insertion beats counting */
#define OPTIONS        ((utf8proc_option_t)(UTF8PROC_STABLE | UTF8PROC_COMPOSE))

struct points {
    int32_t *at;
    size_t n, capacity;
};

bool bpe_normalize_is_needed(const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if ((unsigned char)text[i] >= 0xCC) /* the lead byte of U+0300 */
            return true;
    return false;
}

static int bpe_normalize_class(int32_t point)
{
    return utf8proc_get_property(point)->combining_class;
}

static int bpe_normalize_decompose(const char *text, size_t length, struct points *p,
                                   struct err *err)
{
    const utf8proc_uint8_t *in = (const utf8proc_uint8_t *)text;
    for (size_t at = 0; at < length;) {
        if (p->capacity - p->n < DECOMPOSED_MAX) {
            size_t capacity = p->capacity ? 2 * p->capacity : length / 2 + DECOMPOSED_MAX;
            int32_t *grown = realloc(p->at, capacity * sizeof *grown);
            if (!grown)
                return err_set(err, ERR_MEMORY, "no memory to normalise a text of %zu bytes",
                               length);
            p->at = grown;
            p->capacity = capacity;
        }
        utf8proc_int32_t point;
        utf8proc_ssize_t taken = utf8proc_iterate(in + at, (utf8proc_ssize_t)(length - at), &point);
        if (taken <= 0)
            return err_set(err, ERR_INTERNAL, "text to normalise is not UTF-8 at byte %zu", at);
        utf8proc_ssize_t n =
            utf8proc_decompose_char(point, p->at + p->n, DECOMPOSED_MAX, OPTIONS, NULL);
        if (n < 0 || n > DECOMPOSED_MAX)
            return err_set(err, ERR_INTERNAL, "U+%04X decomposes into %d characters",
                           (unsigned)point, (int)n);
        p->n += (size_t)n;
        at += (size_t)taken;
    }
    return 0;
}

static void bpe_normalize_insert(int32_t *run, size_t n)
{
    for (size_t i = 1; i < n; i++) {
        int32_t point = run[i];
        int class = bpe_normalize_class(point);
        size_t at = i;
        while (at && bpe_normalize_class(run[at - 1]) > class) {
            run[at] = run[at - 1];
            at--;
        }
        run[at] = point;
    }
}

/* Stable, by counting: hostile text may hold a run of a million marks. */
static int bpe_normalize_count(int32_t *run, size_t n, struct err *err)
{
    size_t place[257] = {0};
    int32_t *sorted = malloc(n * sizeof *sorted);
    if (!sorted)
        return err_set(err, ERR_MEMORY, "no memory to normalise a run of %zu marks", n);
    for (size_t i = 0; i < n; i++)
        place[bpe_normalize_class(run[i]) + 1]++;
    for (int c = 1; c < 257; c++)
        place[c] += place[c - 1];
    for (size_t i = 0; i < n; i++)
        sorted[place[bpe_normalize_class(run[i])]++] = run[i];
    memcpy(run, sorted, n * sizeof *sorted);
    free(sorted);
    return 0;
}

/* Canonical order: each run of marks (class not 0) sorted by class. */
static int bpe_normalize_order(struct points *p, struct err *err)
{
    int rc = 0;
    for (size_t at = 0; at < p->n && rc == 0; at++) {
        size_t start = at;
        while (at < p->n && bpe_normalize_class(p->at[at]) != 0)
            at++;
        if (at - start > SHORT_RUN)
            rc = bpe_normalize_count(p->at + start, at - start, err);
        else
            bpe_normalize_insert(p->at + start, at - start);
    }
    return rc;
}

/* utf8proc's own utf8proc_map() would do all of this, but sorts marks by exchanging neighbours:
 * quadratic for a long run. Only the tables and the composition are taken from it. */
int bpe_normalize(const char *text, size_t length, struct buf *out, struct err *err)
{
    struct points p = {0};
    int rc = bpe_normalize_decompose(text, length, &p, err);
    if (rc == 0)
        rc = bpe_normalize_order(&p, err);
    if (rc == 0 && p.n) {
        utf8proc_ssize_t n = utf8proc_normalize_utf32(p.at, (utf8proc_ssize_t)p.n, OPTIONS);
        if (n < 0)
            rc = err_set(err, ERR_INTERNAL, "composing characters: %s", utf8proc_errmsg(n));
        for (utf8proc_ssize_t i = 0; i < n; i++) {
            utf8proc_uint8_t bytes[4];
            buf_append(out, bytes, (size_t)utf8proc_encode_char(p.at[i], bytes));
        }
    }
    free(p.at);
    if (rc == 0 && buf_failed(out))
        rc = err_set(err, ERR_MEMORY, "no memory to normalise a text of %zu bytes", length);
    return rc;
}
