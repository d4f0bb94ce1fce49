#include "cli/local_keys.h"

#include "base/clock.h"
#include "base/conf.h"
#include "proto/allow_list.h"
#include "proto/membership.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define NAME "worker"

int local_keys_make(const char *folder, struct err *err)
{
    struct trust_store store;
    struct key_pair coordinator, worker;
    struct allow_list list;
    int rc = trust_store_locate(&store, folder, err);
    if (rc == 0)
        rc = trust_store_key(&store, "coordinator.key", &coordinator, err);
    if (rc == 0)
        rc = trust_store_key(&store, "worker.key", &worker, err);
    if (rc == 0)
        rc = allow_list_open(&list, &store, err);
    if (rc != 0)
        return rc;
    rc = allow_list_enroll(&list, NULL, worker.public_key, NAME, clock_unix_s(), err);
    allow_list_close(&list);
    return rc;
}

int local_keys_tell(const char *folder, const char *address, struct err *err)
{
    struct trust_store store;
    struct key_pair coordinator;
    struct membership m = {.name = NAME};
    int rc = trust_store_locate(&store, folder, err);
    if (rc == 0)
        rc = trust_store_key(&store, "coordinator.key", &coordinator, err);
    if (rc == 0)
        rc = conf_endpoint(address, m.host, &m.port, err);
    if (rc != 0)
        return rc;
    memcpy(m.coordinator_key, coordinator.public_key, KEYS_BYTES);
    return membership_write(&store, &m, err);
}

void local_keys_remove(const char *folder)
{
    DIR *dir = opendir(folder);
    for (struct dirent *e; dir && (e = readdir(dir));)
        unlinkat(dirfd(dir), e->d_name, 0);
    if (dir)
        closedir(dir);
    rmdir(folder);
}
