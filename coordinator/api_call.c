#include "coordinator/api_call.h"

#include "coordinator/api_generation.h"
#include "coordinator/api_plan.h"
#include "coordinator/api_store.h"
#include "coordinator/json_text.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void api_call_init(struct api_call *c, struct api *api, const char *method, const char *path)
{
    *c = (struct api_call){.api = api, .method = method, .path = path};
    buf_init(&c->out);
}

void api_call_clear(struct api_call *c)
{
    api_store_leave(c);
    api_plan_leave(c);
    api_generation_free(c->generation);
    json_decref(c->body);
    buf_clear(&c->out);
    *c = (struct api_call){0};
}

void api_call_header(struct api_call *c, const char *name, const char *format, ...)
{
    if (c->n_headers == sizeof c->headers / sizeof c->headers[0])
        return;
    struct api_header *h = &c->headers[c->n_headers++];
    h->name = name;
    va_list args;
    va_start(args, format);
    vsnprintf(h->value, sizeof h->value, format, args);
    va_end(args);
}

void api_call_answer(struct api_call *c, int status, json_t *value)
{
    buf_reset(&c->out);
    json_text_write(&c->out, value);
    json_decref(value);
    api_call_complete(c, status);
}

void api_call_complete(struct api_call *c, int status)
{
    c->status = status;
    c->content_type = "application/json";
    c->is_stream = false;
    c->is_complete = true;
    if (!buf_failed(&c->out))
        return;
    c->status = 500;
    buf_reset(&c->out);
    buf_puts(&c->out, "{\"error\":{\"message\":\"There is no memory for the answer.\","
                      "\"type\":\"server_error\",\"param\":null,\"code\":null}}");
}

static const char *api_call_error_type(int status)
{
    switch (status) {
    case 401:
        return "authentication_error";
    case 403:
        return "permission_error";
    case 404:
        return "not_found_error";
    case 429:
        return "rate_limit_error";
    case 503:
        return "unavailable_error";
    case 504:
        return "timeout_error";
    default:
        return status >= 500 ? "server_error" : "invalid_request_error";
    }
}

const char *api_call_error_code(const struct err *err)
{
    switch (err->code) {
    case ERR_LIMIT:
        return "queue_full";
    case ERR_QUOTA:
        return "tenant_limit";
    case ERR_TIMEOUT:
        return "timeout";
    case ERR_CRASH:
        return "worker_crash";
    default:
        return NULL;
    }
}

static const char *api_call_anthropic_type(int status)
{
    switch (status) {
    case 401:
        return "authentication_error";
    case 403:
        return "permission_error";
    case 404:
        return "not_found_error";
    case 413:
        return "request_too_large";
    case 429:
        return "rate_limit_error";
    case 503:
        return "overloaded_error";
    case 504:
        return "timeout_error";
    default:
        return status >= 500 ? "api_error" : "invalid_request_error";
    }
}

static json_t *api_call_anthropic_json(const struct api_call *c, int status, const struct err *err)
{
    return json_pack("{s:s, s:{s:s, s:o}, s:s}", "type", "error", "error", "type",
                     api_call_anthropic_type(status), "message",
                     json_text_string(err->text, strlen(err->text)), "request_id", c->request_id);
}

json_t *api_call_error_json(const struct api_call *c, int status, const char *code,
                            const struct err *err)
{
    if (c->form == API_FORM_ANTHROPIC)
        return api_call_anthropic_json(c, status, err);
    json_t *code_value = json_null();
    if (code)
        code_value = json_string(code);
    else if (status == 503)
        code_value = json_integer(503); /* what llama-server's clients look for */
    json_t *param = err->param[0] ? json_text_string(err->param, strlen(err->param)) : json_null();
    return json_pack("{s:{s:o, s:s, s:o, s:o}}", "error", "message",
                     json_text_string(err->text, strlen(err->text)), "type",
                     api_call_error_type(status), "param", param, "code", code_value);
}

void api_call_refuse(struct api_call *c, int status, const char *code, const struct err *err)
{
    if (status == 401)
        api_call_header(c, "WWW-Authenticate", "Bearer realm=\"paceline\"");
    if (status == 429 || status == 503)
        api_call_header(c, "Retry-After", "%d",
                        status == 429 ? coordinator_retry_after_s(c->api->coordinator) : 5);
    api_call_answer(c, status, api_call_error_json(c, status, code, err));
}

void api_call_fail(struct api_call *c, const struct err *err)
{
    c->failure = *err;
    api_call_refuse(c, err_http_status(err->code),
                    c->error_code ? c->error_code : api_call_error_code(err), err);
}

json_t *api_call_model_json(const struct api_call *c)
{
    const char *alias = coordinator_model_alias(c->api->coordinator);
    return json_text_string(alias, strlen(alias));
}

int api_call_status(const struct api_call *c)
{
    return c->status ? c->status : 499;
}

size_t api_call_pending(const struct api_call *c)
{
    return c->out.length - c->out_taken;
}
