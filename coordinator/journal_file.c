#include "coordinator/journal_file.h"

#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    JOURNAL_FILE_VERSION = 1,
    JOURNAL_FILE_PATIENCE_MS = 1000, /* for the lock of a process that is on its way out */
};

enum {
    ADD_CALL,
    ADD_TOKENS,
    SET_RESTARTS,
    END_CALL,
    REMOVE_CALL,
    REMOVE_TOKENS,
    BEGIN,
    COMMIT,
    N_STATEMENTS
};

struct journal_file {
    char *path;
    sqlite3 *db;
    sqlite3_stmt *statements[N_STATEMENTS];
};

/* What was deleted is overwritten: prompts are nobody else's business. */
static const char journal_file_settings[] = "PRAGMA locking_mode = EXCLUSIVE;"
                                            "PRAGMA journal_mode = WAL;"
                                            "PRAGMA synchronous = NORMAL;"
                                            "PRAGMA secure_delete = ON;"
                                            "PRAGMA journal_size_limit = 4194304;";

static const char journal_file_tables[] =
    "CREATE TABLE calls (id TEXT PRIMARY KEY, path TEXT NOT NULL, tenant TEXT NOT NULL,"
    " request_id TEXT NOT NULL, bits TEXT NOT NULL, body BLOB NOT NULL, prompts BLOB NOT NULL,"
    " seed INTEGER NOT NULL, created INTEGER NOT NULL, n_prompts INTEGER NOT NULL,"
    " n_choices INTEGER NOT NULL, is_kept INTEGER NOT NULL, is_background INTEGER NOT NULL,"
    " with_records INTEGER NOT NULL, n_restarts INTEGER NOT NULL DEFAULT 0,"
    " outcome INTEGER NOT NULL DEFAULT 0,"
    " n_cached INTEGER NOT NULL DEFAULT 0, failure_code INTEGER NOT NULL DEFAULT 0,"
    " failure TEXT NOT NULL DEFAULT '', finished INTEGER NOT NULL DEFAULT 0);"
    "CREATE TABLE tokens (id TEXT NOT NULL, choice INTEGER NOT NULL, at INTEGER NOT NULL,"
    " data BLOB NOT NULL, PRIMARY KEY (id, choice, at)) WITHOUT ROWID;"
    "PRAGMA user_version = 1;";

static const char *const journal_file_sql[N_STATEMENTS] = {
    [ADD_CALL] = "INSERT OR REPLACE INTO calls (id, path, tenant, request_id, bits, body, prompts,"
                 " seed, created, n_prompts, n_choices, is_kept, is_background, with_records)"
                 " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    [ADD_TOKENS] = "INSERT OR REPLACE INTO tokens (id, choice, at, data) VALUES (?, ?, ?, ?)",
    [SET_RESTARTS] = "UPDATE calls SET n_restarts = ? WHERE id = ?",
    [END_CALL] = "UPDATE calls SET outcome = ?, n_cached = ?, failure_code = ?, failure = ?,"
                 " finished = ? WHERE id = ?",
    [REMOVE_CALL] = "DELETE FROM calls WHERE id = ?",
    [REMOVE_TOKENS] = "DELETE FROM tokens WHERE id = ?",
    [BEGIN] = "BEGIN IMMEDIATE",
    [COMMIT] = "COMMIT",
};

static int journal_file_fail(const struct journal_file *f, struct err *err)
{
    return err_set(err, ERR_IO, "%s: %s", f->path, sqlite3_errmsg(f->db));
}

/* ---- opening ---- */

/* The folders above the file, as far as they are missing. */
static int journal_file_make_folders(const struct journal_file *f, struct err *err)
{
    char folder[4096];
    snprintf(folder, sizeof folder, "%s", f->path);
    for (char *slash = strchr(folder + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (mkdir(folder, 0700) != 0 && errno != EEXIST)
            return err_set(err, ERR_IO, "%s: %s", folder, strerror(errno));
        *slash = '/';
    }
    return 0;
}

/* SQLite gives the files beside it the same rights. */
static int journal_file_make(const struct journal_file *f, struct err *err)
{
    int rc = journal_file_make_folders(f, err);
    if (rc != 0)
        return rc;
    int fd = open(f->path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_set(err, ERR_IO, "%s: %s", f->path, strerror(errno));
    close(fd);
    return 0;
}

static int journal_file_exec(struct journal_file *f, const char *sql, struct err *err)
{
    return sqlite3_exec(f->db, sql, NULL, NULL, NULL) == SQLITE_OK ? 0 : journal_file_fail(f, err);
}

static int journal_file_version(struct journal_file *f, int *ret_version, struct err *err)
{
    sqlite3_stmt *s = NULL;
    int rc = 0;
    if (sqlite3_prepare_v2(f->db, "PRAGMA user_version", -1, &s, NULL) != SQLITE_OK ||
        sqlite3_step(s) != SQLITE_ROW)
        rc = journal_file_fail(f, err);
    else
        *ret_version = sqlite3_column_int(s, 0);
    sqlite3_finalize(s);
    return rc;
}

static int journal_file_prepare(struct journal_file *f, struct err *err)
{
    int version = 0, rc = journal_file_exec(f, journal_file_settings, err);
    if (rc == 0) /* takes the lock, for as long as we live */
        rc = journal_file_exec(f, "BEGIN IMMEDIATE", err);
    if (rc == 0)
        rc = journal_file_version(f, &version, err);
    if (rc == 0 && version == 0)
        rc = journal_file_exec(f, journal_file_tables, err);
    if (rc == 0)
        rc = journal_file_exec(f, "COMMIT", err);
    if (rc == 0 && version != 0 && version != JOURNAL_FILE_VERSION)
        rc = err_set(err, ERR_IO,
                     "%s is a journal of version %d, this program writes version %d: name another "
                     "file",
                     f->path, version, JOURNAL_FILE_VERSION);
    for (int i = 0; rc == 0 && i < N_STATEMENTS; i++)
        if (sqlite3_prepare_v3(f->db, journal_file_sql[i], -1, SQLITE_PREPARE_PERSISTENT,
                               &f->statements[i], NULL) != SQLITE_OK)
            rc = journal_file_fail(f, err);
    return rc;
}

int journal_file_open(struct journal_file **ret_file, const char *path, struct err *err)
{
    struct journal_file *f = calloc(1, sizeof *f);
    if (f)
        f->path = strdup(path);
    if (!f || !f->path) {
        free(f);
        return err_set(err, ERR_MEMORY, "no memory for the journal");
    }
    int rc = journal_file_make(f, err);
    if (rc == 0 && sqlite3_open_v2(path, &f->db, SQLITE_OPEN_READWRITE, NULL) != SQLITE_OK)
        rc = f->db ? journal_file_fail(f, err)
                   : err_set(err, ERR_MEMORY, "no memory for the journal");
    if (rc == 0) {
        sqlite3_busy_timeout(f->db, JOURNAL_FILE_PATIENCE_MS);
        rc = journal_file_prepare(f, err);
    }
    if (rc != 0) {
        journal_file_close(f);
        return rc;
    }
    *ret_file = f;
    return 0;
}

void journal_file_close(struct journal_file *f)
{
    if (!f)
        return;
    for (int i = 0; i < N_STATEMENTS; i++)
        sqlite3_finalize(f->statements[i]);
    sqlite3_close(f->db);
    free(f->path);
    free(f);
}

/* ---- writing ---- */

/* Runs it with what was bound. */
static int journal_file_run(struct journal_file *f, int which, struct err *err)
{
    sqlite3_stmt *s = f->statements[which];
    int rc = sqlite3_step(s) == SQLITE_DONE ? 0 : journal_file_fail(f, err);
    sqlite3_reset(s);
    sqlite3_clear_bindings(s);
    return rc;
}

static void journal_file_bind(sqlite3_stmt *s, int at, const char *text)
{
    sqlite3_bind_text(s, at, text, -1, SQLITE_STATIC);
}

static void journal_file_bind_bytes(sqlite3_stmt *s, int at, const void *data, size_t length)
{
    sqlite3_bind_blob64(s, at, length ? data : "", length, SQLITE_STATIC);
}

static int journal_file_add_call(struct journal_file *f, const struct journal_note *n,
                                 struct err *err)
{
    const struct journal_call *c = &n->call;
    sqlite3_stmt *s = f->statements[ADD_CALL];
    journal_file_bind(s, 1, n->id);
    journal_file_bind(s, 2, c->path);
    journal_file_bind(s, 3, c->tenant);
    journal_file_bind(s, 4, c->request_id);
    journal_file_bind(s, 5, c->bits);
    journal_file_bind_bytes(s, 6, c->body, c->body_length);
    journal_file_bind_bytes(s, 7, c->prompts, c->prompts_length);
    sqlite3_bind_int64(s, 8, c->seed);
    sqlite3_bind_int64(s, 9, c->created_unix_s);
    sqlite3_bind_int(s, 10, c->n_prompts);
    sqlite3_bind_int(s, 11, c->n_choices);
    sqlite3_bind_int(s, 12, c->is_kept);
    sqlite3_bind_int(s, 13, c->is_background);
    sqlite3_bind_int(s, 14, c->with_records);
    return journal_file_run(f, ADD_CALL, err);
}

static int journal_file_add_tokens(struct journal_file *f, const struct journal_note *n,
                                   struct err *err)
{
    sqlite3_stmt *s = f->statements[ADD_TOKENS];
    journal_file_bind(s, 1, n->id);
    sqlite3_bind_int(s, 2, n->choice);
    sqlite3_bind_int64(s, 3, n->at);
    journal_file_bind_bytes(s, 4, n->data, n->length);
    return journal_file_run(f, ADD_TOKENS, err);
}

static int journal_file_set_restarts(struct journal_file *f, const struct journal_note *n,
                                     struct err *err)
{
    sqlite3_stmt *s = f->statements[SET_RESTARTS];
    sqlite3_bind_int(s, 1, n->n_restarts);
    journal_file_bind(s, 2, n->id);
    return journal_file_run(f, SET_RESTARTS, err);
}

static int journal_file_end_call(struct journal_file *f, const struct journal_note *n,
                                 struct err *err)
{
    sqlite3_stmt *s = f->statements[END_CALL];
    sqlite3_bind_int(s, 1, n->end.outcome);
    sqlite3_bind_int(s, 2, n->end.n_cached);
    sqlite3_bind_int(s, 3, n->end.failure_code);
    journal_file_bind(s, 4, n->end.failure);
    sqlite3_bind_int64(s, 5, n->end.finished_unix_s);
    journal_file_bind(s, 6, n->id);
    return journal_file_run(f, END_CALL, err);
}

static int journal_file_remove(struct journal_file *f, const struct journal_note *n,
                               struct err *err)
{
    journal_file_bind(f->statements[REMOVE_TOKENS], 1, n->id);
    int rc = journal_file_run(f, REMOVE_TOKENS, err);
    journal_file_bind(f->statements[REMOVE_CALL], 1, n->id);
    return rc != 0 ? rc : journal_file_run(f, REMOVE_CALL, err);
}

static int journal_file_apply(struct journal_file *f, const struct journal_note *n, struct err *err)
{
    switch (n->kind) {
    case JOURNAL_CALL:
        return journal_file_add_call(f, n, err);
    case JOURNAL_TOKENS:
        return journal_file_add_tokens(f, n, err);
    case JOURNAL_RESTARTS:
        return journal_file_set_restarts(f, n, err);
    case JOURNAL_END:
        return journal_file_end_call(f, n, err);
    default:
        return journal_file_remove(f, n, err);
    }
}

int journal_file_write(struct journal_file *f, const struct journal_note *first, struct err *err)
{
    int rc = journal_file_run(f, BEGIN, err);
    for (const struct journal_note *n = first; rc == 0 && n; n = n->next)
        rc = journal_file_apply(f, n, err);
    if (rc == 0)
        rc = journal_file_run(f, COMMIT, err);
    if (rc != 0 && !sqlite3_get_autocommit(f->db))
        sqlite3_exec(f->db, "ROLLBACK", NULL, NULL, NULL);
    return rc;
}

/* ---- reading ---- */

static const char *journal_file_text(sqlite3_stmt *s, int column)
{
    const char *text = (const char *)sqlite3_column_text(s, column);
    return text ? text : "";
}

static int journal_file_load_call(struct journal_file *f, sqlite3_stmt *s,
                                  const struct journal_reader *reader, struct err *err)
{
    struct journal_call c = {
        .id = journal_file_text(s, 0),
        .path = journal_file_text(s, 1),
        .tenant = journal_file_text(s, 2),
        .request_id = journal_file_text(s, 3),
        .bits = journal_file_text(s, 4),
        .body = sqlite3_column_blob(s, 5),
        .body_length = (size_t)sqlite3_column_bytes(s, 5),
        .prompts = sqlite3_column_blob(s, 6),
        .prompts_length = (size_t)sqlite3_column_bytes(s, 6),
        .seed = sqlite3_column_int64(s, 7),
        .created_unix_s = sqlite3_column_int64(s, 8),
        .n_prompts = sqlite3_column_int(s, 9),
        .n_choices = sqlite3_column_int(s, 10),
        .is_kept = sqlite3_column_int(s, 11),
        .is_background = sqlite3_column_int(s, 12),
        .with_records = sqlite3_column_int(s, 13),
        .n_restarts = sqlite3_column_int(s, 19),
    };
    struct journal_end end = {
        .outcome = sqlite3_column_int(s, 14),
        .n_cached = sqlite3_column_int(s, 15),
        .failure_code = sqlite3_column_int(s, 16),
        .failure = journal_file_text(s, 17),
        .finished_unix_s = sqlite3_column_int64(s, 18),
    };
    if (!c.body)
        c.body = "";
    if (!c.prompts)
        c.prompts = "";
    return reader->on_call(reader->context, &c, &end, err);
}

static int journal_file_load_tokens(struct journal_file *f, sqlite3_stmt *s,
                                    const struct journal_reader *reader, struct err *err)
{
    const void *data = sqlite3_column_blob(s, 3);
    return reader->on_tokens(reader->context, journal_file_text(s, 0), sqlite3_column_int(s, 1),
                             sqlite3_column_int64(s, 2), data ? data : "",
                             (size_t)sqlite3_column_bytes(s, 3), err);
}

static int journal_file_each(struct journal_file *f, const char *sql,
                             int (*row)(struct journal_file *, sqlite3_stmt *,
                                        const struct journal_reader *, struct err *),
                             const struct journal_reader *reader, struct err *err)
{
    sqlite3_stmt *s = NULL;
    int rc = 0, step = SQLITE_ERROR;
    if (sqlite3_prepare_v2(f->db, sql, -1, &s, NULL) == SQLITE_OK)
        while (rc == 0 && (step = sqlite3_step(s)) == SQLITE_ROW)
            rc = row(f, s, reader, err);
    if (rc == 0 && step != SQLITE_DONE)
        rc = journal_file_fail(f, err);
    sqlite3_finalize(s);
    return rc;
}

int journal_file_load(struct journal_file *f, const struct journal_reader *reader, struct err *err)
{
    int rc = journal_file_each(
        f,
        "SELECT id, path, tenant, request_id, bits, body, prompts, seed, created, n_prompts,"
        " n_choices, is_kept, is_background, with_records, outcome, n_cached, failure_code, "
        "failure,"
        " finished, n_restarts FROM calls ORDER BY rowid",
        journal_file_load_call, reader, err);
    return rc != 0 ? rc
                   : journal_file_each(
                         f, "SELECT id, choice, at, data FROM tokens ORDER BY id, choice, at",
                         journal_file_load_tokens, reader, err);
}
