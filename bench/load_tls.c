/* See load_tls.h. What the kernel sends is one buffer, `wire`, that exists only while something is
 * under way: first what the handshake (or an alert) has to say, then records. A long message is
 * sealed window by window; records are as long as they may be. */
#include "bench/load_tls.h"
#include "bench/load_dialogue.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    WINDOW_RECORDS = 16, /* 256 KiB */
    RECORD_OVERHEAD = TLS_FRONT_MAX + TLS_BACK_MAX,
    HANDSHAKE_ROOM = 4096, /* for what one step of a client's handshake says; more takes turns */
    EXCUSES_MAX = 10,      /* failures shown in full */
};

struct load_tls {
    struct tls *tls;
    bool ready;   /* the handshake is done */
    bool settled; /* the first text has come, and all tickets before it */
    bool parted;  /* our last word is said */
    uint64_t hello_ns;
    uint8_t *wire; /* with the kernel, or to be sealed into; NULL: nothing is under way */
    size_t wire_room, wire_len, wire_sent;
    uint8_t *flight; /* goes before the next record; NULL: nothing does */
    size_t flight_len;
    uint8_t *partial; /* the record whose rest has not come; TLS_RECORD_MAX octets, or NULL */
    size_t partial_len;
};

/* ---- life ---- */

static void *room_take(void *old, size_t len)
{
    void *room = realloc(old, len);
    if (room == NULL)
        client_die("memory", ENOMEM);
    return room;
}

void load_tls_start(struct client *client)
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
    client->tls_context = tls_context_client(&wanted, error, sizeof error);
    if (client->tls_context != NULL)
        return;
    fprintf(stderr, "ringmx-load: %s\n", error);
    exit(2);
}

void load_tls_finish(struct client *client)
{
    tls_session_free(client->tls_session);
    tls_context_drop(client->tls_context);
    client->tls_session = NULL;
    client->tls_context = NULL;
}

void load_tls_end(struct connection *connection)
{
    struct load_tls *tls = connection->tls;
    tls_free(tls->tls);
    free(tls->wire);
    free(tls->flight);
    free(tls->partial);
    free(tls);
    connection->tls = NULL;
}

/* ---- failures ---- */

static const char *reason_text(const struct load_tls *tls)
{
    const char *text = tls_failure_text(tls->tls);
    return text != NULL ? text : "";
}

static void excuse(struct client *client, const struct load_tls *tls, const char *when)
{
    if (client->excuses++ < EXCUSES_MAX)
        fprintf(stderr, "ringmx-load: TLS %s: %s: %s\n", when,
                tls_failure_name(tls_failure(tls->tls)), reason_text(tls));
}

static void flight_send(struct client *client, struct connection *connection)
{
    if (connection->tls->flight_len > 0 && !connection->sending && !connection->gone)
        client_send(client, connection);
}

static void flight_add(struct load_tls *tls, const uint8_t *octets, size_t len)
{
    if (len == 0)
        return;
    tls->flight = room_take(tls->flight, tls->flight_len + len);
    memcpy(tls->flight + tls->flight_len, octets, len);
    tls->flight_len += len;
}

static void on_broken(struct client *client, struct connection *connection)
{
    struct load_tls *tls = connection->tls;
    client->report->tls.broken++;
    client->report->tls.reasons[tls_failure(tls->tls)]++;
    excuse(client, tls, "connection");
    load_tls_part(connection);
    client_drop(connection);
}

void load_tls_failed(struct client *client, const struct connection *connection)
{
    const struct load_tls *tls = connection->tls;
    unsigned reason = tls != NULL ? tls_failure(tls->tls) : TLS_FAILURE_NONE;
    if (reason == TLS_FAILURE_NONE && connection->refused)
        reason = connection->phase == PHASE_STARTTLS ? LOAD_TLS_REFUSED : LOAD_TLS_INJECTED;
    else if (reason == TLS_FAILURE_NONE)
        reason = LOAD_TLS_LOST;
    client->report->tls.failed++;
    client->report->tls.reasons[reason]++;
}

/* ---- the handshake ---- */

/* Tickets of TLS 1.3 come before the first text. They are taken even if nobody wants them: a ticket
 * keeps the server's certificates in memory as long as its connection. */
static void ticket_take(struct client *client, struct load_tls *tls)
{
    struct tls_session *session = tls_session_take(tls->tls);
    if (session == NULL)
        return;
    tls_session_free(client->tls_session);
    client->tls_session = session;
}

static void group_count(struct load_tls_report *report, const char *name)
{
    const char *known = name[0] != '\0' ? name : "unknown";
    for (unsigned i = 0; i < LOAD_TLS_GROUPS_MAX; i++) {
        struct load_tls_group *group = &report->groups[i];
        if (group->name == NULL)
            group->name = known;
        if (group->name != known && strcmp(group->name, known) != 0)
            continue;
        group->count++;
        return;
    }
}

static void on_ready(struct client *client, struct connection *connection)
{
    struct load_tls_report *report = &client->report->tls;
    struct load_tls *tls = connection->tls;
    const struct tls_info *info = tls_info(tls->tls);
    uint64_t took_ns = client_now_ns() - tls->hello_ns;
    tls->ready = true;
    report->handshakes++;
    report->resumed += info->resumed;
    histogram_add(&report->latency, took_ns);
    if (client->counting) {
        report->counted++;
        report->resumed_counted += info->resumed;
        histogram_add(&report->latency_counted, took_ns);
    }
    report->versions[info->version_index]++;
    report->ciphers[info->cipher_index]++;
    group_count(report, info->group);
    ticket_take(client, tls);
    dialogue_secured(client, connection);
}

/* One step, as far as the octets reach; returns how many were taken. Each turn of the loop fills
 * the room, and a client has little to say. */
static size_t handshake_feed(struct client *client, struct connection *connection,
                             const uint8_t *octets, size_t len)
{
    struct load_tls *tls = connection->tls;
    uint8_t out[HANDSHAKE_ROOM];
    enum tls_status status;
    size_t taken = 0;
    do {
        struct tls_io io = {
            .in = octets + taken, .in_len = len - taken, .out = out, .out_room = sizeof out};
        status = tls_handshake(tls->tls, &io);
        taken += io.in_taken;
        flight_add(tls, out, io.out_len);
    } while (status == TLS_OUTPUT);
    if (status == TLS_READY) {
        on_ready(client, connection);
    } else if (status != TLS_INPUT) {
        excuse(client, tls, "handshake");
        if (!connection->sending)
            client_say(connection, tls->flight, tls->flight_len);
        client_drop(connection);
    }
    return taken;
}

void load_tls_hello(struct client *client, struct connection *connection)
{
    const struct load_tls_options *options = &client->options->tls;
    struct load_tls *tls = room_take(NULL, sizeof *tls);
    *tls = (struct load_tls){0};
    connection->tls = tls;
    tls->tls = tls_client(client->tls_context, options->name,
                          options->resume ? client->tls_session : NULL);
    if (tls->tls == NULL)
        client_die("TLS", ENOMEM);
    (void)handshake_feed(client, connection, (const uint8_t *)"", 0);
    flight_send(client, connection);
    tls->hello_ns = client_now_ns();
}

/* ---- receiving ---- */

static void record_open(struct client *client, struct connection *connection, uint8_t *record,
                        size_t len)
{
    struct load_tls *tls = connection->tls;
    uint8_t *text;
    size_t text_len;
    enum tls_opened opened = tls_open(tls->tls, record, len, &text, &text_len);
    if (!tls->settled && (opened == TLS_TEXT || opened == TLS_NOTHING))
        ticket_take(client, tls);
    switch (opened) {
    case TLS_TEXT:
        tls->settled = true;
        dialogue_receive(client, connection, (const char *)text, text_len);
        break;
    case TLS_NOTHING: break;
    case TLS_CLOSED:
        load_tls_part(connection);
        client_drop(connection);
        break;
    case TLS_BROKEN: on_broken(client, connection); break;
    }
}

/* The length of the record that begins here, as far as can be told: at least the header. */
static size_t record_wanted(const uint8_t *octets, size_t len)
{
    size_t wanted = len < TLS_HEADER_LEN ? 0 : tls_record_len(octets, len);
    return wanted > 0 ? wanted : TLS_HEADER_LEN;
}

/* Puts the octets behind the part that is there; opens the record when it is whole. Returns how
 * many were taken. */
static size_t partial_add(struct client *client, struct connection *connection,
                          const uint8_t *octets, size_t len)
{
    struct load_tls *tls = connection->tls;
    size_t wanted = record_wanted(tls->partial, tls->partial_len);
    size_t taken = wanted - tls->partial_len < len ? wanted - tls->partial_len : len;
    memcpy(tls->partial + tls->partial_len, octets, taken);
    tls->partial_len += taken;
    wanted = record_wanted(tls->partial, tls->partial_len);
    if (tls->partial_len < wanted)
        return taken;
    record_open(client, connection, tls->partial, tls->partial_len);
    free(tls->partial);
    tls->partial = NULL;
    tls->partial_len = 0;
    return taken;
}

void load_tls_receive(struct client *client, struct connection *connection, uint8_t *bytes,
                      size_t len)
{
    struct load_tls *tls = connection->tls;
    size_t at = 0;
    /* A line that has begun in clear must not end in the text (RFC 3207 section 5). */
    if (!tls->ready && connection->code_len > 0) {
        connection->refused = true;
        client_drop(connection);
        return;
    }
    if (!tls->ready)
        at = handshake_feed(client, connection, bytes, len);
    while (at < len && tls->ready && !connection->gone) {
        size_t wanted = record_wanted(bytes + at, len - at);
        if (tls->partial != NULL) {
            at += partial_add(client, connection, bytes + at, len - at);
        } else if (wanted <= len - at) {
            record_open(client, connection, bytes + at, wanted);
            at += wanted;
        } else {
            tls->partial = room_take(NULL, TLS_RECORD_MAX);
        }
    }
    flight_send(client, connection);
}

/* ---- sending ---- */

static size_t text_waits(const struct msghdr *message)
{
    size_t len = 0;
    for (size_t i = 0; i < message->msg_iovlen; i++)
        len += message->msg_iov[i].iov_len;
    return len;
}

/* Takes the text of one record from the front of the message: `len` octets, which are there. It is
 * gathered at `place`, unless it lies together already. */
static const uint8_t *text_take(struct msghdr *message, uint8_t *place, size_t len)
{
    const uint8_t *whole = NULL;
    for (size_t at = 0; at < len;) {
        struct iovec *piece = message->msg_iov;
        size_t part = piece->iov_len < len - at ? piece->iov_len : len - at;
        if (part == len)
            whole = piece->iov_base;
        else
            memcpy(place + at, piece->iov_base, part);
        at += part;
        piece->iov_base = (char *)piece->iov_base + part;
        piece->iov_len -= part;
        message->msg_iov += piece->iov_len == 0;
        message->msg_iovlen -= piece->iov_len == 0;
    }
    return whole != NULL ? whole : place;
}

/* Seals `len` octets of the message behind what the wire has. False: the keys are used up. */
static bool text_seal(struct connection *connection, size_t len)
{
    struct load_tls *tls = connection->tls;
    size_t front = tls_front(tls->tls);
    tls->wire_len += tls_prelude(tls->tls, tls->wire + tls->wire_len);
    while (len > 0) {
        size_t text_len = len < TLS_TEXT_MAX ? len : TLS_TEXT_MAX;
        uint8_t *record = tls->wire + tls->wire_len;
        const uint8_t *text = text_take(&connection->message, record + front, text_len);
        size_t record_len = tls_seal(tls->tls, record, text, text_len);
        if (record_len == 0)
            return false;
        tls->wire_len += record_len;
        len -= text_len;
    }
    return true;
}

/* Begins a window: what goes before records, and as much of the message as fits. False: the keys
 * are used up. */
static bool window_seal(struct connection *connection)
{
    const size_t window = WINDOW_RECORDS * TLS_TEXT_MAX;
    struct load_tls *tls = connection->tls;
    size_t waits = tls->ready ? text_waits(&connection->message) : 0;
    size_t len = waits < window ? waits : window;
    size_t records = (len + TLS_TEXT_MAX - 1) / TLS_TEXT_MAX;
    size_t room = tls->flight_len + TLS_PRELUDE_MAX + len + records * RECORD_OVERHEAD;
    if (tls->wire_room < room) {
        free(tls->wire);
        tls->wire = room_take(NULL, room);
        tls->wire_room = room;
    }
    tls->wire_len = tls->flight_len;
    tls->wire_sent = 0;
    if (tls->flight_len > 0)
        memcpy(tls->wire, tls->flight, tls->flight_len);
    free(tls->flight);
    tls->flight = NULL;
    tls->flight_len = 0;
    return len == 0 || text_seal(connection, len);
}

struct iovec load_tls_fill(struct connection *connection)
{
    struct load_tls *tls = connection->tls;
    if (tls->wire_sent == tls->wire_len) {
        if (!window_seal(connection)) {
            client_drop(connection);
            return (struct iovec){0};
        }
        connection->dot_ns = client_now_ns();
    }
    return (struct iovec){tls->wire + tls->wire_sent, tls->wire_len - tls->wire_sent};
}

bool load_tls_sent(struct connection *connection, size_t len)
{
    struct load_tls *tls = connection->tls;
    tls->wire_sent += len;
    if (tls->wire_sent < tls->wire_len || tls->flight_len > 0)
        return true;
    if (connection->message.msg_iovlen > 0)
        return true;
    free(tls->wire);
    tls->wire = NULL;
    tls->wire_room = tls->wire_len = tls->wire_sent = 0;
    return false;
}

void load_tls_part(struct connection *connection)
{
    struct load_tls *tls = connection->tls;
    uint8_t alert[TLS_ALERT_MAX];
    if (tls->parted || connection->sending)
        return;
    tls->parted = true;
    client_say(connection, alert, tls_alert(tls->tls, alert));
}
