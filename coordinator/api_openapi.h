/* api_openapi.h - GET /openapi.json: docs/openapi.json, which the build makes part of the program.
 */
#ifndef PACELINE_COORDINATOR_API_OPENAPI_H
#define PACELINE_COORDINATOR_API_OPENAPI_H

#include "coordinator/api_call.h"

extern const unsigned char api_openapi_text[]; /* [api_openapi_length], of embed.cmake */
extern const size_t api_openapi_length;

void api_openapi(struct api_call *c);

#endif
