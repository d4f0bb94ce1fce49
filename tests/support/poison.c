/* A worker with a fault, for tests: linked into the real program around stage_forward().
 * POISON="TOKEN POSITION HOW": a step with this token at this position of a sequence ends the
 * process by "abort" or "kill", or is refused ("refuse"). */
#include "worker/stage.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int __real_stage_forward(struct stage *s, const struct batch *b, const float *in,
                         struct stage_output *ret_output, struct err *err);
int __wrap_stage_forward(struct stage *s, const struct batch *b, const float *in,
                         struct stage_output *ret_output, struct err *err);

static bool poison_is_in(const struct batch *b, unsigned token, unsigned position)
{
    const uint32_t *tokens = b->tokens;
    for (uint32_t i = 0; i < b->n_sequences; tokens += b->sequences[i++].count) {
        const struct batch_sequence *q = &b->sequences[i];
        if (position >= q->position && position < q->position + q->count &&
            tokens[position - q->position] == token)
            return true;
    }
    return false;
}

int __wrap_stage_forward(struct stage *s, const struct batch *b, const float *in,
                         struct stage_output *ret_output, struct err *err)
{
    const char *poison = getenv("POISON");
    unsigned token, position;
    char how[16];
    if (!poison || sscanf(poison, "%u %u %15s", &token, &position, how) != 3 ||
        !poison_is_in(b, token, position))
        return __real_stage_forward(s, b, in, ret_output, err);
    if (strcmp(how, "refuse") == 0)
        return err_set(err, ERR_INTERNAL, "the step is poisoned");
    if (strcmp(how, "kill") == 0)
        kill(getpid(), SIGKILL);
    abort();
}
