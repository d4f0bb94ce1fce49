/* quant_mix.h - which type each tensor has in a file of "Q4_K_M" and its like.
 *
 * The rules are those that llama.cpp's quantize program publishes: a type for most, a finer one for
 * the head, for values and for what leads out of the feed-forward of some layers; rows that are no
 * multiple of 256 take a type with blocks of 32 instead. */
#ifndef PACELINE_MODEL_QUANT_MIX_H
#define PACELINE_MODEL_QUANT_MIX_H

#include "base/err.h"
#include "model/model_config.h"

/* Its number; ERR_USAGE lists the names. Case makes no difference. */
int quant_mix_find(const char *name, struct err *err);
/* 0, 1 … by falling size; NULL: there is none. */
const char *quant_mix_name(int number);
/* enum tensor_type */
int quant_mix_type(int number, const struct model_config *c, enum model_tensor kind, int layer);

#endif
