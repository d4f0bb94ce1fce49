/* embed.h - token ids to hidden states. */
#ifndef PACELINE_WORKER_EMBED_H
#define PACELINE_WORKER_EMBED_H

#include "model/weight_file.h"

#include <stdint.h>

/* x: [n, hidden]: the canonical dequantisation of the tokens' rows, read where the file is mapped.
 * Each token is below the embedding's number of rows. */
void embed_tokens(const struct tensor *embedding, const uint32_t *tokens, int n, float *x);

#endif
