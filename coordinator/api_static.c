#include "coordinator/api_static.h"

#include "coordinator/static_files.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* Whatever a model writes, the browser runs and fetches nothing but what comes from here. */
#define STATIC_POLICY                                                                              \
    "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; "                 \
    "frame-ancestors 'none'"

/* FNV-1a: it only has to differ when the bytes do. */
static void api_static_tag(const struct static_bytes *b, char to[24])
{
    uint64_t hash = 0xcbf29ce484222325u;
    for (const char *p = b->begin; p < b->end; p++)
        hash = (hash ^ (unsigned char)*p) * 0x100000001b3u;
    snprintf(to, 24, "\"%016" PRIx64 "\"", hash);
}

/* "br, gzip;q=0.5": yes; "gzip;q=0": no. */
static bool api_static_takes_gzip(const char *accepted)
{
    const char *at = accepted ? strcasestr(accepted, "gzip") : NULL;
    double weight = 1;
    if (!at)
        return false;
    sscanf(at + strlen("gzip"), " ; q = %lf", &weight);
    return weight > 0;
}

static void api_static_headers(struct api_call *c, const char *tag, bool is_gzipped)
{
    api_call_header(c, "ETag", "%s", tag);
    api_call_header(c, "Cache-Control", "no-cache"); /* kept, but asked for again */
    api_call_header(c, "Vary", "Accept-Encoding");
    api_call_header(c, "Content-Security-Policy", "%s", STATIC_POLICY);
    api_call_header(c, "X-Content-Type-Options", "nosniff");
    api_call_header(c, "Referrer-Policy", "no-referrer");
    if (is_gzipped)
        api_call_header(c, "Content-Encoding", "gzip");
}

static void api_static_answer(struct api_call *c, const struct static_file *f)
{
    char tag[24];
    bool is_gzipped = api_static_takes_gzip(c->accept_encoding);
    const struct static_bytes *b = is_gzipped ? &f->gzipped : &f->plain;
    api_static_tag(b, tag);
    bool is_known = c->if_none_match && strstr(c->if_none_match, tag);
    if (!is_known)
        buf_append(&c->out, b->begin, (size_t)(b->end - b->begin));
    if (buf_failed(&c->out)) {
        struct err err;
        err_set(&err, ERR_MEMORY, "There is no memory for the answer.");
        api_call_fail(c, &err);
        return;
    }
    api_static_headers(c, tag, is_gzipped && !is_known);
    c->status = is_known ? 304 : 200;
    c->content_type = f->type;
    c->is_complete = true;
}

void api_static(struct api_call *c)
{
    const struct static_file *f = static_files_find(c->path);
    if (f) {
        api_static_answer(c, f);
        return;
    }
    struct err err;
    err_set(&err, ERR_NOT_FOUND, "There is nothing at %s %s.", c->method, c->path);
    api_call_fail(c, &err);
}
