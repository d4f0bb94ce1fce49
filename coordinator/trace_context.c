#include "coordinator/trace_context.h"

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#define DIGITS "0123456789abcdef"

/* The n digits at *text, and with more the '-' behind them; *text moves behind all. */
static bool trace_context_field(const char **text, size_t n, bool more, char *to)
{
    if (strspn(*text, DIGITS) != n || (more && (*text)[n] != '-'))
        return false;
    memcpy(to, *text, n);
    to[n] = '\0';
    *text += n + more;
    return true;
}

/* Versions after 00 may say more behind the flags; ff is none. */
static bool trace_context_parse(struct trace_context *t, const char *text)
{
    char version[3];
    bool ok = trace_context_field(&text, 2, true, version) && strcmp(version, "ff") != 0 &&
              trace_context_field(&text, 32, true, t->trace_id) &&
              trace_context_field(&text, 16, true, t->parent_id) &&
              trace_context_field(&text, 2, false, t->flags);
    bool ends = ok && (!*text || (*text == '-' && strcmp(version, "00") != 0));
    return ends && strspn(t->trace_id, "0") < 32 && strspn(t->parent_id, "0") < 16;
}

bool trace_context_read(struct trace_context *ret_trace, const char *header)
{
    struct trace_context t = {0};
    uint64_t bits;
    *ret_trace = t;
    if (!header || !trace_context_parse(&t, header) ||
        getrandom(&bits, sizeof bits, GRND_NONBLOCK) != (ssize_t)sizeof bits)
        return false;
    snprintf(t.span_id, sizeof t.span_id, "%016" PRIx64, bits | 1); /* zero is none */
    *ret_trace = t;
    return true;
}
