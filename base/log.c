#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <time.h>

static struct {
    const char *program;
    enum log_level level;
    bool json;
} log_state = {"paceline", LOG_LEVEL_INFO, false};

static const char *const log_level_names[] = {"error", "warning", "info", "debug"};

void log_setup(const char *program, enum log_level level, bool json)
{
    log_state.program = program;
    log_state.level = level;
    log_state.json = json;
}

enum log_level log_level(void)
{
    return log_state.level;
}

/* Escapes what JSON strings must not hold raw; foreign bytes were checked to be UTF-8 or are cut
 * to printable ones by whoever made the sentence. */
static void log_put_json_string(FILE *out, const char *text)
{
    fputc('"', out);
    for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
        if (*p == '"' || *p == '\\')
            fprintf(out, "\\%c", *p);
        else if (*p < 0x20)
            fprintf(out, "\\u%04x", *p);
        else
            fputc(*p, out);
    }
    fputc('"', out);
}

static void log_line(enum log_level level, const char *format, va_list args)
{
    if (level > log_state.level)
        return;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    struct tm parts;
    gmtime_r(&now.tv_sec, &parts);
    char stamp[32], text[1024];
    strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%S", &parts);
    vsnprintf(text, sizeof text, format, args);
    int ms = (int)(now.tv_nsec / 1000000);

    flockfile(stderr);
    if (log_state.json) {
        fprintf(stderr,
                "{\"time\":\"%s.%03dZ\",\"level\":\"%s\",\"program\":\"%s\",\"message\":", stamp,
                ms, log_level_names[level], log_state.program);
        log_put_json_string(stderr, text);
        fputs("}\n", stderr);
    } else {
        fprintf(stderr, "%s.%03dZ %-7s %s: %s\n", stamp, ms, log_level_names[level],
                log_state.program, text);
    }
    funlockfile(stderr);
}

#define LOG_FUNCTION(name, level)                                                                  \
    void name(const char *format, ...)                                                             \
    {                                                                                              \
        va_list args;                                                                              \
        va_start(args, format);                                                                    \
        log_line(level, format, args);                                                             \
        va_end(args);                                                                              \
    }

LOG_FUNCTION(log_error, LOG_LEVEL_ERROR)
LOG_FUNCTION(log_warning, LOG_LEVEL_WARNING)
LOG_FUNCTION(log_info, LOG_LEVEL_INFO)
LOG_FUNCTION(log_debug, LOG_LEVEL_DEBUG)
