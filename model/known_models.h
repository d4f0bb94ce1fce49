/* known_models.h - shapes of the Qwen family by name, as their published settings (config.json)
 * give them: what a plan needs where there are no weights yet. */
#ifndef PACELINE_MODEL_KNOWN_MODELS_H
#define PACELINE_MODEL_KNOWN_MODELS_H

#include "base/err.h"
#include "model/model_config.h"

#include <stddef.h>

/* "qwen2.5-7b"; case, "Qwen/" before and "-instruct", "-chat", "-coder", "-math", "-base", "-gguf"
 * within or after make no difference. ERR_USAGE lists the names. */
int known_model(const char *name, struct model_config *ret_config, struct err *err);
/* The same without a sentence. */
bool known_model_exists(const char *name);
/* Index 0 …: its name and published number of parameters; NULL: there is none. */
const char *known_model_name(size_t index, double *ret_parameters);

#endif
