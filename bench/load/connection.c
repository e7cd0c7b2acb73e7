/* See connection.h. */
#include "bench/load/connection.h"

#include "bench/load/client_parts.h"
#include "bench/load/dialogue.h"
#include "bench/load/endpoint.h"
#include "bench/load/place.h"
#include "bench/load/transaction.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum {
    SLOW_PART_US = 250 * 1000, /* between two parts of what a slow connection sends */
};

static struct worker *worker_of(const struct connection *connection)
{
    return &connection->client->worker;
}

static struct tally *tally_of(const struct connection *connection)
{
    return &connection->client->meter.tally;
}

/* --- sending --- */

void connection_say(struct connection *connection, const char *text)
{
    connection->loan.pieces[0] = (struct iovec){(void *)(uintptr_t)text, strlen(text)};
}

static void lend(struct connection *connection, uint32_t count)
{
    stream_lend(worker_of(connection), stream_of(connection), &connection->loan, count);
}

/* Moves `len` octets at most from the front of `rest` to the loan; returns how many pieces. */
static uint32_t part_take(struct connection *connection, size_t len)
{
    struct iovec *rest = connection->rest;
    uint32_t count = 0, used = 0;
    while (len > 0 && used < connection->rest_count) {
        size_t part = rest[used].iov_len < len ? rest[used].iov_len : len;
        connection->loan.pieces[count++] = (struct iovec){rest[used].iov_base, part};
        rest[used].iov_base = (uint8_t *)rest[used].iov_base + part;
        rest[used].iov_len -= part;
        used += rest[used].iov_len == 0;
        len -= part;
    }
    connection->rest_count -= used;
    memmove(rest, rest + used, connection->rest_count * sizeof(*rest));
    return count;
}

/* Lends what the rate allows since the last part. Octets that it does not allow yet are owed to the
 * next; a server that did not read for long is not repaid with more than two seconds' worth. */
static void slow_send(struct connection *connection)
{
    const uint64_t second_us = 1000000, rate = connection->client->options->slow_rate;
    uint64_t now_us = worker_of(connection)->now_us;
    if (connection->slow_us + 2 * second_us < now_us)
        connection->slow_us = now_us - 2 * second_us;
    uint64_t gone_us = now_us > connection->slow_us ? now_us - connection->slow_us : 0;
    uint64_t len = rate * gone_us / second_us;
    len = len > 0 ? len : 1;
    connection->slow_us += len * second_us / rate;
    lend(connection, part_take(connection, len));
}

/* The next part: after a while, or when the rate allows an octet. */
static void slow_wait(struct connection *connection)
{
    uint64_t octet_us = 1000000 / connection->client->options->slow_rate;
    uint64_t wait_us = octet_us > SLOW_PART_US ? octet_us : SLOW_PART_US;
    stream_set_deadline(worker_of(connection), stream_of(connection),
                        connection->slow_us + wait_us);
}

void connection_send(struct connection *connection, uint32_t count)
{
    connection->lent = true;
    if (stream_of(connection)->state != STREAM_OPEN)
        return; /* TLS has ended it, and we have yet to hear of that */
    if (!connection->slow) {
        lend(connection, count);
        return;
    }
    memcpy(connection->rest, connection->loan.pieces, count * sizeof(*connection->rest));
    connection->rest_count = count;
    connection->slow_us = worker_of(connection)->now_us;
    slow_wait(connection);
}

/* --- times and chances --- */

void connection_time(struct connection *connection, enum tally_time time, uint64_t from_ns,
                     uint64_t now_ns)
{
    if (connection->sends)
        meter_time(&connection->client->meter, time, from_ns, now_ns);
}

void connection_opening_time(struct connection *connection, enum tally_time time, uint64_t from_ns,
                             uint64_t now_ns)
{
    const struct client *client = connection->client;
    struct meter *meter = &connection->client->meter;
    bool counts = client->options->warm_up_seconds > 0 ? meter_has(meter, from_ns)
                                                       : from_ns < meter->until_ns;
    if (connection->sends && counts)
        histogram_add(&meter->tally.times[time], now_ns - from_ns);
}

bool connection_chance(struct connection *connection, enum load_phase phase)
{
    double share = connection->client->options->aborts[phase];
    if (share <= 0 || !connection->sends || connection->aborting != 0)
        return false;
    uint64_t random = schedule_random(&connection->client->chance);
    return (double)(random >> 11) * 0x1p-53 < share;
}

/* --- TLS --- */

static void tls_excuse(const struct tls *tls, const char *when)
{
    const char *text = tls_failure_text(tls);
    if (client_excuse())
        fprintf(stderr, "ringmx-load: TLS %s: %s: %s\n", when, tls_failure_name(tls_failure(tls)),
                text != NULL ? text : "");
}

void connection_refuse_tls(struct connection *connection, enum tally_tls_reason reason)
{
    struct tally_tls *tls = &tally_of(connection)->tls;
    tls->failed++;
    tls->reasons[reason]++;
    connection->phase = CONNECTION_LEAVING;
    stream_abort(worker_of(connection), stream_of(connection));
}

/* A handshake that ended in the midst of it. */
static void handshake_lost(struct connection *connection)
{
    struct tally_tls *tls = &tally_of(connection)->tls;
    const struct tls *side = stream_tls(stream_of(connection));
    enum tls_failure failure = side == NULL ? TLS_FAILURE_NONE : tls_failure(side);
    tls->failed++;
    tls->reasons[failure == TLS_FAILURE_NONE ? TALLY_TLS_LOST : (unsigned)failure]++;
    if (failure != TLS_FAILURE_NONE)
        tls_excuse(side, "handshake");
}

/* What tls/ found wrong after the handshake. */
static void tls_broken(struct connection *connection)
{
    struct tally_tls *tls = &tally_of(connection)->tls;
    const struct tls *side = stream_tls(stream_of(connection));
    if (side == NULL || !stream_is_secure(stream_of(connection)) ||
        tls_failure(side) == TLS_FAILURE_NONE)
        return;
    tls->broken++;
    tls->reasons[tls_failure(side)]++;
    tls_excuse(side, "connection");
}

void connection_hello(struct connection *connection)
{
    struct client *client = connection->client;
    const struct load_tls_options *options = &client->options->tls;
    bool breaks_off = connection_chance(connection, LOAD_PHASE_HANDSHAKE);
    if (!stream_secure_client(&client->worker, stream_of(connection), client->tls_context,
                              options->name, options->resume ? client->tls_session : NULL)) {
        client_fail(client, -ENOMEM, "no memory for TLS");
        return;
    }
    connection->begun_ns = client_now_ns();
    if (breaks_off)
        connection_break_off(connection, LOAD_PHASE_HANDSHAKE);
}

static void on_secured(struct stream *stream, void *owner)
{
    struct connection *connection = owner;
    struct client *client = connection->client;
    struct tally_tls *tls = &client->meter.tally.tls;
    const struct tls_info *info = tls_info(stream_tls(stream));
    uint64_t now_ns = client_now_ns();
    bool counted = meter_has(&client->meter, now_ns);
    client->active = true;
    connection_opening_time(connection, TALLY_HANDSHAKE, connection->begun_ns, now_ns);
    tls->handshakes++;
    tls->counted += counted;
    tls->resumed += info->resumed;
    tls->resumed_counted += info->resumed && counted;
    tls->versions[info->version_index]++;
    tls->ciphers[info->cipher_index]++;
    tally_tls_group(tls, info->group[0] != '\0' ? info->group : "unknown", 1);
    if (client->options->tls.mode == LOAD_TLS_IMPLICIT) {
        connection->phase = CONNECTION_BANNER;
        connection->begun_ns = now_ns;
        connection->awaits = true;
    } else {
        dialogue_enter(connection, CONNECTION_EHLO);
    }
}

/* Taken even if nobody wants it: it keeps the server's certificates in memory. */
static void on_ticket(struct stream *stream, void *owner, struct tls_session *session)
{
    struct connection *connection = owner;
    (void)stream;
    tls_session_free(connection->client->tls_session);
    connection->client->tls_session = session;
}

/* --- the end --- */

void connection_leave(struct connection *connection)
{
    connection->phase = CONNECTION_LEAVING;
    list_remove(&connection->ready);
    stream_end(worker_of(connection), stream_of(connection));
}

void connection_break_off(struct connection *connection, enum load_phase phase)
{
    connection->aborting = 0;
    connection->aborted = (uint8_t)(phase + 1);
    tally_of(connection)->aborted[phase]++;
    transaction_drop(connection);
    if (phase == LOAD_PHASE_HANDSHAKE) /* the ClientHello has not left yet */
        stream_end(worker_of(connection), stream_of(connection));
    else
        stream_abort(worker_of(connection), stream_of(connection));
}

/* Counts what the connection's end has cost. */
static enum place_end account_end(struct connection *connection, int error)
{
    struct tally *tally = tally_of(connection);
    if (connection->aborted != 0) {
        if (connection->client->options->loop == LOAD_LOOP_CONNECTIONS)
            connection->place->intended_ns = connection->place->message_ns = 0;
        return PLACE_DONE;
    }
    tls_broken(connection);
    switch ((enum connection_phase)connection->phase) {
    case CONNECTION_ENVELOPE:
    case CONNECTION_CONTENT: transaction_lost(connection); break;
    case CONNECTION_STARTTLS:
    case CONNECTION_HANDSHAKE: handshake_lost(connection); break;
    case CONNECTION_CONNECT:
        if (error < 0 && client_excuse())
            fprintf(stderr, "ringmx-load: connect: %s\n", strerror(-error));
        tally->unopened++;
        break;
    case CONNECTION_BANNER: tally->unopened++; break;
    case CONNECTION_EHLO:
    case CONNECTION_AUTH:
    case CONNECTION_READY:
    case CONNECTION_RESET: tally->broken++; break;
    case CONNECTION_QUIT: return PLACE_DONE;
    case CONNECTION_LEAVING: break;
    }
    return PLACE_FAILED;
}

static void on_closed(struct stream *stream, void *owner, int error)
{
    struct connection *connection = owner;
    struct client *client = connection->client;
    (void)stream;
    client->active = true;
    client->open--;
    client->opening -= connection->opening;
    connection->opening = false;
    connection->closed = true;
    list_remove(&connection->ready);
    enum place_end end = account_end(connection, error);
    place_closed(client, connection->place, end, client_now_ns());
}

void connection_unfinished(struct connection *connection, uint64_t now_ns)
{
    struct client *client = connection->client;
    struct meter *meter = &client->meter;
    struct tally *tally = &meter->tally;
    enum connection_phase phase = (enum connection_phase)connection->phase;
    if (phase == CONNECTION_LEAVING)
        return;
    if (transaction_under_way(connection) && connection->sends) {
        tally->unfinished++;
        meter_time_begun(meter, TALLY_MESSAGE, connection->intended_ns, now_ns);
    }
    /* The message of an arrival that has not come so far. */
    tally->unfinished += phase < CONNECTION_READY && connection->place->message_ns != 0;
    if (phase == CONNECTION_STARTTLS || phase == CONNECTION_HANDSHAKE)
        handshake_lost(connection);
    tally->unopened += phase == CONNECTION_CONNECT || phase == CONNECTION_BANNER;
    tally->broken +=
        phase == CONNECTION_EHLO || phase == CONNECTION_AUTH || phase == CONNECTION_RESET;
    place_settle(client, connection->place, now_ns);
    connection->phase = CONNECTION_LEAVING;
}

/* --- the stream --- */

static void on_opened(struct worker *worker, struct stream *stream, void *owner)
{
    struct connection *connection = owner;
    struct client *client = connection->client;
    const struct load_options *options = client->options;
    uint64_t now_ns = client_now_ns();
    client->active = true;
    connection_opening_time(connection, TALLY_CONNECT, connection->begun_ns, now_ns);
    connection->begun_ns = now_ns;
    if (connection->slow)
        place_arrived(client, connection->place);
    if (connection_chance(connection, LOAD_PHASE_CONNECT)) {
        connection_break_off(connection, LOAD_PHASE_CONNECT);
        return;
    }
    if (options->proxy != LOAD_PROXY_NONE) {
        char header[ENDPOINT_HEADER_MAX];
        size_t len = endpoint_proxy(options, connection->number, stream->descriptor, header);
        (void)stream_write(worker, stream, header, len);
    }
    if (options->tls.mode == LOAD_TLS_IMPLICIT) {
        dialogue_enter(connection, CONNECTION_HANDSHAKE);
    } else {
        connection->phase = CONNECTION_BANNER;
        connection->awaits = true;
    }
}

static size_t on_received(struct stream *stream, void *owner, const uint8_t *data, size_t len)
{
    struct connection *connection = owner;
    (void)stream;
    connection->client->active = true;
    if (connection->aborting == 0)
        dialogue_receive(connection, (const char *)data, len, client_now_ns());
    return len;
}

static void on_returned(struct stream *stream, void *owner)
{
    struct connection *connection = owner;
    connection->client->active = true;
    if (connection->closed || stream->state != STREAM_OPEN)
        return;
    if (connection->rest_count > 0) {
        slow_wait(connection);
        return;
    }
    connection->lent = false;
    if (connection->aborting != 0)
        connection_break_off(connection, (enum load_phase)(connection->aborting - 1));
    else if (connection->held)
        dialogue_proceed(connection);
    else
        transaction_returned(connection);
}

static void on_timed_out(struct stream *stream, void *owner)
{
    struct connection *connection = owner;
    connection->client->active = true;
    if (connection->rest_count > 0)
        slow_send(connection);
    else
        stream_abort(worker_of(connection), stream); /* the server does not close after QUIT */
}

static void on_writable(struct stream *stream, void *owner)
{
    (void)stream; /* connections are never paused */
    (void)owner;
}

const struct stream_callbacks connection_callbacks = {
    .opened = on_opened,
    .received = on_received,
    .writable = on_writable,
    .returned = on_returned,
    .secured = on_secured,
    .ticket = on_ticket,
    .timed_out = on_timed_out,
    .closed = on_closed,
};
