/* How a session begins and ends, and where TLS comes in between: see session.h. */
#include "gateway/base/check.h"
#include "gateway/receive/server.h"
#include "gateway/receive/server_log.h"

#include <errno.h>

enum { HANDSHAKE_S_MAX = 60 /* a client that takes longer for its handshake is no client */ };

bool session_is_secure(struct session *session)
{
    return stream_is_secure(stream_of(session));
}

/* --- TLS --- */

/* begin_tls says `last`, the last word in clear, and hands the stream over to the handshake. False:
 * it can't be done now; nothing was said and nothing has changed. */
static bool begin_tls(struct session *session, struct bytes last)
{
    const struct server *server = session->server;
    const struct server_options *options = server->options;
    /* A reload may have taken TLS from the listener since the client came. */
    struct tls_context **contexts = session->listener < options->listener_count
                                        ? options->listeners[session->listener].contexts
                                        : NULL;
    if (contexts == NULL || !stream_secure(server->worker, stream_of(session),
                                           contexts[server->index], last.data, last.len))
        return false;
    uint32_t seconds = options->command_timeout_s;
    session->mode = SESSION_HANDSHAKE;
    session_deadline(session, seconds < HANDSHAKE_S_MAX ? seconds : HANDSHAKE_S_MAX);
    return true;
}

bool session_start_tls(struct session *session)
{
    return begin_tls(session, reply_line(REPLY_START_TLS));
}

/* --- the stream's callbacks, in the order of life --- */

static void greet(struct session *session)
{
    const struct server *server = session->server;
    session_say(session, bytes_make(server->greeting, server->greeting_len));
    session_deadline(session, server->options->command_timeout_s);
    if (server->draining)
        session_leave(session, REPLY_SHUTTING_DOWN);
}

void session_opened(struct worker *worker, struct stream *stream, void *owner)
{
    struct session *session = owner;
    struct server *server = worker->options.user;
    session->server = server;
    session->id = server_id_next(server);
    session->peer = worker->accepted_address;
    session->opened_ms = (uint32_t)(worker->now_us / 1000);
    session->listener = (uint8_t)worker->accepted_listener;
    session->tls = (uint8_t)server_tls_of(server, worker->accepted_listener);
    server_log_connect(server, session);
    if (session->tls != SERVER_TLS_IMPLICIT)
        greet(session);
    else if (server->draining || !begin_tls(session, reply_line(REPLY_NONE)))
        stream_abort(worker, stream); /* nothing can be said in clear */
}

void session_drain(struct session *session)
{
    bool between = session->mode == SESSION_COMMAND || session->mode == SESSION_SKIP_LINE ||
                   session->mode == SESSION_HANDSHAKE;
    if (between && session->state != SESSION_CHUNKS)
        session_leave(session, REPLY_SHUTTING_DOWN);
}

/* session_secured: all that was said in clear is forgotten (RFC 3207 4.2), but for mistakes. */
void session_secured(struct stream *stream, void *owner)
{
    struct session *session = owner;
    CHECK(session->mode == SESSION_HANDSHAKE && session->transaction == NULL);
    server_secured(session->server, session, tls_info(stream_tls(stream)));
    session->mode = SESSION_COMMAND;
    session->state = SESSION_CONNECTED;
    session->extended = false;
    session_set_helo(session, bytes_make(NULL, 0));
    session->line_len = 0;
    session->forgiven = 0;
    if (session->tls == SERVER_TLS_IMPLICIT)
        greet(session);
    else
        session_deadline(session, session->server->options->command_timeout_s);
}

void session_timed_out(struct stream *stream, void *owner)
{
    (void)stream;
    session_leave(owner, REPLY_TIMED_OUT);
}

void session_closed(struct stream *stream, void *owner, int error)
{
    struct session *session = owner;
    struct server *server = session->server;
    if (error == -EPROTO || session->mode == SESSION_HANDSHAKE)
        server_insecure(server, session, error == -EPROTO ? stream_tls(stream) : NULL);
    list_remove(&session->stalled);
    blocks_give(&server->lines, session->line);
    session->line = NULL;
    session_set_helo(session, bytes_make(NULL, 0));
    session_drop_transaction(session);
    admission_leave_peer(server->admission, &session->peer);
    admission_leave(server->admission);
    /* After QUIT many close without reading the farewell of TLS, which makes it a reset. */
    bool in_order = error == -ECONNRESET && session->left;
    server_log_disconnect(server, session, in_order ? 0 : error);
}
