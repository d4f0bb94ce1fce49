/* checksum.h - SHA-256 of a file. */
#ifndef PACELINE_CLI_CHECKSUM_H
#define PACELINE_CLI_CHECKSUM_H

#include "base/err.h"

#include <stdint.h>

#define CHECKSUM_TEXT 65 /* 64 hexadecimal digits and the NUL */

/* on_progress may be NULL; it is given the bytes read so far. ERR_CANCELLED: a stop signal. */
int checksum_file(const char *path, void (*on_progress)(void *context, int64_t bytes),
                  void *context, char ret_text[CHECKSUM_TEXT], struct err *err);

#endif
