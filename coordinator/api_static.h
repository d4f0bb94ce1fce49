/* api_static.h - GET /, /page/… and /openapi.json: files that the program carries in itself. */
#ifndef PACELINE_COORDINATOR_API_STATIC_H
#define PACELINE_COORDINATOR_API_STATIC_H

#include "coordinator/api_call.h"

void api_static(struct api_call *c);

#endif
