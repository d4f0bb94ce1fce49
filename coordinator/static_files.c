#include "coordinator/static_files.h"

#include <string.h>

#define STATIC_HTML       "text/html; charset=utf-8"
#define STATIC_CSS        "text/css; charset=utf-8"
#define STATIC_JAVASCRIPT "text/javascript; charset=utf-8"
#define STATIC_SVG        "image/svg+xml"
#define STATIC_JSON       "application/json"

/* clang-format off */
#define STATIC_FILES(X) \
    X(index,    "/",                 "index.html",   STATIC_HTML) \
    X(style,    "/page/page.css",    "page.css",     STATIC_CSS) \
    X(icon,     "/page/icon.svg",    "icon.svg",     STATIC_SVG) \
    X(early,    "/page/early.js",    "early.js",     STATIC_JAVASCRIPT) \
    X(main,     "/page/main.js",     "main.js",      STATIC_JAVASCRIPT) \
    X(api,      "/page/api.js",      "api.js",       STATIC_JAVASCRIPT) \
    X(bars,     "/page/bars.js",     "bars.js",      STATIC_JAVASCRIPT) \
    X(chat,     "/page/chat.js",     "chat.js",      STATIC_JAVASCRIPT) \
    X(cluster,  "/page/cluster.js",  "cluster.js",   STATIC_JAVASCRIPT) \
    X(code,     "/page/code.js",     "code.js",      STATIC_JAVASCRIPT) \
    X(dom,      "/page/dom.js",      "dom.js",       STATIC_JAVASCRIPT) \
    X(generate, "/page/generate.js", "generate.js",  STATIC_JAVASCRIPT) \
    X(history,  "/page/history.js",  "history.js",   STATIC_JAVASCRIPT) \
    X(inline,   "/page/inline.js",   "inline.js",    STATIC_JAVASCRIPT) \
    X(machine,  "/page/machine.js",  "machine.js",   STATIC_JAVASCRIPT) \
    X(markdown, "/page/markdown.js", "markdown.js",  STATIC_JAVASCRIPT) \
    X(message,  "/page/message.js",  "message.js",   STATIC_JAVASCRIPT) \
    X(planner,  "/page/planner.js",  "planner.js",   STATIC_JAVASCRIPT) \
    X(settings, "/page/settings.js", "settings.js",  STATIC_JAVASCRIPT) \
    X(store,    "/page/store.js",    "store.js",     STATIC_JAVASCRIPT) \
    X(texts,    "/page/texts.js",    "texts.js",     STATIC_JAVASCRIPT) \
    X(texts_en, "/page/texts_en.js", "texts_en.js",  STATIC_JAVASCRIPT) \
    X(texts_zh, "/page/texts_zh.js", "texts_zh.js",  STATIC_JAVASCRIPT) \
    X(trace,    "/page/trace.js",    "trace.js",     STATIC_JAVASCRIPT) \
    X(openapi,  "/openapi.json",     "openapi.json", STATIC_JSON)
/* clang-format on */

/* The assembler finds them by name in the folders that CMakeLists.txt gives it. */
#define STATIC_EMBED(symbol, name)                                                                 \
    __asm__(".pushsection .rodata\n"                                                               \
            "static_" #symbol "_begin:\n"                                                          \
            ".incbin \"" name "\"\n"                                                               \
            "static_" #symbol "_end:\n"                                                            \
            ".byte 0\n"                                                                            \
            ".popsection\n");                                                                      \
    extern const char static_##symbol##_begin[] __attribute__((visibility("hidden")));             \
    extern const char static_##symbol##_end[] __attribute__((visibility("hidden")));

#define STATIC_EMBED_BOTH(symbol, path, name, type)                                                \
    STATIC_EMBED(symbol, name)                                                                     \
    STATIC_EMBED(symbol##_gz, name ".gz")

STATIC_FILES(STATIC_EMBED_BOTH)

#define STATIC_ENTRY(symbol, path, name, type)                                                     \
    {path,                                                                                         \
     type,                                                                                         \
     {static_##symbol##_begin, static_##symbol##_end},                                             \
     {static_##symbol##_gz_begin, static_##symbol##_gz_end}},

static const struct static_file static_files[] = {STATIC_FILES(STATIC_ENTRY)};

const struct static_file *static_files_find(const char *path)
{
    for (size_t i = 0; i < sizeof static_files / sizeof static_files[0]; i++)
        if (strcmp(static_files[i].path, path) == 0)
            return &static_files[i];
    return NULL;
}
