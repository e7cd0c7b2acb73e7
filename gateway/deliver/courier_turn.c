/* The courier's thread: a worker without listeners. Its turn: settle what the writer has finished,
 * take in what has arrived, sort what is due, let destinations and store work, write down the
 * outcomes. Arrivals and outcomes are looked at once a millisecond at most, so that under load many
 * share it. */
#include "gateway/deliver/courier_inside.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gateway/base/check.h"
#include "gateway/base/clock.h"

enum {
    ARRIVAL_ROUNDS = 16,        /* in one look at most */
    LOOK_US = 1000,             /* looks are so far apart */
    SLEEP_US = 1000 * 1000,     /* at most; compaction is asked for once a second */
    DOUBT_US = 50 * 1000,       /* texts without a reply are counted so often */
    STOP_US = 10 * 1000 * 1000, /* for what is under way, and again for the disk */
    MOVING_US = 1000 * 1000,
    NOTICES_SPARE = 64, /* room for notifications that is kept for what next hops refuse */
    CONNECTIONS = 1000,
    RETRY_MAX_S = 3600, /* of a dead destination */
    STORE_THREADS = 2,
    BUFFERS = 512,
    BUFFER_SIZE = 4096,
    REFUSE_US = 5000,
};

/* --- consignments on their way --- */

static void delivered(struct delivery *delivery)
{
    struct courier *courier = delivery->user;
    struct consign *consign = list_entry(delivery, struct consign, delivery);
    struct destination_snapshot destination = {.name = ""};

    (void)destinations_snapshot(courier->destinations, consign->consignment->destination,
                                &destination);
    outcome_delivery(courier->outcome, consign, OUTCOME_REMOTE, destination.name);
}

static struct delivery *load(void *user, struct consignment *consignment)
{
    struct courier *courier = user;
    struct consign *consign;

    if (consignment->message->moving || !outcome_room(courier->outcome)) {
        outcome_put_off(courier->outcome, consignment, MOVING_US);
        return NULL;
    }
    if (outcome_returned(courier->outcome, consignment, OUTCOME_REMOTE))
        return NULL;
    int error = consign_open(courier->consigns, consignment, courier->rules.routes,
                             courier->rules.srs, courier->worker.now_wall_us / 1000000, &consign);
    if (error != 0) {
        outcome_unreadable(courier->outcome, consignment, error);
        return NULL;
    }
    if (consign->delivery.recipient_count == 0) {
        outcome_delivery(courier->outcome, consign, OUTCOME_REMOTE, "");
        return NULL;
    }
    consign->delivery.user = courier;
    consign->delivery.delivered = delivered;
    return &consign->delivery;
}

static void unreachable(void *user, struct consignment *consignment, const struct verdict *why)
{
    struct courier *courier = user;
    struct destination_snapshot destination = {.name = ""};

    /* Thousands may fail at once, and each has somebody to be told. */
    if (consignment->message->moving || !outcome_room(courier->outcome) ||
        notify_room(courier->notify) < NOTICES_SPARE) {
        outcome_put_off(courier->outcome, consignment, MOVING_US);
        return;
    }
    (void)destinations_snapshot(courier->destinations, consignment->destination, &destination);
    outcome_failed(courier->outcome, consignment, OUTCOME_REMOTE, destination.name, why);
}

static bool overdue(void *user, struct consignment *consignment, const struct verdict *why)
{
    struct courier *courier = user;
    (void)why;
    return !consignment->message->moving && outcome_overdue(courier->outcome, consignment);
}

static void stored(void *user, const struct store_report *report)
{
    struct courier *courier = user;
    outcome_stored(courier->outcome, report);
}

/* Gives the store what stands in its line. */
static void fill_store(struct courier *courier)
{
    struct consignment *consignment;

    while (store_room(courier->store) && outcome_room(courier->outcome) &&
           (consignment = line_take(&courier->stores)) != NULL) {
        bool moving = consignment->message->moving;
        if (!moving && outcome_returned(courier->outcome, consignment, OUTCOME_STORED))
            continue;
        if (moving || !store_add(courier->store, consignment, courier->rules.routes))
            outcome_put_off(courier->outcome, consignment, MOVING_US);
    }
    store_flush(courier->store);
}

/* --- the turn --- */

/* Queues what has become durable; false when there may be more. */
static bool take_arrivals(struct courier *courier, uint64_t now_us)
{
    uint64_t now_s = courier->worker.now_wall_us / 1000000;
    atomic_store(&courier->arrived, false);
    for (int round = 0; round < ARRIVAL_ROUNDS; round++) {
        if (!queue_reserve(courier->queue, COURIER_ARRIVALS))
            return true; /* no memory: they stay where they are until there is */
        size_t count = spool_arrivals(courier->spool, courier->arrivals, COURIER_ARRIVALS);
        for (size_t i = 0; i < count; i++) {
            const struct spool_message *message = &courier->arrivals[i];
            if (courier->compaction.count == 0 ||
                !compaction_arrived(&courier->compaction, message))
                queue_add(courier->queue, message, now_us,
                          now_us + spool_message_hold_us(message, now_s));
        }
        if (count < COURIER_ARRIVALS)
            return true;
    }
    return false;
}

static bool look_wanted(const struct courier *courier, uint64_t now_us)
{
    if (now_us < courier->look_us + LOOK_US)
        return false;
    bool all = courier->stage == COURIER_WRITING;
    return atomic_load(&courier->arrived) || !courier->all_arrived ||
           staging_settled(courier->staging) != courier->settled ||
           ledger_next_us(courier->ledger, all) <= now_us ||
           notify_next_us(courier->notify) <= now_us || compaction_busy(&courier->compaction) ||
           now_us >= courier->look_us + SLEEP_US;
}

static uint32_t longest_wait_s(const struct courier_options *options)
{
    uint32_t longest_s = 0;
    for (uint32_t i = 0; i < options->schedule_count; i++)
        if (options->schedule_s[i] > longest_s)
            longest_s = options->schedule_s[i];
    return longest_s < RETRY_MAX_S ? longest_s : RETRY_MAX_S;
}

/* use_pace takes over how long things take and wait. */
static void use_pace(struct courier *courier, const struct courier_options *next)
{
    struct courier_options *options = &courier->options;
    memcpy(options->schedule_s, next->schedule_s, sizeof(options->schedule_s));
    options->schedule_count = next->schedule_count;
    options->idle_s = next->idle_s;
    options->timeouts = next->timeouts;
    options->hop_cache_s = next->hop_cache_s;
    queue_configure(courier->queue, options->schedule_s, options->schedule_count);
    if (courier->stage != COURIER_RUNNING)
        return;
    destinations_configure(courier->destinations, options->idle_s, longest_wait_s(options),
                           &options->timeouts);
}

static void use_next_options(struct courier *courier)
{
    const struct courier_options *next = courier->options_next;
    if (next == NULL)
        return;
    bool same = routes_same(courier->rules.routes, next->rules.routes);
    courier->rules = next->rules;
    if (next->schedule_count > 0)
        use_pace(courier, next);
    courier->options_next = NULL;
    courier->discard_only = courier->discard_only && routes_discard_only(courier->rules.routes);
    if (courier->stage == COURIER_RUNNING) {
        passages_configure(courier->passages, courier->rules.routes);
        callaheads_configure(courier->callaheads, courier->rules.routes,
                             courier->options.hop_cache_s);
        dns_forget(courier->dns);
        if (same)
            sorter_again(courier->sorter);
        else
            sorter_reload(courier->sorter);
    }
    bell_ring(&courier->options_errand->done);
}

void courier_use_options(struct courier *courier, const struct courier_options *options,
                         struct errand *errand)
{
    CHECK(courier->options_next == NULL);
    courier->options_next = options;
    courier->options_errand = errand;
}

static void publish_counters(struct courier *courier, uint64_t now_us)
{
    struct outcome_counters counts = outcome_counters(courier->outcome);
    struct courier_snapshot *now = &courier->now;

    now->passages = *passages_counters(courier->passages);
    now->callaheads = *callaheads_counters(courier->callaheads);
    now->connecting = *destinations_counters(courier->destinations);
    dns_snapshot(courier->dns, &now->dns);
    now->queued = queue_count(courier->queue);
    now->held = queue_held(courier->queue);
    now->delivered = counts.delivered + now->passages.delivered;
    now->deferred = counts.deferred;
    now->refused = counts.refused;
    now->bounces = notify_sent(courier->notify);
    now->connections = courier->worker.slots.used;
    /* Counting goes through all that is under way; none of it is there when nothing is. */
    if (consigns_open(courier->consigns) == 0 || now_us >= courier->doubt_us + DOUBT_US) {
        courier->doubt_us = now_us;
        now->duplicates_possible = ledger_open(courier->ledger) +
                                   consigns_in_doubt(courier->consigns) + now->passages.in_doubt;
    }
    counter_publish(courier->shown, now, sizeof *now);
}

/* The part of a turn that has to do with the spool. */
static void look(struct courier *courier, uint64_t now_us)
{
    courier->look_us = now_us;
    courier->settled = staging_settled(courier->staging);
    ledger_settle(courier->ledger, now_us);
    courier->all_arrived = take_arrivals(courier, now_us);
}

static void look_end(struct courier *courier, uint64_t now_us)
{
    if (courier->all_arrived && courier->stage == COURIER_RUNNING)
        compaction_step(&courier->compaction, courier->settled, now_us);
    notify_step(courier->notify, courier->rules.bounce_original_max, now_us);
    ledger_write(courier->ledger, now_us, courier->stage == COURIER_WRITING);
}

/* --- the end --- */

void courier_begin_stop(struct courier *courier, struct errand *errand)
{
    (void)errand;
    courier->stage = COURIER_DRAINING;
    courier->deadline_us = courier->worker.now_us + STOP_US;
    passages_stop(courier->passages);
    callaheads_stop(courier->callaheads);
    destinations_stop(courier->destinations, false);
}

/* Whatever stands in lines stays in the spool. */
static void end(struct courier *courier)
{
    size_t open = ledger_open(courier->ledger) + notify_open(courier->notify);
    if (open > 0)
        log_message(courier->log, LOG_ERROR, "courier.stop",
                    "%zu outcomes could not be written; those messages will be delivered again",
                    open);
    while (destinations_empty(courier->destinations) != NULL)
        continue;
    courier->stage = COURIER_ENDED;
    if (store_at_rest(courier->store)) {
        worker_stop(&courier->worker);
        return;
    }
    log_message(courier->log, LOG_ERROR, "courier.stop",
                "writing to a Maildir hangs; those messages will be delivered again");
    worker_leave(&courier->worker);
}

static void stop_step(struct courier *courier, uint64_t now_us)
{
    if (courier->stage == COURIER_DRAINING) {
        if (now_us >= courier->deadline_us) {
            outcome_interrupt(courier->outcome);
            destinations_stop(courier->destinations, true);
            courier->deadline_us = UINT64_MAX;
        }
        bool late = courier->deadline_us == UINT64_MAX; /* a write can't be broken off */
        if (!destinations_at_rest(courier->destinations) ||
            (!late && !store_at_rest(courier->store)) || !passages_at_rest(courier->passages) ||
            !callaheads_at_rest(courier->callaheads) || consigns_open(courier->consigns) > 0)
            return;
        courier->stage = COURIER_WRITING;
        courier->deadline_us = now_us + STOP_US;
    }
    if (courier->stage == COURIER_WRITING &&
        ((ledger_open(courier->ledger) == 0 && notify_open(courier->notify) == 0) ||
         now_us >= courier->deadline_us))
        end(courier);
}

static void turn_end(void *user)
{
    struct courier *courier = user;
    uint64_t now_us = courier->worker.now_us;

    if (courier->stage == COURIER_ENDED)
        return;
    bool looking = look_wanted(courier, now_us);
    dns_turn(courier->dns);
    if (looking)
        look(courier, now_us);
    use_next_options(courier);
    if (courier->stage == COURIER_RUNNING) {
        bool told = outcome_counters(courier->outcome).told; /* they are no discards */
        if (queue_next_us(courier->queue) <= now_us)
            (void)sorter_run(courier->sorter, courier->discard_only && !told);
        courier_meet_deadlines(courier);
        fill_store(courier);
    }
    passages_turn(courier->passages, now_us);
    callaheads_turn(courier->callaheads, now_us);
    destinations_turn(courier->destinations, now_us);
    if (looking)
        look_end(courier, now_us);
    publish_counters(courier, now_us);
    if (courier->stage != COURIER_RUNNING)
        stop_step(courier, now_us);
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t next_us(void *user)
{
    struct courier *courier = user;
    uint64_t now_us = courier->worker.now_us;

    if (courier->stage == COURIER_ENDED)
        return UINT64_MAX;
    uint64_t at_us =
        earlier(dns_next_us(courier->dns), destinations_next_us(courier->destinations));
    at_us = earlier(at_us, passages_next_us(courier->passages));
    at_us = earlier(at_us, callaheads_next_us(courier->callaheads));
    if (courier->stage != COURIER_RUNNING)
        at_us = earlier(at_us, courier->deadline_us);
    else if (outcome_room(courier->outcome))
        at_us =
            earlier(at_us, earlier(queue_next_us(courier->queue), courier_deadline_us(courier)));
    /* What the look is for; a nap until the next one is due has no bells. */
    uint64_t look_us = courier->look_us + LOOK_US;
    uint64_t wanted_us = earlier(ledger_next_us(courier->ledger, courier->stage == COURIER_WRITING),
                                 notify_next_us(courier->notify));
    wanted_us = earlier(wanted_us, courier->look_us + SLEEP_US);
    if (!courier->all_arrived || compaction_busy(&courier->compaction) || now_us < look_us ||
        wanted_us < look_us)
        wanted_us = look_us;
    return earlier(at_us, wanted_us);
}

static bool falling_asleep(void *user)
{
    struct courier *courier = user;

    if (courier->stage == COURIER_ENDED || courier->worker.now_us < courier->look_us + LOOK_US)
        return true;
    staging_set_sleeping(courier->staging, true);
    atomic_store(&courier->asleep, true);
    if (!atomic_load(&courier->arrived) && staging_settled(courier->staging) == courier->settled)
        return true;
    atomic_store(&courier->asleep, false);
    staging_set_sleeping(courier->staging, false);
    return false;
}

static void awake(void *user)
{
    struct courier *courier = user;
    atomic_store(&courier->asleep, false);
    staging_set_sleeping(courier->staging, false);
}

static void noted(void *user, uint32_t notes)
{
    (void)user;
    (void)notes;
}

/* --- life --- */

/* xorshift64*: for the order of equal MX and the like, nothing that must not be guessed. */
static uint64_t random_of(void *user)
{
    struct courier *courier = user;
    courier->random ^= courier->random >> 12;
    courier->random ^= courier->random << 25;
    courier->random ^= courier->random >> 27;
    return courier->random * 2685821657736338717u;
}

static int init_worker(struct courier *courier, const char **what)
{
    const struct courier_options *options = &courier->options;
    uint32_t connections = options->connections_max != 0 ? options->connections_max : CONNECTIONS;
    /* Some are still saying QUIT while others begin. */
    uint32_t streams = connections + connections / 4 + 16;
    struct worker_options worker = {
        .index = LIMIT_WORKERS,
        .cpu = options->cpu,
        .streams_max = streams,
        .blocks_max = streams * 4 + 1024,
        .buffer_count = BUFFERS,
        .buffer_size = BUFFER_SIZE,
        .owner_size = client_owner_size(),
        .baseline = options->baseline,
        .records_max = streams,
        .callbacks = client_stream_callbacks,
        .hooks = {.turn_end = turn_end,
                  .falling_asleep = falling_asleep,
                  .awake = awake,
                  .noted = noted,
                  .next_us = next_us},
        .user = courier,
    };
    return worker_init(&courier->worker, &worker, what);
}

/* Where Linux distributions keep the CAs that their users trust. */
static const char *system_ca(void)
{
    static const char *const files[] = {"/etc/ssl/certs/ca-certificates.crt",
                                        "/etc/pki/tls/certs/ca-bundle.crt",
                                        "/etc/ssl/ca-bundle.pem", "/etc/ssl/cert.pem"};
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++)
        if (access(files[i], R_OK) == 0)
            return files[i];
    return NULL;
}

static bool make_tls(struct courier *courier)
{
    char error[256] = "no file with CAs was found";
    const char *ca = courier->ca != NULL ? courier->ca : system_ca();
    struct tls_client_options options = {.version_min = TLS_1_2, .version_max = TLS_1_3};

    courier->client.tls = tls_context_client(&options, error, sizeof error);
    options.ca = ca;
    if (ca != NULL)
        courier->client.tls_verifying = tls_context_client(&options, error, sizeof error);
    if (courier->client.tls_verifying == NULL)
        log_message(courier->log, courier->ca != NULL ? LOG_ERROR : LOG_WARN, "courier.tls",
                    "certificates of next hops can't be verified: %s", error);
    return courier->client.tls != NULL &&
           (courier->ca == NULL || courier->client.tls_verifying != NULL);
}

/* A dead destination is tried again after the first wait of the schedule, doubling up to the
 * longest. */
static int make_parts(struct courier *courier, const char **what)
{
    const struct courier_options *options = &courier->options;
    uint32_t retry_max_s = longest_wait_s(options);
    uint32_t retry_min_s = options->schedule_s[0];
    struct worker *worker = &courier->worker;

    *what = "TLS of the client";
    courier->client = (struct client_setup){.worker = worker,
                                            .log = courier->log,
                                            .hostname = courier->hostname,
                                            .timeouts = options->timeouts};
    if (!make_tls(courier))
        return -EINVAL;
    *what = "resolver (/etc/resolv.conf)";
    courier->dns = dns_new(worker, &options->dns);
    if (courier->dns == NULL)
        return -EINVAL;
    courier->exchange = (struct exchange_setup){.dns = courier->dns,
                                                .hostname = courier->hostname,
                                                .ours = courier->ours,
                                                .our_count = courier->our_count,
                                                .smtp_port = options->smtp_port,
                                                .ipv6 = options->ipv6,
                                                .random = random_of,
                                                .random_user = courier};
    *what = "memory";
    courier->destinations = destinations_new(&(struct destinations_options){
        .client = &courier->client,
        .exchange = &courier->exchange,
        .queue = courier->queue,
        .reasons = courier->reasons,
        .callbacks = {load, unreachable, overdue},
        .user = courier,
        .connections_max = options->connections_max,
        .idle_s = options->idle_s,
        .retry_min_s = retry_min_s < retry_max_s ? retry_min_s : retry_max_s,
        .retry_max_s = retry_max_s,
    });
    uint32_t threads = options->store_threads != 0 ? options->store_threads : STORE_THREADS;
    courier->helpers = helpers_new(threads, HELPERS_USUAL);
    courier->store = store_new(&(struct store_options){.spool = courier->spool,
                                                       .worker = worker,
                                                       .helpers = courier->helpers,
                                                       .hostname = courier->hostname,
                                                       .batches_max = threads * 2,
                                                       .stored = stored,
                                                       .user = courier});
    courier->sorter = sorter_new(&(struct sorter_options){.worker = worker,
                                                          .spool = courier->spool,
                                                          .queue = courier->queue,
                                                          .destinations = courier->destinations,
                                                          .outcome = courier->outcome,
                                                          .rules = &courier->rules,
                                                          .deadlines = &courier->deadlines,
                                                          .stores = &courier->stores});
    if (courier->destinations == NULL || courier->helpers == NULL || courier->store == NULL ||
        courier->sorter == NULL)
        return -ENOMEM;
    courier->passages =
        passages_new(&(struct passages_options){.destinations = courier->destinations,
                                                .routes = courier->rules.routes,
                                                .log = courier->log});
    courier->callaheads =
        callaheads_new(&(struct callaheads_options){.destinations = courier->destinations,
                                                    .routes = courier->rules.routes,
                                                    .log = courier->log,
                                                    .cache_s = options->hop_cache_s});
    return courier->passages == NULL || courier->callaheads == NULL ? -ENOMEM : 0;
}

static void free_parts(struct courier *courier)
{
    callaheads_free(courier->callaheads);
    passages_free(courier->passages);
    sorter_free(courier->sorter);
    store_free(courier->store);
    helpers_free(courier->helpers);
    destinations_free(courier->destinations);
    dns_free(courier->dns);
    tls_context_drop(courier->client.tls_verifying);
    tls_context_drop(courier->client.tls);
}

/* After the ring broke: what was under way stays as it is, nobody will ever look at it; who asks
 * for something is told no, until the stop. */
static void refuse_all(struct courier *courier)
{
    atomic_store(&courier->stopping, true);
    atomic_store(&courier->broken, true);
    if (courier->options_next != NULL) {
        courier->options_errand->refused = true;
        bell_ring(&courier->options_errand->done);
    }
    while (courier->stage == COURIER_RUNNING) {
        post_hear(&courier->worker);
        usleep(REFUSE_US);
    }
}

void *courier_run(void *user)
{
    struct courier *courier = user;

    pthread_setname_np(pthread_self(), "courier");
    int error = init_worker(courier, &courier->start_what);
    bool worker = error == 0;
    if (worker)
        error = make_parts(courier, &courier->start_what);
    courier->start_error = error;
    courier->all_arrived = true;
    bell_ring(&courier->started);
    if (error == 0) {
        error = worker_run(&courier->worker);
        if (error != 0) {
            log_message(courier->log, LOG_ERROR, "courier.ring",
                        "the ring broke, nothing is delivered any more: %s", strerror(-error));
            refuse_all(courier);
            return NULL;
        }
    }
    if (courier->store != NULL && !store_at_rest(courier->store)) {
        courier->broken = courier->left = true;
        return NULL;
    }
    free_parts(courier);
    if (worker)
        worker_cleanup(&courier->worker);
    return NULL;
}
