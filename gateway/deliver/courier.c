/* The turn of the courier: settle what the writer has finished, take in what has arrived, deliver
 * what is due, write down the outcomes, sleep. All of it happens in one thread; what others see of
 * it are three atomics and the counters. */
#include "gateway/deliver/courier.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/base/bell.h"
#include "gateway/base/check.h"
#include "gateway/base/clock.h"
#include "gateway/deliver/attempts.h"
#include "gateway/deliver/compaction.h"

enum {
    ARRIVALS = 512,      /* taken over at a time */
    ARRIVAL_ROUNDS = 16, /* in one turn at most */
    TURN_US = 1000, /* under load a turn begins this long after the last: many messages share it */
    SLEEP_US = 1000 * 1000, /* at most; compaction is asked for once a second */
    STOP_US = 10 * 1000 * 1000,
    HOSTNAME_SIZE = 256,
};

struct courier {
    struct courier_options options;
    char hostname[HOSTNAME_SIZE];
    struct log_port *log;
    struct spool *spool;
    struct staging *staging;
    struct queue *queue;
    struct ledger *ledger;
    struct attempts *attempts;
    struct compaction compaction;
    pthread_t thread;
    bool running;

    /* The thread's own. */
    const struct routes *routes;
    bool discard_only; /* every table of routes since the start had nothing else */
    uint64_t settled;  /* of the port, as last seen */
    struct spool_message arrivals[ARRIVALS];

    /* Between threads. */
    struct bell bell;       /* rung by the writer and by those who want something */
    struct bell configured; /* rung by the courier */
    _Atomic(const struct routes *) routes_next;
    atomic_bool stop;
    struct {
        _Atomic uint64_t queued, held, delivered, deferred, expired, open;
    } counters;
};

static void ring(void *courier);
static void *run(void *courier);
static bool turn(struct courier *courier, uint64_t now_us);
static void take_routes(struct courier *courier, uint64_t now_us);
static bool take_arrivals(struct courier *courier, uint64_t now_us);
static void publish_counters(struct courier *courier);
static void nap(uint64_t us);
static void sleep_until_needed(struct courier *courier);
static void wait_for_bell(struct courier *courier, uint64_t timeout_us);
static void write_all(struct courier *courier);

struct courier *courier_new(const struct courier_options *options)
{
    struct courier *courier = calloc(1, sizeof *courier);
    if (courier == NULL)
        return NULL;
    courier->options = *options;
    size_t len = strnlen(options->hostname, HOSTNAME_SIZE - 1);
    memcpy(courier->hostname, options->hostname, len);
    courier->options.hostname = courier->hostname;
    courier->routes = options->routes;
    courier->discard_only = routes_discard_only(options->routes);
    courier->log = log_port_new(options->log, "courier");
    uint64_t retry_min_s = options->retry_min_s > 0 ? options->retry_min_s : 1;
    uint64_t retry_max_s = options->retry_max_s > retry_min_s ? options->retry_max_s : retry_min_s;
    courier->queue = queue_new(&(struct queue_options){
        .retry_min_us = retry_min_s * 1000000,
        .retry_max_us = retry_max_s * 1000000,
        .seed = clock_wall_us(),
    });
    if (courier->queue == NULL || courier->log == NULL) {
        courier_free(courier);
        return NULL;
    }
    return courier;
}

void courier_recovered(void *user, const struct spool_recovered *recovered)
{
    struct courier *courier = user;
    uint64_t now_us = clock_monotonic_us(), now_s = clock_wall_us() / 1000000;
    uint64_t due_us = now_us;

    CHECK(!courier->running);
    if (!queue_reserve(courier->queue, 1)) {
        log_message(courier->log, LOG_ERROR, "courier.memory",
                    "no memory to queue a message; it stays in the spool until the next start");
        return;
    }
    /* What was on hold gets one attempt at each start. A clock that was wrong cannot put a message
     * off beyond the schedule. */
    if (recovered->next_attempt_s != LEDGER_HELD_S && recovered->next_attempt_s > now_s) {
        uint64_t wait_us = courier->options.retry_max_s * 1250000ull;
        if (recovered->next_attempt_s - now_s < wait_us / 1000000)
            wait_us = (recovered->next_attempt_s - now_s) * 1000000;
        due_us = now_us + wait_us;
    }
    struct queue_entry *entry = queue_add(courier->queue, recovered->message, now_us, due_us);
    entry->unseen = true;
    for (uint32_t i = 0; recovered->done != NULL && i < entry->message.recipient_count; i++)
        if ((recovered->done[i / 8] >> i % 8 & 1) != 0)
            queue_finish(entry, i);
}

bool courier_attach(struct courier *courier, struct spool *spool)
{
    CHECK(courier->spool == NULL);
    courier->spool = spool;
    courier->staging = spool_port(spool, ring, courier);
    if (courier->staging == NULL)
        return false;
    courier->ledger = ledger_new(spool, courier->staging);
    courier->attempts = attempts_new(&(struct attempts_options){
        .spool = spool,
        .queue = courier->queue,
        .ledger = courier->ledger,
        .log = courier->log,
        .hostname = courier->hostname,
        .lifetime_s = courier->options.lifetime_s,
    });
    courier->compaction = (struct compaction){.spool = spool,
                                              .staging = courier->staging,
                                              .queue = courier->queue,
                                              .ledger = courier->ledger};
    spool_on_arrival(spool, ring, courier);
    return courier->ledger != NULL && courier->attempts != NULL;
}

int courier_start(struct courier *courier)
{
    pthread_attr_t attributes;
    cpu_set_t cpus;
    sigset_t all, before;

    CHECK(courier->spool != NULL && !courier->running);
    publish_counters(courier);
    int error = pthread_attr_init(&attributes);
    if (error != 0)
        return -error;
    if (courier->options.cpu >= 0) {
        CPU_ZERO(&cpus);
        CPU_SET((size_t)courier->options.cpu, &cpus);
        error = pthread_attr_setaffinity_np(&attributes, sizeof cpus, &cpus);
    }
    /* Signals are for the main thread. With SIGXFSZ blocked a file that grows too large is an error
     * of that file. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    if (error == 0)
        error = pthread_create(&courier->thread, &attributes, run, courier);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    courier->running = error == 0;
    return -error;
}

void courier_configure(struct courier *courier, const struct routes *routes)
{
    if (!courier->running) {
        courier->routes = routes;
        courier->discard_only = courier->discard_only && routes_discard_only(routes);
        return;
    }
    atomic_store(&courier->routes_next, routes);
    bell_ring(&courier->bell);
    while (atomic_load(&courier->routes_next) != NULL)
        bell_wait(&courier->configured, UINT64_MAX);
}

void courier_stop(struct courier *courier)
{
    if (!courier->running)
        return;
    atomic_store(&courier->stop, true);
    bell_ring(&courier->bell);
    pthread_join(courier->thread, NULL);
    courier->running = false;
    /* The writer may still ring; the courier must live until the spool has stopped, too. */
}

void courier_free(struct courier *courier)
{
    if (courier == NULL)
        return;
    CHECK(!courier->running);
    attempts_free(courier->attempts);
    ledger_free(courier->ledger);
    queue_free(courier->queue);
    free(courier);
}

void courier_snapshot(const struct courier *courier, struct courier_snapshot *out)
{
    out->queued = atomic_load_explicit(&courier->counters.queued, memory_order_relaxed);
    out->held = atomic_load_explicit(&courier->counters.held, memory_order_relaxed);
    out->delivered = atomic_load_explicit(&courier->counters.delivered, memory_order_relaxed);
    out->deferred = atomic_load_explicit(&courier->counters.deferred, memory_order_relaxed);
    out->expired = atomic_load_explicit(&courier->counters.expired, memory_order_relaxed);
    out->duplicates_possible = atomic_load_explicit(&courier->counters.open, memory_order_relaxed);
}

static void ring(void *user)
{
    struct courier *courier = user;
    bell_ring(&courier->bell);
}

static void *run(void *user)
{
    struct courier *courier = user;

    pthread_setname_np(pthread_self(), "courier");
    while (!atomic_load(&courier->stop)) {
        uint64_t start_us = clock_monotonic_us();
        bool more = turn(courier, start_us);
        publish_counters(courier);
        if (more)
            continue;
        uint64_t passed_us = clock_monotonic_us() - start_us;
        if (passed_us < TURN_US)
            nap(TURN_US - passed_us);
        sleep_until_needed(courier);
    }
    write_all(courier);
    publish_counters(courier);
    return NULL;
}

/* One turn; true when there is more to do at once. */
static bool turn(struct courier *courier, uint64_t now_us)
{
    take_routes(courier, now_us);
    courier->settled = staging_settled(courier->staging);
    ledger_settle(courier->ledger, now_us);
    bool all_arrived = take_arrivals(courier, now_us);
    uint32_t taken =
        attempts_make(courier->attempts, courier->routes, courier->discard_only, now_us);
    if (all_arrived)
        compaction_step(&courier->compaction, courier->settled, now_us);
    now_us = clock_monotonic_us();
    ledger_write(courier->ledger, now_us, false);
    /* Due, but none taken: the ledger is full, and the writer will wake us. */
    return !all_arrived || (taken > 0 && queue_next_us(courier->queue) <= now_us) ||
           compaction_busy(&courier->compaction);
}

static void take_routes(struct courier *courier, uint64_t now_us)
{
    const struct routes *next = atomic_load(&courier->routes_next);
    if (next == NULL)
        return;
    courier->routes = next;
    courier->discard_only = courier->discard_only && routes_discard_only(next);
    queue_flush(courier->queue, now_us);
    atomic_store(&courier->routes_next, NULL);
    bell_ring(&courier->configured);
}

/* Queues what has become durable; false when there may be more. */
static bool take_arrivals(struct courier *courier, uint64_t now_us)
{
    for (int round = 0; round < ARRIVAL_ROUNDS; round++) {
        if (!queue_reserve(courier->queue, ARRIVALS))
            return true; /* no memory: they stay where they are until the next turn */
        size_t count = spool_arrivals(courier->spool, courier->arrivals, ARRIVALS);
        for (size_t i = 0; i < count; i++) {
            const struct spool_message *message = &courier->arrivals[i];
            if (courier->compaction.count == 0 ||
                !compaction_arrived(&courier->compaction, message))
                queue_add(courier->queue, message, now_us, now_us);
        }
        if (count < ARRIVALS)
            return true;
    }
    return false;
}

static void publish_counters(struct courier *courier)
{
    struct attempts_counts counts = attempts_counts(courier->attempts);
    size_t queued = queue_count(courier->queue), held = queue_held(courier->queue);
    size_t open = ledger_open(courier->ledger);

    atomic_store_explicit(&courier->counters.queued, queued, memory_order_relaxed);
    atomic_store_explicit(&courier->counters.held, held, memory_order_relaxed);
    atomic_store_explicit(&courier->counters.delivered, counts.delivered, memory_order_relaxed);
    atomic_store_explicit(&courier->counters.deferred, counts.deferred, memory_order_relaxed);
    atomic_store_explicit(&courier->counters.expired, counts.expired, memory_order_relaxed);
    atomic_store_explicit(&courier->counters.open, open, memory_order_relaxed);
}

static void nap(uint64_t us)
{
    struct timespec time = {.tv_nsec = (long)us * 1000};
    CHECK(us <= TURN_US);
    (void)nanosleep(&time, NULL);
}

static void sleep_until_needed(struct courier *courier)
{
    uint64_t now_us = clock_monotonic_us();
    uint64_t wake_us = now_us + SLEEP_US;
    uint64_t due_us = queue_next_us(courier->queue);
    uint64_t write_us = ledger_next_us(courier->ledger, false);

    if (due_us < wake_us)
        wake_us = due_us > now_us ? due_us : now_us + TURN_US;
    if (write_us < wake_us)
        wake_us = write_us;
    if (wake_us > now_us)
        wait_for_bell(courier, wake_us - now_us);
}

/* Sleeps until the bell rings, for something that arrived or that the writer has settled since the
 * last look. */
static void wait_for_bell(struct courier *courier, uint64_t timeout_us)
{
    staging_set_sleeping(courier->staging, true);
    if (staging_settled(courier->staging) == courier->settled)
        bell_wait(&courier->bell, timeout_us);
    staging_set_sleeping(courier->staging, false);
}

/* Before the end: every outcome must be on disk. A spool that cannot write is given a while. */
static void write_all(struct courier *courier)
{
    uint64_t now_us = clock_monotonic_us();
    uint64_t end_us = now_us + STOP_US;

    while (ledger_open(courier->ledger) > 0 && now_us < end_us) {
        courier->settled = staging_settled(courier->staging);
        ledger_settle(courier->ledger, now_us);
        ledger_write(courier->ledger, now_us, true);
        if (ledger_open(courier->ledger) > 0)
            wait_for_bell(courier, 100 * TURN_US);
        now_us = clock_monotonic_us();
    }
    if (ledger_open(courier->ledger) > 0)
        log_message(courier->log, LOG_ERROR, "courier.stop",
                    "%zu outcomes could not be written; those messages will be delivered again",
                    ledger_open(courier->ledger));
}
