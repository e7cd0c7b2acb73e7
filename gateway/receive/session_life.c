/* How a session begins and ends, and where TLS comes in between: see session.h. */
#include "gateway/base/check.h"
#include "gateway/receive/authenticating.h"
#include "gateway/receive/gate.h"
#include "gateway/receive/lines.h"
#include "gateway/receive/server.h"
#include "gateway/receive/server_log.h"
#include "gateway/receive/tarpit.h"

#include <errno.h>

enum {
    HANDSHAKE_S_MAX = 60, /* a client that takes longer for its handshake is no client */
    HANDSHAKE_US_SURE = 2 * 1000 * 1000, /* nobody's is ended for another's sake before */
    YOUNG_MS = 2000, /* who came so shortly before a drain may still send a message */
};

bool session_is_secure(struct session *session)
{
    return stream_is_secure(stream_of(session));
}

/* --- TLS --- */

/* count_handshake counts one that begins. When there are as many as may be, the oldest of this
 * worker makes room, if it is not young: else a few who say nothing could keep TLS from all
 * others. */
static bool count_handshake(struct session *session)
{
    struct server *server = session->server;
    uint32_t max = session->exempt ? 0 : server->options->handshakes_max;
    if (admission_handshake_begin(server->admission, max))
        return true;
    struct list_node *node = list_first(&server->handshakes);
    struct session *oldest = node == NULL ? NULL : list_entry(node, struct session, stalled);
    if (oldest == NULL || server->worker->now_us - oldest->handshake_us < HANDSHAKE_US_SURE)
        return false;
    list_remove(node); /* it is counted until the stream is closed */
    stream_abort(server->worker, stream_of(oldest));
    return admission_handshake_begin(server->admission, 0);
}

/* begin_tls says `last`, the last word in clear, and hands the stream over to the handshake; it is
 * counted as under way exactly while the mode is SESSION_HANDSHAKE. Or it gives the reply that says
 * why it can't be done now; then nothing was said and nothing has changed. */
static enum reply begin_tls(struct session *session, struct bytes last)
{
    struct server *server = session->server;
    const struct server_options *options = server->options;
    /* A reload may have taken TLS from the listener since the client came. */
    struct tls_context **contexts = session->listener < options->listener_count
                                        ? options->listeners[session->listener].contexts
                                        : NULL;
    if (contexts == NULL)
        return REPLY_TLS_UNAVAILABLE;
    if (!count_handshake(session)) {
        server_log_refused(server, session, REPLY_TOO_MANY_HANDSHAKES);
        return REPLY_TOO_MANY_HANDSHAKES;
    }
    if (!stream_secure(server->worker, stream_of(session), contexts[server->index], last.data,
                       last.len)) {
        admission_handshake_end(server->admission);
        return REPLY_TLS_UNAVAILABLE;
    }
    uint32_t seconds = options->command_timeout_s;
    session->mode = SESSION_HANDSHAKE;
    session->handshake_us = server->worker->now_us;
    list_append(&server->handshakes, &session->stalled);
    session_deadline(session, seconds < HANDSHAKE_S_MAX ? seconds : HANDSHAKE_S_MAX);
    return REPLY_NONE;
}

enum reply session_start_tls(struct session *session)
{
    enum reply refusal = begin_tls(session, reply_line(REPLY_START_TLS));
    if (refusal == REPLY_NONE)
        counter_add(&session->server->counters.replies[REPLY_START_TLS], 1);
    if (refusal == REPLY_NONE && session->traced != 0)
        trace_reply(session, reply_line(REPLY_START_TLS));
    return refusal;
}

bool session_start_implicit_tls(struct session *session)
{
    enum reply refusal = begin_tls(session, reply_line(REPLY_NONE));
    if (refusal != REPLY_NONE) /* nobody hears it */
        counter_add(&session->server->counters.replies[refusal], 1);
    return refusal == REPLY_NONE;
}

/* --- the stream's callbacks, in the order of life --- */

void session_greet(struct session *session)
{
    struct server *server = session->server;
    counter_add(&server->counters.greetings, 1);
    session_say(session, bytes_make(server->greeting, server->greeting_len));
    session_deadline(session, server->options->command_timeout_s);
}

void session_opened(struct worker *worker, struct stream *stream, void *owner)
{
    (void)stream;
    struct session *session = owner;
    struct server *server = worker->options.user;
    session->server = server;
    session->id = server_id_next(server);
    session->peer = worker->accepted_address;
    session->opened_ms = (uint32_t)(worker->now_us / 1000);
    session->listener = (uint8_t)worker->accepted_listener;
    session->tls = (uint8_t)server_tls_of(server, worker->accepted_listener);
    const struct server_listener *listener = server_listener(server, session->listener);
    session->submission = listener != NULL && listener->submission;
    gate_enter(session);
}

/* is_young: its client could not know, and would find no better moment. */
static bool is_young(const struct session *session)
{
    int32_t before_ms = (int32_t)(session->server->drain_ms - session->opened_ms);
    return before_ms < YOUNG_MS && session->message_count == 0;
}

/* say_bye: nothing can be said before a PROXY header, as in a handshake. */
static void say_bye(struct session *session)
{
    if (session->mode == SESSION_PROXY)
        stream_abort(session->server->worker, stream_of(session));
    else
        session_leave(session, REPLY_SHUTTING_DOWN);
}

void session_drain(struct session *session)
{
    bool timed = session->mode == SESSION_COMMAND || session->mode == SESSION_SKIP_LINE ||
                 session->mode == SESSION_HANDSHAKE || session->mode == SESSION_AUTH;
    if (authenticating_drain(session))
        return;
    if (session->mode == SESSION_TARPIT)
        session_deadline(session, 0); /* its reply now, and then here again */
    if (session->state > SESSION_READY || session->mode == SESSION_ASK ||
        session->mode == SESSION_TARPIT)
        return;
    if (!is_young(session))
        say_bye(session);
    else if (timed)
        session_deadline(session, session->server->options->command_timeout_s);
}

void session_hurry(struct session *session)
{
    bool answered_soon = session->mode == SESSION_WAIT || session->mode == SESSION_COMMIT ||
                         (session->mode == SESSION_ASK && session->transaction != NULL &&
                          session->transaction->ended_us > 0);
    if (!answered_soon)
        say_bye(session);
}

/* session_secured: all that was said in clear is forgotten (RFC 3207 4.2), but for mistakes. */
void session_secured(struct stream *stream, void *owner)
{
    struct session *session = owner;
    CHECK(session->mode == SESSION_HANDSHAKE && session->transaction == NULL);
    admission_handshake_end(session->server->admission);
    list_remove(&session->stalled);
    server_secured(session->server, session, tls_info(stream_tls(stream)));
    session->mode = SESSION_COMMAND;
    session->state = SESSION_CONNECTED;
    session->extended = false;
    session_set_helo(session, bytes_make(NULL, 0));
    session->line_len = 0;
    session->forgiven = 0;
    session->discreet = session->doubtful = session->asked_text = false;
    authenticating_forget(session);
    if (session->tls == SERVER_TLS_IMPLICIT)
        gate_welcome(session);
    else
        session_deadline(session, session->server->options->command_timeout_s);
}

void session_timed_out(struct stream *stream, void *owner)
{
    (void)stream;
    struct session *session = owner;
    bool draining = session->server->draining && session->transaction == NULL;
    if (session->mode == SESSION_TARPIT)
        tarpit_over(session);
    else if (session->mode == SESSION_PROXY || session->mode == SESSION_DELAY)
        gate_timed_out(session);
    else if (session->mode == SESSION_AUTHING)
        authenticating_timed_out(session);
    else
        session_leave(session, draining ? REPLY_SHUTTING_DOWN : REPLY_TIMED_OUT);
}

/* end_insecure: a client that left before it said a word of TLS is no failure of TLS. */
static void end_insecure(struct session *session, const struct stream *stream, int error)
{
    struct server *server = session->server;
    if (!stream_hears_tls(stream))
        counter_add(&server->counters.tls.silent, 1);
    else
        server_insecure(server, session, error == -EPROTO ? stream_tls(stream) : NULL);
}

void session_closed(struct stream *stream, void *owner, int error)
{
    struct session *session = owner;
    struct server *server = session->server;
    if (session->mode == SESSION_HANDSHAKE)
        admission_handshake_end(server->admission);
    if (error == -EPROTO || session->mode == SESSION_HANDSHAKE)
        end_insecure(session, stream, error);
    list_remove(&session->stalled);
    lines_drop(session);
    session_set_helo(session, bytes_make(NULL, 0));
    session_drop_transaction(session);
    authenticating_forget(session);
    gate_leave(session);
    /* After QUIT many close without reading the farewell of TLS, which makes it a reset. */
    bool in_order = error == -ECONNRESET && session->left;
    error = in_order ? 0 : error;
    server_count_closed(server, session, error);
    server_log_disconnect(server, session, error);
}
