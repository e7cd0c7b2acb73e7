/* One thread of the sink: see sink_server.h. */
#include "bench/sink_server.h"

#include "bench/sink_session.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* --- delays --- */

void sink_server_delay(struct sink_server *server, struct sink_session *session, uint64_t delay_us)
{
    /* A phase has one delay, so each list is in the order of time of itself. */
    session->due_us = server->worker.now_us + delay_us;
    list_append(&server->delayed[session->phase], &session->delayed);
    server->counters.delayed[session->phase]++;
}

static void fire_delays(struct sink_server *server)
{
    for (unsigned i = 0; i < SINK_PHASE_COUNT; i++) {
        struct list_node *node;
        while ((node = list_first(&server->delayed[i])) != NULL) {
            struct sink_session *session = list_entry(node, struct sink_session, delayed);
            if (session->due_us > server->worker.now_us)
                break;
            list_remove(node);
            sink_session_delayed(session);
        }
    }
}

static uint64_t next_delay(const struct sink_server *server)
{
    uint64_t due_us = UINT64_MAX;
    for (unsigned i = 0; i < SINK_PHASE_COUNT; i++) {
        struct list_node *node = list_first(&server->delayed[i]);
        if (node != NULL && list_entry(node, struct sink_session, delayed)->due_us < due_us)
            due_us = list_entry(node, struct sink_session, delayed)->due_us;
    }
    return due_us;
}

uint64_t sink_server_number(struct sink_server *server)
{
    return server->numbers++ * server->options->threads + server->index + 1;
}

/* --- the worker's hooks --- */

static bool accepted(void *user, int descriptor, const union address_any *peer)
{
    static const char busy[] = "421 4.3.2 Too many connections\r\n";
    struct sink_server *server = user;
    (void)peer;
    server->counters.connections++;
    if (server->worker.slots.used < server->worker.slots.count)
        return true;
    (void)!send(descriptor, busy, sizeof(busy) - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
    return false;
}

static void turn_end(void *user)
{
    struct sink_server *server = user;
    if (server->delays)
        fire_delays(server);
    sink_log_flush(&server->log); /* before the replies leave */
}

static bool falling_asleep(void *user)
{
    struct sink_server *server = user;
    if (server->delays)
        sink_alarm_set(&server->alarm, next_delay(server));
    return true;
}

static void awake(void *user)
{
    (void)user;
}

static void drain_stream(struct worker *worker, struct stream *stream)
{
    (void)worker;
    if (stream->state == STREAM_OPEN)
        sink_session_drain(stream_owner(stream));
}

static void noted(void *user, uint32_t notes)
{
    struct sink_server *server = user;
    if (notes & SINK_NOTE_DRAIN) {
        server->draining = true;
        worker_stop(&server->worker);
        worker_each_stream(&server->worker, drain_stream);
    }
    if (notes & SINK_NOTE_ABORT)
        worker_each_stream(&server->worker, stream_abort);
}

/* --- life --- */

static const struct stream_callbacks callbacks = {
    .opened = sink_session_opened,
    .received = sink_session_received,
    .writable = sink_session_writable,
    .secured = sink_session_secured,
    .timed_out = sink_session_timed_out,
    .closed = sink_session_closed,
};

static const struct worker_hooks hooks = {
    .accepted = accepted,
    .turn_end = turn_end,
    .falling_asleep = falling_asleep,
    .awake = awake,
    .noted = noted,
};

static void make_texts(struct sink_server *server)
{
    const struct sink_options *options = server->options;
    server->greeting_len =
        (uint16_t)snprintf(server->greeting, sizeof(server->greeting), "220 %s %s ringmx-sink\r\n",
                           options->hostname, options->lmtp ? "LMTP" : "ESMTP");
    for (unsigned i = 0; i < 2; i++)
        server->ehlo_len[i] = (uint16_t)sink_options_ehlo(options, i == 1, server->ehlo[i]);
}

static int init(struct sink_server *server, int log_descriptor)
{
    const struct sink_options *options = server->options;
    make_texts(server);
    for (unsigned i = 0; i < SINK_PHASE_COUNT; i++) {
        list_init(&server->delayed[i]);
        server->delays |= options->faults->rules[i].delay_share > 0;
    }
    if (!sink_log_init(&server->log, log_descriptor) ||
        !blocks_init_sized(&server->lines, options->connections_max, SINK_LINE_MAX))
        return -ENOMEM;
    return 0;
}

static int start(struct sink_server *server, const char **what)
{
    const struct sink_options *options = server->options;
    struct worker_options worker = {
        .index = server->index,
        .cpu = options->cpu < 0 ? -1 : options->cpu + (int)server->index,
        .streams_max = options->connections_max,
        .blocks_max = options->connections_max * 4 + 65536,
        .buffer_count = 2048,
        .buffer_size = 16384,
        .owner_size = sizeof(struct sink_session),
        .listeners = server->listeners,
        .listener_count = options->listener_count,
        .records_max = server->tls != NULL ? options->connections_max : 0,
        .callbacks = callbacks,
        .hooks = hooks,
        .user = server,
    };
    int result = worker_init(&server->worker, &worker, what);
    if (result < 0 || !server->delays)
        return result;
    *what = "thread";
    result = sink_alarm_start(&server->alarm, &server->worker, SINK_NOTE_ALARM);
    if (result < 0)
        worker_cleanup(&server->worker);
    return result;
}

int sink_server_run(struct sink_server *server, int log_descriptor, _Atomic int *ready,
                    const char **what)
{
    *what = "memory";
    int result = init(server, log_descriptor);
    if (result == 0)
        result = start(server, what);
    atomic_store(ready, result == 0 ? 1 : result);
    if (result == 0) {
        result = worker_run(&server->worker);
        if (server->delays)
            sink_alarm_end(&server->alarm);
        worker_cleanup(&server->worker);
    }
    blocks_cleanup(&server->lines);
    sink_log_cleanup(&server->log);
    return result;
}
