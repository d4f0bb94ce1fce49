#include "proto/step_message.h"

#include "proto/wire.h"

#include <stdlib.h>
#include <string.h>

/* Everything that a Step under construction points at, freed in one go. */
struct step_draft {
    Paceline__StepSequence *sequences, **sequence_list;
    Paceline__Output *outputs, **output_list;
    Paceline__Sampling *samplings;
    Paceline__TokenBias *bias, **bias_list;
    Paceline__TokenCount *counts, **count_list;
};

static void step_draft_clear(struct step_draft *d)
{
    free(d->sequences);
    free(d->sequence_list);
    free(d->outputs);
    free(d->output_list);
    free(d->samplings);
    free(d->bias);
    free(d->bias_list);
    free(d->counts);
    free(d->count_list);
}

static bool step_draft_init(struct step_draft *d, const struct batch *b)
{
    size_t n_bias = 0, n_counts = 0;
    for (uint32_t i = 0; i < b->n_outputs; i++) {
        n_bias += b->outputs[i].sampling.n_bias;
        n_counts += b->outputs[i].sampling.n_counts;
    }
    /* one element more than needed: calloc(0) may give NULL */
    d->sequences = calloc(b->n_sequences + 1, sizeof *d->sequences);
    d->sequence_list = calloc(b->n_sequences + 1, sizeof *d->sequence_list);
    d->outputs = calloc(b->n_outputs + 1, sizeof *d->outputs);
    d->output_list = calloc(b->n_outputs + 1, sizeof *d->output_list);
    d->samplings = calloc(b->n_outputs + 1, sizeof *d->samplings);
    d->bias = calloc(n_bias + 1, sizeof *d->bias);
    d->bias_list = calloc(n_bias + 1, sizeof *d->bias_list);
    d->counts = calloc(n_counts + 1, sizeof *d->counts);
    d->count_list = calloc(n_counts + 1, sizeof *d->count_list);
    return d->sequences && d->sequence_list && d->outputs && d->output_list && d->samplings &&
           d->bias && d->bias_list && d->counts && d->count_list;
}

static void step_fill_sampling(Paceline__Sampling *to, const struct batch_sampling *from,
                               Paceline__TokenBias *bias, Paceline__TokenBias **bias_list,
                               Paceline__TokenCount *counts, Paceline__TokenCount **count_list)
{
    paceline__sampling__init(to);
    to->seed = from->seed;
    to->choice = from->choice;
    to->temperature = from->temperature;
    to->top_p = from->top_p;
    to->min_p = from->min_p;
    to->top_k = from->top_k;
    to->repetition_penalty = from->repetition_penalty;
    to->frequency_penalty = from->frequency_penalty;
    to->presence_penalty = from->presence_penalty;
    for (uint32_t i = 0; i < from->n_bias; i++) {
        paceline__token_bias__init(&bias[i]);
        bias[i].token = from->bias[i].token;
        bias[i].bias = from->bias[i].bias;
        bias_list[i] = &bias[i];
    }
    to->n_bias = from->n_bias;
    to->bias = bias_list;
    to->counts_reset = from->counts_reset;
    for (uint32_t i = 0; i < from->n_counts; i++) {
        paceline__token_count__init(&counts[i]);
        counts[i].token = from->counts[i].token;
        counts[i].generated = from->counts[i].generated;
        counts[i].in_prompt = from->counts[i].in_prompt;
        count_list[i] = &counts[i];
    }
    to->n_counts = from->n_counts;
    to->counts = count_list;
    to->logprobs = from->logprobs;
    to->top_logprobs = from->top_logprobs;
    to->n_forbidden = from->n_forbidden;
    to->forbidden = (uint32_t *)from->forbidden; /* packed from, never written */
    to->mask.len = from->n_mask;
    to->mask.data = (uint8_t *)from->mask;
}

static void step_fill_outputs(struct step_draft *d, const struct batch *b)
{
    size_t bias = 0, counts = 0;
    for (uint32_t i = 0; i < b->n_outputs; i++) {
        const struct batch_output *from = &b->outputs[i];
        Paceline__Output *to = &d->outputs[i];
        paceline__output__init(to);
        to->row = from->row;
        to->sequence = from->sequence;
        to->kind = (Paceline__OutputKind)from->kind;
        to->target = from->target;
        to->position = from->position;
        if (from->kind == BATCH_SAMPLE || from->sampling.top_logprobs) {
            step_fill_sampling(&d->samplings[i], &from->sampling, d->bias + bias,
                               d->bias_list + bias, d->counts + counts, d->count_list + counts);
            to->sampling = &d->samplings[i];
            bias += from->sampling.n_bias;
            counts += from->sampling.n_counts;
        }
        d->output_list[i] = to;
    }
}

static int step_pack_message(const Paceline__Step *step, zmq_msg_t *ret_envelope, struct err *err)
{
    size_t size = paceline__step__get_packed_size(step);
    if (size > WIRE_MAX_ENVELOPE) /* nobody would take it */
        return err_set(err, ERR_INTERNAL, "step %llu has %zu bytes, more than a message may have",
                       (unsigned long long)step->step, size);
    if (zmq_msg_init_size(ret_envelope, size) != 0)
        return err_set(err, ERR_MEMORY, "no memory for a step of %zu bytes", size);
    paceline__step__pack(step, zmq_msg_data(ret_envelope));
    return 0;
}

int step_message_pack(const struct batch *b, zmq_msg_t *ret_envelope, struct err *err)
{
    struct step_draft d = {0};
    int rc;
    if (!step_draft_init(&d, b)) {
        rc = err_set(err, ERR_MEMORY, "no memory for step %llu", (unsigned long long)b->step);
    } else {
        for (uint32_t i = 0; i < b->n_sequences; i++) {
            const struct batch_sequence *from = &b->sequences[i];
            Paceline__StepSequence *to = &d.sequences[i];
            paceline__step_sequence__init(to);
            to->sequence = from->sequence;
            to->position = from->position;
            to->count = from->count;
            to->first_block = from->first_block;
            to->n_blocks = from->n_blocks;
            to->blocks = (uint32_t *)from->blocks; /* packed from, never written */
            to->copy_from = from->copy_from;
            d.sequence_list[i] = to;
        }
        step_fill_outputs(&d, b);
        Paceline__Step step = PACELINE__STEP__INIT;
        step.deployment = b->deployment;
        step.epoch = b->epoch;
        step.step = b->step;
        step.n_sequences = b->n_sequences;
        step.sequences = d.sequence_list;
        step.n_tokens = b->n_rows;
        step.tokens = (uint32_t *)b->tokens;
        step.n_outputs = b->n_outputs;
        step.outputs = d.output_list;
        rc = step_pack_message(&step, ret_envelope, err);
    }
    step_draft_clear(&d);
    return rc;
}

static void step_read_sampling(struct batch_sampling *to, const Paceline__Sampling *from,
                               struct batch_bias *bias, struct batch_count *counts)
{
    for (size_t i = 0; i < from->n_bias; i++)
        bias[i] = (struct batch_bias){from->bias[i]->token, from->bias[i]->bias};
    for (size_t i = 0; i < from->n_counts; i++)
        counts[i] = (struct batch_count){from->counts[i]->token, from->counts[i]->generated,
                                         from->counts[i]->in_prompt};
    *to = (struct batch_sampling){
        .seed = from->seed,
        .choice = from->choice,
        .temperature = from->temperature,
        .top_p = from->top_p,
        .min_p = from->min_p,
        .top_k = from->top_k,
        .repetition_penalty = from->repetition_penalty,
        .frequency_penalty = from->frequency_penalty,
        .presence_penalty = from->presence_penalty,
        .n_bias = (uint32_t)from->n_bias,
        .bias = bias,
        .counts_reset = from->counts_reset,
        .n_counts = (uint32_t)from->n_counts,
        .counts = counts,
        .logprobs = from->logprobs,
        .top_logprobs = from->top_logprobs,
        .n_forbidden = (uint32_t)from->n_forbidden,
        .forbidden = from->forbidden,
        .n_mask = (uint32_t)from->mask.len,
        .mask = from->mask.data,
    };
}

static void step_read_outputs(struct step_message *m)
{
    const Paceline__Step *p = m->proto;
    size_t bias = 0, counts = 0;
    for (size_t i = 0; i < p->n_outputs; i++) {
        const Paceline__Output *from = p->outputs[i];
        m->outputs[i] = (struct batch_output){
            .row = from->row,
            .sequence = from->sequence,
            .kind = (enum batch_output_kind)from->kind,
            .position = from->position,
            .target = from->target,
        };
        if (from->sampling) {
            step_read_sampling(&m->outputs[i].sampling, from->sampling, m->bias + bias,
                               m->counts + counts);
            bias += from->sampling->n_bias;
            counts += from->sampling->n_counts;
        }
    }
}

int step_message_unpack(struct step_message *ret_step, const void *bytes, size_t size,
                        struct err *err)
{
    struct step_message m = {0};
    m.proto = paceline__step__unpack(NULL, size, bytes);
    if (!m.proto)
        return err_set(err, ERR_NETWORK, "a step of %zu bytes that is not ours", size);
    const Paceline__Step *p = m.proto;
    if (p->n_tokens > UINT32_MAX || p->n_sequences > p->n_tokens || p->n_outputs > p->n_tokens) {
        size_t n_tokens = p->n_tokens, n_sequences = p->n_sequences, n_outputs = p->n_outputs;
        step_message_clear(&m);
        return err_set(err, ERR_NETWORK, "a step of %zu tokens, %zu sequences and %zu outputs",
                       n_tokens, n_sequences, n_outputs);
    }
    size_t n_bias = 0, n_counts = 0;
    for (size_t i = 0; i < p->n_outputs; i++) {
        if (p->outputs[i]->sampling) {
            n_bias += p->outputs[i]->sampling->n_bias;
            n_counts += p->outputs[i]->sampling->n_counts;
        }
    }
    m.sequences = calloc(p->n_sequences + 1, sizeof *m.sequences);
    m.outputs = calloc(p->n_outputs + 1, sizeof *m.outputs);
    m.bias = calloc(n_bias + 1, sizeof *m.bias);
    m.counts = calloc(n_counts + 1, sizeof *m.counts);
    if (!m.sequences || !m.outputs || !m.bias || !m.counts) {
        step_message_clear(&m);
        return err_set(err, ERR_MEMORY, "no memory for a step of %zu bytes", size);
    }
    for (size_t i = 0; i < p->n_sequences; i++) {
        const Paceline__StepSequence *from = p->sequences[i];
        m.sequences[i] = (struct batch_sequence){
            .sequence = from->sequence,
            .position = from->position,
            .count = from->count,
            .first_block = from->first_block,
            .n_blocks = (uint32_t)from->n_blocks,
            .blocks = from->blocks,
            .copy_from = from->copy_from,
        };
    }
    step_read_outputs(&m);
    m.batch = (struct batch){
        .deployment = p->deployment,
        .epoch = p->epoch,
        .step = p->step,
        .n_rows = (uint32_t)p->n_tokens,
        .tokens = p->tokens,
        .n_sequences = (uint32_t)p->n_sequences,
        .sequences = m.sequences,
        .n_outputs = (uint32_t)p->n_outputs,
        .outputs = m.outputs,
    };
    *ret_step = m;
    return 0;
}

void step_message_clear(struct step_message *m)
{
    if (m->proto)
        paceline__step__free_unpacked(m->proto, NULL);
    free(m->sequences);
    free(m->outputs);
    free(m->bias);
    free(m->counts);
    *m = (struct step_message){0};
}

/* times of the stages before, then `last`; NULL when there is no memory */
static Paceline__StageTime **step_times(const struct step_message *m,
                                        const Paceline__StageTime *last)
{
    size_t n = m->proto->n_times;
    Paceline__StageTime **times = calloc(n + 1, sizeof *times);
    if (!times)
        return NULL;
    for (size_t i = 0; i < n; i++)
        times[i] = m->proto->times[i];
    times[n] = (Paceline__StageTime *)last; /* packed from, never written */
    return times;
}

int step_message_forward(struct step_message *m, const Paceline__StageTime *time,
                         zmq_msg_t *ret_envelope, struct err *err)
{
    Paceline__StageTime **times = step_times(m, time);
    if (!times)
        return err_set(err, ERR_MEMORY, "no memory to forward a step");
    Paceline__Step step = *m->proto;
    step.n_times++;
    step.times = times;
    int rc = step_pack_message(&step, ret_envelope, err);
    free(times);
    return rc;
}

static void step_fill_results(const struct batch_result *results, size_t n,
                              Paceline__OutputResult *rows, Paceline__OutputResult **row_list,
                              Paceline__TokenLogprob *tops, Paceline__TokenLogprob **top_list)
{
    for (size_t i = 0; i < n; i++) {
        const struct batch_result *from = &results[i];
        Paceline__OutputResult *to = &rows[i];
        paceline__output_result__init(to);
        to->row = from->row;
        to->sequence = from->sequence;
        to->kind = (Paceline__OutputKind)from->kind;
        to->token = from->token;
        to->logprob = from->logprob;
        to->not_a_number = from->not_a_number;
        to->n_top = from->n_top;
        to->top = top_list;
        for (uint32_t t = 0; t < from->n_top; t++) {
            paceline__token_logprob__init(tops);
            tops->token = from->top[t].token;
            tops->logprob = from->top[t].logprob;
            *top_list++ = tops++;
        }
        row_list[i] = to;
    }
}

int step_result_pack(const struct step_message *m, const Paceline__StageTime *last,
                     const struct batch_result *results, size_t n_results, zmq_msg_t *ret_envelope,
                     struct err *err)
{
    size_t n_tops = 0;
    for (size_t i = 0; i < n_results; i++)
        n_tops += results[i].n_top;
    Paceline__OutputResult *rows = calloc(n_results + 1, sizeof *rows);
    Paceline__OutputResult **row_list = calloc(n_results + 1, sizeof *row_list);
    Paceline__TokenLogprob *tops = calloc(n_tops + 1, sizeof *tops);
    Paceline__TokenLogprob **top_list = calloc(n_tops + 1, sizeof *top_list);
    Paceline__StageTime **times = step_times(m, last);
    int rc = 0;
    if (!rows || !row_list || !tops || !top_list || !times) {
        rc = err_set(err, ERR_MEMORY, "no memory for the results of a step");
    } else {
        step_fill_results(results, n_results, rows, row_list, tops, top_list);
        Paceline__StepResult result = PACELINE__STEP_RESULT__INIT;
        result.deployment = m->batch.deployment;
        result.epoch = m->batch.epoch;
        result.step = m->batch.step;
        result.n_results = n_results;
        result.results = row_list;
        result.n_times = m->proto->n_times + 1;
        result.times = times;
        size_t size = paceline__step_result__get_packed_size(&result);
        if (zmq_msg_init_size(ret_envelope, size) != 0)
            rc = err_set(err, ERR_MEMORY, "no memory for results of %zu bytes", size);
        else
            paceline__step_result__pack(&result, zmq_msg_data(ret_envelope));
    }
    free(rows);
    free(row_list);
    free(tops);
    free(top_list);
    free(times);
    return rc;
}

int step_result_unpack(Paceline__StepResult **ret_result, const void *bytes, size_t size,
                       struct err *err)
{
    *ret_result = paceline__step_result__unpack(NULL, size, bytes);
    if (!*ret_result)
        return err_set(err, ERR_NETWORK, "results of %zu bytes that are not ours", size);
    return 0;
}

void step_result_row(const Paceline__OutputResult *from, struct batch_result *ret_row)
{
    *ret_row = (struct batch_result){
        .row = from->row,
        .sequence = from->sequence,
        .kind = (enum batch_output_kind)from->kind,
        .token = from->token,
        .logprob = from->logprob,
        .not_a_number = from->not_a_number,
    };
    for (size_t i = 0; i < from->n_top && i < BATCH_TOP_LOGPROBS; i++)
        ret_row->top[ret_row->n_top++] =
            (struct batch_token_logprob){from->top[i]->token, from->top[i]->logprob};
}
