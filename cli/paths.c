#include "cli/paths.h"

#include <errno.h>
#include <limits.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef PACELINE_DATA_DIR
#define PACELINE_DATA_DIR "/usr/local/share/paceline"
#endif

int paths_format(char **ret_path, struct err *err, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    char *path;
    int length = vasprintf(&path, format, args);
    va_end(args);
    if (length < 0)
        return err_set(err, ERR_MEMORY, "no memory for a file name");
    *ret_path = path;
    return 0;
}

int paths_home(char **ret_path, const char *name, struct err *err)
{
    const char *slash = name ? "/" : "", *tail = name ? name : "";
    const char *home = getenv("PACELINE_HOME");
    if (home && *home)
        return paths_format(ret_path, err, "%s%s%s", home, slash, tail);
    home = getenv("HOME");
    if (!home || !*home) {
        const struct passwd *user = getpwuid(getuid());
        home = user ? user->pw_dir : "/";
    }
    return paths_format(ret_path, err, "%s/.cache/paceline%s%s", home, slash, tail);
}

/* The folder of this executable. */
static int paths_own_folder(char *ret_folder, size_t size, struct err *err)
{
    ssize_t length = readlink("/proc/self/exe", ret_folder, size - 1);
    if (length <= 0)
        return err_set(err, ERR_IO, "/proc/self/exe: %s", strerror(errno));
    ret_folder[length] = '\0';
    char *slash = strrchr(ret_folder, '/');
    if (slash)
        *slash = '\0';
    return 0;
}

int paths_program(char **ret_path, const char *name, struct err *err)
{
    char folder[PATH_MAX];
    int rc = paths_own_folder(folder, sizeof folder, err);
    if (rc == 0)
        rc = paths_format(ret_path, err, "%s/%s", folder, name);
    if (rc == 0 && access(*ret_path, X_OK) < 0) {
        free(*ret_path);
        *ret_path = NULL;
        rc = err_set(err, ERR_NOT_FOUND,
                     "%s is not beside this program, in %s: build or install it", name, folder);
    }
    return rc;
}

int paths_shipped(char **ret_path, const char *name, struct err *err)
{
    char folder[PATH_MAX];
    int rc = paths_own_folder(folder, sizeof folder, err);
    if (rc < 0)
        return rc;
    static const char *const beside[] = {"../../deploy", "../share/paceline"};
    for (size_t i = 0; i < sizeof beside / sizeof *beside; i++) {
        rc = paths_format(ret_path, err, "%s/%s/%s", folder, beside[i], name);
        if (rc < 0 || access(*ret_path, R_OK) == 0)
            return rc;
        free(*ret_path);
    }
    static const char *const installed[] = {"/usr/share/paceline", PACELINE_DATA_DIR};
    for (size_t i = 0; i < sizeof installed / sizeof *installed; i++) {
        rc = paths_format(ret_path, err, "%s/%s", installed[i], name);
        if (rc < 0 || access(*ret_path, R_OK) == 0)
            return rc;
        free(*ret_path);
    }
    *ret_path = NULL;
    return err_set(err, ERR_NOT_FOUND,
                   "%s was not found beside the programs nor in /usr/share/paceline", name);
}

int paths_make_folder(const char *path, mode_t mode, struct err *err)
{
    char *copy;
    int rc = paths_format(&copy, err, "%s", path);
    if (rc < 0)
        return rc;
    for (char *p = copy + 1; rc == 0; p++) {
        if (*p && *p != '/')
            continue;
        char c = *p;
        *p = '\0';
        if (mkdir(copy, mode) < 0 && errno != EEXIST)
            rc = err_set(err, ERR_IO, "%s: cannot make the folder: %s", copy, strerror(errno));
        *p = c;
        if (!c)
            break;
    }
    free(copy);
    return rc;
}
