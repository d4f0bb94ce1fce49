/* cli.h - the verbs of the `paceline` command. Each reads its own options (argv[0] is the verb)
 * and returns the exit code of the program. */
#ifndef PACELINE_CLI_CLI_H
#define PACELINE_CLI_CLI_H

int cli_up(int argc, char **argv);
int cli_fetch(int argc, char **argv);
int cli_chat(int argc, char **argv);
int cli_tokenize(int argc, char **argv);
int cli_logits(int argc, char **argv);
int cli_perplexity(int argc, char **argv);
int cli_bench(int argc, char **argv);
int cli_trace(int argc, char **argv);
int cli_drain(int argc, char **argv);
int cli_invite(int argc, char **argv);
int cli_workers(int argc, char **argv);
int cli_plan(int argc, char **argv);
int cli_status(int argc, char **argv);
int cli_top(int argc, char **argv);

#endif
