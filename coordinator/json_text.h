/* json_text.h - text and numbers on their way into JSON: nothing that JSON cannot hold gets there.
 */
#ifndef PACELINE_COORDINATOR_JSON_TEXT_H
#define PACELINE_COORDINATOR_JSON_TEXT_H

#include "base/buf.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

/* Bytes of the valid UTF-8 character at p (n bytes are left), or 0. */
size_t json_text_character(const char *p, size_t n);
bool json_text_is_utf8(const char *text, size_t length);
/* A JSON string; invalid bytes become U+FFFD. NULL: no memory. */
json_t *json_text_string(const char *text, size_t length);
/* The same, written as a literal with its quotes. */
void json_text_quote(struct buf *out, const char *text, size_t length);
/* A number, or null when it is not finite. */
json_t *json_text_real(double value);
/* Appends the value; reals with 9 significant digits, which is all that a float32 has. */
void json_text_write(struct buf *out, const json_t *value);
/* What a person would call the value: "a string", "an integer" … */
const char *json_text_type(const json_t *value);

#endif
