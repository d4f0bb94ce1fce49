/* api_replay.h - stored calls told again, or run on: an api_call begins as it did the first time,
 * but with the name, the seed and the prompts that are stored, and is given the tokens that are
 * stored as if they came from the model.
 *
 * A stream is told token by token, so the pieces of a choice, and their numbers, depend on its
 * tokens alone. Events of chat and text completions, and the last one of each piece of a message,
 * carry `id: NAME:N[,N…]`, for clients that asked for an event stream by that name: how many pieces
 * of each choice have been told. Any process can
 * go on from there. */
#ifndef PACELINE_COORDINATOR_API_REPLAY_H
#define PACELINE_COORDINATOR_API_REPLAY_H

#include "coordinator/api_generation.h"
#include "coordinator/api_store.h"

/* A POST with Last-Event-ID: the call follows the stored one from there on. */
void api_replay_resume(struct api_call *c);
/* The stored call's question is this one's, which follows it. */
int api_replay_follow(struct api_call *c, struct api_stored *d, struct err *err);
/* An earlier process's call is run on. ERR_LIMIT, ERR_QUOTA, ERR_UNAVAILABLE: not now. */
int api_replay_begin(struct api *api, struct api_stored *d, struct err *err);

/* ---- for api_generation.c: of a call whose c->stored is set before it begins ---- */

/* Name and date are the stored ones; of a stream, the pieces that its client has had. */
void api_replay_name(const struct api_call *c, struct api_generation *g);
/* The newest request gets the stored prompt of that number. */
int api_replay_prompt(const struct api_call *c, size_t number, struct err *err);
/* In place of coordinator_submit(): a call that follows submits nothing, one that begins again has
 * its tokens first. */
int api_replay_submit(struct api_call *c, struct err *err);

/* ---- what is told ---- */

/* Gives the choice its next token. false: there is none now. */
bool api_replay_token(struct api_call *c, size_t prompt, int choice);
/* After the last token: the requests are done, or have failed, as the stored call has. */
void api_replay_end(struct api_call *c);
/* `news` of a stream of OpenAI's chunks, */
void api_replay_tell(struct api_call *c);
/* and of a call that nobody listens to. */
void api_replay_silence(struct api_call *c);

#endif
