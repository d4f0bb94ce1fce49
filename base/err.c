#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void err_fill(struct err *err, int code, const char *param, const char *format, va_list args)
{
    if (!err)
        return;
    err->code = code;
    snprintf(err->param, sizeof err->param, "%s", param);
    vsnprintf(err->text, sizeof err->text, format, args);
}

int err_set(struct err *err, int code, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    err_fill(err, code, "", format, args);
    va_end(args);
    return code;
}

int err_set_param(struct err *err, int code, const char *param, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    err_fill(err, code, param, format, args);
    va_end(args);
    return code;
}

int err_prefix(struct err *err, const char *format, ...)
{
    if (!err)
        return ERR_INTERNAL;
    char before[sizeof err->text];
    va_list args;
    va_start(args, format);
    vsnprintf(before, sizeof before, format, args);
    va_end(args);
    char whole[2 * sizeof err->text + 2];
    snprintf(whole, sizeof whole, "%s: %s", before, err->text);
    memcpy(err->text, whole, sizeof err->text - 1);
    err->text[sizeof err->text - 1] = '\0';
    return err->code;
}

int err_exit_code(int code)
{
    switch (code) {
    case ERR_NONE:
        return 0;
    case ERR_CONFIG:
        return 2;
    case ERR_MODEL:
        return 3;
    case ERR_NETWORK:
    case ERR_UNAVAILABLE:
        return 4;
    case ERR_MEMORY:
        return 5;
    default:
        return 1;
    }
}

int err_http_status(int code)
{
    switch (code) {
    case ERR_NONE:
        return 200;
    case ERR_INPUT:
    case ERR_USAGE:
        return 400;
    case ERR_AUTH:
        return 401;
    case ERR_NOT_FOUND:
        return 404;
    case ERR_LIMIT:
    case ERR_QUOTA:
        return 429;
    case ERR_TIMEOUT:
        return 504;
    case ERR_UNAVAILABLE:
    case ERR_NETWORK:
        return 503;
    default:
        return 500;
    }
}
