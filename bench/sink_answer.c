/* The replies at the phases: see sink_answer.h. */
#include "bench/sink_answer.h"

#include "tls/tls.h"

#include <stdio.h>
#include <string.h>

#define LINE(text) BYTES(text "\r\n")

static const struct bytes faults[SINK_PHASE_COUNT][2] = {
  /* refuse, tempfail */
    [SINK_PHASE_CONNECT] = {LINE("554 5.3.2 No service here, as asked"),
                            LINE("421 4.3.2 No service now, as asked") },
    [SINK_PHASE_EHLO] = {LINE("550 5.7.1 Refused, as asked"),
                            LINE("451 4.7.1 Refused for now, as asked")},
    [SINK_PHASE_STARTTLS] = {LINE("554 5.7.0 Refused, as asked"),
                            LINE("454 4.7.0 No TLS now, as asked")     },
    [SINK_PHASE_MAIL] = {LINE("550 5.7.1 Refused, as asked"),
                            LINE("451 4.7.1 Refused for now, as asked")},
    [SINK_PHASE_RCPT] = {LINE("550 5.1.1 Refused, as asked"),
                            LINE("450 4.2.1 Refused for now, as asked")},
    [SINK_PHASE_DATA] = {LINE("554 5.7.1 Refused, as asked"),
                            LINE("451 4.3.0 Refused for now, as asked")},
    [SINK_PHASE_DOT] = {LINE("554 5.6.0 Refused, as asked"),
                            LINE("451 4.3.0 Refused for now, as asked")},
    [SINK_PHASE_QUIT] = {LINE("554 5.7.0 Refused, as asked"),
                            LINE("421 4.3.2 Refused for now, as asked")},
};

static struct bytes fault_line(enum sink_phase phase, enum sink_fault fault)
{
    return faults[phase][fault == SINK_FAULT_TEMPFAIL];
}

/* --- the end of a message --- */

static void message_over(struct sink_session *session)
{
    sink_session_forget(session);
    session->mode = SINK_MODE_COMMAND;
    session->state = SINK_READY;
    if (session->server->draining)
        sink_session_leave(session, LINE("421 4.3.2 Shutting down"));
}

/* say_kept is the reply that the client waits for, laid out by hand, since each message has one. */
static void say_kept(struct sink_session *session, uint64_t number)
{
    static const char text[] = "250 2.0.0 Ok ";
    char line[sizeof(text) + 24];
    size_t at = sizeof(line);
    line[--at] = '\n';
    line[--at] = '\r';
    do {
        line[--at] = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    at -= sizeof(text) - 1;
    memcpy(line + at, text, sizeof(text) - 1);
    sink_session_say(session, bytes_make(line + at, sizeof(line) - at));
}

/* keep counts and logs a message that is accepted for `recipients`. */
static void keep(struct sink_session *session, uint32_t recipients)
{
    struct sink_server *server = session->server;
    struct sink_message *message = session->message;
    struct stream *stream = stream_of(session);
    struct sink_log_context context = {
        .now_wall_us = server->worker.now_wall_us,
        .number = message->number = sink_server_number(server),
        .session = session->number,
        .tls = stream_is_secure(stream) ? tls_info(stream_tls(stream)) : NULL,
    };
    server->counters.messages++;
    server->counters.recipients += recipients;
    server->counters.octets += message->octets;
    server->counters.torn += sink_message_torn(message);
    sink_log_message(&server->log, message, &context);
}

void sink_answer_recipients(struct sink_session *session)
{
    struct sink_message *message = session->message;
    session->mode = SINK_MODE_ANSWER;
    while (message->answered != NULL) {
        if (!sink_session_room(session))
            return;
        enum sink_fault fault = (enum sink_fault)message->answered->fault;
        message->answered = message->answered->next;
        if (fault == SINK_FAULT_DROP) {
            stream_end(&session->server->worker, stream_of(session));
            return;
        }
        if (message->too_big)
            sink_session_say(session, LINE("552 5.3.4 Message too big"));
        else if (fault != SINK_FAULT_NONE)
            sink_session_say(session, fault_line(SINK_PHASE_DOT, fault));
        else
            say_kept(session, message->number);
    }
    message_over(session);
}

/* answer_lmtp chooses for each recipient (RFC 2033 4.2), then replies. */
static void answer_lmtp(struct sink_session *session)
{
    struct sink_server *server = session->server;
    struct sink_message *message = session->message;
    enum sink_fault fault = SINK_FAULT_NONE;
    uint32_t kept = 0;
    message->answered = message->recipients;
    for (struct sink_recipient *at = message->recipients; at != NULL; at = at->next) {
        if (fault != SINK_FAULT_DROP && !message->too_big) { /* nobody hears what comes after */
            fault = sink_fault_choose(server->options->faults, SINK_PHASE_DOT);
            server->counters.faults[SINK_PHASE_DOT][fault]++;
        }
        at->fault = (uint8_t)fault;
        kept += fault == SINK_FAULT_NONE;
    }
    if (kept > 0 && !message->too_big)
        keep(session, kept);
    sink_answer_recipients(session);
}

static void answer_message(struct sink_session *session)
{
    keep(session, session->message->recipient_count);
    say_kept(session, session->message->number);
    message_over(session);
}

/* --- what follows from the good replies --- */

static void answer_connect(struct sink_session *session)
{
    session->state = SINK_CONNECTED;
    sink_session_say(session, bytes_make(session->server->greeting, session->server->greeting_len));
}

static void answer_ehlo(struct sink_session *session)
{
    struct sink_server *server = session->server;
    sink_session_forget(session);
    session->state = SINK_READY;
    if (session->extended) {
        bool secure = stream_is_secure(stream_of(session));
        sink_session_say(session, bytes_make(server->ehlo[secure], server->ehlo_len[secure]));
        return;
    }
    char line[SINK_GREETING_MAX];
    int len = snprintf(line, sizeof(line), "250 %s\r\n", server->options->hostname);
    sink_session_say(session, bytes_make(line, (size_t)len));
}

/* answer_starttls: what has come behind STARTTLS in clear must never be read as if it had come
 * inside TLS (CVE-2011-0411), and what is known of the client is forgotten (RFC 3207 4.2). */
static void answer_starttls(struct sink_session *session)
{
    struct worker *worker = &session->server->worker;
    struct stream *stream = stream_of(session);
    bool implicit = session->server->options->tls == SINK_TLS_IMPLICIT;
    if (!implicit && stream->held_count > 0) {
        sink_session_leave(session, LINE("554 5.5.1 Wait for the reply to STARTTLS"));
        return;
    }
    static const struct bytes ahead = LINE("220 2.0.0 Go ahead");
    if (!stream_secure(worker, stream, session->server->tls, ahead.data,
                       implicit ? 0 : ahead.len)) {
        stream_abort(worker, stream);
        return;
    }
    sink_session_forget(session);
    session->state = SINK_CONNECTED;
}

static void answer_mail(struct sink_session *session)
{
    session->state = SINK_MAIL;
    sink_session_say(session, LINE("250 2.1.0 Ok"));
}

static void answer_rcpt(struct sink_session *session)
{
    sink_message_accept(session->message);
    session->state = SINK_RCPT;
    sink_session_say(session, LINE("250 2.1.5 Ok"));
}

static void answer_data(struct sink_session *session)
{
    if (session->state == SINK_CHUNKS) {
        sink_session_say(session, LINE("250 2.0.0 Ok"));
        return;
    }
    session->mode = SINK_MODE_DATA;
    sink_session_say(session, LINE("354 End data with <CR><LF>.<CR><LF>"));
}

static void answer_quit(struct sink_session *session)
{
    sink_session_leave(session, LINE("221 2.0.0 Bye"));
}

static void (*const answers[SINK_PHASE_COUNT])(struct sink_session *session) = {
    [SINK_PHASE_CONNECT] = answer_connect,   [SINK_PHASE_EHLO] = answer_ehlo,
    [SINK_PHASE_STARTTLS] = answer_starttls, [SINK_PHASE_MAIL] = answer_mail,
    [SINK_PHASE_RCPT] = answer_rcpt,         [SINK_PHASE_DATA] = answer_data,
    [SINK_PHASE_DOT] = answer_message,       [SINK_PHASE_QUIT] = answer_quit,
};

/* --- what follows from a refusal --- */

static void refuse(struct sink_session *session, enum sink_phase phase, enum sink_fault fault)
{
    bool chunk = phase == SINK_PHASE_DATA && session->state == SINK_CHUNKS;
    bool implicit =
        phase == SINK_PHASE_STARTTLS && session->server->options->tls == SINK_TLS_IMPLICIT;
    bool last = phase == SINK_PHASE_QUIT || implicit ||
                (phase == SINK_PHASE_CONNECT && fault == SINK_FAULT_TEMPFAIL);
    if (!implicit) /* there are no words before the handshake */
        sink_session_say(session, fault_line(phase, fault));
    if (phase == SINK_PHASE_DOT)
        message_over(session);
    else if (phase == SINK_PHASE_CONNECT)
        session->state = SINK_REJECTED;
    else if (phase == SINK_PHASE_RCPT)
        session->message->refused_count++;
    if (phase == SINK_PHASE_MAIL || chunk) { /* RFC 3030 2: no more chunks before RSET or MAIL */
        sink_session_forget(session);
        session->state = SINK_READY;
    }
    if (last)
        stream_end(&session->server->worker, stream_of(session));
}

void sink_answer_now(struct sink_session *session, enum sink_phase phase)
{
    struct sink_server *server = session->server;
    if (phase == SINK_PHASE_DOT && server->options->lmtp) {
        answer_lmtp(session);
        return;
    }
    if (phase == SINK_PHASE_DOT && session->message->too_big) {
        sink_session_say(session, LINE("552 5.3.4 Message too big"));
        message_over(session);
        return;
    }
    enum sink_fault fault = sink_fault_choose(server->options->faults, phase);
    if (fault == SINK_FAULT_NONE) {
        answers[phase](session);
        return;
    }
    server->counters.faults[phase][fault]++;
    if (fault == SINK_FAULT_DROP)
        stream_end(&server->worker, stream_of(session));
    else
        refuse(session, phase, fault);
}

void sink_answer(struct sink_session *session, enum sink_phase phase)
{
    uint64_t delay_us = sink_fault_delay_us(session->server->options->faults, phase);
    if (delay_us == 0) {
        sink_answer_now(session, phase);
        return;
    }
    session->phase = (uint8_t)phase;
    sink_server_delay(session->server, session, delay_us);
    stream_pause(stream_of(session)); /* what is pipelined behind waits, too */
}
