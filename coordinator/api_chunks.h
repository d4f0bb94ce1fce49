/* api_chunks.h - answers in OpenAI's form: an object with choices, whole or as the chunks of a
 * stream. What chat and text completions write differently is in their form. */
#ifndef PACELINE_COORDINATOR_API_CHUNKS_H
#define PACELINE_COORDINATOR_API_CHUNKS_H

#include "coordinator/api_generation.h"

struct api_chunks_form {
    const char *object, *chunk_object;
    /* The choice object, whole or as a chunk's. */
    json_t *(*choice)(const struct api_generation_piece *piece);
    /* The same for the chunk of a plain piece of text, without jansson. */
    void (*text_chunk)(const struct api_generation_piece *piece, struct buf *out);
};

/* The functions of a `struct api_generation_format` that has such a form. */
void api_chunks_answer(struct api_call *c);
void api_chunks_write(const struct api_generation_piece *piece);
void api_chunks_end(struct api_call *c);
void api_chunks_fail(struct api_call *c, const struct err *failure);
/* choice, when rc is 0; else NULL, and it is freed. */
json_t *api_chunks_checked(json_t *choice, int rc);

#endif
