/* api_admin.h - what runs here: health, models, the cluster. */
#ifndef PACELINE_COORDINATOR_API_ADMIN_H
#define PACELINE_COORDINATOR_API_ADMIN_H

#include "coordinator/api_call.h"

void api_admin_health(struct api_call *c);
void api_admin_ready(struct api_call *c);
void api_admin_models(struct api_call *c);
void api_admin_model(struct api_call *c); /* /v1/models/{id} */
void api_admin_cluster(struct api_call *c);
void api_admin_drain(struct api_call *c);
void api_admin_resume(struct api_call *c);

#endif
