/* losses.h - who was lost how often of late, and for how long that keeps them out.
 *
 * The first loss costs nothing, the second 5 s, each further one twice as much, 300 s at most.
 * Whoever stays for ten minutes after being let in begins anew. Times are the caller's, monotonic.
 */
#ifndef PACELINE_COORDINATOR_LOSSES_H
#define PACELINE_COORDINATOR_LOSSES_H

#include <stdint.h>

#define LOSSES_MOST 256 /* workers that are remembered; then the oldest losses are forgotten */
#define LOSSES_WHO  256 /* bytes of a name */

struct loss {
    char who[LOSSES_WHO];
    int n;            /* in a row */
    int64_t until_ms; /* kept out until then; the last loss, where it costs nothing */
};

struct losses {
    struct loss list[LOSSES_MOST];
    int n;
};

/* who: shorter than LOSSES_WHO. */
void losses_note(struct losses *l, const char *who, int64_t now_ms);
/* Until when it is kept out, and how often it was lost in a row; 0: it may come. */
int64_t losses_until(const struct losses *l, const char *who, int64_t now_ms, int *ret_n);

#endif
