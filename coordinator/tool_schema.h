/* tool_schema.h - what a tool's schema says of a parameter, as far as the tag form of calls needs
 * it: there a value is bare text, and only its type tells a number from a string of digits. */
#ifndef PACELINE_COORDINATOR_TOOL_SCHEMA_H
#define PACELINE_COORDINATOR_TOOL_SCHEMA_H

#include "base/buf.h"

#include <jansson.h>
#include <stddef.h>

/* Appends the text as JSON of a type that the parameter's schema allows, or as a string. tools: an
 * array as in a request, or NULL. */
void tool_schema_write(const json_t *tools, const char *tool, const char *parameter,
                       const char *text, size_t length, struct buf *out);

#endif
