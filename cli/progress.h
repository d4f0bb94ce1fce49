/* progress.h - what a waiting person sees on standard error: one line that is rewritten on a
 * terminal, a plain line every second elsewhere. */
#ifndef PACELINE_CLI_PROGRESS_H
#define PACELINE_CLI_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct progress {
    bool terminal;
    bool line_open;   /* a rewritable line stands without its newline */
    int lines_above;  /* of a block, above that line */
    char said[512];   /* by progress_say(), last */
    int64_t start_ms; /* of what is going on */
    int64_t last_ms;  /* when something was last shown */
    int64_t first_bytes, shown_bytes;
    double rate; /* bytes a second, smoothed */
};

void progress_start(struct progress *p);
/* Shows the text when it is time to show something. */
void progress_say(struct progress *p, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* On a terminal, several lines that are rewritten together; elsewhere as progress_say(), of the
 * first one. */
void progress_block(struct progress *p, const char *const *lines, int n_lines);
/* "[#####...............]" */
#define PROGRESS_BAR_BYTES 23
const char *progress_bar(int64_t done, int64_t total, char to[PROGRESS_BAR_BYTES]);
/* The same for bytes of a whole: bar, amount, rate, time left. total 0: unknown. */
void progress_bytes(struct progress *p, const char *what, int64_t done, int64_t total);
/* Shows the text now, as a line that stays. */
void progress_line(struct progress *p, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Removes a rewritable line. */
void progress_end(struct progress *p);

#endif
