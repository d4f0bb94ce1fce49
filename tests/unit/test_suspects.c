/* A request that ends every worker that computes a certain row of it, among others that do not: it
 * is found, nobody else is blamed, and all the others get the answers that their tokens give. */
#include "coordinator/suspects.h"

#include "tests/support/scheduler_world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct poison {
    struct request *request; /* NULL: it is gone */
    int position;            /* whoever computes this row ends ... */
    bool in_chunks_only;     /* ... if it comes with the one before it */
    int n_ends;
};

/* Whether the next step of the queue ends its worker. */
static bool is_deadly(const struct world *w, const struct poison *p)
{
    const struct choice *c = p->request ? &p->request->choices[0] : NULL;
    const struct batch *b = &w->stage.queue[0].batch;
    for (uint32_t i = 0; c && w->stage.n_queued && i < b->n_sequences; i++) {
        const struct batch_sequence *q = &b->sequences[i];
        uint32_t first = q->position + (p->in_chunks_only ? 1 : 0), at = (uint32_t)p->position;
        if ((int)q->sequence == c->slot && at >= first && at < q->position + q->count)
            return true;
    }
    return false;
}

/* A worker ends, and says in which step if it is seen. Whoever is blamed is gone. */
static struct request *end_worker(struct world *w, bool is_seen)
{
    pipeline_blame(&w->pipeline, is_seen ? w->stage.queue[0].batch.step : 0);
    struct choice *guilty = scheduler_suspect(&w->scheduler, is_seen);
    struct request *r = guilty ? guilty->request : NULL;
    if (r)
        world_drop(w, r);
    world_renew(w);
    return r;
}

static void run(struct world *w, struct poison *p, bool is_seen)
{
    for (int i = 0; w->n_requests; i++) {
        assert_true(i < 20000);
        world_send(w);
        world_check(w);
        if (is_deadly(w, p)) {
            p->n_ends++;
            struct request *blamed = end_worker(w, is_seen);
            if (blamed)
                assert_ptr_equal(blamed, p->request);
            p->request = blamed ? NULL : p->request;
        } else {
            assert_true(fake_stage_answer(&w->stage));
            world_take(w);
        }
    }
    assert_null(p->request);
    world_finish(w);
    assert_false(w->scheduler.has_suspects);
}

/* Some with choices, some that begin alike, of all kinds. */
static void add_others(struct world *w, int n)
{
    for (int i = 0; i < n; i++) {
        uint32_t salt = world_any(w, 3);
        int n_prompt = 1 + (int)world_any(w, 200), max_tokens = 1 + (int)world_any(w, 60);
        if (i % 4 == 3)
            world_add(w, world_request(REQUEST_SCORE, n_prompt + 1, 0, 1, salt));
        else if (i % 2)
            world_add(w, world_request_cached(150, max_tokens, 1, salt));
        else
            world_add(w, world_request(REQUEST_GENERATE, n_prompt, max_tokens, 1 + i % 3, salt));
        for (uint32_t k = world_any(w, 4); k > 0; k--)
            world_turn(w);
    }
}

static void open_with_poison(struct world *w, uint64_t seed, struct poison *p)
{
    const int n_prompt = 5 + (int)(seed * 37 % 160);
    world_open(w, seed, 1 + (int)(seed % 3), world_spec(6, 700, 64, 16, 40, 0));
    add_others(w, (int)(seed % 7));
    *p = (struct poison){.request = world_request_cached(n_prompt, 100, 1, 99),
                         .position = (int)world_any(w, (uint32_t)n_prompt + 90)};
    world_add(w, p->request);
}

/* The second time it is alone. */
static void who_ends_workers_that_say_so_is_found_by_the_second(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        struct world w;
        struct poison p;
        open_with_poison(&w, seed, &p);
        for (uint32_t i = 0; i < seed % 5; i++)
            world_add(&w, world_request_cached(150, 20, 1, i % 2));
        run(&w, &p, true);
        assert_int_equal(p.n_ends, 2);
        world_close(&w);
    }
}

/* Without a word: once in company, unless it was alone from the start, and twice alone. */
static void who_ends_workers_without_a_word_is_found(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        struct world w;
        struct poison p;
        open_with_poison(&w, seed, &p);
        run(&w, &p, false);
        assert_in_range(p.n_ends, 2, 3);
        world_close(&w);
    }
}

/* What went well as a single row ends workers when it is computed again with others. */
static void what_was_proven_may_be_deadly_all_the_same(void **state)
{
    (void)state;
    for (int is_seen = 0; is_seen <= 1; is_seen++) {
        struct world w;
        world_open(&w, 5, 2, world_spec(6, 700, 64, 16, 40, 0));
        struct poison p = {.request = world_request(REQUEST_GENERATE, 20, 60, 1, 7),
                           .position = 30,
                           .in_chunks_only = true};
        world_add(&w, p.request);
        for (uint32_t i = 0; i < 4; i++)
            world_add(&w, world_request(REQUEST_GENERATE, 50, 100, 1, i));
        while (p.request->choices[0].n_tokens < 40)
            world_turn(&w);
        world_renew(&w); /* for another reason */
        run(&w, &p, is_seen);
        assert_in_range(p.n_ends, 2, is_seen ? 3 : 3 + 2);
        world_close(&w);
    }
}

/* Programs are killed at all times: nobody is blamed, as long as something comes back between. */
static void who_is_there_by_chance_is_not_blamed(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 40; seed++) {
        struct world w;
        world_open(&w, seed, 1 + (int)(seed % 3), world_spec(6, 700, 64, 16, 40, 0));
        add_others(&w, 12);
        for (int i = 0, n_taken = 0, n_ends = 0; w.n_requests && i < 100000; i++) {
            world_send(&w);
            world_check(&w);
            if (n_taken == (n_ends ? 60 : 3)) {
                assert_null(end_worker(&w, n_ends++ % 2 == 0));
                n_taken = 0;
            } else if (fake_stage_answer(&w.stage)) {
                n_taken++;
                world_take(&w);
            }
        }
        world_finish(&w);
        world_close(&w);
    }
}

/* Its client takes no rows: nobody waits for its turn. */
static void a_suspect_that_cannot_go_on_hinders_nobody(void **state)
{
    (void)state;
    struct world w;
    const size_t untaken = (size_t)65 << 20;
    char *rows = calloc(1, untaken);
    assert_non_null(rows);
    world_open(&w, 1, 1, world_spec(2, 512, 512, 64, 3, 0));
    struct request *slow = world_request(REQUEST_LOGITS, 300, 0, 1, 1);
    world_add(&w, slow);
    world_send(&w);
    assert_null(end_worker(&w, true));
    assert_true(w.scheduler.has_suspects);
    buf_append(&slow->rows, rows, untaken);
    free(rows);
    world_add(&w, world_request(REQUEST_GENERATE, 4, 20, 1, 0));
    for (int i = 0; i < 30; i++)
        world_turn(&w);
    assert_int_equal(w.n_requests, 1);
    buf_drop_front(&slow->rows, untaken);
    world_finish(&w);
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_ends_workers_that_say_so_is_found_by_the_second),
        cmocka_unit_test(who_ends_workers_without_a_word_is_found),
        cmocka_unit_test(what_was_proven_may_be_deadly_all_the_same),
        cmocka_unit_test(who_is_there_by_chance_is_not_blamed),
        cmocka_unit_test(a_suspect_that_cannot_go_on_hinders_nobody),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
