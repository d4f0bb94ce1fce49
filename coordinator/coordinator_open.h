/* coordinator_open.h - the coordinator's life, for the program; coordinator.h is for the API. */
#ifndef PACELINE_COORDINATOR_COORDINATOR_OPEN_H
#define PACELINE_COORDINATOR_COORDINATOR_OPEN_H

#include "coordinator/coordinator.h"
#include "coordinator/coordinator_settings.h"
#include "coordinator/deployment.h"
#include "coordinator/pipeline.h"
#include "coordinator/registry.h"
#include "coordinator/scheduler.h"

/* Binds the cluster's ports, opens model and tokenizer. settings are borrowed. */
int coordinator_open(struct coordinator **ret_coordinator,
                     const struct coordinator_settings *settings, struct err *err);
void coordinator_close(struct coordinator *c); /* NULL and half-open is fine */
int coordinator_cluster_port(const struct coordinator *c);
int coordinator_content_port(const struct coordinator *c); /* weights for workers */
/* The sockets whose messages coordinator_run() takes: for the loop's poll. The door: NULL where
 * links are plain. */
void coordinator_sockets(const struct coordinator *c, void **ret_control, void **ret_results,
                         void **ret_door);
int coordinator_wait_ms(const struct coordinator *c);
/* Takes what came, decides, sends. Fails when the model can never be served. */
int coordinator_run(struct coordinator *c, struct err *err);
/* There are no workers for the model, and nobody promises that they will come. */
bool coordinator_is_stranded(const struct coordinator *c);
/* The program stops: all requests fail, in words. */
void coordinator_give_up(struct coordinator *c);
bool coordinator_is_idle(const struct coordinator *c);

#endif
