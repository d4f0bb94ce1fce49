/* buf.h - a string that grows.
 *
 * An allocation that fails marks the buffer as failed and later appends do nothing, so that a
 * writer of many pieces checks once, at the end, with buf_failed(). */
#ifndef PACELINE_BASE_BUF_H
#define PACELINE_BASE_BUF_H

#include <stdbool.h>
#include <stddef.h>

struct buf {
    char *data;      /* always followed by a NUL when not NULL */
    size_t length;   /* bytes, without that NUL */
    size_t capacity; /* bytes allocated */
    bool failed;
};

void buf_init(struct buf *b);
void buf_clear(struct buf *b); /* frees; the buffer is empty and usable afterwards */
void buf_reset(struct buf *b); /* empties, keeps the memory */
bool buf_failed(const struct buf *b);
const char *buf_text(const struct buf *b); /* "" when empty */
void buf_append(struct buf *b, const void *bytes, size_t length);
void buf_puts(struct buf *b, const char *text);
void buf_putc(struct buf *b, char c);
void buf_printf(struct buf *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Removes the first `count` bytes (at most the length). */
void buf_drop_front(struct buf *b, size_t count);
/* Removes what stands behind the first `length` bytes. */
void buf_cut(struct buf *b, size_t length);
/* Makes room for `extra` more bytes. */
bool buf_reserve(struct buf *b, size_t extra);

#endif
