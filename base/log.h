/* log.h - one event, one line on standard error: time, level, program, sentence, fields.
 * Only programs log; libraries return a `struct err`. The level and the form are the one piece of
 * mutable global state of a process. */
#ifndef PACELINE_BASE_LOG_H
#define PACELINE_BASE_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

/* `program` is borrowed and must outlive the process's last line. json: one JSON object a line. */
void log_setup(const char *program, enum log_level level, bool json);
enum log_level log_level(void);

void log_error(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_warning(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_info(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_debug(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* What machines look for, beside the sentence: request_id=…, epoch=… */
struct log_field {
    const char *name; /* a constant: small letters and _ */
    const char *text; /* printable, without spaces; NULL: the number */
    int64_t number;
};

/* Fields with an empty text are left out. */
void log_event(enum log_level level, const struct log_field *fields, size_t n, const char *format,
               ...) __attribute__((format(printf, 4, 5)));

#endif
