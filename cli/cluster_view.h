/* cluster_view.h - a server and its machines as text: what /cluster says, and what changed since it
 * said so before. */
#ifndef PACELINE_CLI_CLUSTER_VIEW_H
#define PACELINE_CLI_CLUSTER_VIEW_H

#include "base/buf.h"
#include "cli/http_client.h"

struct cluster_view {
    json_t *cluster; /* owned; NULL: not asked yet */
    int64_t at_us;   /* when it was asked */
};

/* Replaces what *view holds. ERR_NETWORK: nobody answers. */
int cluster_view_ask(struct cluster_view *view, const struct http_client *client, struct err *err);
void cluster_view_clear(struct cluster_view *view);
bool cluster_view_is_ready(const struct cluster_view *view);
/* Lines of text. before: an earlier view, for rates; NULL: rates are left out. */
void cluster_view_print(struct buf *out, const struct cluster_view *view,
                        const struct cluster_view *before);

#endif
