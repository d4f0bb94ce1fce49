#include "base/log.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
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

/* Bytes of the UTF-8 character at p, 0 if there is none: a byte that a peer sent, or a character
 * that the end of the sentence cut. */
static size_t log_character(const unsigned char *p)
{
    size_t n = *p < 0x80 ? 1 : *p >= 0xc2 && *p < 0xe0 ? 2 : *p >= 0xe0 && *p < 0xf0 ? 3 : 4;
    if ((*p >= 0x80 && *p < 0xc2) || *p > 0xf4 || (*p == 0xe0 && p[1] < 0xa0) ||
        (*p == 0xed && p[1] > 0x9f) || (*p == 0xf0 && p[1] < 0x90) || (*p == 0xf4 && p[1] > 0x8f))
        return 0;
    for (size_t i = 1; i < n; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    return n;
}

static void log_put_json_string(FILE *out, const char *text)
{
    fputc('"', out);
    for (const unsigned char *p = (const unsigned char *)text; *p;) {
        size_t n = log_character(p);
        if (*p == '"' || *p == '\\')
            fprintf(out, "\\%c", *p);
        else if (*p < 0x20)
            fprintf(out, "\\u%04x", *p);
        else if (n)
            fwrite(p, 1, n, out);
        else
            fputs("\\ufffd", out);
        p += n ? n : 1;
    }
    fputc('"', out);
}

struct log_words {
    char stamp[32], text[1024];
    int ms;
};

static void log_put_json(FILE *out, const struct log_words *w, enum log_level level,
                         const struct log_field *fields, size_t n)
{
    fprintf(out,
            "{\"time\":\"%s.%03dZ\",\"level\":\"%s\",\"program\":\"%s\",\"message\":", w->stamp,
            w->ms, log_level_names[level], log_state.program);
    log_put_json_string(out, w->text);
    for (size_t i = 0; i < n; i++) {
        if (fields[i].text && !fields[i].text[0])
            continue;
        fprintf(out, ",\"%s\":", fields[i].name);
        if (fields[i].text)
            log_put_json_string(out, fields[i].text);
        else
            fprintf(out, "%" PRId64, fields[i].number);
    }
    fputs("}\n", out);
}

static void log_put_text(FILE *out, const struct log_words *w, enum log_level level,
                         const struct log_field *fields, size_t n)
{
    fprintf(out, "%s.%03dZ %-7s %s: %s", w->stamp, w->ms, log_level_names[level], log_state.program,
            w->text);
    for (size_t i = 0; i < n; i++) {
        if (fields[i].text && fields[i].text[0])
            fprintf(out, " %s=%s", fields[i].name, fields[i].text);
        else if (!fields[i].text)
            fprintf(out, " %s=%" PRId64, fields[i].name, fields[i].number);
    }
    fputc('\n', out);
}

static void log_line(enum log_level level, const struct log_field *fields, size_t n,
                     const char *format, va_list args)
{
    if (level > log_state.level)
        return;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    struct tm parts;
    gmtime_r(&now.tv_sec, &parts);
    struct log_words w = {.ms = (int)(now.tv_nsec / 1000000)};
    strftime(w.stamp, sizeof w.stamp, "%Y-%m-%dT%H:%M:%S", &parts);
    vsnprintf(w.text, sizeof w.text, format, args);
    char *whole = NULL; /* is written at once: other processes log here too */
    size_t length = 0;
    FILE *line = open_memstream(&whole, &length);
    FILE *out = line ? line : stderr;
    (log_state.json ? log_put_json : log_put_text)(out, &w, level, fields, n);
    if (line && fclose(line) == 0)
        fwrite(whole, 1, length, stderr);
    free(whole);
}

void log_event(enum log_level level, const struct log_field *fields, size_t n, const char *format,
               ...)
{
    va_list args;
    va_start(args, format);
    log_line(level, fields, n, format, args);
    va_end(args);
}

#define LOG_FUNCTION(name, level)                                                                  \
    void name(const char *format, ...)                                                             \
    {                                                                                              \
        va_list args;                                                                              \
        va_start(args, format);                                                                    \
        log_line(level, NULL, 0, format, args);                                                    \
        va_end(args);                                                                              \
    }

LOG_FUNCTION(log_error, LOG_LEVEL_ERROR)
LOG_FUNCTION(log_warning, LOG_LEVEL_WARNING)
LOG_FUNCTION(log_info, LOG_LEVEL_INFO)
LOG_FUNCTION(log_debug, LOG_LEVEL_DEBUG)
