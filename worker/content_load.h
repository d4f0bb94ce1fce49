/* content_load.h - what a Load says of the model and its tensors, checked: bounds, digests that
 * fit, nothing believed for being well-formed. */
#ifndef PACELINE_WORKER_CONTENT_LOAD_H
#define PACELINE_WORKER_CONTENT_LOAD_H

#include "model/manifest.h"
#include "model/model_config.h"
#include "proto/cluster.pb-c.h"
#include "worker/content_fetch.h"

/* ERR_NETWORK: absent, or not that of config_sha256; ERR_MODEL: no Qwen model's. */
int content_load_config(const Paceline__Load *load, struct model_config *ret_config,
                        struct err *err);
/* Into tensors[load->n_digests]: names borrowed from the load, no data. Each must belong to the
 * stage and carry a digest for every chunk, that make the tensor's. ERR_NETWORK. */
int content_load_tensors(const Paceline__Load *load, const struct model_config *config,
                         struct tensor *ret_tensors, struct err *err);
/* Sources that can be connected, at most CONTENT_FETCH_MAX_SOURCES; own: endpoint to leave out. */
size_t content_load_sources(const Paceline__Load *load, const char *coordinator_host,
                            const char *own, struct content_fetch_source *ret_sources);

#endif
