#include "worker/embed.h"

#include "kernels/quant.h"

void embed_tokens(const struct tensor *embedding, const uint32_t *tokens, int n, float *x)
{
    int64_t hidden = embedding->dims[0];
    size_t row_bytes = quant_row_bytes(embedding->type, hidden);
    const unsigned char *rows = embedding->data;
    for (int i = 0; i < n; i++)
        quant_unpack_row(embedding->type, rows + (size_t)tokens[i] * row_bytes,
                         x + (int64_t)i * hidden, hidden);
}
