/* api_embed.h - texts to hidden states, for /v1/embeddings and /v1/rerank: a call may bring many,
 * and a few of them are under way at a time, so that no call fills the queue. */
#ifndef PACELINE_COORDINATOR_API_EMBED_H
#define PACELINE_COORDINATOR_API_EMBED_H

#include "coordinator/api_generation.h"

enum { API_EMBED_TEXTS = 2048 }; /* most of one call */

struct api_embed_task {
    const struct api_generation_format *format; /* its id_prefix alone */
    enum request_pooling pooling;
    /* The ids of one text; malloc'd. Called when its turn comes. */
    int (*encode)(struct api_call *c, size_t index, uint32_t **ret_ids, size_t *ret_count,
                  struct err *err);
    /* A state has come, in the order of the texts: api_embed_state(). NULL: not needed. */
    void (*each)(struct api_call *c, size_t index);
    void (*done)(struct api_call *c); /* all have come: the call is to be answered */
};

/* The call waits for the states of so many texts; task outlives it. With err, or when it cannot be
 * begun, the call has failed. */
void api_embed_begin(struct api_call *c, const struct api_embed_task *task, size_t n_texts,
                     const struct err *err);
/* The state as it came: of the last token or the sum over all, [hidden], of any alignment. */
const char *api_embed_state(const struct api_call *c, size_t index);
int64_t api_embed_tokens(const struct api_call *c); /* of all texts */
/* Ids of a text that is to be pooled, with the end that the model's tokenizer puts behind it. */
int api_embed_encode(struct api_call *c, const char *text, size_t length, uint32_t **ret_ids,
                     size_t *ret_count, struct err *err);

#endif
