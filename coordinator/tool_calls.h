/* tool_calls.h - what a model writes to call a tool, in the two forms that Qwen's templates teach:
 * Hermes' JSON (Qwen2.5, Qwen3, QwQ) and the tags of Qwen3-Coder and Qwen3.5. */
#ifndef PACELINE_COORDINATOR_TOOL_CALLS_H
#define PACELINE_COORDINATOR_TOOL_CALLS_H

#include "base/buf.h"

#include <jansson.h>
#include <stddef.h>

enum tool_format {
    TOOL_FORMAT_NONE,   /* the template knows no tools */
    TOOL_FORMAT_HERMES, /* {"name": "f", "arguments": {"a": 1}} */
    TOOL_FORMAT_XML     /* <function=f><parameter=a>1</parameter></function> */
};

#define TOOL_CALLS_BEGIN "<tool_call>"
#define TOOL_CALLS_END   "</tool_call>"

struct tool_call {
    char *name;           /* owned */
    struct buf arguments; /* a JSON object, spelled as the model did where it wrote JSON */
};

/* By the source of a chat template. */
enum tool_format tool_calls_format(const char *source, size_t length);
/* The call at the beginning of what stands between begin and end: 1; 0 if there is none;
 * ERR_MEMORY. *ret_used: bytes that it takes, with the white space behind it; models put several
 * calls between two tags, too. tools: as in the request, an array or NULL; their schemas tell what
 * a tag's text is. */
int tool_calls_parse(enum tool_format format, const json_t *tools, const char *text, size_t length,
                     struct tool_call *ret_call, size_t *ret_used);
/* The beginning of a call, for a model that has no choice but to go on with it. name NULL: of any
 * tool. */
void tool_calls_begin(enum tool_format format, const char *name, struct buf *out);
void tool_calls_clear(struct tool_call *call);

#endif
