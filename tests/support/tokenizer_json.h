/* tokenizer_json.h - a tokenizer from a published tokenizer.json, for tests. */
#ifndef PACELINE_TESTS_SUPPORT_TOKENIZER_JSON_H
#define PACELINE_TESTS_SUPPORT_TOKENIZER_JSON_H

#include "coordinator/tokenizer.h"

/* path: compressed with xz. pre: "qwen2" or "qwen35". Fails the test if anything goes wrong.
 * ret_load_ms may be NULL: milliseconds of processor time in tokenizer_new(). */
struct tokenizer *tokenizer_json_read(const char *path, const char *pre, double *ret_load_ms);

#endif
