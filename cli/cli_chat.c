#include "cli/cli.h"

#include "cli/cluster_options.h"
#include "cli/conversation.h"
#include "cli/model_fetch.h"
#include "cli/paths.h"
#include "cli/stop_signal.h"
#include "cli/verb.h"

#include <curl/curl.h>
#include <editline/readline.h>
#include <langinfo.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PROMPT_LIMIT = 1 << 24, HISTORY_LINES = 1000, CONNECT_MS = 10000 };

struct chat_settings {
    struct cluster_options cluster;
    char *url, *model, *system, *api_key_file, *ca_file;
    int64_t max_tokens, seed;
    double temperature;
};

#define FIELD(name) offsetof(struct chat_settings, name)

static const struct conf_option chat_options[] = {
    VERB_SERVER_OPTIONS(struct chat_settings),
    {.name = "model",
     .letter = 'm',
     .type = CONF_STRING,
     .offset = FIELD(model),
     .value = "MODEL",
     .help = "start a cluster for this model instead of using a server"},
    {.name = "system",
     .letter = 's',
     .type = CONF_STRING,
     .offset = FIELD(system),
     .value = "TEXT",
     .help = "system message"},
    {.name = "max-tokens",
     .letter = 'n',
     .type = CONF_INT,
     .offset = FIELD(max_tokens),
     .value = "N",
     .initial = "0",
     .min = 0,
     .max = 1 << 24,
     .help = "tokens of an answer; 0: no limit but the context"},
    {.name = "temperature",
     .type = CONF_REAL,
     .offset = FIELD(temperature),
     .value = "T",
     .initial = "0.7",
     .min = -1,
     .max = 2,
     .help = "0: always the likeliest; -1: the server's choice"},
    {.name = "seed",
     .type = CONF_INT,
     .offset = FIELD(seed),
     .value = "N",
     .initial = "-1",
     .min = -1,
     .max = 9007199254740992.0,
     .help = "for answers that can be repeated; -1: random"},
    CLUSTER_OPTIONS(struct chat_settings, "0"),
};

static const struct conf_program chat_program = {
    .name = "paceline chat",
    .synopsis = "[OPTION...] [PROMPT]",
    .summary = "Talks to a model in the terminal. With PROMPT, or when the standard input is not a "
               "terminal (its\ntext then follows PROMPT), prints one answer and ends.",
    .epilogue =
        "In the conversation: /help, /system TEXT, /clear, /retry, /exit; Ctrl-C stops an answer.\n"
        "Example:\n"
        "  git diff | paceline chat \"What does this change?\"",
    .file = VERB_CONFIG_FILE,
    .group = "chat",
    .groups = verb_groups,
    .options = chat_options,
    .n_options = sizeof chat_options / sizeof *chat_options,
    .max_positionals = 1,
};

/* libedit reads characters by the locale; one without UTF-8 would cut them into bytes. */
static void chat_set_locale(void)
{
    setlocale(LC_CTYPE, "");
    if (strcmp(nl_langinfo(CODESET), "UTF-8"))
        setlocale(LC_CTYPE, "C.UTF-8");
}

static void chat_help(void)
{
    puts("/system TEXT   set the system message and begin anew\n"
         "/clear         begin anew\n"
         "/retry         another answer to the last message\n"
         "/exit          end (also Ctrl-D)\n"
         "A line that ends in \\ goes on in the next one; so does all between two \"\"\".\n"
         "Ctrl-C stops an answer. All else is sent to the model.");
}

/* true: the line was a command. */
static bool chat_command(struct conversation *talk, const char *line, bool *ret_exit,
                         struct err *err)
{
    if (line[0] != '/')
        return false;
    if (!strcmp(line, "/exit") || !strcmp(line, "/quit")) {
        *ret_exit = true;
    } else if (!strcmp(line, "/clear")) {
        conversation_clear(talk);
        puts("(a new conversation)");
    } else if (!strncmp(line, "/system ", 8) || !strcmp(line, "/system")) {
        if (conversation_set_system(talk, line[7] ? line + 8 : "", err) == 0)
            puts("(a new conversation, with this system message)");
    } else {
        if (strcmp(line, "/help"))
            printf("unknown command %.40s\n", line);
        chat_help();
    }
    return true;
}

/* One line and its answer. Only what ends the program is returned as a failure. */
static int chat_turn(struct conversation *talk, const char *line, bool *ret_exit, struct err *err)
{
    bool again = !strcmp(line, "/retry");
    if (!again && chat_command(talk, line, ret_exit, err))
        return 0;
    int rc = again ? conversation_retry(talk, err) : conversation_ask(talk, line, err);
    putchar('\n');
    if (rc == ERR_CANCELLED) {
        stop_signal_forget();
        *ret_exit = stop_signal_is_raised(); /* SIGTERM is meant for the program */
        return 0;
    }
    if (rc < 0)
        fprintf(stderr, "paceline: %s\n", err->text);
    return 0;
}

/* One message, of one line or of several. *ret_text: malloc'd, NULL at the end of the input. false:
 * there is no memory. */
static bool chat_read(char **ret_text)
{
    struct buf text;
    buf_init(&text);
    char *line = readline("> ");
    bool is_block = line && !strncmp(line, "\"\"\"", 3), goes_on = line != NULL;
    while (line && goes_on && !stop_signal_is_raised()) {
        const char *words = is_block && !text.length ? line + 3 : line;
        size_t length = strlen(words);
        bool ends = length >= 3 && !strcmp(words + length - 3, "\"\"\"");
        goes_on = is_block ? !ends : length && words[length - 1] == '\\';
        buf_append(&text, words, is_block && ends ? length - 3 : length - (!is_block && goes_on));
        if (!goes_on)
            break;
        buf_putc(&text, '\n');
        free(line);
        line = readline("  ");
    }
    bool was_read = line != NULL || text.length > 0;
    free(line);
    buf_append(&text, "", 0);
    bool ok = !buf_failed(&text);
    *ret_text = ok && was_read ? text.data : NULL;
    if (!*ret_text)
        buf_clear(&text);
    return ok;
}

static int chat_interactive(struct conversation *talk, struct err *err)
{
    char *history = NULL, *home = NULL;
    int rc = paths_home(&home, NULL, err);
    if (rc == 0)
        rc = paths_make_folder(home, 0755, err);
    if (rc == 0)
        rc = paths_home(&history, "chat_history", err);
    if (rc < 0) {
        free(home);
        return rc;
    }
    chat_set_locale();
    using_history();
    stifle_history(HISTORY_LINES);
    read_history(history);
    puts("/help lists commands; Ctrl-D ends.");
    bool done = false;
    while (rc == 0 && !done) {
        char *line = NULL;
        if (!chat_read(&line))
            rc = err_set(err, ERR_MEMORY, "no memory for a message");
        bool interrupted = stop_signal_is_raised();
        stop_signal_forget();
        if (stop_signal_is_raised() || (!line && !interrupted)) {
            free(line);
            putchar('\n');
            break;
        }
        if (line && line[strspn(line, " \t")] && !interrupted) {
            add_history(line);
            rc = chat_turn(talk, line, &done, err);
        } else if (interrupted) {
            putchar('\n');
        }
        free(line);
    }
    write_history(history);
    chmod(history, 0600); /* conversations are nobody else's business */
    free(history);
    free(home);
    return rc;
}

static int chat_once(struct conversation *talk, const char *prompt, struct err *err)
{
    char *text = NULL, *whole = NULL;
    size_t length = 0;
    int rc = 0;
    if (!isatty(STDIN_FILENO))
        rc = verb_read_file("-", PROMPT_LIMIT, &text, &length, err);
    while (length && strchr("\r\n", text[length - 1]))
        text[--length] = '\0';
    if (rc == 0 && !prompt && !length)
        rc = err_set(err, ERR_USAGE, "there is no prompt; see paceline chat --help");
    if (rc == 0)
        rc = paths_format(&whole, err, "%s%s%s", prompt ? prompt : "",
                          prompt && length ? "\n\n" : "", length ? text : "");
    if (rc == 0)
        rc = conversation_ask(talk, whole, err);
    if (rc == 0)
        putchar('\n');
    free(whole);
    free(text);
    return rc;
}

/* What stands on the command line wins over environment and file. */
static int chat_choose_server(struct chat_settings *s, int argc, char **argv, struct err *err)
{
    struct chat_settings said = {0};
    int rc = verb_read_command_line(&chat_program, &said, argc, argv, err);
    if (rc == 0 && said.url && said.model)
        rc = err_set(err, ERR_USAGE,
                     "--url is for a server that runs, --model starts one; "
                     "give one of the two");
    if (rc == 0 && said.url) {
        free(s->model);
        s->model = NULL;
    }
    conf_clear(&chat_program, &said);
    return rc;
}

static int chat_connect(struct http_client *client, const struct chat_settings *s, struct err *err)
{
    int rc = http_client_init(client, s->url, s->api_key_file, s->ca_file, err);
    struct err why = {0};
    /* A server that is not ready, or knows no /health, says more when it is asked something. */
    if (rc == 0 && http_client_get(client, "/health", CONNECT_MS, NULL, &why) == ERR_NETWORK)
        rc =
            err_set(err, ERR_NETWORK,
                    "nothing answers (%.300s); start a server with \"paceline up\", or let --model "
                    "MODEL start one for this conversation",
                    why.text);
    return rc;
}

static int chat_run(const struct chat_settings *s, const char *prompt, struct err *err)
{
    struct local_cluster *cluster = NULL;
    struct http_client client = {0};
    struct conversation talk = {0};
    char *path = NULL;
    int rc = 0;
    if (s->model) {
        rc = cluster_options_check(&s->cluster, err);
        if (rc == 0)
            rc = model_fetch_resolve(s->model, s->cluster.models_file, &path, err);
        struct local_cluster_settings settings = cluster_options_settings(&s->cluster, path);
        settings.api_key_file = s->api_key_file;
        if (rc == 0)
            rc = local_cluster_start(&cluster, &settings, err);
    } else {
        rc = chat_connect(&client, s, err);
    }
    if (rc == 0)
        rc = conversation_init(&talk, cluster ? local_cluster_client(cluster) : &client, s->system,
                               err);
    if (rc == 0) {
        talk.max_tokens = s->max_tokens;
        talk.temperature = s->temperature;
        talk.seed = s->seed;
        bool terminal = isatty(STDIN_FILENO) && !prompt;
        rc = terminal ? chat_interactive(&talk, err) : chat_once(&talk, prompt, err);
    }
    conversation_free(&talk);
    http_client_clear(&client);
    local_cluster_stop(cluster);
    free(path);
    return rc;
}

int cli_chat(int argc, char **argv)
{
    struct chat_settings s = {0};
    struct err err = {0};
    const char *prompt = NULL;
    enum conf_outcome outcome = CONF_EXIT;
    int n = 0, rc = conf_read(&chat_program, &s, argc, argv, &prompt, &n, &outcome, &err);
    if (rc == 0 && outcome == CONF_RUN) {
        stop_signal_install();
        curl_global_init(CURL_GLOBAL_DEFAULT);
        rc = chat_choose_server(&s, argc, argv, &err);
        if (rc == 0)
            rc = chat_run(&s, prompt, &err);
        curl_global_cleanup();
    }
    conf_clear(&chat_program, &s);
    return rc < 0 ? verb_fail(&err) : 0;
}
