#include "cli/cli.h"

#include "cli/cluster_view.h"
#include "cli/stop_signal.h"
#include "cli/verb.h"

#include <curl/curl.h>
#include <poll.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

struct top_settings {
    char *url, *api_key_file, *ca_file;
    double interval_s;
    int64_t times;
};

#define FIELD(name) offsetof(struct top_settings, name)

static const struct conf_option top_options[] = {
    VERB_SERVER_OPTIONS(struct top_settings),
    {.name = "interval",
     .letter = 'i',
     .type = CONF_REAL,
     .offset = FIELD(interval_s),
     .value = "SECONDS",
     .initial = "1",
     .min = 0.1,
     .max = 3600,
     .help = "between two looks"},
    {.name = "times",
     .letter = 'n',
     .type = CONF_INT,
     .offset = FIELD(times),
     .value = "N",
     .initial = "0",
     .min = 0,
     .max = 1 << 30,
     .help = "end after so many; 0: when q or Ctrl-C is pressed"},
};

static const struct conf_program top_program = {
    .name = "paceline top",
    .synopsis = "[OPTION...]",
    .summary = "Shows machines and requests of a running server as they are now. In a terminal the "
               "picture stays in\nplace, and q ends it; otherwise one picture follows the other.",
    .epilogue = "Examples:\n"
                "  paceline top\n"
                "  paceline top --times 2 --interval 5 > picture.txt",
    .file = VERB_CONFIG_FILE,
    .group = "top",
    .groups = verb_groups,
    .options = top_options,
    .n_options = sizeof top_options / sizeof *top_options,
};

/* The terminal as it was, to be given back. */
struct screen {
    bool is_terminal, has_keys;
    struct termios before;
};

static void screen_open(struct screen *s)
{
    s->is_terminal = isatty(STDOUT_FILENO);
    s->has_keys =
        s->is_terminal && isatty(STDIN_FILENO) && tcgetattr(STDIN_FILENO, &s->before) == 0;
    if (s->has_keys) {
        struct termios raw = s->before;
        raw.c_lflag &= (tcflag_t) ~(ICANON | ECHO);
        tcsetattr(STDIN_FILENO, TCSANOW, &raw);
    }
    if (s->is_terminal)
        fputs("\033[?1049h\033[?25l", stdout); /* another screen, no cursor */
}

static void screen_close(const struct screen *s)
{
    if (s->is_terminal)
        fputs("\033[?25h\033[?1049l", stdout);
    fflush(stdout);
    if (s->has_keys)
        tcsetattr(STDIN_FILENO, TCSANOW, &s->before);
}

/* Each line over the old one, and nothing of a longer picture below. */
static void screen_show(const struct screen *s, const char *text)
{
    if (s->is_terminal) {
        fputs("\033[H", stdout);
        for (const char *end; (end = strchr(text, '\n')); text = end + 1)
            printf("%.*s\033[K\n", (int)(end - text), text);
        fputs("\033[J", stdout);
    } else {
        puts(text);
    }
    fflush(stdout);
}

/* true: q was pressed. */
static bool screen_wait(const struct screen *s, int wait_ms)
{
    struct pollfd keys = {.fd = s->has_keys ? STDIN_FILENO : -1, .events = POLLIN};
    char key;
    if (poll(&keys, 1, wait_ms) <= 0)
        return false;
    return read(STDIN_FILENO, &key, 1) <= 0 || key == 'q' || key == 'Q' || key == 4;
}

/* One look. A server that is gone for a while is said so, and looked for again. */
static int top_look(const struct http_client *client, const struct screen *screen,
                    struct cluster_view *last, bool is_first, struct err *err)
{
    struct cluster_view now = {0};
    struct buf text;
    buf_init(&text);
    int rc = cluster_view_ask(&now, client, err);
    if (rc == 0) {
        cluster_view_print(&text, &now, is_first ? NULL : last);
        cluster_view_clear(last);
        *last = now;
    } else if (!is_first && rc != ERR_CANCELLED) {
        buf_printf(&text, "%s\n", err->text);
        rc = 0;
    }
    if (rc == 0 && screen->has_keys)
        buf_puts(&text, "\nq ends\n");
    if (rc == 0)
        screen_show(screen, buf_text(&text));
    buf_clear(&text);
    return rc;
}

static int top_run(const struct top_settings *s, struct err *err)
{
    struct http_client client = {0};
    struct screen screen = {0};
    struct cluster_view last = {NULL};
    int rc = http_client_init(&client, s->url, s->api_key_file, s->ca_file, err);
    if (rc == 0) /* who is not there is said on the screen that stays */
        rc = cluster_view_ask(&last, &client, err);
    if (rc == 0)
        screen_open(&screen);
    bool is_done = rc != 0;
    for (int64_t i = 0; !is_done && rc == 0; i++) {
        rc = top_look(&client, &screen, &last, i == 0, err);
        is_done = (s->times && i + 1 >= s->times) || stop_signal_is_raised() ||
                  screen_wait(&screen, (int)(s->interval_s * 1000)) || stop_signal_is_raised();
    }
    if (screen.is_terminal)
        screen_close(&screen);
    cluster_view_clear(&last);
    http_client_clear(&client);
    return rc == ERR_CANCELLED ? 0 : rc;
}

int cli_top(int argc, char **argv)
{
    struct top_settings s = {0};
    struct err err = {0};
    enum conf_outcome outcome = CONF_EXIT;
    int n = 0, rc = conf_read(&top_program, &s, argc, argv, NULL, &n, &outcome, &err);
    if (rc == 0 && outcome == CONF_RUN) {
        stop_signal_install();
        curl_global_init(CURL_GLOBAL_DEFAULT);
        rc = top_run(&s, &err);
        curl_global_cleanup();
    }
    conf_clear(&top_program, &s);
    return rc < 0 ? verb_fail(&err) : 0;
}
