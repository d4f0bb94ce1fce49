#include "cli/bench_options.h"

#include "cli/bench_load.h"
#include "cli/bench_measure.h"
#include "cli/verb.h"

#define FIELD(name) offsetof(struct bench_settings, name)

static const struct conf_option bench_options[] = {
    {.name = "prompt",
     .letter = 'p',
     .type = CONF_STRING,
     .offset = FIELD(prompts),
     .check = bench_plan_check_tokens,
     .value = "LIST",
     .initial = "512",
     .help = "tokens of the prompts for prefill: 512,2048; 0: none"},
    {.name = "generate",
     .letter = 'n',
     .type = CONF_INT,
     .offset = FIELD(generate),
     .value = "N",
     .initial = "128",
     .min = 1,
     .max = BENCH_TOKENS_MAX,
     .help = "tokens to generate for decode"},
    {.name = "depth",
     .letter = 'd',
     .type = CONF_STRING,
     .offset = FIELD(depths),
     .check = bench_plan_check_tokens,
     .value = "LIST",
     .initial = "0",
     .help = "tokens before those that are generated: 0,4096"},
    {.name = "streams",
     .letter = 's',
     .type = CONF_STRING,
     .offset = FIELD(streams),
     .check = bench_plan_check_streams,
     .value = "LIST",
     .initial = "1",
     .help = "requests that decode together: 1,4,16; above 1 at depth 0"},
    {.name = "runs",
     .letter = 'r',
     .type = CONF_INT,
     .offset = FIELD(runs),
     .value = "N",
     .initial = "5",
     .min = 1,
     .max = BENCH_RUNS_MAX,
     .help = "runs of each, in turn; the median counts"},
    {.name = "json", .type = CONF_FLAG, .offset = FIELD(json), .help = "print a JSON object"},
    {.name = "clients",
     .letter = 'c',
     .type = CONF_INT,
     .offset = FIELD(clients),
     .value = "C",
     .initial = "0",
     .min = 0,
     .max = BENCH_CLIENTS_MAX,
     .help = "load: requests at once; 0: 1, with --rate any number"},
    {.name = "requests",
     .type = CONF_INT,
     .offset = FIELD(requests),
     .value = "R",
     .initial = "0",
     .min = 0,
     .max = BENCH_REQUESTS_MAX,
     .help = "load: requests in all; 0: 10 for each client, 100 with --rate"},
    {.name = "input-len",
     .type = CONF_STRING,
     .offset = FIELD(input_len),
     .check = bench_range_check,
     .value = "I|MIN-MAX",
     .help = "load: tokens of a prompt (default 128)"},
    {.name = "output-len",
     .type = CONF_STRING,
     .offset = FIELD(output_len),
     .check = bench_range_check,
     .value = "O|MIN-MAX",
     .help = "load: tokens of an answer (default 128)"},
    {.name = "rate",
     .type = CONF_REAL,
     .offset = FIELD(rate),
     .value = "RPS",
     .initial = "0",
     .min = 0,
     .max = 1e6,
     .help = "load: arrivals a second, at random; 0: after each other"},
    {.name = "shared-prefix",
     .type = CONF_INT,
     .offset = FIELD(shared_prefix),
     .value = "N",
     .initial = "0",
     .min = 0,
     .max = BENCH_LENGTH_MAX,
     .help = "load: first tokens that all prompts of a group share"},
    {.name = "prefixes",
     .type = CONF_INT,
     .offset = FIELD(prefixes),
     .value = "K",
     .initial = "1",
     .min = 1,
     .max = BENCH_REQUESTS_MAX,
     .help = "load: groups of prompts, in turn"},
    {.name = "seed",
     .type = CONF_INT,
     .offset = FIELD(seed),
     .value = "N",
     .initial = "-1",
     .min = -1,
     .max = 9007199254740992.0,
     .help = "load: of prompts, lengths and arrivals; -1: random"},
    {.name = "text",
     .type = CONF_FLAG,
     .offset = FIELD(text),
     .help = "load: prompts of words, for servers that take no token ids"},
    {.name = "chat",
     .type = CONF_FLAG,
     .offset = FIELD(chat),
     .help = "load: chat completions, with --text"},
    {.name = "concurrency",
     .type = CONF_INT,
     .offset = FIELD(concurrency),
     .value = "N",
     .initial = "0",
     .min = 0,
     .max = CLUSTER_CONCURRENCY_MAX,
     .help = "load: requests computed at once; 0: as many as clients"},
    {.name = "url",
     .letter = 'u',
     .type = CONF_STRING,
     .offset = FIELD(url),
     .value = "URL",
     .help = "load: a server that runs, instead of MODEL",
     .command_line_only = true}, /* else a chat's server would be loaded by surprise */
    {.name = "api-key-file",
     .type = CONF_STRING,
     .offset = FIELD(api_key_file),
     .value = "FILE",
     .help = "load: its first key is the one that the server wants"},
    {.name = "ca-file",
     .type = CONF_STRING,
     .offset = FIELD(ca_file),
     .value = "FILE",
     .help = "load: certificates in PEM, instead of the system's, that an https server's leads to"},
    CLUSTER_OPTIONS(struct bench_settings, "0"),
};

const struct conf_program bench_options_program = {
    .name = "paceline bench",
    .synopsis = "[OPTION...] [MODEL]",
    .summary = "Measures tokens per second on this machine: prefill of prompts of random tokens, "
               "decode of one\nstream and of several together; median and spread of several runs. "
               "With an option "
               "marked as one of a\nload: sends many requests at once over HTTP, and reports "
               "rates and latencies.",
    .epilogue = "Examples:\n"
                "  paceline bench qwen2.5-coder-0.5b -p 512 -n 128 --workers 2 --threads 1\n"
                "  paceline bench qwen2.5-coder-0.5b -p 512,2048 -d 0,4096 -s 1,4,16 --json\n"
                "  paceline bench qwen2.5-coder-0.5b --clients 8 --requests 64 --input-len 256 "
                "--output-len 64\n"
                "  paceline bench --url http://127.0.0.1:8080 --rate 2.5 --requests 100 "
                "--input-len 64-512",
    .file = VERB_CONFIG_FILE,
    .group = "bench",
    .groups = verb_groups,
    .options = bench_options,
    .n_options = sizeof bench_options / sizeof *bench_options,
    .min_positionals = 0,
    .max_positionals = 1,
};

struct bench_given {
    const char *name;
    bool is_given;
};

static const char *bench_first_given(const struct bench_given *options, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (options[i].is_given)
            return options[i].name;
    return NULL;
}

const char *bench_options_load(const struct bench_settings *s)
{
    const struct bench_given options[] = {{"url", s->url},
                                          {"clients", s->clients},
                                          {"requests", s->requests},
                                          {"input-len", s->input_len},
                                          {"output-len", s->output_len},
                                          {"rate", s->rate > 0},
                                          {"shared-prefix", s->shared_prefix},
                                          {"text", s->text},
                                          {"chat", s->chat}};
    return bench_first_given(options, sizeof options / sizeof *options);
}

int bench_options_check(const struct bench_settings *s, const struct bench_settings *said,
                        struct err *err)
{
    const struct bench_given options[] = {{"prompt", said->prompts},
                                          {"generate", said->generate},
                                          {"depth", said->depths},
                                          {"streams", said->streams},
                                          {"runs", said->runs}};
    const char *of_cases = bench_first_given(options, sizeof options / sizeof *options);
    const char *of_load = bench_options_load(s);
    if (!of_cases || !of_load)
        return 0;
    return err_set_param(err, ERR_USAGE, of_cases,
                         "--%s is of the measurements without a load, and --%s begins one (here or "
                         "in the configuration): leave one of the two out",
                         of_cases, of_load);
}
