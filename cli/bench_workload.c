#include "cli/bench_workload.h"

#include "base/buf.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>

/* What a random number is for; each has a sequence of its own. */
enum purpose { FOR_INPUT = 1, FOR_OUTPUT, FOR_GAP, FOR_PREFIX, FOR_PROMPT };

/* Frequent in every vocabulary, so that most are one token with the space before them. */
static const char *const words[] = {
    "time",    "year",    "people",   "way",    "day",    "man",     "thing",   "woman",
    "life",    "child",   "world",    "school", "state",  "family",  "student", "group",
    "country", "problem", "hand",     "part",   "place",  "case",    "week",    "company",
    "system",  "program", "question", "work",   "number", "night",   "point",   "home",
    "water",   "room",    "mother",   "area",   "money",  "story",   "fact",    "month",
    "lot",     "right",   "study",    "book",   "eye",    "job",     "word",    "business",
    "issue",   "side",    "kind",     "head",   "house",  "service", "friend",  "father",
    "power",   "hour",    "game",     "line",   "end",    "member",  "law",     "car"};

/* splitmix64 */
static uint64_t random_next(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static uint64_t random_start(const struct bench_workload *w, enum purpose purpose, int64_t number)
{
    uint64_t state = w->seed;
    state = random_next(&state) ^ (uint64_t)purpose;
    state = random_next(&state) ^ (uint64_t)number;
    return random_next(&state);
}

static int64_t range_pick(struct bench_range r, uint64_t random)
{
    return r.min + (int64_t)(random % (uint64_t)(r.max - r.min + 1));
}

static bool range_number(const char *text, char **ret_end, int64_t *ret_number)
{
    errno = 0;
    *ret_number = strtoll(text, ret_end, 10);
    return isdigit((unsigned char)*text) && !errno && *ret_number >= 1 &&
           *ret_number <= BENCH_LENGTH_MAX;
}

int bench_range_read(const char *text, struct bench_range *ret_range, struct err *err)
{
    struct bench_range r;
    char *end;
    bool good = range_number(text, &end, &r.min);
    r.max = r.min;
    if (good && *end == '-')
        good = range_number(end + 1, &end, &r.max);
    if (!good || *end || r.max < r.min)
        return err_set(err, ERR_USAGE,
                       "\"%.80s\" is not a length from 1 to %d, or two with - between them", text,
                       BENCH_LENGTH_MAX);
    *ret_range = r;
    return 0;
}

int bench_range_check(const char *text, struct err *err)
{
    struct bench_range ignored;
    return bench_range_read(text, &ignored, err);
}

int64_t bench_workload_input(const struct bench_workload *w, int64_t request)
{
    return range_pick(w->input, random_start(w, FOR_INPUT, request));
}

int64_t bench_workload_output(const struct bench_workload *w, int64_t request)
{
    return range_pick(w->output, random_start(w, FOR_OUTPUT, request));
}

double bench_workload_gap(const struct bench_workload *w, int64_t request)
{
    /* In (0, 1]: the logarithm of 0 is never asked for. */
    double u = (double)((random_start(w, FOR_GAP, request) >> 11) + 1) * 0x1p-53;
    return -log(u) / w->rate;
}

json_t *bench_workload_prompt(const struct bench_workload *w, int64_t request)
{
    const int64_t length = bench_workload_input(w, request);
    uint64_t prefix = random_start(w, FOR_PREFIX, request % w->prefixes);
    uint64_t own = random_start(w, FOR_PROMPT, request);
    const uint64_t n_words = sizeof words / sizeof *words;
    struct buf text;
    buf_init(&text);
    json_t *ids = w->is_text ? NULL : json_array();
    int rc = ids || w->is_text ? 0 : -1;
    for (int64_t i = 0; i < length && rc == 0; i++) {
        uint64_t random = random_next(i < w->shared_prefix ? &prefix : &own);
        if (w->is_text)
            buf_printf(&text, i ? " %s" : "%s", words[(random >> 16) % n_words]);
        else
            rc = json_array_append_new(
                ids, json_integer((json_int_t)((random >> 16) % (uint64_t)w->vocabulary)));
    }
    if (w->is_text && !buf_failed(&text))
        ids = json_stringn(buf_text(&text), text.length);
    buf_clear(&text);
    if (rc == 0)
        return ids;
    json_decref(ids);
    return NULL;
}
