#include "cli/progress.h"

#include "base/clock.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A little under a second, so that a caller who looks every 100 ms is not late. */
enum { PROGRESS_LINE_MS = 900, PROGRESS_REWRITE_MS = 150, PROGRESS_REPEAT_MS = 30000 };

void progress_start(struct progress *p)
{
    *p = (struct progress){.terminal = isatty(STDERR_FILENO), .start_ms = clock_now_ms()};
    const char *term = getenv("TERM");
    if (term && !strcmp(term, "dumb"))
        p->terminal = false;
}

static bool progress_is_due(const struct progress *p)
{
    return clock_now_ms() - p->last_ms >= (p->terminal ? PROGRESS_REWRITE_MS : PROGRESS_LINE_MS);
}

/* The lines of a block, from its last to its first. */
static void progress_clear_block(struct progress *p)
{
    for (; p->lines_above > 0; p->lines_above--)
        fputs("\r\033[K\033[A", stderr);
}

static void progress_show(struct progress *p, const char *text)
{
    p->last_ms = clock_now_ms();
    progress_clear_block(p);
    fprintf(stderr, p->terminal ? "\r\033[K%s" : "%s\n", text);
    fflush(stderr);
    p->line_open = p->terminal;
}

void progress_say(struct progress *p, const char *format, ...)
{
    if (!progress_is_due(p))
        return;
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    /* A log file needs no line that says the same again. */
    if (!p->terminal && strcmp(text, p->said) == 0 &&
        clock_now_ms() - p->last_ms < PROGRESS_REPEAT_MS)
        return;
    snprintf(p->said, sizeof p->said, "%s", text);
    progress_show(p, text);
}

void progress_block(struct progress *p, const char *const *lines, int n_lines)
{
    if (!p->terminal) {
        progress_say(p, "%s", lines[0]);
        return;
    }
    if (!progress_is_due(p))
        return;
    progress_show(p, lines[0]);
    for (int i = 1; i < n_lines; i++)
        fprintf(stderr, "\n\r\033[K%s", lines[i]);
    fflush(stderr);
    p->lines_above = n_lines - 1;
}

const char *progress_bar(int64_t done, int64_t total, char to[PROGRESS_BAR_BYTES])
{
    memcpy(to, "[....................]", PROGRESS_BAR_BYTES);
    double part = total > 0 ? (double)(done < total ? done : total) / (double)total : 0;
    memset(to + 1, '#', (size_t)(20.0 * (part > 0 ? part : 0)));
    return to;
}

void progress_bytes(struct progress *p, const char *what, int64_t done, int64_t total)
{
    if (!progress_is_due(p))
        return;
    int64_t now = clock_now_ms();
    if (!p->last_ms || done < p->shown_bytes) {
        p->first_bytes = done;
        p->start_ms = now;
        p->rate = 0;
    } else if (now > p->last_ms) {
        double current = (double)(done - p->shown_bytes) * 1000 / (double)(now - p->last_ms);
        p->rate = p->rate > 0 ? 0.8 * p->rate + 0.2 * current : current;
    }
    p->shown_bytes = done;

    char text[512], left[32] = "";
    if (p->rate > 1 && total > done) {
        int64_t seconds = (int64_t)((double)(total - done) / p->rate);
        if (seconds < 360000)
            snprintf(left, sizeof left, ", %d:%02d left", (int)(seconds / 60), (int)(seconds % 60));
    }
    if (total > 0) {
        char bar[PROGRESS_BAR_BYTES];
        snprintf(text, sizeof text, "%s %s %.1f of %.1f MB, %.1f MB/s%s", what,
                 progress_bar(done, total, bar), (double)done / 1e6, (double)total / 1e6,
                 p->rate / 1e6, left);
    } else {
        snprintf(text, sizeof text, "%s %.1f MB, %.1f MB/s", what, (double)done / 1e6,
                 p->rate / 1e6);
    }
    progress_show(p, text);
}

void progress_line(struct progress *p, const char *format, ...)
{
    char text[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    progress_end(p);
    fprintf(stderr, "%s\n", text);
    p->last_ms = clock_now_ms();
}

void progress_end(struct progress *p)
{
    progress_clear_block(p);
    if (p->line_open)
        fputs("\r\033[K", stderr);
    fflush(stderr);
    p->line_open = false;
}
