/* local_keys.h - keys for a cluster of child processes: a trust folder that lives as long. */
#ifndef PACELINE_CLI_LOCAL_KEYS_H
#define PACELINE_CLI_LOCAL_KEYS_H

#include "base/err.h"

/* Makes the folder with the keys of a coordinator and of workers that it knows, all called
 * "worker-…". */
int local_keys_make(const char *folder, struct err *err);
/* Tells the workers where that coordinator is: HOST:PORT. */
int local_keys_tell(const char *folder, const char *address, struct err *err);
/* Whatever is there. */
void local_keys_remove(const char *folder);

#endif
