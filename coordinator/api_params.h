/* api_params.h - the parameters that chat and text completions share, checked one by one. */
#ifndef PACELINE_COORDINATOR_API_PARAMS_H
#define PACELINE_COORDINATOR_API_PARAMS_H

#include "coordinator/api_call.h"
#include "coordinator/api_constraint.h"
#include "coordinator/request.h"

enum {
    API_PARAMS_CHOICES = 16, /* most that n may be */
    API_PARAMS_STOPS = 16,
    API_PARAMS_STOP_BYTES = 1024,
    API_PARAMS_BIASES = 1024
};

struct api_params {
    struct batch_sampling sampling; /* bias is owned */
    int64_t seed;                   /* as the client knows it: given, or drawn */
    int64_t max_tokens;             /* 0: what the context has left */
    int64_t n_choices;
    int64_t priority; /* lower is earlier */
    bool ignore_eos, cache_prompt;
    bool is_stream, include_usage;
    bool return_token_ids;
    char **stop; /* owned */
    size_t n_stop;
    struct constraint *constraint; /* held; NULL: any text */
};

/* Call api_params_clear() after success and failure alike. */
int api_params_read(struct api_params *p, const struct api_call *c, struct err *err);
/* Once it is known whether the model thinks or calls tools (NULL: neither): the form that the body
 * asks for. */
int api_params_constrain(struct api_params *p, const struct api_call *c,
                         const struct api_constraint_how *how, struct err *err);
/* That form, which it takes; NULL: any text. */
int api_params_require(struct api_params *p, struct constraint *form, struct err *err);
void api_params_clear(struct api_params *p);
/* priority and cache_prompt alone. */
int api_params_read_turn(struct api_params *p, const json_t *body, struct err *err);
/* 'model' is absent, the alias or its beginning up to a '-', or the file's name; ERR_NOT_FOUND
 * otherwise. */
int api_params_check_model(struct api_call *c, struct err *err);
bool api_params_names_model(const struct api *api, const char *name);
/* A prompt's text to ids. One that cannot fit into the context, whatever its tokens are, is refused
 * before it is encoded: the event loop would stand still for it. */
int api_params_encode(struct api_call *c, const char *text, size_t length, uint32_t **ret_ids,
                      size_t *ret_count, struct err *err);
/* A request of that kind over the prompt, whose ids it takes when it succeeds. c->error_code tells
 * a prompt that is longer than the context. */
int api_params_request(const struct api_params *p, struct api_call *c, uint32_t *ids, size_t n_ids,
                       struct request **ret_request, struct err *err);

#endif
