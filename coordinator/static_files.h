/* static_files.h - the files that the program carries in itself: the page for people
 * (coordinator/page/) and the API's description (docs/openapi.json). */
#ifndef PACELINE_COORDINATOR_STATIC_FILES_H
#define PACELINE_COORDINATOR_STATIC_FILES_H

struct static_bytes {
    const char *begin, *end;
};

struct static_file {
    const char *path; /* of its URL */
    const char *type; /* Content-Type */
    struct static_bytes plain, gzipped;
};

/* NULL: there is none of that path. */
const struct static_file *static_files_find(const char *path);

#endif
