/* conversation.h - messages that go to and fro; answers are written to standard output as they
 * come. */
#ifndef PACELINE_CLI_CONVERSATION_H
#define PACELINE_CLI_CONVERSATION_H

#include "cli/http_client.h"

struct conversation {
    const struct http_client *client; /* borrowed */
    json_t *messages;
    char *system;       /* or NULL */
    int64_t max_tokens; /* 0: the server's limit */
    int64_t seed;       /* -1: random */
    double temperature; /* below 0: the server's choice */
};

int conversation_init(struct conversation *c, const struct http_client *client, const char *system,
                      struct err *err);
void conversation_free(struct conversation *c);
/* Forgets everything but the system message. */
void conversation_clear(struct conversation *c);
int conversation_set_system(struct conversation *c, const char *system, struct err *err);
/* Sends a message and prints the answer. What came of an answer that was stopped (ERR_CANCELLED)
 * stays in the conversation; a message that failed otherwise is taken back. */
int conversation_ask(struct conversation *c, const char *text, struct err *err);
/* Answers the last message again; the answer that it had is forgotten. ERR_INPUT: there is none. */
int conversation_retry(struct conversation *c, struct err *err);

#endif
