/* What other threads call: the courier's life, its rules, its counters. */
#include "gateway/deliver/courier_inside.h"

#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gateway/base/check.h"
#include "gateway/base/clock.h"

static void wake(void *courier);
static void arrived(void *courier);
static void hear(void *courier, struct hop_question *question);
static void publish(struct courier *courier);

struct courier *courier_new(const struct courier_options *options)
{
    struct courier *courier = calloc(1, sizeof *courier);
    if (courier == NULL)
        return NULL;
    courier->options = *options;
    size_t len = strnlen(options->hostname, COURIER_HOSTNAME_SIZE - 1);
    memcpy(courier->hostname, options->hostname, len);
    courier->options.hostname = courier->hostname;
    courier->rules = options->rules;
    courier->discard_only = routes_discard_only(options->rules.routes);
    courier->log = log_port_new(options->log, "courier");
    courier->hop = (struct hop){hear, courier};
    courier->deadlines = (struct deadlines){.lives = courier_deadline_lives, .user = courier};
    courier->random = clock_wall_us() | 1;
    courier->reasons = reasons_new();
    courier->queue = queue_new(&(struct queue_options){
        .schedule_s = courier->options.schedule_s,
        .schedule_count = options->schedule_count,
        .seed = courier->random,
    });
    if (options->ca != NULL)
        courier->ca = strdup(options->ca);
    courier->options.ca = courier->ca;
    if (courier->queue == NULL || courier->log == NULL || courier->reasons == NULL ||
        (options->ca != NULL && courier->ca == NULL)) {
        courier_free(courier);
        return NULL;
    }
    courier->operator_reason = reasons_note(courier->reasons, "held by the operator");
    return courier;
}

/* What recovery says about the time of the next attempt, as a time of ours. A clock that was wrong
 * can't put a message off beyond the schedule. */
static uint64_t due_after(const struct courier *courier, uint64_t next_s, uint64_t now_us)
{
    uint64_t now_s = clock_wall_us() / 1000000;
    uint64_t longest_us = queue_delay_longest_us(courier->queue);

    if (next_s == LEDGER_HELD_S || next_s <= now_s)
        return now_us;
    return next_s - now_s < longest_us / 1000000 ? now_us + (next_s - now_s) * 1000000
                                                 : now_us + longest_us;
}

void courier_recovered(void *user, const struct spool_recovered *recovered)
{
    struct courier *courier = user;
    uint64_t now_us = clock_monotonic_us(), now_s = clock_wall_us() / 1000000;
    const struct spool_message *found = recovered->message;

    CHECK(!courier->running);
    if (!queue_reserve(courier->queue, 1)) {
        log_message(courier->log, LOG_ERROR, "courier.memory",
                    "no memory to queue a message; it stays in the spool until the next start");
        return;
    }
    uint64_t due_us = due_after(courier, recovered->next_attempt_s, now_us);
    uint64_t release_us = now_us + spool_message_hold_us(found, now_s);
    struct queue_message *message =
        queue_add(courier->queue, found, now_us, due_us > release_us ? due_us : release_us);
    message->unseen = true;
    message->warned = now_s >= spool_message_start_s(found) + courier->rules.warn_after_s;
    for (uint32_t i = 0; recovered->done != NULL && i < found->recipient_count; i++)
        if ((recovered->done[i / 8] >> i % 8 & 1) != 0)
            queue_finish(message, i);
    struct consignment *consignment = message->consignments;
    if (recovered->next_attempt_s != LEDGER_HELD_S) {
        if (consignment->state == CONSIGNMENT_READY) { /* a backlog is not in the way of new mail */
            consignment_grab(courier->queue, consignment);
            consignment_ready(courier->queue, consignment);
        }
        return;
    }
    consignment_grab(courier->queue, consignment);
    consignment->reason =
        reasons_note(courier->reasons, reasons_text(courier->reasons, courier->operator_reason));
    consignment_hold(courier->queue, consignment);
}

bool courier_attach(struct courier *courier, struct spool *spool)
{
    CHECK(courier->spool == NULL);
    courier->spool = spool;
    courier->staging = spool_port(spool, wake, courier);
    if (courier->staging == NULL)
        return false;
    courier->ledger = ledger_new(spool, courier->staging);
    courier->consigns = consigns_new(spool);
    if (courier->ledger == NULL || courier->consigns == NULL)
        return false;
    courier->notify = notify_new(&(struct notify_options){.spool = spool,
                                                          .staging = courier->staging,
                                                          .ledger = courier->ledger,
                                                          .log = courier->log,
                                                          .hostname = courier->hostname});
    courier->outcome = outcome_new(&(struct outcome_options){
        .worker = &courier->worker,
        .log = courier->log,
        .queue = courier->queue,
        .reasons = courier->reasons,
        .operator_reason = courier->operator_reason,
        .ledger = courier->ledger,
        .notify = courier->notify,
        .consigns = courier->consigns,
        .rules = &courier->rules,
    });
    courier->compaction = (struct compaction){.spool = spool,
                                              .staging = courier->staging,
                                              .queue = courier->queue,
                                              .ledger = courier->ledger,
                                              .outcome = courier->outcome,
                                              .log = courier->log};
    spool_on_arrival(spool, arrived, courier);
    return courier->notify != NULL && courier->outcome != NULL;
}

bool courier_own(struct courier *courier, const union address_any *ours, uint32_t count)
{
    CHECK(!courier->running);
    free(courier->ours);
    courier->our_count = 0;
    courier->ours = calloc(count == 0 ? 1 : count, sizeof *ours);
    if (courier->ours == NULL)
        return false;
    if (count > 0)
        memcpy(courier->ours, ours, count * sizeof *ours);
    courier->our_count = count;
    return true;
}

/* The spool knows one time for a message, so that of a part on hold holds all of it. */
static void warn_of_held(const struct courier *courier)
{
    size_t count = 0;
    for (size_t i = 0; i < queue_slots(courier->queue); i++) {
        const struct queue_message *message = queue_at(courier->queue, i);
        count += message != NULL && message->open_count > 1 &&
                 message->consignments->state == CONSIGNMENT_HELD;
    }
    if (count > 0)
        log_message(courier->log, LOG_WARN, "courier.held",
                    "%zu messages with several recipients are on hold as a whole since this start, "
                    "also where only a part was held: ringmxctl queue list --state held",
                    count);
}

int courier_start(struct courier *courier, const char **what)
{
    sigset_t all, before;

    CHECK(courier->spool != NULL && !courier->running);
    publish(courier);
    warn_of_held(courier);
    /* Signals are for the main thread. With SIGXFSZ blocked a file that grows too large is an error
     * of that file. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    *what = "thread";
    int error = pthread_create(&courier->thread, NULL, courier_run, courier);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error != 0)
        return -error;
    while (!bell_wait(&courier->started, UINT64_MAX))
        continue;
    *what = courier->start_what;
    if (courier->start_error != 0)
        pthread_join(courier->thread, NULL);
    courier->running = courier->start_error == 0;
    return courier->start_error;
}

/* --- errands --- */

static void errand_arrived(struct post *post, struct worker *worker)
{
    struct errand *errand = (struct errand *)(void *)post;
    struct courier *courier = worker->options.user;
    if (!courier->broken) {
        errand->run(courier, errand);
    } else if (errand->run == courier_begin_stop) {
        courier->stage = COURIER_ENDED;
    } else {
        errand->refused = true;
        bell_ring(&errand->done);
    }
}

bool courier_errand(struct courier *courier, struct errand *errand)
{
    atomic_fetch_add(&courier->errands, 1);
    bool open = !atomic_load(&courier->stopping);
    if (open) {
        errand->post.arrived = errand_arrived;
        post_send(&courier->worker, &errand->post);
        while (!bell_wait(&errand->done, UINT64_MAX))
            continue;
        open = !errand->refused;
    }
    atomic_fetch_sub(&courier->errands, 1);
    return open;
}

struct configuring {
    struct errand errand; /* first */
    const struct courier_options *options;
};

static void run_configuring(struct courier *courier, struct errand *errand)
{
    const struct configuring *configuring = (const struct configuring *)(const void *)errand;
    courier_use_options(courier, configuring->options, errand);
}

void courier_configure(struct courier *courier, const struct courier_options *options)
{
    struct configuring configuring = {.errand = {.run = run_configuring}, .options = options};
    if (!courier->running) {
        courier->rules = options->rules;
        courier->discard_only = courier->discard_only && routes_discard_only(options->rules.routes);
        return;
    }
    (void)courier_errand(courier, &configuring.errand);
}

bool courier_stop(struct courier *courier)
{
    struct errand errand = {.run = courier_begin_stop};

    if (!courier->running)
        return true;
    atomic_store(&courier->stopping, true);
    while (atomic_load(&courier->errands) > 0)
        usleep(1000);
    errand.post.arrived = errand_arrived;
    post_send(&courier->worker, &errand.post);
    pthread_join(courier->thread, NULL);
    courier->running = false;
    /* The writer may still wake us; the courier must live until the spool has stopped, too. */
    return !courier->left;
}

bool courier_broken(const struct courier *courier)
{
    return atomic_load(&courier->broken);
}

void courier_free(struct courier *courier)
{
    if (courier == NULL || courier->broken)
        return;
    CHECK(!courier->running);
    compaction_free(&courier->compaction);
    deadlines_free(&courier->deadlines);
    notify_free(courier->notify);
    outcome_free(courier->outcome);
    consigns_free(courier->consigns);
    ledger_free(courier->ledger);
    queue_free(courier->queue);
    reasons_free(courier->reasons);
    free(courier->ours);
    free(courier->ca);
    free(courier);
}

/* --- from the writer, and from workers that receive --- */

static void wake(void *user)
{
    struct courier *courier = user;
    worker_wake(&courier->worker);
}

static void arrived(void *user)
{
    struct courier *courier = user;
    atomic_store(&courier->arrived, true);
    if (atomic_load(&courier->asleep))
        worker_wake(&courier->worker);
}

static void question_arrived(struct post *post, struct worker *worker)
{
    struct hop_question *question = (struct hop_question *)(void *)post;
    struct courier *courier = worker->options.user;
    if (courier->broken)
        patience_give_up(question);
    else if (question->ask == HOP_CALLAHEAD)
        callaheads_ask(courier->callaheads, question, worker->now_us);
    else
        passages_ask(courier->passages, question, worker->now_us);
}

static void hear(void *user, struct hop_question *question)
{
    struct courier *courier = user;
    question->post.arrived = question_arrived;
    post_send(&courier->worker, &question->post);
}

const struct hop *courier_hop(struct courier *courier)
{
    return &courier->hop;
}

/* --- counters --- */

static_assert(sizeof(struct courier_snapshot) % sizeof(uint64_t) == 0, "it is shown in words");

void courier_snapshot(const struct courier *courier, struct courier_snapshot *out)
{
    counter_collect(courier->shown, out, sizeof *out);
}

/* Before the thread runs. */
static void publish(struct courier *courier)
{
    courier->now.queued = queue_count(courier->queue);
    courier->now.held = queue_held(courier->queue);
    counter_publish(courier->shown, &courier->now, sizeof courier->now);
}
