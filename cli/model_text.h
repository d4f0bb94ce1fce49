/* model_text.h - the tokenizer of a model file, in this process. */
#ifndef PACELINE_CLI_MODEL_TEXT_H
#define PACELINE_CLI_MODEL_TEXT_H

#include "coordinator/tokenizer.h"

int model_text_open(struct tokenizer **ret_tokenizer, const char *path, struct err *err);

#endif
