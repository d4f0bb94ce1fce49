#include "coordinator/api_openapi.h"

void api_openapi(struct api_call *c)
{
    buf_append(&c->out, api_openapi_text, api_openapi_length);
    api_call_complete(c, 200);
}
