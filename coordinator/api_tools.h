/* api_tools.h - the tools of a chat request: which are offered to the model, whether it has to call
 * one, and what its calls must be. */
#ifndef PACELINE_COORDINATOR_API_TOOLS_H
#define PACELINE_COORDINATOR_API_TOOLS_H

#include "coordinator/api_call.h"
#include "coordinator/constraint.h"

struct api_tools {
    json_t *offered;    /* borrowed from the body; NULL: none, or the model is not told of them */
    bool is_required;   /* the answer begins with a call */
    const char *forced; /* of this tool; borrowed */
    bool is_single;     /* one call, and nothing behind it */
};

/* Reads tools, tool_choice and parallel_tool_calls, from which it borrows. */
int api_tools_read(struct api_tools *t, const struct api *api, const json_t *body, struct err *err);
/* Whether calls can be bound, and are: one is required, or a tool is strict. */
bool api_tools_are_bound(const struct api_tools *t, const struct api *api);
/* What the calls must be: of a strict tool, or where one is required, what the tool's schema
 * accepts, and of another any object. ret_calls->tools is the caller's. */
int api_tools_form(const struct api_tools *t, const struct api *api,
                   struct constraint_calls *ret_calls, struct err *err);
/* What must stand behind the beginning of a call that is required; held by the caller. */
int api_tools_require(const struct api_tools *t, const struct api *api,
                      struct constraint **ret_constraint, struct err *err);

#endif
