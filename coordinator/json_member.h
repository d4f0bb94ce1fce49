/* json_member.h - a member of an object, spelled as it came: a number that was parsed and written
 * again may read otherwise. */
#ifndef PACELINE_COORDINATOR_JSON_MEMBER_H
#define PACELINE_COORDINATOR_JSON_MEMBER_H

#include <stddef.h>

/* The value of the last member of that name; text: an object, known to be valid JSON. NULL: there
 * is none whose name is written without escapes. The result points into text. */
const char *json_member_find(const char *text, size_t length, const char *name, size_t *ret_length);

#endif
