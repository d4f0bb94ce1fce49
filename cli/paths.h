/* paths.h - where programs, models and state are. Results are malloc'd; ERR_MEMORY or ERR_IO. */
#ifndef PACELINE_CLI_PATHS_H
#define PACELINE_CLI_PATHS_H

#include "base/err.h"

#include <sys/types.h>

/* $PACELINE_HOME/NAME, by default ~/.cache/paceline/NAME. NULL name: the folder itself. */
int paths_home(char **ret_path, const char *name, struct err *err);
/* A program that stands beside this one. ERR_NOT_FOUND: it does not. */
int paths_program(char **ret_path, const char *name, struct err *err);
/* A file that the project ships (models.cfg): beside the source tree, or installed. */
int paths_shipped(char **ret_path, const char *name, struct err *err);
/* mkdir -p */
int paths_make_folder(const char *path, mode_t mode, struct err *err);
/* malloc'd printf */
int paths_format(char **ret_path, struct err *err, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
