#include "cli/download.h"

#include "base/clock.h"
#include "base/version.h"
#include "cli/stop_signal.h"

#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

enum { DOWNLOAD_CONNECT_S = 5 };

struct transfer {
    const struct download *d;
    CURL *curl;
    int fd;              /* -1: into memory */
    struct buf *body;    /* when fd is -1 */
    int64_t have;        /* bytes of the whole, those of earlier attempts included */
    int64_t range_start; /* of the answer's Content-Range, or -1 */
    int64_t last_ms;     /* when something last came */
    bool answered, begun;
    int failure; /* an err_code with its sentence in err, or 0 */
    struct err *err;
};

/* Some servers ignore a wish to resume and send the whole: then the file begins anew. */
static bool transfer_begin(struct transfer *t)
{
    long status = 0;
    curl_easy_getinfo(t->curl, CURLINFO_RESPONSE_CODE, &status);
    t->begun = true;
    if (status == 206 && t->range_start == t->have)
        return true;
    if (status == 206) {
        t->failure = err_set(t->err, ERR_NETWORK, "%s: the server sent another part than asked for",
                             t->d->url);
        return false;
    }
    t->have = 0;
    if (t->fd >= 0 && (ftruncate(t->fd, 0) < 0 || lseek(t->fd, 0, SEEK_SET) < 0)) {
        t->failure = err_set(t->err, ERR_IO, "cannot empty the file: %s", strerror(errno));
        return false;
    }
    return true;
}

static size_t transfer_write(char *bytes, size_t size, size_t count, void *context)
{
    struct transfer *t = context;
    size_t length = size * count;
    t->last_ms = clock_now_ms();
    if (!t->begun && !transfer_begin(t))
        return 0;
    if ((int64_t)length > t->d->limit - t->have) {
        t->failure = err_set(t->err, ERR_NETWORK, "%s: more than the expected %" PRId64 " bytes",
                             t->d->url, t->d->limit);
        return 0;
    }
    for (size_t done = 0; t->fd >= 0 && done < length;) {
        ssize_t n = write(t->fd, bytes + done, length - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            t->failure = err_set(t->err, ERR_IO, "cannot write the file: %s", strerror(errno));
            return 0;
        }
        done += (size_t)n;
    }
    if (t->fd < 0)
        buf_append(t->body, bytes, length);
    t->have += (int64_t)length;
    return length;
}

static size_t transfer_header(char *line, size_t size, size_t count, void *context)
{
    struct transfer *t = context;
    static const char name[] = "content-range: bytes ";
    t->answered = true;
    t->last_ms = clock_now_ms();
    if (size * count > sizeof name && !strncasecmp(line, name, sizeof name - 1))
        t->range_start = strtoll(line + sizeof name - 1, NULL, 10);
    return size * count;
}

static int transfer_watch(void *context, curl_off_t total, curl_off_t now, curl_off_t up_total,
                          curl_off_t up_now)
{
    struct transfer *t = context;
    if (t->d->on_progress)
        t->d->on_progress(t->d->context, t->have);
    if (stop_signal_is_raised()) {
        t->failure = err_set(t->err, ERR_CANCELLED, "stopped");
        return 1;
    }
    int64_t limit_ms = t->answered ? t->d->stall_ms : t->d->first_byte_ms;
    if (clock_now_ms() - t->last_ms > limit_ms) {
        t->failure = err_set(t->err, ERR_NETWORK, "%s: %s for %" PRId64 " s", t->d->url,
                             t->answered ? "nothing came" : "no answer", limit_ms / 1000);
        return 1;
    }
    return 0;
}

static int transfer_check_status(struct transfer *t)
{
    long status = 0;
    curl_easy_getinfo(t->curl, CURLINFO_RESPONSE_CODE, &status);
    if (status == 200 || status == 206)
        return 0;
    /* 416: the file was already as long as the server's, or longer. */
    return err_set(t->err, status == 404 ? ERR_NOT_FOUND : ERR_NETWORK, "%s: HTTP status %ld",
                   t->d->url, status);
}

static int transfer_run(struct transfer *t)
{
    char range[32], reason[CURL_ERROR_SIZE] = "";
    struct curl_slist *headers = NULL;
    if (t->d->accept) {
        char line[256];
        snprintf(line, sizeof line, "Accept: %s", t->d->accept);
        headers = curl_slist_append(NULL, line);
    }
    curl_easy_setopt(t->curl, CURLOPT_URL, t->d->url);
    curl_easy_setopt(t->curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(t->curl, CURLOPT_USERAGENT, "paceline/" PACELINE_VERSION);
    curl_easy_setopt(t->curl, CURLOPT_FOLLOWLOCATION, 1L);
    curl_easy_setopt(t->curl, CURLOPT_MAXREDIRS, 10L);
    curl_easy_setopt(t->curl, CURLOPT_FAILONERROR, 1L);
    curl_easy_setopt(t->curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(t->curl, CURLOPT_CONNECTTIMEOUT, (long)DOWNLOAD_CONNECT_S);
    curl_easy_setopt(t->curl, CURLOPT_ERRORBUFFER, reason);
    curl_easy_setopt(t->curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(t->curl, CURLOPT_WRITEFUNCTION, transfer_write);
    curl_easy_setopt(t->curl, CURLOPT_WRITEDATA, t);
    curl_easy_setopt(t->curl, CURLOPT_HEADERFUNCTION, transfer_header);
    curl_easy_setopt(t->curl, CURLOPT_HEADERDATA, t);
    curl_easy_setopt(t->curl, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(t->curl, CURLOPT_XFERINFOFUNCTION, transfer_watch);
    curl_easy_setopt(t->curl, CURLOPT_XFERINFODATA, t);
    if (t->d->certificates)
        curl_easy_setopt(t->curl, CURLOPT_CAINFO, t->d->certificates);
    if (t->have > 0) {
        snprintf(range, sizeof range, "%" PRId64 "-", t->have);
        curl_easy_setopt(t->curl, CURLOPT_RANGE, range);
    }
    t->last_ms = clock_now_ms();
    CURLcode code = curl_easy_perform(t->curl);
    curl_slist_free_all(headers);
    if (t->failure)
        return t->failure;
    if (code == CURLE_HTTP_RETURNED_ERROR)
        return transfer_check_status(t);
    if (code != CURLE_OK)
        return err_set(t->err, ERR_NETWORK, "%s: %s", t->d->url,
                       *reason ? reason : curl_easy_strerror(code));
    return transfer_check_status(t);
}

int download_to_file(const struct download *d, const char *path, struct err *err)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0 || lseek(fd, 0, SEEK_END) < 0) {
        int rc = err_set(err, ERR_IO, "%s: %s", path, strerror(errno));
        if (fd >= 0)
            close(fd);
        return rc;
    }
    struct transfer t = {.d = d, .fd = fd, .have = st.st_size, .range_start = -1, .err = err};
    int rc = 0;
    if (st.st_size > d->limit && ftruncate(fd, 0) == 0 && lseek(fd, 0, SEEK_SET) == 0)
        t.have = 0;
    if (t.have < d->limit) {
        t.curl = curl_easy_init();
        rc = t.curl ? transfer_run(&t) : err_set(err, ERR_MEMORY, "no memory for a download");
        curl_easy_cleanup(t.curl);
    }
    if (close(fd) < 0 && rc == 0)
        rc = err_set(err, ERR_IO, "%s: %s", path, strerror(errno));
    return rc;
}

int download_to_memory(const struct download *d, struct buf *ret_body, char **ret_url,
                       char *ret_type, size_t type_size, struct err *err)
{
    struct transfer t = {.d = d, .fd = -1, .body = ret_body, .range_start = -1, .err = err};
    t.curl = curl_easy_init();
    if (!t.curl)
        return err_set(err, ERR_MEMORY, "no memory for a download");
    int rc = transfer_run(&t);
    if (rc == 0 && buf_failed(ret_body))
        rc = err_set(err, ERR_MEMORY, "%s: no memory for it", d->url);
    if (rc == 0) {
        char *url = NULL, *type = NULL;
        curl_easy_getinfo(t.curl, CURLINFO_EFFECTIVE_URL, &url);
        curl_easy_getinfo(t.curl, CURLINFO_CONTENT_TYPE, &type);
        snprintf(ret_type, type_size, "%s", type ? type : "");
        *ret_url = strdup(url ? url : d->url);
        if (!*ret_url)
            rc = err_set(err, ERR_MEMORY, "%s: no memory for its address", d->url);
    }
    curl_easy_cleanup(t.curl);
    return rc;
}

int download_resolve(const char *base, const char *reference, char **ret_url, struct err *err)
{
    CURLU *url = curl_url();
    char *text = NULL;
    int rc = 0;
    if (!url || curl_url_set(url, CURLUPART_URL, base, 0) ||
        curl_url_set(url, CURLUPART_URL, reference, 0) ||
        curl_url_get(url, CURLUPART_URL, &text, 0))
        rc = err_set(err, ERR_NETWORK, "%.200s: not a usable address on %.200s", reference, base);
    if (rc == 0 && !(*ret_url = strdup(text)))
        rc = err_set(err, ERR_MEMORY, "no memory for an address");
    curl_free(text);
    curl_url_cleanup(url);
    return rc;
}
