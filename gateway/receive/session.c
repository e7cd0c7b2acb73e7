/* One SMTP session: see session.h. What the client sends is read in place; only an unfinished line
 * is put aside (lines.c). The commands themselves are in verbs.c; how a session begins and ends is
 * in session_life.c. */
#include "gateway/receive/session.h"

#include "gateway/base/check.h"
#include "gateway/base/id.h"
#include "gateway/receive/asking.h"
#include "gateway/receive/authenticating.h"
#include "gateway/receive/gate.h"
#include "gateway/receive/greylisting.h"
#include "gateway/receive/lines.h"
#include "gateway/receive/server.h"
#include "gateway/receive/server_log.h"
#include "gateway/receive/signing.h"
#include "gateway/receive/submission.h"
#include "gateway/receive/tarpit.h"

#include <stdio.h>
#include <string.h>

enum {
    REPLY_ROOM = 1024, /* reply octets that must fit before a command is read */
    DRAIN_SILENT_S = 5 /* in a drain, without a transaction: who may still send a message */
};

static_assert(sizeof(struct stream) + sizeof(struct session) <= 320, "an idle connection is small");

static struct worker *worker_of(struct session *session)
{
    return session->server->worker;
}

static uint32_t now_ms(struct session *session)
{
    return (uint32_t)(worker_of(session)->now_us / 1000);
}

void session_say(struct session *session, struct bytes line)
{
    if (session->traced != 0)
        trace_reply(session, line);
    /* Room was asked for before the command was read; a closing stream takes nothing, rightly. When
     * there is no memory for it, the client must not wait for a reply that never comes. */
    struct stream *stream = stream_of(session);
    if (!stream_write(worker_of(session), stream, line.data, line.len) &&
        stream->state == STREAM_OPEN)
        stream_abort(worker_of(session), stream);
}

void session_reply(struct session *session, enum reply reply)
{
    struct bytes line = reply_line(reply);
    unsigned code = reply_code(reply);
    counter_add(&session->server->counters.replies[reply], 1);
    if (code != 221 && code != 421) {
        session_say(session, line);
        return;
    }
    /* RFC 5321 4.2.3: who closes the channel says its name. */
    char named[SERVER_GREETING_LEN_MAX + 64];
    int len = snprintf(named, sizeof(named), "%.10s%s %.*s", (const char *)line.data,
                       session->server->options->hostname, (int)(line.len - 10),
                       (const char *)line.data + 10);
    session_say(session, bytes_make(named, (size_t)len));
}

void session_refuse(struct session *session, enum reply reply)
{
    bool forgiven = (reply == REPLY_NEED_MAIL || reply == REPLY_TLS_FIRST) && session->forgiven > 0;
    session->forgiven -= forgiven;
    session->bad_commands += !forgiven;
    if (session->bad_commands > session->server->options->bad_commands_max)
        session_leave(session, REPLY_TOO_MANY_ERRORS);
    else if (forgiven)
        session_reply(session, reply);
    else
        tarpit_refuse(session, reply);
}

/* leave says the last word and ends the connection in order. During a handshake, and before one
 * that comes first, there is no way to say anything: it would leave in clear. */
void session_leave(struct session *session, enum reply reply)
{
    bool silent = session->mode == SESSION_PROXY && session->tls == SERVER_TLS_IMPLICIT;
    if (silent) /* a refusal all the same */
        counter_add(&session->server->counters.replies[reply], 1);
    if (silent || session->mode == SESSION_HANDSHAKE) {
        stream_abort(worker_of(session), stream_of(session));
        return;
    }
    session->left = true;
    session_reply(session, reply);
    stream_end(worker_of(session), stream_of(session));
}

void session_deadline(struct session *session, uint32_t seconds)
{
    struct worker *worker = worker_of(session);
    struct stream *stream = stream_of(session);
    if (session->server->draining && session->transaction == NULL && seconds > DRAIN_SILENT_S)
        seconds = DRAIN_SILENT_S;
    if (stream->state == STREAM_OPEN) /* one that ends has a shorter one of its own */
        stream_set_deadline(worker, stream, worker->now_us + (uint64_t)seconds * 1000000);
}

/* drop_transaction forgets the transaction under way, if any (RFC 5321 4.1.4: RSET, EHLO, the end
 * of a message). */
void session_drop_transaction(struct session *session)
{
    if (session->transaction == NULL)
        return;
    greylisting_cancel(session->server, session->transaction);
    if (session->transaction->envelope.flags & ENVELOPE_SUBMITTED)
        submission_ended(session);
    session->transaction->session = NULL;
    server_forget(session->server, session->transaction);
    session->transaction = NULL;
}

void session_reset(struct session *session)
{
    session_drop_transaction(session);
    session->mode = SESSION_COMMAND;
    if (session->state != SESSION_CONNECTED)
        session->state = SESSION_READY;
}

void session_set_helo(struct session *session, struct bytes name)
{
    struct blocks *blocks = &session->server->names;
    uint8_t *kept = session->helo_short;
    CHECK(name.len <= SESSION_HELO_MAX);
    blocks_give(blocks, session->helo_long);
    session->helo_long = NULL;
    if (name.len > SESSION_HELO_SHORT) {
        kept = session->helo_long = blocks_take(blocks);
        CHECK(kept != NULL); /* there is one for each session */
    }
    session->helo_len = (uint8_t)name.len;
    if (name.len > 0)
        memcpy(kept, name.data, name.len);
}

/* --- reading --- */

/* stall parks the session until the staging ring has room. Meanwhile no time of the client's runs.
 */
static void stall(struct session *session)
{
    stream_pause(stream_of(session));
    stream_set_deadline(worker_of(session), stream_of(session), 0);
    session->stalled_ms = now_ms(session);
    if (!list_linked(&session->stalled))
        list_append(&session->server->stalled, &session->stalled);
}

/* too_slow is the defence against those who hold a transaction open with a trickle. */
static bool too_slow(const struct session *session)
{
    const struct server *server = session->server;
    const struct transaction *transaction = session->transaction;
    uint64_t elapsed_s = (server->worker->now_us - transaction->data_us) / 1000000;
    return elapsed_s > SERVER_RATE_GRACE_S &&
           transaction->octets < (elapsed_s - SERVER_RATE_GRACE_S) * server->options->data_rate_min;
}

/* say_queued is the reply that everything is about: laid out by hand, since each message has one.
 */
static void say_queued(struct session *session, uint64_t id)
{
    static const char text[] = "250 2.0.0 Ok: queued as ";
    char line[sizeof(text) + ID_TEXT_LEN + 2];
    memcpy(line, text, sizeof(text) - 1);
    id_format(id, line + sizeof(text) - 1);
    memcpy(line + sizeof(text) - 1 + ID_TEXT_LEN, "\r\n", 2);
    counter_add(&session->server->counters.replies[REPLY_OK], 1);
    session_say(session, bytes_make(line, sizeof(text) - 1 + ID_TEXT_LEN + 2));
}

/* end_text: the last octet of the text has come. */
static void end_text(struct session *session)
{
    struct server *server = session->server;
    struct transaction *transaction = session->transaction;
    transaction->ended_us = server->worker->now_us;
    if (session->traced != 0)
        trace_text(session);
    histogram_add(&server->counters.phases[SERVER_PHASE_TEXT],
                  transaction->ended_us - transaction->data_us);
}

/* count_message counts how long a message took that the disk, or a next hop, was asked about. */
static void count_message(struct server *server, const struct transaction *transaction)
{
    uint64_t now_us = server->worker->now_us;
    if (transaction->ended_us == 0 || transaction->refusal != REPLY_NONE)
        return;
    histogram_add(&server->counters.phases[SERVER_PHASE_COMMIT], now_us - transaction->ended_us);
    histogram_add(&server->counters.phases[SERVER_PHASE_MESSAGE], now_us - transaction->begun_us);
}

/* end_message ends a transaction that was answered with this code. */
static void end_message(struct session *session, unsigned code)
{
    struct server *server = session->server;
    count_message(server, session->transaction);
    server_log_message(server, session, session->transaction, code);
    session->message_count += code == 250;
    session_reset(session);
    if (server->draining)
        session_leave(session, REPLY_SHUTTING_DOWN);
    else
        session_deadline(session, server->options->command_timeout_s);
}

/* answer_message ends a transaction that the spool does not keep, or whose fate is known. */
static void answer_message(struct session *session, enum reply reply)
{
    if (reply == REPLY_OK)
        say_queued(session, session->transaction->envelope.message_id);
    else
        session_reply(session, reply);
    end_message(session, reply_code(reply));
}

/* commit hands the complete message, signed, to the writer, or to the next hop. */
static void commit(struct session *session)
{
    struct server *server = session->server;
    if (signing_text_ended(session))
        return;
    struct stamp stamp = asking_stamp(session);
    if (asking_text_ended(session, &stamp))
        return;
    switch (transaction_commit(&server->context, session->transaction, &stamp)) {
    case TRANSACTION_REFUSED: answer_message(session, session->transaction->refusal); return;
    case TRANSACTION_NO_ROOM:
        session->mode = SESSION_COMMIT;
        stall(session);
        return;
    case TRANSACTION_COMMITTED:
        session->mode = SESSION_WAIT;
        list_append(&server->waiting, &session->transaction->node);
        server->urgent = true;
        stream_pause(stream_of(session)); /* what is pipelined behind waits for our answer */
        stream_set_deadline(server->worker, stream_of(session), 0);
        return;
    }
    CHECK(false);
}

static size_t read_data(struct session *session, struct bytes in)
{
    bool ended = false;
    size_t taken = transaction_data(&session->server->context, session->transaction, in, &ended);
    if (taken == 0) {
        stall(session);
        return 0;
    }
    asking_text_came(session);
    if (ended) {
        end_text(session);
        commit(session);
    } else if (too_slow(session))
        session_leave(session, REPLY_TOO_SLOW);
    else
        session_deadline(session, session->server->options->data_timeout_s);
    return taken;
}

/* end_chunk answers a chunk whose octets have all come. */
static void end_chunk(struct session *session)
{
    session->mode = SESSION_COMMAND;
    session_deadline(session, session->server->options->command_timeout_s);
    if (session->chunk_refusal != REPLY_NONE) {
        session_refuse(session, (enum reply)session->chunk_refusal);
        if (session->server->draining)
            session_drain(session);
        return;
    }
    struct transaction *transaction = session->transaction;
    if (session->chunk_last) {
        end_text(session);
        commit(session);
    } else if (transaction->refusal != REPLY_NONE) {
        answer_message(session, transaction->refusal);
    } else {
        session_reply(session, REPLY_OK);
    }
}

static size_t read_chunk(struct session *session, struct bytes in)
{
    size_t wanted = session->chunk_left < in.len ? (size_t)session->chunk_left : in.len;
    size_t taken = wanted;
    if (session->chunk_refusal == REPLY_NONE) {
        bool last = session->chunk_last && wanted == session->chunk_left;
        if (!transaction_chunk(&session->server->context, session->transaction,
                               bytes_slice(in, 0, wanted), last, &taken)) {
            stall(session);
            return 0;
        }
        asking_text_came(session);
    }
    session->chunk_left -= taken;
    if (session->chunk_left == 0)
        end_chunk(session);
    else if (session->chunk_refusal == REPLY_NONE && too_slow(session))
        session_leave(session, REPLY_TOO_SLOW);
    else
        session_deadline(session, session->server->options->data_timeout_s);
    return taken;
}

/* read_some reads what the mode says from the front of `in` and returns the octets taken. */
static size_t read_some(struct session *session, struct bytes in)
{
    switch ((enum session_mode)session->mode) {
    case SESSION_COMMAND: return lines_read(session, in);
    case SESSION_SKIP_LINE: return lines_skip(session, in);
    case SESSION_DATA: return read_data(session, in);
    case SESSION_CHUNK: return read_chunk(session, in);
    case SESSION_COMMIT:
    case SESSION_WAIT:
    case SESSION_HANDSHAKE:
    case SESSION_ASK:
    case SESSION_AUTHING:
    case SESSION_TARPIT: break;
    case SESSION_AUTH: return lines_read(session, in);
    case SESSION_PROXY:
    case SESSION_DELAY: return gate_received(session, in);
    }
    CHECK(false); /* a stream that is paused or in a handshake brings nothing */
}

/* read_discreetly leaves no line in memory that a user has sent: it may hold a secret, or the
 * beginning of one. */
static size_t read_discreetly(struct session *session, struct bytes in)
{
    bool lines = session->mode == SESSION_COMMAND || session->mode == SESSION_AUTH ||
                 session->mode == SESSION_SKIP_LINE;
    if (!session->submission || !lines)
        return read_some(session, in);
    size_t taken = read_some(session, in);
    lines_wipe(bytes_slice(in, 0, taken));
    return taken;
}

/* waiting: the session is paused, and not for the client to read. */
static bool waiting(const struct session *session)
{
    return session->mode == SESSION_COMMIT || session->mode == SESSION_WAIT ||
           session->mode == SESSION_HANDSHAKE || session->mode == SESSION_ASK ||
           session->mode == SESSION_TARPIT || session->mode == SESSION_AUTHING ||
           list_linked(&session->stalled);
}

/* empty_chunk: a BDAT chunk that is complete before its first octet still has to be answered. */
static bool empty_chunk(const struct session *session)
{
    return session->mode == SESSION_CHUNK && session->chunk_left == 0;
}

/* --- going on --- */

/* greeting_leaving: the client can't have read our greeting yet. After STARTTLS there is none. */
static bool greeting_leaving(struct session *session)
{
    bool greeted = session->tls == SERVER_TLS_IMPLICIT || !session_is_secure(session);
    return greeted && session->mode != SESSION_DELAY && session->state == SESSION_CONNECTED &&
           stream_sending(stream_of(session));
}

size_t session_received(struct stream *stream, void *owner, const uint8_t *data, size_t len)
{
    struct session *session = owner;
    struct bytes in = bytes_make(data, len);
    if (!session->early && greeting_leaving(session))
        gate_talked_early(session);
    while (stream->state == STREAM_OPEN && !stream->paused && session->mode != SESSION_HANDSHAKE &&
           (in.len > 0 || empty_chunk(session))) {
        if (stream_room(worker_of(session), stream) < REPLY_ROOM) {
            if (!stream_sending(stream)) { /* no memory for a reply, and nothing that would end */
                stream_abort(worker_of(session), stream);
                break;
            }
            stream_pause(stream); /* session_writable goes on when replies have left */
            break;
        }
        in = bytes_skip(in, read_discreetly(session, in));
    }
    if (session->submission && stream->state != STREAM_OPEN)
        lines_wipe(in); /* nobody will read it */
    return len - in.len;
}

/* go_on continues a session that was paused for want of room: in the staging ring, or for replies.
 */
static void go_on(struct session *session)
{
    if (session->mode == SESSION_COMMIT)
        commit(session);
    else if (empty_chunk(session)) /* nothing that is still to come would wake it */
        (void)read_chunk(session, bytes_make(NULL, 0));
    if (!waiting(session))
        stream_resume(worker_of(session), stream_of(session));
}

void session_writable(struct stream *stream, void *owner)
{
    struct session *session = owner;
    if (!waiting(session) && stream_room(worker_of(session), stream) >= REPLY_ROOM)
        go_on(session); /* else what is collected leaves next, and we are called again */
}

void session_room_again(struct session *session)
{
    if (stream_of(session)->state != STREAM_OPEN)
        return; /* ended meanwhile: `closed` lets go of everything */
    struct transaction *transaction = session->transaction;
    transaction->data_us += (uint64_t)(now_ms(session) - session->stalled_ms) * 1000;
    if (transaction->data_us > worker_of(session)->now_us) /* two halves of a millisecond */
        transaction->data_us = worker_of(session)->now_us;
    session_deadline(session, session->server->options->data_timeout_s);
    go_on(session);
}

void session_settled(struct session *session, enum staging_outcome outcome)
{
    session->transaction->lost = outcome != STAGING_DURABLE;
    switch (outcome) {
    case STAGING_DURABLE: answer_message(session, REPLY_OK); break;
    case STAGING_FAILED: answer_message(session, REPLY_SPOOL_BROKEN); break;
    case STAGING_DISK_FULL: answer_message(session, REPLY_SPOOL_FULL); break;
    case STAGING_WAITING: CHECK(false);
    }
    stream_resume(worker_of(session), stream_of(session));
}

void session_ask(struct session *session)
{
    session->mode = SESSION_ASK;
    stream_pause(stream_of(session));
    stream_set_deadline(worker_of(session), stream_of(session), 0); /* the answer has one */
}

/* count_passed counts a line that a next hop has said. */
static void count_passed(struct session *session, struct bytes line)
{
    unsigned class = line.data[0] - '0';
    CHECK(class >= 2 && class <= 5);
    counter_add(&session->server->counters.passed[class], 1);
}

static void go_on_asked(struct session *session)
{
    if (session->mode == SESSION_TARPIT)
        return; /* tarpit_over does the same */
    session_deadline(session, session->server->options->command_timeout_s);
    if (session->server->draining)
        session_drain(session);
    stream_resume(worker_of(session), stream_of(session));
}

void session_asked(struct session *session, struct bytes line)
{
    session->mode = SESSION_COMMAND;
    count_passed(session, line);
    if (line.data[0] == '5')
        tarpit_refuse_line(session, line);
    else
        session_say(session, line);
    go_on_asked(session);
}

void session_asked_reply(struct session *session, enum reply reply)
{
    session->mode = SESSION_COMMAND;
    if (tarpit_concerns(reply))
        tarpit_refuse(session, reply);
    else
        session_reply(session, reply);
    go_on_asked(session);
}

void session_message_passed(struct session *session, struct bytes line, unsigned code)
{
    count_passed(session, line);
    session_say(session, line);
    end_message(session, code);
    stream_resume(worker_of(session), stream_of(session));
}

void session_commit(struct session *session)
{
    session->mode = SESSION_COMMIT;
    go_on(session);
}
