/* jinja_text.h - Unicode text as Python's str sees it: positions count code points. */
#ifndef PACELINE_COORDINATOR_JINJA_TEXT_H
#define PACELINE_COORDINATOR_JINJA_TEXT_H

#include "base/buf.h"
#include "coordinator/jinja_value.h"

/* Code point at s[0 … length), and its bytes in *ret_size (1 for a byte that is not UTF-8). */
uint32_t jinja_text_decode(const char *s, size_t length, size_t *ret_size);
void jinja_text_encode(struct buf *b, uint32_t code);
bool jinja_text_is_valid(struct jinja_string s);
bool jinja_text_is_space(uint32_t code); /* str.isspace() */
size_t jinja_text_count(struct jinja_string s);
/* Byte offset of a code point; the length if there are fewer. */
size_t jinja_text_offset(struct jinja_string s, size_t index);
/* chars NULL: white space. */
struct jinja_string jinja_text_strip(struct jinja_string s, const struct jinja_string *chars,
                                     bool left, bool right);
/* Byte offset of the first (last) needle at or after (ending at or before) `from`; SIZE_MAX: none.
 */
size_t jinja_text_find(struct jinja_string s, struct jinja_string needle, size_t from);
size_t jinja_text_find_last(struct jinja_string s, struct jinja_string needle, size_t from);
bool jinja_text_starts(struct jinja_string s, struct jinja_string prefix);
bool jinja_text_ends(struct jinja_string s, struct jinja_string suffix);
/* Simple case mappings; of those that lengthen the text, only that of ß. */
void jinja_text_upper(struct buf *b, struct jinja_string s);
void jinja_text_lower(struct buf *b, struct jinja_string s);

#endif
