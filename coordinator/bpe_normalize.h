/* bpe_normalize.h - Unicode normalisation form C, in linear time whatever the text. */
#ifndef PACELINE_COORDINATOR_BPE_NORMALIZE_H
#define PACELINE_COORDINATOR_BPE_NORMALIZE_H

#include "base/buf.h"
#include "base/err.h"

#include <stdbool.h>

/* false: the text is in form C for certain, as all of it lies below U+0300. */
bool bpe_normalize_is_needed(const char *text, size_t length);
/* text: valid UTF-8. Appends to out. */
int bpe_normalize(const char *text, size_t length, struct buf *out, struct err *err);

#endif
