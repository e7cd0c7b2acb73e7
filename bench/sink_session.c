/* One conversation: see sink_session.h. */
#include "bench/sink_session.h"

#include "bench/sink_answer.h"
#include "bench/sink_verbs.h"

#include <assert.h>
#include <string.h>

enum {
    REPLY_ROOM = 1024,                  /* reply octets that must fit before anything is read */
    PATIENCE_US = 5 * 60 * 1000 * 1000, /* RFC 5321 4.5.3.2.7 */
};

static_assert(REPLY_ROOM > (int)SINK_EHLO_MAX, "the longest reply fits");

static struct worker *worker_of(struct sink_session *session)
{
    return &session->server->worker;
}

void sink_session_say(struct sink_session *session, struct bytes line)
{
    /* A closing stream takes nothing, rightly; without memory the client must not wait in vain. */
    struct stream *stream = stream_of(session);
    if (!stream_write(worker_of(session), stream, line.data, line.len) &&
        stream->state == STREAM_OPEN)
        stream_abort(worker_of(session), stream);
}

void sink_session_leave(struct sink_session *session, struct bytes line)
{
    sink_session_say(session, line);
    stream_end(worker_of(session), stream_of(session));
}

void sink_session_forget(struct sink_session *session)
{
    sink_message_free(&worker_of(session)->blocks, session->message);
    session->message = NULL;
}

bool sink_session_room(struct sink_session *session)
{
    struct stream *stream = stream_of(session);
    if (stream_room(worker_of(session), stream) >= REPLY_ROOM)
        return true;
    if (stream_sending(stream))
        stream_pause(stream); /* `writable` goes on when replies have left */
    else
        stream_abort(worker_of(session), stream); /* no memory, and nothing that would end */
    return false;
}

/* --- reading --- */

/* put_aside keeps an unfinished line until its rest comes. */
static void put_aside(struct sink_session *session, struct bytes part)
{
    if (session->line_len + part.len > SINK_LINE_MAX) {
        sink_session_leave(session, BYTES("500 5.5.2 Line too long\r\n"));
        return;
    }
    if (session->line == NULL)
        session->line = blocks_take(&session->server->lines);
    if (session->line == NULL) {
        sink_session_leave(session, BYTES("421 4.3.1 Short of memory\r\n"));
        return;
    }
    memcpy(session->line + session->line_len, part.data, part.len);
    session->line_len = (uint16_t)(session->line_len + part.len);
}

/* run_line takes a line up to, not including, its LF. Only CR LF ends a line (RFC 5321 2.3.8). */
static void run_line(struct sink_session *session, struct bytes line, bool more_behind)
{
    if (line.len == 0 || line.data[line.len - 1] != '\r')
        sink_session_leave(session, BYTES("500 5.5.2 Command lines end with <CR><LF>\r\n"));
    else if (line.len + 1 > SINK_LINE_MAX)
        sink_session_leave(session, BYTES("500 5.5.2 Line too long\r\n"));
    else
        sink_verbs_run(session, bytes_slice(line, 0, line.len - 1), more_behind);
}

/* read_command takes one line, or what there is of it, from the front of `in`. */
static size_t read_command(struct sink_session *session, struct bytes in)
{
    size_t newline = bytes_find(in, '\n');
    bool more_behind = newline + 1 < in.len;
    if (newline == in.len || session->line_len > 0)
        put_aside(session, bytes_slice(in, 0, newline));
    if (newline == in.len || stream_of(session)->state != STREAM_OPEN)
        return newline;
    struct bytes line = bytes_slice(in, 0, newline);
    if (session->line_len > 0)
        line = bytes_make(session->line, session->line_len);
    session->line_len = 0;
    run_line(session, line, more_behind);
    blocks_give(&session->server->lines, session->line);
    session->line = NULL;
    return newline + 1;
}

static void check_size(struct sink_session *session)
{
    uint64_t size_max = session->server->options->size_max;
    if (size_max > 0 && session->message->octets > size_max)
        session->message->too_big = true;
}

static size_t read_data(struct sink_session *session, struct bytes in)
{
    size_t taken = sink_message_data(session->message, in);
    check_size(session);
    if (session->message->scan.position == SCAN_ENDED) {
        session->mode = SINK_MODE_COMMAND;
        sink_answer(session, SINK_PHASE_DOT);
    }
    return taken;
}

static size_t read_chunk(struct sink_session *session, struct bytes in)
{
    size_t taken = session->chunk_left < in.len ? (size_t)session->chunk_left : in.len;
    if (session->chunk_refusal == NULL) {
        sink_message_chunk(session->message, bytes_slice(in, 0, taken));
        check_size(session);
    }
    session->chunk_left -= taken;
    if (session->chunk_left == 0)
        sink_verbs_chunk_end(session);
    return taken;
}

static size_t read_some(struct sink_session *session, struct bytes in)
{
    switch ((enum sink_mode)session->mode) {
    case SINK_MODE_COMMAND: return read_command(session, in);
    case SINK_MODE_DATA: return read_data(session, in);
    case SINK_MODE_CHUNK: return read_chunk(session, in);
    case SINK_MODE_ANSWER: break; /* the stream is paused meanwhile */
    }
    return 0;
}

/* --- the stream's callbacks, in the order of life --- */

static void be_patient(struct sink_session *session)
{
    struct worker *worker = worker_of(session);
    if (stream_of(session)->state == STREAM_OPEN) /* one that ends has a deadline of its own */
        stream_set_deadline(worker, stream_of(session), worker->now_us + PATIENCE_US);
}

void sink_session_opened(struct worker *worker, struct stream *stream, void *owner)
{
    struct sink_session *session = owner;
    struct sink_server *server = worker->options.user;
    (void)stream;
    session->server = server;
    session->state = SINK_CONNECTED;
    session->number =
        (server->counters.connections - 1) * server->options->threads + server->index + 1;
    be_patient(session);
    bool implicit = server->options->tls == SINK_TLS_IMPLICIT;
    sink_answer(session, implicit ? SINK_PHASE_STARTTLS : SINK_PHASE_CONNECT);
}

void sink_session_secured(struct stream *stream, void *owner)
{
    struct sink_session *session = owner;
    (void)stream;
    session->server->counters.tls++;
    be_patient(session);
    if (session->server->options->tls == SINK_TLS_IMPLICIT)
        sink_answer(session, SINK_PHASE_CONNECT);
}

size_t sink_session_received(struct stream *stream, void *owner, const uint8_t *data, size_t len)
{
    struct sink_session *session = owner;
    bool pipelining = session->server->options->extensions & SINK_PIPELINING;
    struct bytes in = bytes_make(data, len);
    while (stream->state == STREAM_OPEN && !stream->paused && in.len > 0 &&
           sink_session_room(session)) {
        in = bytes_skip(in, read_some(session, in));
        if (!pipelining && in.len > 0 && session->mode == SINK_MODE_COMMAND &&
            stream->state == STREAM_OPEN)
            sink_session_leave(session, BYTES("554 5.5.0 PIPELINING was not announced\r\n"));
    }
    be_patient(session);
    return len - in.len;
}

/* go_on continues after a pause, unless there is another reason for it. */
static void go_on(struct sink_session *session)
{
    bool waiting = list_linked(&session->delayed) || session->mode == SINK_MODE_ANSWER;
    if (!waiting && stream_of(session)->state == STREAM_OPEN)
        stream_resume(worker_of(session), stream_of(session));
}

void sink_session_writable(struct stream *stream, void *owner)
{
    struct sink_session *session = owner;
    if (list_linked(&session->delayed) || !sink_session_room(session))
        return;
    (void)stream;
    if (session->mode == SINK_MODE_ANSWER)
        sink_answer_recipients(session);
    go_on(session);
}

void sink_session_delayed(struct sink_session *session)
{
    if (stream_of(session)->state != STREAM_OPEN)
        return;
    be_patient(session);
    sink_answer_now(session, (enum sink_phase)session->phase);
    go_on(session);
}

void sink_session_drain(struct sink_session *session)
{
    bool between = session->mode == SINK_MODE_COMMAND && session->state <= SINK_READY;
    if (between && !list_linked(&session->delayed))
        sink_session_leave(session, BYTES("421 4.3.2 Shutting down\r\n"));
}

void sink_session_timed_out(struct stream *stream, void *owner)
{
    struct sink_session *session = owner;
    (void)stream;
    if (list_linked(&session->delayed))
        be_patient(session); /* it is we who are late */
    else
        sink_session_leave(session, BYTES("421 4.4.2 Timed out\r\n"));
}

void sink_session_closed(struct stream *stream, void *owner, int error)
{
    struct sink_session *session = owner;
    (void)error;
    list_remove(&session->delayed);
    blocks_give(&session->server->lines, session->line);
    session->line = NULL;
    sink_session_forget(session);
    if (stream_tls(stream) != NULL && !stream_is_secure(stream))
        session->server->counters.tls_failed++;
}
