/* simulator.h - a pipeline in virtual time: the real scheduler and the real bookkeeping of steps in
 * front of stages that are nothing but durations.
 *
 * A stage takes, for a step of `rows` rows of which `outputs` sample,
 *   max(weights_us, rows * row_us) + outputs * output_us + overhead_us,
 * one step at a time, in their order; a step needs link_us[i] to come to stage i and
 * link_us[n_stages] back. Tokens are those of fake_stage.h, so a wrong schedule gives wrong
 * answers too. Everything happens in one thread and depends on nothing else. */
#ifndef PACELINE_TESTS_SUPPORT_SIMULATOR_H
#define PACELINE_TESTS_SUPPORT_SIMULATOR_H

#include "coordinator/scheduler.h"
#include "tests/support/fake_stage.h"

#define SIMULATOR_STAGES   64
#define SIMULATOR_REQUESTS 300
#define SIMULATOR_GAPS     100000

struct simulated_stage {
    double weights_us, row_us, output_us, overhead_us;
};

struct simulated_request {
    struct request *request;
    int64_t last_us;  /* its last token came; 0: none yet */
    int64_t ended_us; /* 0: it runs */
    bool endless;     /* it is not waited for */
};

/* Processor time, not the virtual one. */
struct simulator_real {
    int64_t send_ns, pack_ns, take_ns, n_rows; /* pack: again, what is in send already */
    int n_steps;
};

struct simulator {
    struct simulator_real real;
    void *zmq;
    struct pipeline pipeline;
    struct scheduler scheduler;
    struct fake_stage fake;
    int n_stages;
    bool is_trusting; /* tokens are not verified */
    struct simulated_stage stages[SIMULATOR_STAGES];
    double link_us[SIMULATOR_STAGES + 1];
    double free_us[SIMULATOR_STAGES]; /* when it has done what it has */
    struct {
        double done_us;
        uint32_t compute_us[SIMULATOR_STAGES], wait_us[SIMULATOR_STAGES];
    } under_way[FAKE_STAGE_QUEUE]; /* beside fake.queue */
    int n_under_way;
    int64_t now_us;
    struct simulated_request requests[SIMULATOR_REQUESTS];
    int n_requests;
    int64_t gaps_us[SIMULATOR_GAPS]; /* between tokens of one choice */
    int n_gaps;
    int64_t n_tokens;
};

/* Slots, context and rows as a coordinator would have them. */
void simulator_open(struct simulator *s, int n_stages, const struct simulated_stage *stages,
                    double link_us, int n_slots, int context);
void simulator_close(struct simulator *s); /* cancels what runs, checks that nothing is left */
struct request *simulator_add(struct simulator *s, int n_prompt, int max_tokens, bool endless);
/* Until all have ended but the endless, or until a time; how long it took. */
int64_t simulator_run(struct simulator *s);
void simulator_run_until(struct simulator *s, int64_t us);
/* What is under way is lost; after so long the same stages serve a new plan. */
void simulator_renew(struct simulator *s, int64_t after_us);
void simulator_forget_gaps(struct simulator *s);
/* Of the gaps so far: p of 0..1, by nearest rank. */
int64_t simulator_gap(struct simulator *s, double p);

#endif
