/* shipping.h - the coordinator's side of the content plane: gives chunks of the model's tensors
 * out of the mapped file, remembers to whom, and tells each worker where it may get its tensors.
 *
 * Threads: publish, describe and close from one; what is asked for comes on the server's own. */
#ifndef PACELINE_COORDINATOR_SHIPPING_H
#define PACELINE_COORDINATOR_SHIPPING_H

#include "coordinator/registry.h"
#include "model/manifest.h"
#include "proto/content_server.h"

struct shipping;

/* Listens; until something is published, whoever asks is told to ask again. */
int shipping_open(struct shipping **ret_shipping, void *zmq, const char *host, int port,
                  const struct key_pair *own, struct err *err);
/* Before the weights are closed. NULL is fine. */
void shipping_close(struct shipping *s);
int shipping_port(const struct shipping *s);
int64_t shipping_sent_bytes(const struct shipping *s);
/* weights and manifest are borrowed until it is closed. Once. */
int shipping_publish(struct shipping *s, const struct weight_file *weights,
                     const struct manifest *manifest, struct err *err);

/* With keys: gives weights to the workers that are here, and to no others, and tells each of them
 * to do the same. Does something only when somebody has come or gone. */
int shipping_let_in(struct shipping *s, struct registry *r, struct err *err);

/* Parts of a Load. What they point at is borrowed from weights, manifest and registry. */
void shipping_describe_config(const struct model_config *c, Paceline__ModelConfig *ret_config);
void shipping_describe_tensor(const struct weight_file *weights, const struct manifest *m,
                              size_t index, Paceline__TensorDigest *ret_tensor);

#define SHIPPING_MAX_SOURCES 16
struct shipping_sources {
    char own[320]; /* the coordinator's endpoint */
    Paceline__ContentSource sources[SHIPPING_MAX_SOURCES];
    Paceline__ContentSource *list[SHIPPING_MAX_SOURCES];
    size_t n;
};
/* The coordinator at host ("*": the one that the worker knows), then workers that have, or are
 * about to get, a tensor of the load for `w`. */
void shipping_find_sources(const struct shipping *s, const char *host, const struct registry *r,
                           const struct worker_entry *w, const Paceline__Load *load,
                           struct shipping_sources *ret_sources);

#endif
