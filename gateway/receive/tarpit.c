/* Replies that are held back: see tarpit.h. A line of a next hop waits in the session's block for
 * unfinished command lines, which is free then: nothing is read until it has been said. */
#include "gateway/receive/tarpit.h"

#include "gateway/base/check.h"
#include "gateway/base/limits.h"
#include "gateway/receive/server.h"

#include <string.h>

bool tarpit_concerns(enum reply reply)
{
    return reply == REPLY_NO_SUCH_USER || reply == REPLY_RELAY_DENIED;
}

/* is_late counts a refused command and tells whether its reply is held back. */
static bool is_late(struct session *session)
{
    const struct server_options *options = session->server->options;
    if (options->tarpit_s == 0 || session->exempt || session->server->draining)
        return false;
    if (session->refused <= options->tarpit_after)
        session->refused++;
    return session->refused > options->tarpit_after;
}

static void hold(struct session *session, enum reply reply)
{
    struct server *server = session->server;
    counter_add(&server->counters.tarpitted, 1);
    session->held = (uint8_t)reply;
    session->held_skips = session->mode == SESSION_SKIP_LINE;
    session->mode = SESSION_TARPIT;
    stream_pause(stream_of(session));
    session_deadline(session, server->options->tarpit_s);
}

void tarpit_refuse(struct session *session, enum reply reply)
{
    CHECK(reply != REPLY_NONE);
    if (is_late(session))
        hold(session, reply);
    else
        session_reply(session, reply);
}

void tarpit_refuse_line(struct session *session, struct bytes line)
{
    CHECK(session->line == NULL && line.len <= LIMIT_LINE);
    if (is_late(session))
        session->line = blocks_take(&session->server->lines);
    if (session->line == NULL) {
        session_say(session, line);
        return;
    }
    memcpy(session->line, line.data, line.len);
    session->line_len = (uint16_t)line.len;
    hold(session, REPLY_NONE);
}

void tarpit_over(struct session *session)
{
    struct server *server = session->server;
    CHECK(session->mode == SESSION_TARPIT);
    session->mode = session->held_skips ? SESSION_SKIP_LINE : SESSION_COMMAND;
    if (session->held != REPLY_NONE) {
        session_reply(session, (enum reply)session->held);
    } else {
        session_say(session, bytes_make(session->line, session->line_len));
        blocks_give(&server->lines, session->line);
        session->line = NULL;
        session->line_len = 0;
    }
    session_deadline(session, server->options->command_timeout_s);
    if (server->draining)
        session_drain(session);
    stream_resume(server->worker, stream_of(session));
}
