/* One connection to a next hop: its life, what it hears, and its end. What is said until it is IDLE
 * is client_greet's, a transaction client_mail's.
 *
 * Upcalls are made from callbacks of the stream only. Where a function that the owner calls settles
 * something, it lends nothing at all, and the stream's next turn, which follows, tells the owner.
 */
#include "gateway/deliver/client.h"

#include "gateway/base/check.h"
#include "gateway/deliver/client_again.h"
#include "gateway/deliver/client_inside.h"
#include "gateway/deliver/client_time.h"
#include "tls/tls.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static_assert(sizeof(struct client) - sizeof(struct reply_read) - sizeof(struct stream_loan) < 1280,
              "a thousand connections are a few megabytes");

static void go_on(struct client *client);
static void finish(struct client *client);

static struct worker *worker_of(const struct client *client)
{
    return client->setup->worker;
}

/* --- the beginning --- */

struct client *client_open(const struct client_setup *setup, const struct client_peer *peer,
                           void *user)
{
    CHECK(peer->address_len <= sizeof(peer->address));
    int family = peer->address.ss_family, on = 1;
    int descriptor = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (descriptor < 0)
        return NULL;
    if (family != AF_UNIX) /* flights leave at once, whatever is still unanswered */
        (void)setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    struct worker *worker = setup->worker;
    struct sockaddr_storage *address = blocks_take(&worker->blocks);
    struct client *client = NULL;
    if (address != NULL) {
        *address = peer->address;
        client =
            worker_connect(worker, descriptor, (const struct sockaddr *)address, peer->address_len);
    }
    if (client == NULL) {
        blocks_give(&worker->blocks, address);
        close(descriptor);
        errno = ENOBUFS;
        return NULL;
    }
    client->setup = setup;
    client->user = user;
    client->peer = *peer;
    client->address = address;
    client_peer_text(peer, client->peer_text);
    client_watch(client);
    return client;
}

size_t client_owner_size(void)
{
    return sizeof(struct client);
}

static void let_address_go(struct client *client)
{
    blocks_give(&worker_of(client)->blocks, client->address);
    client->address = NULL;
}

static void on_opened(struct worker *worker, struct stream *stream, void *owner)
{
    struct client *client = owner;
    (void)worker;
    (void)stream;
    let_address_go(client);
    client_greet_opened(client);
    go_on(client);
}

static void on_secured(struct stream *stream, void *owner)
{
    struct client *client = owner;
    (void)stream;
    client_greet_secured(client);
    go_on(client);
}

bool client_secure(const struct client *client)
{
    return stream_is_secure(stream_of((void *)(uintptr_t)client));
}

/* --- saying --- */

void client_lend(struct client *client, uint32_t count)
{
    struct stream *stream = stream_of(client);
    if (client->lent || stream->state != STREAM_OPEN)
        return; /* the turn comes anyhow */
    client->lent = true;
    stream_lend(worker_of(client), stream, &client->loan, count);
}

bool client_say(struct client *client, const void *text, size_t len)
{
    struct stream *stream = stream_of(client);
    if (client->lent || stream->state != STREAM_OPEN)
        return false;
    if (stream_room(worker_of(client), stream) >= len &&
        stream_write(worker_of(client), stream, text, len))
        return true;
    if (stream_sending(stream))
        client_lend(client, 0); /* and again when what is collected has left */
    else
        client_break(client, 3, 0, "no memory");
    return false;
}

static void say_due(struct client *client)
{
    if (!client->due)
        return;
    if (client->phase == CLIENT_PHASE_RESET)
        client->due = !client_say(client, "RSET\r\n", 6);
    else if (client->phase == CLIENT_PHASE_QUIT)
        client->due = !client_say(client, "QUIT\r\n", 6);
    else
        client_greet_say(client);
    if (!client->due)
        client->awaits = true;
}

static const char *tls_word(const struct client *client)
{
    const struct stream *stream = stream_of((void *)(uintptr_t)client);
    return stream_is_secure(stream) ? tls_info(stream_tls(stream))->version : "none";
}

static void log_line(const struct client *client, const char *event, const char *reason)
{
    if (client->setup->log == NULL || !log_wanted(client->setup->log, LOG_DEBUG))
        return;
    struct log_line line = log_begin(client->setup->log, LOG_DEBUG, event);
    log_string(&line, "peer", client->peer_text);
    log_string(&line, "tls", tls_word(client));
    if (reason != NULL)
        log_number(&line, "deliveries", client->used);
    if (reason != NULL && reason[0] != '\0')
        log_string(&line, "reason", reason);
    log_end(&line);
}

static void tell_idle(struct client *client)
{
    client->due = false;
    client->idle_us = worker_of(client)->now_us;
    if (!client->greeted)
        log_line(client, "client.opened", NULL);
    client->greeted = true;
    client_watch(client);
    client->setup->callbacks->idle(client->user, client);
}

/* go_on says what is to be said, and tells what is to be told. Only from callbacks of the stream.
 */
static void go_on(struct client *client)
{
    const struct stream *stream = stream_of(client);
    client->turning = true;
    while (client->phase == CLIENT_PHASE_MAIL && stream->state == STREAM_OPEN) {
        client_mail_say(client);
        if (!client_mail_advance(client))
            break; /* each round tells of one recipient more, or ends the delivery */
    }
    client->turning = false;
    if (stream->state != STREAM_OPEN)
        return;
    if (client->phase == CLIENT_PHASE_IDLE && client->due) {
        tell_idle(client); /* who may end it, or begin a delivery */
        return;
    }
    if (client->phase != CLIENT_PHASE_MAIL)
        say_due(client);
    client_watch(client);
}

/* --- hearing --- */

/* awaits: there is a question that was not answered yet. */
static bool awaits(const struct client *client)
{
    return client->awaits || (client->phase == CLIENT_PHASE_MAIL && client_mail_awaits(client));
}

static void reset_replied(struct client *client)
{
    client->awaits = false;
    if (client->reply.code / 100 != 2) {
        client_drop(client);
        return;
    }
    client->phase = CLIENT_PHASE_IDLE;
    client->due = true;
}

/* replied: a reply is whole. */
static void replied(struct client *client)
{
    switch ((enum client_phase)client->phase) {
    case CLIENT_PHASE_GREETING:
    case CLIENT_PHASE_EHLO:
    case CLIENT_PHASE_HELO:
    case CLIENT_PHASE_STARTTLS:
        if (client->reply.code == 421)
            client_break_reply(client, false);
        else
            client_greet_replied(client);
        return;
    case CLIENT_PHASE_MAIL: client_mail_replied(client); return;
    case CLIENT_PHASE_RESET: reset_replied(client); return;
    case CLIENT_PHASE_QUIT:
        client->phase = CLIENT_PHASE_GONE;
        stream_end(worker_of(client), stream_of(client));
        return;
    case CLIENT_PHASE_CONNECT:
    case CLIENT_PHASE_HANDSHAKE:
    case CLIENT_PHASE_IDLE:
    case CLIENT_PHASE_GONE: break;
    }
    client_drop(client);
}

static void on_line(void *user, uint32_t index, struct bytes text)
{
    struct client *client = user;
    if (client->phase == CLIENT_PHASE_EHLO && index > 0 && client->reply.code / 100 == 2)
        client_greet_line(client, text);
}

/* begins_early: the first octet of a reply has come, and there was no question. Only in the midst
 * of a delivery it may be worth reading. */
static bool begins_early(struct client *client)
{
    client->early = !awaits(client);
    if (!client->early || client->phase == CLIENT_PHASE_MAIL)
        return false;
    if (client->phase == CLIENT_PHASE_IDLE && client->greeted) {
        client_drop(client); /* it has had enough of us: 421 */
        if (!client->lent)
            finish(client); /* at once, or the owner would give it a delivery in this turn */
    } else {
        client_break(client, 5, 0, "the server spoke before it was asked");
    }
    return true;
}

static size_t on_received(struct stream *stream, void *owner, const uint8_t *data, size_t len)
{
    struct client *client = owner;
    struct bytes rest = bytes_make(data, len);
    bool heard = false;
    client->turning = true;
    while (rest.len > 0 && stream->state == STREAM_OPEN) {
        struct reply_read *reply = &client->reply;
        size_t taken;
        if (reply->line_count == 0 && reply->line_len == 0 && begins_early(client))
            break;
        enum reply_result result = reply_read(reply, rest, &taken, on_line, client);
        rest = bytes_skip(rest, taken);
        if (result == REPLY_BROKEN)
            client_break(client, 5, 0, "the server does not speak SMTP");
        if (result != REPLY_WHOLE)
            break;
        heard = true;
        replied(client);
        reply_read_begin(reply);
    }
    client->turning = false;
    if (heard && stream->state == STREAM_OPEN)
        go_on(client);
    return len;
}

/* --- the end --- */

static void end_because(struct client *client, const struct verdict *why)
{
    if (client->why.kind == VERDICT_OPEN && client->phase != CLIENT_PHASE_GONE)
        client->why = *why;
    client->tls_failed |= client->phase == CLIENT_PHASE_HANDSHAKE && !client->due &&
                          client->peer.tls == ROUTE_TLS_OPPORTUNISTIC && !client->peer.tls_verify;
    client->phase = CLIENT_PHASE_GONE;
}

void client_break(struct client *client, unsigned subject, unsigned detail, const char *format, ...)
{
    char text[2 * VERDICT_TEXT_MAX];
    struct verdict why;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    verdict_own(&why, VERDICT_DEFERRED, 0,
                (struct reply_status){4, (uint16_t)subject, (uint16_t)detail}, "%s", text);
    end_because(client, &why);
    stream_abort(worker_of(client), stream_of(client));
}

void client_break_reply(struct client *client, bool politely)
{
    struct stream *stream = stream_of(client);
    struct verdict why;
    verdict_reply(&why, &client->reply);
    if (why.kind == VERDICT_DELIVERED)
        why.kind = VERDICT_DEFERRED;
    end_because(client, &why);
    if (!politely || client->lent) {
        stream_abort(worker_of(client), stream);
        return;
    }
    (void)stream_write(worker_of(client), stream, "QUIT\r\n", 6);
    stream_end(worker_of(client), stream);
}

void client_drop(struct client *client)
{
    end_because(client, &(struct verdict){.kind = VERDICT_OPEN});
    stream_abort(worker_of(client), stream_of(client));
}

/* note_failure says why the stream has ended, if it was not us. */
static void note_failure(struct client *client, int error)
{
    const struct tls *tls = stream_tls(stream_of(client));
    bool in_tls = error == -EPROTO && tls != NULL && tls_failure(tls) != TLS_FAILURE_NONE;
    const char *text = in_tls ? tls_failure_text(tls) : NULL;
    if (client->phase == CLIENT_PHASE_GONE || client->phase == CLIENT_PHASE_QUIT)
        return;
    if (!in_tls)
        client_again_closed(client);
    if (client->phase == CLIENT_PHASE_CONNECT)
        client_break(client, 4, 1, "connect: %s", error < 0 ? strerrordesc_np(-error) : "ended");
    else if (in_tls) /* subject 7 before IDLE: the owner may try without TLS */
        client_break(client, 7, 5, "TLS: %s%s%s", tls_failure_name(tls_failure(tls)),
                     text != NULL ? ": " : "", text != NULL ? text : "");
    else if (client->phase == CLIENT_PHASE_HANDSHAKE)
        client_break(client, 7, 5, "TLS: the connection broke in the handshake");
    else if (error < 0)
        client_break(client, 4, 2, "the connection broke: %s", strerrordesc_np(-error));
    else
        client_break(client, 4, 2, "the server closed the connection");
}

/* finish tells the owner that all is over. Neither stream nor kernel has anything of a delivery any
 * more. */
static void finish(struct client *client)
{
    bool delivering = client->delivery != NULL;
    const struct verdict *why = &client->why;
    client->told = true;
    client_text_end(&client->text);
    if (delivering)
        client_mail_over(client, why);
    if (why->kind == VERDICT_OPEN || client->stale || (client->greeted && !delivering))
        why = NULL;
    log_line(client, "client.closed", why != NULL ? why->text : "");
    client->setup->callbacks->closed(client->user, client, why);
}

static void on_closed(struct stream *stream, void *owner, int error)
{
    struct client *client = owner;
    if (client->told)
        return;
    let_address_go(client);
    if (error == -EPROTO && client->phase == CLIENT_PHASE_EHLO) {
        client->phase = CLIENT_PHASE_HANDSHAKE; /* a server of TLS 1.3 finds fault with us only */
        client->due = false;                    /* after our side is done */
    }
    note_failure(client, error);
    client->over = true;
    if (client->lent)
        stream_abort(worker_of(client), stream); /* or the loan would stay out for seconds */
    else
        finish(client);
}

static void on_returned(struct stream *stream, void *owner)
{
    struct client *client = owner;
    client->lent = false;
    if (client->over) {
        finish(client);
        return;
    }
    if (stream->state != STREAM_OPEN)
        return;
    client->turning = true;
    if (client->phase == CLIENT_PHASE_MAIL)
        client_mail_returned(client);
    client->turning = false;
    go_on(client);
}

static void on_writable(struct stream *stream, void *owner)
{
    (void)stream; /* clients are never paused */
    (void)owner;
}

const struct stream_callbacks client_stream_callbacks = {
    .opened = on_opened,
    .received = on_received,
    .writable = on_writable,
    .returned = on_returned,
    .secured = on_secured,
    .timed_out = client_timed_out,
    .closed = on_closed,
};

/* --- what the owner calls --- */

enum client_state client_state(const struct client *client)
{
    const struct stream *stream = stream_of((void *)(uintptr_t)client);
    if (client->phase == CLIENT_PHASE_QUIT || client->phase == CLIENT_PHASE_GONE ||
        (stream->state != STREAM_OPEN && stream->state != STREAM_CONNECTING))
        return CLIENT_ENDING;
    if (client->phase < CLIENT_PHASE_IDLE || !client->greeted)
        return CLIENT_CONNECTING;
    return client->phase == CLIENT_PHASE_IDLE && !client->due ? CLIENT_IDLE : CLIENT_BUSY;
}

void *client_user(const struct client *client)
{
    return client->user;
}

const struct client_peer *client_peer(const struct client *client)
{
    return &client->peer;
}

bool client_tls_failed(const struct client *client)
{
    return client->tls_failed;
}

uint32_t client_used(const struct client *client)
{
    return client->used;
}

uint64_t client_idle_us(const struct client *client)
{
    return client->idle_us;
}

/* turn_soon: what the owner's call has settled is told in a turn of the stream. */
static void turn_soon(struct client *client)
{
    if (client->turning)
        return;
    if (client->phase != CLIENT_PHASE_MAIL || !client_mail_told(client))
        client_lend(client, 0);
    client_watch(client);
}

void client_deliver(struct client *client, struct delivery *delivery)
{
    CHECK(!client->told && client->delivery == NULL && delivery->recipient_count > 0);
    client->delivery = delivery;
    client->begun_us = worker_of(client)->now_us;
    client_mail_begin(client);
    if (client_state(client) == CLIENT_ENDING)
        return; /* `closed` is near, and before it the delivery is told to be deferred */
    CHECK(client->phase == CLIENT_PHASE_IDLE && !client->due);
    client->phase = CLIENT_PHASE_MAIL;
    client_mail_say(client);
    turn_soon(client);
}

void client_continue(struct client *client)
{
    CHECK(client->delivery != NULL && client->delivery->stepwise);
    if (client->turning || client->phase != CLIENT_PHASE_MAIL)
        return;
    client_mail_say(client);
    turn_soon(client);
}

void client_cancel(struct client *client)
{
    if (client->delivery == NULL || client->phase != CLIENT_PHASE_MAIL)
        return;
    client_mail_cancel(client);
    if (client->phase == CLIENT_PHASE_MAIL)
        turn_soon(client);
}

void client_quit(struct client *client)
{
    bool at_rest =
        client->phase == CLIENT_PHASE_IDLE || (client->phase == CLIENT_PHASE_RESET && client->due);
    if (at_rest && stream_of(client)->state == STREAM_OPEN) {
        client->phase = CLIENT_PHASE_QUIT;
        client->due = true;
        if (client->turning)
            return;
        say_due(client);
        client_watch(client);
    } else if (client->phase != CLIENT_PHASE_QUIT) {
        client_drop(client);
    }
}
