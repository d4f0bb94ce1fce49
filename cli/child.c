#include "cli/child.h"

#include "base/clock.h"
#include "cli/paths.h"
#include "cli/stop_signal.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

/* Settings reach a child by its command line alone: what the environment set for us was read
 * already, and must not be read a second time with another meaning. */
static void child_clean_environment(void)
{
    static const char *const kept[] = {"PACELINE_HOME=", "PACELINE_ISA="};
    char **out = environ;
    for (char **e = environ; *e; e++) {
        bool keep = strncmp(*e, "PACELINE_", 9) != 0;
        for (size_t i = 0; i < sizeof kept / sizeof *kept && !keep; i++)
            keep = !strncmp(*e, kept[i], strlen(kept[i]));
        if (keep)
            *out++ = *e;
    }
    *out = NULL;
}

/* In the child, after fork. Never returns. */
static void child_become(const char *const *arguments, int log_fd, pid_t parent)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) /* it died before the line above */
        _exit(1);
    setpgid(0, 0);
    signal(SIGPIPE, SIG_DFL);
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    dup2(null, STDIN_FILENO);
    /* Our standard output is for results only. */
    dup2(log_fd >= 0 ? log_fd : STDERR_FILENO, STDOUT_FILENO);
    if (log_fd >= 0)
        dup2(log_fd, STDERR_FILENO);
    child_clean_environment();
    execv(arguments[0], (char *const *)arguments);
    fprintf(stderr, "%s: %s\n", arguments[0], strerror(errno));
    fflush(stderr);
    _exit(127);
}

int child_start(struct child *c, const char *name, const char *const *arguments, const char *log,
                struct err *err)
{
    *c = (struct child){0};
    snprintf(c->name, sizeof c->name, "%s", name);
    int log_fd = -1;
    if (log) {
        int rc = paths_format(&c->log, err, "%s", log);
        if (rc < 0)
            return rc;
        log_fd = open(log, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
        if (log_fd < 0)
            return err_set(err, ERR_IO, "%s: %s", log, strerror(errno));
    }
    pid_t parent = getpid();
    c->pid = fork();
    if (c->pid == 0)
        child_become(arguments, log_fd, parent);
    int reason = errno;
    if (log_fd >= 0)
        close(log_fd);
    if (c->pid < 0) {
        c->pid = 0;
        return err_set(err, ERR_MEMORY, "cannot start %s: %s", name, strerror(reason));
    }
    return 0;
}

bool child_has_ended(struct child *c)
{
    if (c->pid && !c->ended && waitpid(c->pid, &c->status, WNOHANG) == c->pid)
        c->ended = true;
    return c->ended;
}

/* The last line of the log that says something, without time and level: the sentence after
 * "program: ". */
static void child_last_line(const struct child *c, char *ret_line, size_t size)
{
    char line[1024]; /* longer ones come in pieces */
    ret_line[0] = '\0';
    FILE *in = c->log ? fopen(c->log, "re") : NULL;
    if (!in)
        return;
    if (fseek(in, -8192, SEEK_END) < 0)
        rewind(in);
    bool have_error = false;
    while (fgets(line, sizeof line, in)) {
        line[strcspn(line, "\r\n")] = '\0';
        const char *text = strstr(line, "paceline-");
        const char *colon = text ? strstr(text, ": ") : NULL;
        bool is_error = strstr(line, " error ") != NULL;
        if (!*line || (have_error && !is_error))
            continue;
        have_error |= is_error;
        snprintf(ret_line, size, "%.*s", (int)size - 1, colon ? colon + 2 : line);
    }
    fclose(in);
}

int child_report(const struct child *c, struct err *err)
{
    static const int codes[] = {ERR_IO, ERR_USAGE, ERR_CONFIG, ERR_MODEL, ERR_NETWORK, ERR_MEMORY};
    char line[300];
    child_last_line(c, line, sizeof line);
    if (WIFSIGNALED(c->status))
        return err_set(err, ERR_IO, "%s was killed by signal %d (%s)%s%s", c->name,
                       WTERMSIG(c->status), strsignal(WTERMSIG(c->status)), *line ? ": " : "",
                       line);
    int status = WEXITSTATUS(c->status);
    char log[160] = "";
    int code = status >= 1 && status <= 5 ? codes[status] : ERR_IO;
    if (c->log && code != ERR_CONFIG) /* the log holds no more than that sentence */
        snprintf(log, sizeof log, " (its log: %.140s)", c->log);
    return err_set(err, code, "%s ended with exit code %d%s%s%s", c->name, status,
                   *line ? ": " : "", line, log);
}

static bool child_all_ended(struct child *children, int n)
{
    bool all = true;
    for (int i = 0; i < n; i++)
        all &= !children[i].pid || child_has_ended(&children[i]);
    return all;
}

void child_stop_all(struct child *children, int n, int grace_ms)
{
    for (int i = 0; i < n; i++)
        if (children[i].pid && !child_has_ended(&children[i]))
            kill(children[i].pid, SIGTERM);
    int64_t end_ms = clock_now_ms() + grace_ms;
    while (!child_all_ended(children, n) && clock_now_ms() < end_ms && !stop_signal_is_repeated())
        usleep(10000);
    for (int i = 0; i < n; i++) {
        if (!children[i].pid || child_has_ended(&children[i]))
            continue;
        kill(children[i].pid, SIGKILL);
        while (waitpid(children[i].pid, &children[i].status, 0) < 0 && errno == EINTR)
            continue;
        children[i].ended = true;
    }
}

void child_clear(struct child *c)
{
    free(c->log);
    *c = (struct child){0};
}
