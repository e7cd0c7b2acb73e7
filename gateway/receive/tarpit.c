/* Replies that are held back: see tarpit.h. A line of a next hop waits in the session's block for
 * unfinished command lines, which is free then: nothing is read until it has been said. */
#include "gateway/receive/tarpit.h"

#include "gateway/base/check.h"
#include "gateway/base/limits.h"
#include "gateway/receive/server.h"
#include "gateway/receive/submission.h"

#include <string.h>

enum { RELEASE_US = 100 * 1000 /* all streams are looked at so often at most */ };

bool tarpit_concerns(enum reply reply)
{
    return reply == REPLY_NO_SUCH_USER || reply == REPLY_RELAY_DENIED;
}

/* is_late counts a refused command and tells whether its reply is held back. */
static bool is_late(struct session *session)
{
    const struct server *server = session->server;
    const struct server_options *options = server->options;
    if (options->tarpit_s == 0 || session->exempt || server->draining ||
        submission_has_user(session))
        return false;
    if (session->refused <= options->tarpit_after)
        session->refused++;
    /* What a client has pipelined lies in buffers that others would go without. */
    return session->refused > options->tarpit_after && list_empty(&server->worker->starved);
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

static void release(struct worker *worker, struct stream *stream)
{
    struct session *session = stream_owner(stream);
    if (stream->state != STREAM_OPEN || stream->held_count == 0)
        return;
    if (session->mode == SESSION_TARPIT)
        stream_set_deadline(worker, stream, worker->now_us);
    else if (session->mode == SESSION_AUTHING) /* a client has to wait for its reply there */
        session_leave(session, REPLY_EARLY_INPUT);
}

void tarpit_turn(struct server *server)
{
    struct worker *worker = server->worker;
    if (list_empty(&worker->starved) || worker->now_us < server->release_us)
        return;
    server->release_us = worker->now_us + RELEASE_US;
    worker_each_stream(worker, release);
}

uint64_t tarpit_next_us(const struct server *server)
{
    return list_empty(&server->worker->starved) ? UINT64_MAX : server->release_us;
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
