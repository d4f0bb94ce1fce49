/* journal.h - calls that are under way or kept, and their tokens, written down behind the event
 * loop's back: changes are queued, and a thread of its own writes them to the file (journal_file.h)
 * four times a second, or at once when somebody waits for them; all that wait in one transaction.
 *
 * When the file cannot be written (a full disk), or for two seconds has not been, the changes wait
 * and are tried again; the caller goes on, and learns of it by journal_trouble(). */
#ifndef PACELINE_COORDINATOR_JOURNAL_H
#define PACELINE_COORDINATOR_JOURNAL_H

#include "coordinator/journal_file.h"

struct journal;

/* Opens the file, hands out what is in it, and starts the thread. */
int journal_open(struct journal **ret_journal, const char *path,
                 const struct journal_reader *reader, struct err *err);
/* Writes what is queued, if it can be written, and ends the thread. NULL is fine. */
void journal_close(struct journal *j);

/* Each copies what it is given. Without memory, or when far too much waits, the change is lost and
 * journal_trouble() says so. */

void journal_add(struct journal *j, const struct journal_call *call);
/* More of a choice's log, which begins at byte `at`. */
void journal_add_tokens(struct journal *j, const char *id, int choice, int64_t at, const void *data,
                        size_t length);
/* How often it was begun again since its last token. */
void journal_restarts(struct journal *j, const char *id, int n_restarts);
void journal_end(struct journal *j, const char *id, const struct journal_end *end);
void journal_remove(struct journal *j, const char *id);

/* What is queued is written at once. Returns a ticket: when journal_settled() has come so far, it
 * is in the file. */
uint64_t journal_hurry(struct journal *j);
/* The newest ticket whose changes are in the file, or need not be waited for, since the file cannot
 * be written now. */
uint64_t journal_settled(const struct journal *j);
/* Readable after journal_settled() has moved: reading takes that away. */
int journal_fd(const struct journal *j);
void journal_take_wake(struct journal *j);

enum journal_state { JOURNAL_WORKS, JOURNAL_WAITS, JOURNAL_LOST };
/* JOURNAL_WAITS: the file cannot be written now, *ret_why says why; JOURNAL_LOST: changes are
 * missing in it, and nothing is written any more. To be asked now and then: it is here that a write
 * is found to take too long. */
enum journal_state journal_trouble(struct journal *j, struct err *ret_why);

#endif
