/* See client.h. Here is the course of a run: all that happens at a certain time, looked at once a
 * turn. The rest follows from what the streams report. */
#include "bench/load/client.h"

#include "bench/load/client_parts.h"
#include "bench/load/connection.h"
#include "bench/load/dialogue.h"
#include "bench/load/place.h"
#include "bench/load/progress.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

enum {
    OPENING_MAX = 256, /* of all threads, fewer than any listen queue holds */
    SLOTS_MORE = 512,  /* streams that have ended, and still owe the kernel something */
    BUFFERS_MIN = 512, /* a turn brings no more than 256 completions */
    BUFFERS_MAX = 16384,
    BUFFER_SIZE = 2048,
    EXCUSES_MAX = 10,
};

static const uint64_t patience_ns = 30000000000;
static const uint64_t drain_ns = 10000000000;

bool client_excuse(void)
{
    static _Atomic uint32_t shown;
    if (atomic_fetch_add_explicit(&shown, 1, memory_order_relaxed) >= EXCUSES_MAX)
        return false;
    progress_clear();
    return true;
}

void client_fail(struct client *client, int error, const char *message)
{
    if (atomic_load(&client->state.error) == 0) {
        progress_clear();
        fprintf(stderr, "ringmx-load: %s\n", message);
    }
    atomic_store(&client->state.error, error);
}

static bool failed(const struct client *client)
{
    return atomic_load_explicit(&client->state.error, memory_order_relaxed) != 0;
}

/* --- the stages of a run --- */

/* Lets all connections go that wait: they have a message, or QUIT, or wait again. */
static void release(struct list *waiting)
{
    struct list all;
    struct list_node *node;
    list_init(&all);
    list_move_all(&all, waiting);
    while ((node = list_pop(&all)) != NULL)
        dialogue_next(list_entry(node, struct connection, ready));
}

static uint64_t seconds_ns(double seconds)
{
    return (uint64_t)(seconds * 1e9);
}

static void begin(struct client *client, uint64_t start_ns)
{
    const struct load_options *options = client->options;
    uint64_t from_ns = start_ns + seconds_ns(options->warm_up_seconds);
    uint64_t until_ns = options->seconds > 0 ? from_ns + seconds_ns(options->seconds) : UINT64_MAX;
    client->stage = CLIENT_RUNNING;
    client->progress_ns = start_ns;
    meter_plan(&client->meter, client->task.series, from_ns, until_ns);
    if (options->loop != LOAD_LOOP_CLOSED)
        schedule_start(&client->schedule, options->arrivals == LOAD_ARRIVALS_POISSON, options->rate,
                       start_ns, client->task.index, client->task.threads, options->mail.seed);
    release(&client->ready);
}

static void end_slow(struct worker *worker, struct stream *stream)
{
    struct connection *connection = stream_owner(stream);
    if (!connection->slow || connection->closed)
        return;
    connection->phase = CONNECTION_LEAVING;
    stream_abort(worker, stream);
}

/* The measured time is over, or the run is. */
static void drain(struct client *client, uint64_t now_ns)
{
    meter_end(&client->meter, client_now_ns(), client->options->spin);
    client->stage = CLIENT_DRAINING;
    client->drain_ends_ns = now_ns + drain_ns;
    atomic_store(&client->state.measured, true);
    worker_each_stream(&client->worker, end_slow);
    release(&client->holding);
    release(&client->ready);
}

/* Those that have ended may still say farewell. */
static void end_unfinished(struct worker *worker, struct stream *stream)
{
    struct connection *connection = stream_owner(stream);
    if (connection->closed)
        return;
    connection_unfinished(connection, connection->client->turn_ns);
    stream_abort(worker, stream);
}

/* An arrival that never was served. */
static void unstarted(struct client *client, uint64_t intended_ns)
{
    struct meter *meter = &client->meter;
    meter->tally.unstarted++;
    meter_time_begun(meter, TALLY_MESSAGE, intended_ns, client->turn_ns);
    if (client->options->loop == LOAD_LOOP_CONNECTIONS)
        meter_time_begun(meter, TALLY_CONNECTION, intended_ns, client->turn_ns);
}

/* What it has waited is added when the place is given up. */
static void place_unstarted(struct client *client, const struct place *place)
{
    (void)place;
    client->meter.tally.unstarted++;
}

static void finish(struct client *client)
{
    worker_each_stream(&client->worker, end_unfinished);
    client->stage = CLIENT_OVER;
    place_forget(client, place_unstarted);
    while (client->backlog.count > 0)
        unstarted(client, backlog_take(&client->backlog));
    worker_stop(&client->worker);
}

/* --- when a stage is over --- */

/* An open loop may have nothing to do for long. */
static bool is_at_rest(const struct client *client)
{
    switch (client->options->loop) {
    case LOAD_LOOP_CLOSED: return client->task.connections == 0;
    case LOAD_LOOP_MESSAGES: return client->busy == 0 && client->backlog.count == 0;
    case LOAD_LOOP_CONNECTIONS: return client->taken == 0;
    }
    return false;
}

static bool out_of_patience(const struct client *client, uint64_t now_ns)
{
    return now_ns > client->progress_ns && now_ns - client->progress_ns > patience_ns;
}

static bool enough(const struct client *client)
{
    uint64_t messages = client->task.messages;
    if (messages > 0 && client->over >= messages)
        return true;
    /* An arrival may end without a message. */
    if (messages > 0 && client->options->loop != LOAD_LOOP_CLOSED &&
        client->scheduled >= messages && client->backlog.count == 0 && is_at_rest(client))
        return true;
    return client->alive == 0 || (client->task.connections > 0 && client->senders_alive == 0);
}

static bool drained(const struct client *client)
{
    return client->open == 0 && list_empty(&client->waiting) && list_empty(&client->retrying) &&
           (client->backlog.count == 0 || client->senders_alive == 0);
}

static bool wants_to_stop(const struct client *client)
{
    return atomic_load_explicit(&client->stop, memory_order_relaxed) || failed(client);
}

static void watch_opening(struct client *client, uint64_t now_ns)
{
    uint64_t start_ns = atomic_load_explicit(&client->state.start_ns, memory_order_acquire);
    if (client->arrived == client->to_come || out_of_patience(client, now_ns))
        atomic_store(&client->state.arrived, true);
    if (wants_to_stop(client))
        drain(client, now_ns);
    else if (start_ns != 0 && now_ns >= start_ns)
        begin(client, start_ns);
}

static void watch_running(struct client *client, uint64_t now_ns)
{
    struct meter *meter = &client->meter;
    if (!meter->begun && now_ns >= meter->from_ns)
        meter_begin(meter);
    meter_roll(meter, now_ns);
    if (is_at_rest(client))
        client->progress_ns = now_ns;
    if (now_ns >= meter->until_ns || wants_to_stop(client) || enough(client) ||
        out_of_patience(client, now_ns))
        drain(client, now_ns);
}

static void watch_draining(struct client *client, uint64_t now_ns)
{
    if (client->options->loop == LOAD_LOOP_CLOSED ||
        (client->options->loop == LOAD_LOOP_MESSAGES && client->backlog.count == 0))
        place_forget(client, NULL);
    if (drained(client) || now_ns >= client->drain_ends_ns || failed(client))
        finish(client);
}

/* --- arrivals --- */

/* Takes what is due from the schedule. What is intended for a time after the end never comes. */
static void arrivals_notice(struct client *client, uint64_t now_ns)
{
    struct meter *meter = &client->meter;
    uint64_t intended_ns, messages = client->task.messages;
    while ((intended_ns = schedule_next_ns(&client->schedule)) <= now_ns &&
           intended_ns < meter->until_ns && (messages == 0 || client->scheduled < messages)) {
        (void)schedule_take(&client->schedule);
        client->scheduled++;
        client->active = true;
        if (meter_has(meter, intended_ns)) {
            meter->tally.offered++;
            histogram_add(&meter->tally.times[TALLY_LATENESS], now_ns - intended_ns);
        }
        if (!backlog_add(&client->backlog, intended_ns))
            meter->tally.unstarted++;
    }
}

/* Gives what waits to whom is free. */
static void arrivals_serve(struct client *client)
{
    if (client->options->loop == LOAD_LOOP_MESSAGES) {
        struct list_node *node;
        while (client->backlog.count > 0 && (node = list_pop(&client->ready)) != NULL)
            dialogue_next(list_entry(node, struct connection, ready));
        return;
    }
    while (client->backlog.count > 0 && !list_empty(&client->spare))
        (void)place_take(client, backlog_take(&client->backlog));
}

/* --- the worker's hooks --- */

static void on_turn_end(void *user)
{
    struct client *client = user;
    bool open_loop = client->options->loop != LOAD_LOOP_CLOSED;
    bool exact = open_loop || client->options->spin;
    uint64_t now_ns = exact ? client_now_ns() : client->worker.now_us * 1000;
    if (client->stage == CLIENT_RUNNING && open_loop)
        arrivals_notice(client, now_ns);
    if (client->active)
        client->meter.busy_ns += now_ns - client->turn_ns;
    client->active = false;
    client->turn_ns = now_ns;
    if (client->stage == CLIENT_OPENING)
        watch_opening(client, now_ns);
    if (client->stage == CLIENT_RUNNING)
        watch_running(client, now_ns);
    if (client->stage == CLIENT_DRAINING)
        watch_draining(client, now_ns);
    if (open_loop && (client->stage == CLIENT_RUNNING || client->stage == CLIENT_DRAINING))
        arrivals_serve(client);
    if (client->stage != CLIENT_OVER)
        place_open_waiting(client, now_ns);
    acked_flush(&client->acked);
    if (client->acked.error != 0 && !failed(client)) {
        char message[128];
        snprintf(message, sizeof(message), "--acked: %s", strerror(-client->acked.error));
        client_fail(client, client->acked.error, message);
    }
}

static uint64_t earlier(uint64_t one_ns, uint64_t other_ns)
{
    return one_ns < other_ns ? one_ns : other_ns;
}

static uint64_t opening_next_ns(struct client *client)
{
    uint64_t start_ns = atomic_load_explicit(&client->state.start_ns, memory_order_acquire);
    if (start_ns != 0)
        return start_ns;
    return atomic_load(&client->state.arrived) ? UINT64_MAX : client->progress_ns + patience_ns + 1;
}

static uint64_t running_next_ns(const struct client *client)
{
    const struct meter *meter = &client->meter;
    uint64_t next_ns = earlier(meter->begun ? meter->until_ns : meter->from_ns,
                               earlier(meter_next_ns(meter), place_next_ns(client)));
    if (!is_at_rest(client))
        next_ns = earlier(next_ns, client->progress_ns + patience_ns + 1);
    if (client->options->loop == LOAD_LOOP_CLOSED ||
        (client->task.messages > 0 && client->scheduled >= client->task.messages))
        return next_ns;
    return earlier(next_ns, schedule_next_ns(&client->schedule));
}

static uint64_t on_next_us(void *user)
{
    struct client *client = user;
    uint64_t next_ns = UINT64_MAX;
    if (failed(client) && client->stage != CLIENT_OVER)
        return 0;
    switch (client->stage) {
    case CLIENT_OPENING: next_ns = earlier(opening_next_ns(client), place_next_ns(client)); break;
    case CLIENT_RUNNING: next_ns = running_next_ns(client); break;
    case CLIENT_DRAINING: next_ns = earlier(client->drain_ends_ns, place_next_ns(client)); break;
    case CLIENT_OVER: break;
    }
    return next_ns == UINT64_MAX ? UINT64_MAX : (next_ns + 999) / 1000;
}

/* Whatever another thread wants is looked for once a turn. */
static void on_noted(void *user, uint32_t notes)
{
    (void)user;
    (void)notes;
}

static bool on_falling_asleep(void *user)
{
    (void)user;
    return true;
}

static void on_awake(void *user)
{
    (void)user;
}

/* --- life --- */

static void tls_start(struct client *client)
{
    const struct load_tls_options *options = &client->options->tls;
    struct tls_client_options wanted = {
        .version_min = options->version_min,
        .version_max = options->version_max,
        .ca = options->ca,
        .groups = options->groups,
        .ciphers = options->ciphers,
    };
    char error[512];
    if (options->mode == LOAD_TLS_NONE)
        return;
    client->tls_context = tls_context_client(&wanted, error, sizeof(error));
    if (client->tls_context == NULL)
        words_die("%s", error);
}

struct client *client_new(const struct client_task *task)
{
    uint64_t chance = task->index; /* threads draw other numbers */
    struct client *client = calloc(1, sizeof(*client));
    if (client == NULL)
        return NULL;
    client->task = *task;
    client->options = task->options;
    client->acked.descriptor = task->acked;
    client->meter.tally.threads = 1;
    client->chance = task->options->mail.seed ^ schedule_random(&chance);
    client->opening_max = OPENING_MAX / task->threads + 1;
    meter_plan(&client->meter, task->series, UINT64_MAX, UINT64_MAX);
    list_init(&client->waiting);
    list_init(&client->retrying);
    list_init(&client->spare);
    list_init(&client->ready);
    list_init(&client->holding);
    if (!place_start(client)) {
        client_free(client);
        return NULL;
    }
    tls_start(client);
    return client;
}

void client_free(struct client *client)
{
    if (client == NULL)
        return;
    tls_session_free(client->tls_session);
    tls_context_drop(client->tls_context);
    backlog_free(&client->backlog);
    free(client->places);
    free(client);
}

static int worker_begin(struct client *client)
{
    const char *what;
    uint32_t streams = client->place_count + SLOTS_MORE, buffers = BUFFERS_MIN;
    while (buffers < client->place_count && buffers < BUFFERS_MAX)
        buffers *= 2;
    struct worker_options options = {
        .index = client->task.index,
        .cpu = client->task.cpu,
        .streams_max = streams,
        .blocks_max = 2 * streams,
        .buffer_count = buffers,
        .buffer_size = BUFFER_SIZE,
        .owner_size = sizeof(struct connection),
        .spin = client->options->spin,
        .records_max = client->tls_context != NULL ? streams : 0,
        .callbacks = connection_callbacks,
        .hooks = {.turn_end = on_turn_end,
                  .falling_asleep = on_falling_asleep,
                  .awake = on_awake,
                  .noted = on_noted,
                  .next_us = on_next_us},
        .user = client,
    };
    int error = worker_init(&client->worker, &options, &what);
    if (error < 0) {
        char message[256];
        snprintf(message, sizeof(message), "%s: %s", what, strerror(-error));
        client_fail(client, error, message);
    }
    return error;
}

int client_run(struct client *client)
{
    /* Arrivals are to be noticed in time: the kernel may not put our wake-ups together. */
    (void)prctl(PR_SET_TIMERSLACK, 1);
    int error = worker_begin(client);
    if (error == 0) {
        client->progress_ns = client->turn_ns = client_now_ns();
        atomic_store(&client->state.prepared, true);
        watch_opening(client, client->progress_ns);
        place_open_waiting(client, client->progress_ns);
        error = worker_run(&client->worker);
        if (error < 0)
            client_fail(client, error, "the ring broke");
        worker_cleanup(&client->worker);
        error = atomic_load(&client->state.error);
    }
    atomic_store(&client->state.measured, true);
    atomic_store(&client->state.finished, true);
    return error;
}

struct client_state *client_state(struct client *client)
{
    return &client->state;
}

void client_begin(struct client *client, uint64_t start_ns)
{
    atomic_store_explicit(&client->state.start_ns, start_ns, memory_order_release);
    worker_wake(&client->worker);
}

void client_stop(struct client *client)
{
    atomic_store(&client->stop, true);
    worker_wake(&client->worker);
}

const struct tally *client_tally(const struct client *client)
{
    return &client->meter.tally;
}
