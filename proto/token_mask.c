#include "proto/token_mask.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

size_t token_mask_most_bytes(uint32_t vocabulary)
{
    return 1 + ((size_t)vocabulary + 7) / 8;
}

static size_t list_bytes(const uint32_t *ids, size_t n)
{
    size_t bytes = 1;
    uint32_t next = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t gap = ids[i] - next;
        next = ids[i] + 1;
        bytes += gap < 1U << 7 ? 1 : gap < 1U << 14 ? 2 : gap < 1U << 21 ? 3 : 4;
    }
    return bytes;
}

static void write_as_bits(struct buf *out, enum token_mask_form form, const uint32_t *ids, size_t n,
                          uint32_t vocabulary)
{
    const bool allows = form == TOKEN_MASK_ALLOWED;
    buf_putc(out, TOKEN_MASK_BITS);
    for (uint32_t i = 0, at = 0; i < (vocabulary + 7) / 8; i++) {
        unsigned char bits = allows ? 0 : 0xFF;
        for (; at < n && ids[at] / 8 == i; at++)
            bits = (unsigned char)(bits ^ 1U << ids[at] % 8);
        buf_putc(out, (char)bits);
    }
}

void token_mask_write_ids(struct buf *out, enum token_mask_form form, const uint32_t *ids, size_t n,
                          uint32_t vocabulary)
{
    unsigned char part[256];
    size_t used = 0;
    uint32_t next = 0;
    if (list_bytes(ids, n) > token_mask_most_bytes(vocabulary)) {
        write_as_bits(out, form, ids, n, vocabulary);
        return;
    }
    buf_putc(out, (char)form);
    for (size_t i = 0; i < n; i++) {
        uint32_t gap = ids[i] - next;
        next = ids[i] + 1;
        for (; gap >= 0x80; gap >>= 7)
            part[used++] = (unsigned char)(gap | 0x80);
        part[used++] = (unsigned char)gap;
        if (used > sizeof part - 8) {
            buf_append(out, part, used);
            used = 0;
        }
    }
    buf_append(out, part, used);
}

void token_mask_write_bits(struct buf *out, const uint64_t *words, uint32_t vocabulary)
{
    buf_putc(out, TOKEN_MASK_BITS);
    for (uint32_t i = 0; i < (vocabulary + 7) / 8; i++)
        buf_putc(out, (char)(words[i / 8] >> (i % 8 * 8)));
}

/* The next id of a list. false: the list ends, or is none. */
static bool mask_next(const unsigned char **at, const unsigned char *end, uint32_t vocabulary,
                      uint32_t *next, uint32_t *ret_id)
{
    uint32_t gap = 0;
    for (unsigned shift = 0; *at < end && shift < 28; shift += 7) {
        unsigned char byte = *(*at)++;
        gap |= (uint32_t)(byte & 0x7F) << shift;
        if (byte & 0x80)
            continue;
        if (*next > vocabulary || gap >= vocabulary - *next)
            return false;
        *ret_id = *next + gap;
        *next = *ret_id + 1;
        return true;
    }
    return false;
}

int token_mask_check(const unsigned char *mask, size_t length, uint32_t vocabulary, struct err *err)
{
    if (length == 0 || mask[0] < TOKEN_MASK_ALLOWED || mask[0] > TOKEN_MASK_BITS)
        return err_set(err, ERR_INPUT, "a token mask of %zu bytes has no known form", length);
    if (mask[0] == TOKEN_MASK_BITS) {
        if (length == token_mask_most_bytes(vocabulary))
            return 0;
        return err_set(err, ERR_INPUT, "a token mask of %zu bytes is not one of %u tokens", length,
                       vocabulary);
    }
    const unsigned char *at = mask + 1, *end = mask + length;
    uint32_t next = 0, id;
    while (at < end)
        if (!mask_next(&at, end, vocabulary, &next, &id))
            return err_set(err, ERR_INPUT, "a token mask names a token beyond the vocabulary of %u",
                           vocabulary);
    return 0;
}

void token_mask_apply(const unsigned char *mask, size_t length, const float *logits, float *to,
                      uint32_t vocabulary)
{
    const unsigned char *at = mask + 1, *end = mask + length;
    uint32_t next = 0, id;
    if (mask[0] == TOKEN_MASK_BITS) {
        for (uint32_t i = 0; i < vocabulary; i++)
            to[i] = at[i / 8] >> (i % 8) & 1 ? logits[i] : -INFINITY;
    } else if (mask[0] == TOKEN_MASK_FORBIDDEN) {
        memcpy(to, logits, vocabulary * sizeof *to);
        while (mask_next(&at, end, vocabulary, &next, &id))
            to[id] = -INFINITY;
    } else {
        for (uint32_t i = 0; i < vocabulary; i++)
            to[i] = -INFINITY;
        while (mask_next(&at, end, vocabulary, &next, &id))
            to[id] = logits[id];
    }
}
