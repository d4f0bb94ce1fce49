/* chat_template.h - messages to prompt, by the model's own Jinja template.
 *
 * An interpreter of the subset of Jinja2 that Qwen's templates use, with transformers' settings
 * (trim_blocks, lstrip_blocks, its tojson). Something unknown is refused when the template is
 * read, naming it and its line. Work and output are bounded. */
#ifndef PACELINE_COORDINATOR_CHAT_TEMPLATE_H
#define PACELINE_COORDINATOR_CHAT_TEMPLATE_H

#include "base/buf.h"
#include "base/err.h"

#include <jansson.h>

struct chat_template;
/* source: UTF-8. ERR_MODEL names construct and line. */
int chat_template_new(struct chat_template **ret_template, const char *source, size_t length,
                      struct err *err);
void chat_template_free(struct chat_template *t);
/* context: object with messages, tools, add_generation_prompt, enable_thinking …; names it lacks
 * are undefined. A template's raise_exception(): ERR_INPUT with its sentence. */
int chat_template_render(const struct chat_template *t, const json_t *context, struct buf *out,
                         struct err *err);

#endif
