#include "cli/cluster_view.h"

#include "base/clock.h"

#include <math.h>
#include <string.h>

enum { ANSWER_MS = 5000, BAR_CELLS = 10 };

int cluster_view_ask(struct cluster_view *view, const struct http_client *client, struct err *err)
{
    json_t *cluster = NULL;
    int rc = http_client_get(client, "/cluster", ANSWER_MS, &cluster, err);
    if (rc != 0)
        return rc;
    cluster_view_clear(view);
    *view = (struct cluster_view){cluster, clock_now_us()};
    return 0;
}

void cluster_view_clear(struct cluster_view *view)
{
    json_decref(view->cluster);
    *view = (struct cluster_view){NULL};
}

bool cluster_view_is_ready(const struct cluster_view *view)
{
    return json_is_true(json_object_get(view->cluster, "ready"));
}

static double view_number(const json_t *object, const char *field)
{
    return json_number_value(json_object_get(object, field));
}

static const char *view_word(const json_t *object, const char *field)
{
    const char *text = json_string_value(json_object_get(object, field));
    return text ? text : "-";
}

/* The same worker in an earlier view, or NULL. */
static const json_t *view_worker(const struct cluster_view *view, const char *name)
{
    const json_t *workers = view ? json_object_get(view->cluster, "workers") : NULL;
    for (size_t i = 0; i < json_array_size(workers); i++) {
        const json_t *w = json_array_get(workers, i);
        if (strcmp(view_word(w, "name"), name) == 0)
            return w;
    }
    return NULL;
}

static double view_seconds(const struct cluster_view *view, const struct cluster_view *before)
{
    return before && before->cluster ? (double)(view->at_us - before->at_us) / 1e6 : 0;
}

/* By how much a counter grew in a second; NAN: not known, or it began anew. */
static double view_rate(const json_t *now, const json_t *before, const char *field, double seconds)
{
    double grown = view_number(now, field) - view_number(before, field);
    return before && seconds > 0 && grown >= 0 ? grown / seconds : NAN;
}

static void view_bar(struct buf *out, double share)
{
    int full = (int)lround(fmin(fmax(share, 0), 1) * BAR_CELLS);
    buf_putc(out, '[');
    for (int i = 0; i < BAR_CELLS; i++)
        buf_putc(out, i < full ? '#' : '.');
    buf_printf(out, "] %3.0f %%", 100 * share);
}

/* A number in a column, or a dash. */
static void view_cell(struct buf *out, double value, int digits, int width)
{
    if (isfinite(value))
        buf_printf(out, " %*.*f", width, digits, value);
    else
        buf_printf(out, " %*s", width, "-");
}

static void view_requests(struct buf *out, const struct cluster_view *view,
                          const struct cluster_view *before)
{
    const json_t *c = view->cluster;
    double blocks = view_number(c, "kv_blocks"), free_blocks = view_number(c, "kv_blocks_free");
    double seconds = view_seconds(view, before);
    buf_printf(out, "requests   %.0f running, %.0f waiting; KV cache %.0f %% of %.0f tokens\n",
               view_number(c, "running"), view_number(c, "waiting"),
               blocks > 0 ? 100 * (1 - free_blocks / blocks) : 0,
               blocks * view_number(c, "kv_block_tokens"));
    if (seconds > 0)
        buf_printf(out, "tokens/s   %.1f generated, %.1f of prompts\n",
                   view_rate(c, before->cluster, "generated_tokens", seconds),
                   view_rate(c, before->cluster, "prompt_tokens", seconds));
    else
        buf_printf(out, "tokens     %.0f generated, %.0f of prompts, since the start\n",
                   view_number(c, "generated_tokens"), view_number(c, "prompt_tokens"));
}

/* What comes to a worker now: layers are packed, bytes come over the network. */
static void view_loading(struct buf *out, const json_t *w)
{
    double total = view_number(w, "load_total"), done = view_number(w, "load_done");
    if (total <= 0 || done >= total)
        return;
    buf_printf(out, "  %-22s loads ", view_word(w, "name"));
    view_bar(out, done / total);
    if (view_number(w, "fetch_total") > 0)
        buf_printf(out, ", %.1f of %.1f MB over the network, %.1f MB/s",
                   view_number(w, "fetch_done") / 1e6, view_number(w, "fetch_total") / 1e6,
                   view_number(w, "fetch_bytes_per_second") / 1e6);
    buf_putc(out, '\n');
}

static void view_row(struct buf *out, const json_t *w, const json_t *before, double seconds)
{
    char layers[32] = "-", memory[40];
    const json_t *range = json_object_get(w, "layers");
    double busy = view_rate(w, before, "busy_us", seconds) / 1e6;
    double steps = view_rate(w, before, "steps", seconds);
    if (json_array_size(range) == 2)
        snprintf(layers, sizeof layers, "%d-%d", (int)json_integer_value(json_array_get(range, 0)),
                 (int)json_integer_value(json_array_get(range, 1)) - 1);
    snprintf(memory, sizeof memory, "%.1f of %.1f", view_number(w, "memory_used") / (1 << 30),
             view_number(w, "memory_offered") / (1 << 30));
    buf_printf(out, "  %-22.22s %-9.9s %-7s", view_word(w, "name"), view_word(w, "state"), layers);
    view_cell(out, 100 * busy, 0, 6);
    view_cell(out, steps, 1, 8);
    view_cell(out, steps > 0 ? 1000 * busy / steps : NAN, 2, 8);
    view_cell(out, view_rate(w, before, "sent_bytes", seconds) / 1e6, 2, 9);
    buf_printf(out, " %12s", memory);
    view_cell(out, view_number(w, "round_trip_us") / 1000, 2, 8);
    view_cell(out,
              json_is_number(json_object_get(w, "temperature_celsius"))
                  ? view_number(w, "temperature_celsius")
                  : NAN,
              0, 5);
    buf_putc(out, '\n');
}

void cluster_view_print(struct buf *out, const struct cluster_view *view,
                        const struct cluster_view *before)
{
    const json_t *c = view->cluster, *workers = json_object_get(c, "workers"), *w;
    const char *why = json_string_value(json_object_get(json_object_get(c, "change"), "why"));
    double seconds = view_seconds(view, before);
    size_t i;
    buf_printf(out, "model      %s, %s", view_word(c, "model"), view_word(c, "fingerprint"));
    if (cluster_view_is_ready(view))
        buf_printf(out, ": in service, %.0f layers on %.0f of %zu machines\n",
                   view_number(c, "layers"), view_number(c, "stages"), json_array_size(workers));
    else
        buf_printf(out, ": not in service: %s\n", view_word(c, "waiting_for"));
    if (why)
        buf_printf(out, "change     %s\n", why);
    view_requests(out, view, before);
    buf_printf(out, "\n  %-22s %-9s %-7s %6s %8s %8s %9s %12s %8s %5s\n", "WORKER", "STATE",
               "LAYERS", "BUSY %", "STEPS/s", "STEP ms", "SENT MB/s", "MEMORY GiB", "LINK ms",
               "TEMP");
    json_array_foreach(workers, i, w)
        view_row(out, w, view_worker(before, view_word(w, "name")), seconds);
    json_array_foreach(workers, i, w)
    {
        const char *reason = json_string_value(json_object_get(w, "standby_reason"));
        if (reason)
            buf_printf(out, "  %s: %s\n", view_word(w, "name"), reason);
        view_loading(out, w);
    }
}
