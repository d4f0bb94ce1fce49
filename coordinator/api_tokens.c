#include "coordinator/api_tokens.h"

#include "coordinator/api_messages.h"
#include "coordinator/api_params.h"
#include "coordinator/detokenizer.h"
#include "coordinator/json_body.h"
#include "coordinator/json_text.h"

#include <stdlib.h>

enum { API_TOKENS_TEXT = 1024 * 1024 }; /* bytes at once: generations wait meanwhile */

/* {"id", "piece"}; a piece that is not whole characters is an array of its bytes, as
 * llama-server's is. */
static json_t *api_tokens_piece(const struct tokenizer *t, uint32_t id)
{
    size_t length;
    const char *piece = tokenizer_piece(t, id, &length);
    json_t *value;
    if (json_text_is_utf8(piece, length)) {
        value = json_stringn_nocheck(piece, length);
    } else {
        value = json_array();
        for (size_t i = 0; i < length; i++)
            json_array_append_new(value, json_integer((unsigned char)piece[i]));
    }
    return json_pack("{s:I, s:o}", "id", (json_int_t)id, "piece", value);
}

static json_t *api_tokens_list(const struct tokenizer *t, const uint32_t *ids, size_t n_ids,
                               bool with_pieces)
{
    json_t *list = json_array();
    for (size_t i = 0; i < n_ids; i++)
        if (json_array_append_new(list, with_pieces ? api_tokens_piece(t, ids[i])
                                                    : json_integer(ids[i])) != 0) {
            json_decref(list);
            return NULL;
        }
    return list;
}

void api_tokens_tokenize(struct api_call *c)
{
    const struct tokenizer *t = coordinator_tokenizer(c->api->coordinator);
    const char *text = NULL;
    size_t length = 0, n_ids = 0;
    bool with_pieces = false, with_specials = true;
    uint32_t *ids = NULL;
    struct err err = {0};
    int rc = api_params_check_model(c, &err);
    if (rc == 0) /* vLLM's name, and then llama-server's */
        rc = json_body_string(c->body, "prompt", &text, &length, &err);
    if (rc == 0)
        rc = json_body_string(c->body, "content", &text, &length, &err);
    if (rc == 0 && !text)
        rc = err_set_param(&err, ERR_INPUT, "content", "'content' is missing: the text, a string.");
    if (rc == 0 && length > API_TOKENS_TEXT)
        rc = err_set_param(&err, ERR_INPUT, "content",
                           "'content' has %zu bytes; at most %d are taken at once.", length,
                           API_TOKENS_TEXT);
    if (rc == 0)
        rc = json_body_flag(c->body, "with_pieces", &with_pieces, &err);
    if (rc == 0)
        rc = json_body_flag(c->body, "parse_special", &with_specials, &err);
    if (rc == 0)
        rc = tokenizer_encode(t, text, length, with_specials ? 0 : TOKENIZER_SPECIALS_AS_TEXT, &ids,
                              &n_ids, &err);
    if (rc != 0) {
        api_call_fail(c, &err);
        return;
    }
    api_call_answer(
        c, 200,
        json_pack("{s:o, s:I, s:i}", "tokens", api_tokens_list(t, ids, n_ids, with_pieces), "count",
                  (json_int_t)n_ids, "max_model_len", coordinator_context(c->api->coordinator)));
    free(ids);
}

void api_tokens_detokenize(struct api_call *c)
{
    const struct tokenizer *t = coordinator_tokenizer(c->api->coordinator);
    json_t *tokens = NULL;
    uint32_t *ids = NULL;
    size_t n_ids = 0;
    struct err err = {0};
    int rc = api_params_check_model(c, &err);
    if (rc == 0)
        rc = json_body_array(c->body, "tokens", &tokens, &err);
    if (rc == 0 && !tokens)
        rc =
            err_set_param(&err, ERR_INPUT, "tokens", "'tokens' is missing: an array of token ids.");
    if (rc == 0)
        rc =
            json_body_ids(tokens, "tokens", coordinator_model(c->api->coordinator)->vocabulary_size,
                          SIZE_MAX, &ids, &n_ids, &err);
    if (rc != 0) {
        api_call_fail(c, &err);
        return;
    }
    struct detokenizer d;
    struct buf text;
    buf_init(&text);
    detokenizer_init(&d, t, false);
    for (size_t i = 0; i < n_ids; i++)
        detokenizer_push(&d, ids[i], &text);
    detokenizer_finish(&d, &text);
    json_t *content = buf_failed(&text) ? NULL : json_text_string(buf_text(&text), text.length);
    api_call_answer(c, 200, json_pack("{s:O?, s:o}", "prompt", content, "content", content));
    buf_clear(&text);
    free(ids);
}

void api_tokens_apply_template(struct api_call *c)
{
    struct api_tools tools;
    struct buf text;
    struct err err = {0};
    buf_init(&text);
    int rc = api_params_check_model(c, &err);
    if (rc == 0)
        rc = api_tools_read(&tools, c->api, c->body, &err);
    if (rc == 0)
        rc = api_messages_render(c, &tools, &text, &err);
    if (rc == 0)
        api_call_answer(
            c, 200, json_pack("{s:o}", "prompt", json_text_string(buf_text(&text), text.length)));
    else
        api_call_fail(c, &err);
    buf_clear(&text);
}
