/* worker_main.c - paceline-worker: options, exit code. */
#include "base/log.h"
#include "worker/worker.h"
#include "worker/worker_settings.h"

#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
    struct worker_settings settings;
    struct err err = {0};
    enum conf_outcome outcome = CONF_RUN;
    int rc = worker_settings_read(&settings, argc, argv, &outcome, &err);
    if (rc == 0 && outcome == CONF_RUN) {
        log_setup("paceline-worker", settings.verbose ? LOG_LEVEL_DEBUG : LOG_LEVEL_INFO,
                  settings.log_json);
        struct kernels kernels;
        rc = kernels_select(&kernels, getenv("PACELINE_ISA"), &err);
        if (rc == 0) {
            char text[1024];
            kernels_describe(&kernels, text, sizeof text);
            log_debug("kernels: %s", text);
            rc = worker_run(&settings, &kernels, &err);
        }
    }
    if (rc != 0)
        fprintf(stderr, "paceline-worker: %s\n", err.text);
    worker_settings_clear(&settings);
    return err_exit_code(rc);
}
