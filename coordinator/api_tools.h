/* api_tools.h - the tools of a chat request: which are offered to the model, and whether it has to
 * call one. */
#ifndef PACELINE_COORDINATOR_API_TOOLS_H
#define PACELINE_COORDINATOR_API_TOOLS_H

#include "coordinator/api_call.h"

struct api_tools {
    json_t *offered;    /* borrowed from the body; NULL: none, or the model is not told of them */
    bool is_required;   /* the answer begins with a call */
    const char *forced; /* of this tool; borrowed */
    bool is_single;     /* parallel_tool_calls: false */
};

/* Reads tools, tool_choice and parallel_tool_calls. */
int api_tools_read(struct api_tools *t, const struct api_call *c, struct err *err);

#endif
