/* paceline_main.c - the command for people: finds the verb, which does the rest. */
#include "base/version.h"
#include "cli/cli.h"

#include <stdio.h>
#include <string.h>

struct verb {
    const char *name, *help;
    int (*run)(int argc, char **argv);
};

static const struct verb verbs[] = {
    {"up", "start a coordinator and workers on this machine and serve a model", cli_up},
    {"fetch", "download a model, with resume and a checksum", cli_fetch},
    {"chat", "talk to a model in the terminal", cli_chat},
    {"tokenize", "turn text into token ids, or ids into text", cli_tokenize},
    {"logits", "run token ids through the workers and write the logits of every position",
     cli_logits},
    {"perplexity", "measure how well a model predicts a text", cli_perplexity},
    {"bench", "measure tokens per second", cli_bench},
    {"status", "tell what a server serves and what its machines do", cli_status},
    {"top", "watch machines and requests", cli_top},
    {"trace", "record which worker computes which step when", cli_trace},
    {"drain", "empty a worker without a lost request, so that it can be stopped", cli_drain},
    {"invite", "print a line that lets one more worker join", cli_invite},
    {"workers", "list the workers that may join, or revoke one", cli_workers},
    {"plan", "tell what machines would do with a model", cli_plan},
};

static void paceline_help(FILE *out)
{
    fputs("Usage: paceline VERB [OPTION...]\n\n"
          "Pools ordinary machines into one server for open Qwen models.\n\nVerbs:\n",
          out);
    for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++)
        fprintf(out, "  %-12s%s\n", verbs[i].name, verbs[i].help);
    fputs("\n\"paceline VERB --help\" describes a verb's options.\n"
          "MODEL is a GGUF file or a name of the catalogue (paceline fetch --list).\n"
          "State and models are in $PACELINE_HOME, by default ~/.cache/paceline.\n",
          out);
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        paceline_help(stderr);
        return 1;
    }
    if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help")) {
        paceline_help(stdout);
        return 0;
    }
    if (!strcmp(argv[1], "--version") || !strcmp(argv[1], "-V")) {
        printf("paceline %s\n", PACELINE_VERSION);
        return 0;
    }
    for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++)
        if (!strcmp(argv[1], verbs[i].name))
            return verbs[i].run(argc - 1, argv + 1);
    fprintf(stderr, "paceline: unknown verb \"%.40s\"; valid:", argv[1]);
    for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++)
        fprintf(stderr, " %s", verbs[i].name);
    fputc('\n', stderr);
    return 1;
}
