#include "coordinator/metrics_text.h"

#include "coordinator/json_text.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

void metrics_text_family(struct metrics_text *t, const char *name, const char *type,
                         const char *help)
{
    t->family = name;
    buf_printf(t->out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void metrics_text_value(struct buf *out, double value)
{
    if (isnan(value))
        buf_puts(out, "NaN");
    else if (isinf(value))
        buf_puts(out, value > 0 ? "+Inf" : "-Inf");
    else if (value == floor(value) && fabs(value) < 1e15)
        buf_printf(out, "%.0f", value);
    else
        buf_printf(out, "%.10g", value);
}

/* With \, " and newlines escaped, and U+FFFD for what is not UTF-8. */
static void metrics_text_label(struct buf *out, const struct metrics_label *label, char before)
{
    buf_printf(out, "%c%s=\"", before, label->name);
    size_t left = strlen(label->value);
    for (const char *p = label->value; left;) {
        size_t n = json_text_character(p, left);
        if (*p == '\\' || *p == '"')
            buf_printf(out, "\\%c", *p);
        else if (*p == '\n')
            buf_puts(out, "\\n");
        else if (n)
            buf_append(out, p, n);
        else
            buf_puts(out, "\xef\xbf\xbd");
        p += n ? n : 1;
        left -= n ? n : 1;
    }
    buf_putc(out, '"');
}

static void metrics_text_labels(const struct metrics_text *t, const struct metrics_label *labels,
                                int n, const struct metrics_label *last)
{
    char before = '{';
    for (size_t i = 0; i < sizeof t->every / sizeof t->every[0]; i++) {
        if (!t->every[i].name)
            continue;
        metrics_text_label(t->out, &t->every[i], before);
        before = ',';
    }
    for (int i = 0; i < n + (last != NULL); i++) {
        const struct metrics_label *label = i < n ? &labels[i] : last;
        if (!label->value[0])
            continue;
        metrics_text_label(t->out, label, before);
        before = ',';
    }
    if (before == ',')
        buf_putc(t->out, '}');
    buf_putc(t->out, ' ');
}

static void metrics_text_line(struct metrics_text *t, const char *suffix,
                              const struct metrics_label *labels, int n,
                              const struct metrics_label *last, double value)
{
    buf_puts(t->out, t->family);
    buf_puts(t->out, suffix);
    metrics_text_labels(t, labels, n, last);
    metrics_text_value(t->out, value);
    buf_putc(t->out, '\n');
}

void metrics_text_sample(struct metrics_text *t, const struct metrics_label *labels, int n,
                         double value)
{
    metrics_text_line(t, "", labels, n, NULL, value);
}

void metrics_text_histogram(struct metrics_text *t, const struct metrics_label *labels, int n,
                            const struct histogram *h)
{
    uint64_t count = 0;
    for (int i = 0; i <= h->n; i++) {
        char bound[32] = "+Inf";
        struct metrics_label le = {"le", bound};
        if (i < h->n)
            snprintf(bound, sizeof bound, "%g", h->bounds[i]);
        count += h->counts[i];
        metrics_text_line(t, "_bucket", labels, n, &le, (double)count);
    }
    metrics_text_line(t, "_sum", labels, n, NULL, h->sum);
    metrics_text_line(t, "_count", labels, n, NULL, (double)count);
}

void metrics_text_one(struct metrics_text *t, const char *name, const char *type, const char *help,
                      double value)
{
    metrics_text_family(t, name, type, help);
    metrics_text_sample(t, NULL, 0, value);
}
