/* conf_value.h - one setting: text to field and back (private to conf.c). */
#ifndef PACELINE_BASE_CONF_VALUE_H
#define PACELINE_BASE_CONF_VALUE_H

#include "base/conf.h"

/* Writes `text` into the option's field. On failure returns `code` with a sentence that begins
 * with `where` ("--threads", "worker.cfg:12: threads") and says what would be valid. */
int conf_value_store(const struct conf_option *option, void *settings, const char *text,
                     const char *where, int code, struct err *err);
/* Fills *ret_bytes from "1536", "512MiB", "1.5G"; powers of 1024, but of 1000 when the unit is
 * KB, MB, GB or TB. false: not a size. */
bool conf_value_size(const char *text, int64_t *ret_bytes);
/* The field as libconfig writes it; nothing is printed for an absent string. */
bool conf_value_print(const struct conf_option *option, const void *settings, FILE *out);

#endif
