/* The commands: see sink_verbs.h. A line is checked (order, syntax, what was announced), takes
 * effect as far as the reply does not matter, and is answered by sink_answer. */
#include "bench/sink_verbs.h"

#include "bench/sink_answer.h"

#define LINE(text) BYTES(text "\r\n")

/* A command's function; the state allows the command and its syntax is right. */
typedef void command_function(struct sink_session *session, const struct command *command);

static void do_helo(struct sink_session *session, const struct command *command)
{
    if ((command->verb == VERB_LHLO) != session->server->options->lmtp) {
        sink_session_say(session, session->server->options->lmtp
                                      ? LINE("500 5.5.1 This is LMTP: say LHLO")
                                      : LINE("500 5.5.1 This is SMTP: say EHLO"));
        return;
    }
    session->extended = command->verb != VERB_HELO;
    sink_answer(session, SINK_PHASE_EHLO);
}

/* not_announced: a parameter of MAIL or RCPT belongs to an extension that was left out. */
static bool not_announced(const struct sink_session *session, const struct command *command)
{
    unsigned missing = ~session->server->options->extensions;
    bool dsn = command->ret != COMMAND_RET_NONE || command->envid.len > 0 || command->has_notify ||
               command->orcpt.len > 0;
    return ((missing & SINK_SIZE) && command->has_size && command->verb == VERB_MAIL) ||
           ((missing & SINK_8BITMIME) && command->body == COMMAND_BODY_8BITMIME) ||
           ((missing & SINK_BINARYMIME) && command->body == COMMAND_BODY_BINARYMIME) ||
           ((missing & SINK_SMTPUTF8) && command->smtputf8) ||
           ((missing & SINK_REQUIRETLS) && command->requiretls) || ((missing & SINK_DSN) && dsn);
}

static void do_mail(struct sink_session *session, const struct command *command)
{
    struct sink_server *server = session->server;
    bool secure = stream_is_secure(stream_of(session));
    if (server->options->tls == SINK_TLS_REQUIRED && !secure) {
        sink_session_say(session, LINE("530 5.7.0 Say STARTTLS first"));
        return;
    }
    if (command->requiretls && !secure) { /* RFC 8689 4.2.1 */
        sink_session_say(session, LINE("530 5.7.0 REQUIRETLS needs TLS"));
        return;
    }
    if (not_announced(session, command)) {
        sink_session_say(session, LINE("555 5.5.4 Unknown parameter"));
        return;
    }
    uint64_t size_max = server->options->size_max;
    if (size_max > 0 && command->has_size && command->size > size_max) {
        sink_session_say(session, LINE("552 5.3.4 Message too big"));
        return;
    }
    session->message = sink_message_new(&server->worker.blocks, command);
    if (session->message == NULL)
        sink_session_say(session, LINE("452 4.3.1 Short of memory"));
    else
        sink_answer(session, SINK_PHASE_MAIL);
}

static void do_rcpt(struct sink_session *session, const struct command *command)
{
    struct blocks *blocks = &session->server->worker.blocks;
    struct sink_message *message = session->message;
    bool full = message->recipient_count + message->refused_count >= SINK_RECIPIENTS_MAX;
    /* What recipients may not have is kept for replies: one block that is sent, one that is
     * collected, one for the message of each connection. */
    bool low = blocks->count - blocks->used < session->server->options->connections_max * 3;
    if (not_announced(session, command)) {
        sink_session_say(session, LINE("555 5.5.4 Unknown parameter"));
        message->refused_count++;
    } else if (full || low || !sink_message_propose(blocks, message, command)) {
        sink_session_say(session, full ? LINE("452 4.5.3 Too many recipients")
                                       : LINE("452 4.3.1 Short of memory"));
        message->refused_count++;
    } else {
        sink_answer(session, SINK_PHASE_RCPT);
    }
}

static void do_data(struct sink_session *session, const struct command *command)
{
    (void)command;
    if (session->message->binary)
        sink_session_say(session,
                         LINE("503 5.5.1 A BINARYMIME message needs BDAT")); /* RFC 3030 3 */
    else
        sink_answer(session, SINK_PHASE_DATA);
}

/* chunk_refusal tells why a chunk can only be skipped, whatever it holds; NULL: it is welcome. */
static const char *chunk_refusal(const struct sink_session *session)
{
    switch ((enum sink_state)session->state) {
    case SINK_REJECTED:
    case SINK_CONNECTED: return "503 5.5.1 Say hello first\r\n";
    case SINK_READY: return "503 5.5.1 Need MAIL first\r\n";
    case SINK_MAIL:
        return session->message->refused_count > 0 ? "554 5.5.1 No valid recipients\r\n"
                                                   : "503 5.5.1 Need RCPT first\r\n";
    case SINK_RCPT:
    case SINK_CHUNKS: break;
    }
    return NULL;
}

/* do_bdat is allowed always: the octets come whether they are welcome or not (RFC 3030 2). */
static void do_bdat(struct sink_session *session, const struct command *command)
{
    if (!(session->server->options->extensions & SINK_CHUNKING)) {
        sink_session_leave(session, LINE("554 5.5.1 CHUNKING was not announced"));
        return;
    }
    session->chunk_refusal = chunk_refusal(session);
    session->chunk_left = command->size;
    session->chunk_last = command->last;
    session->mode = SINK_MODE_CHUNK;
    if (session->chunk_refusal == NULL) {
        session->message->chunked = true;
        session->state = SINK_CHUNKS;
    }
    if (session->chunk_left == 0)
        sink_verbs_chunk_end(session);
}

void sink_verbs_chunk_end(struct sink_session *session)
{
    session->mode = SINK_MODE_COMMAND;
    if (session->chunk_refusal != NULL) {
        sink_session_say(session, bytes_of_string(session->chunk_refusal));
        return;
    }
    if (session->chunk_last)
        scan_text_end(&session->message->scan);
    sink_answer(session, session->chunk_last ? SINK_PHASE_DOT : SINK_PHASE_DATA);
}

static void do_rset(struct sink_session *session, const struct command *command)
{
    (void)command;
    sink_session_forget(session);
    if (session->state > SINK_READY)
        session->state = SINK_READY;
    sink_session_say(session, LINE("250 2.0.0 Ok"));
}

static void do_noop(struct sink_session *session, const struct command *command)
{
    (void)command;
    sink_session_say(session, LINE("250 2.0.0 Ok"));
}

static void do_vrfy(struct sink_session *session, const struct command *command)
{
    (void)command;
    sink_session_say(session, LINE("252 2.5.0 All mail is welcome"));
}

static void do_help(struct sink_session *session, const struct command *command)
{
    (void)command;
    sink_session_say(session, LINE("214 2.0.0 This server takes all mail and keeps none"));
}

static void do_quit(struct sink_session *session, const struct command *command)
{
    (void)command;
    sink_answer(session, SINK_PHASE_QUIT);
}

static void do_starttls(struct sink_session *session, const struct command *command)
{
    const struct sink_options *options = session->server->options;
    bool offered = (options->tls == SINK_TLS_STARTTLS || options->tls == SINK_TLS_REQUIRED) &&
                   (options->extensions & SINK_STARTTLS);
    (void)command;
    if (!offered)
        sink_session_say(session, LINE("502 5.5.1 Command not implemented"));
    else if (stream_is_secure(stream_of(session)))
        sink_session_say(session, LINE("503 5.5.1 TLS is on already"));
    else
        sink_answer(session, SINK_PHASE_STARTTLS);
}

static void do_missing(struct sink_session *session, const struct command *command)
{
    (void)command;
    sink_session_say(session, LINE("502 5.5.1 Command not implemented"));
}

static void do_foreign(struct sink_session *session, const struct command *command)
{
    (void)command;
    sink_session_leave(session, LINE("554 5.7.0 This is SMTP"));
}

/* --- the table --- */

#define IN(state)  (1u << SINK_##state)
#define IN_OPEN    (IN(CONNECTED) | IN(READY) | IN(MAIL) | IN(RCPT) | IN(CHUNKS))
#define IN_ANY     (IN(REJECTED) | IN_OPEN)
#define GROUP_LAST true /* nothing may be sent behind it before its reply (RFC 2920 3.1) */
#define GROUP_ANY  false

/* clang-format off */
static const struct rule {
    unsigned allowed; /* bits of enum sink_state */
    bool last_in_group;
    command_function *proceed;
} rules[VERB_COUNT] = {
    [VERB_HELO]     = {IN_OPEN,             GROUP_LAST, do_helo},
    [VERB_EHLO]     = {IN_OPEN,             GROUP_LAST, do_helo},
    [VERB_LHLO]     = {IN_OPEN,             GROUP_LAST, do_helo},
    [VERB_MAIL]     = {IN(READY),           GROUP_ANY,  do_mail},
    [VERB_RCPT]     = {IN(MAIL) | IN(RCPT), GROUP_ANY,  do_rcpt},
    [VERB_DATA]     = {IN(RCPT),            GROUP_LAST, do_data},
    [VERB_BDAT]     = {IN_ANY,              GROUP_ANY,  do_bdat},
    [VERB_RSET]     = {IN_OPEN,             GROUP_ANY,  do_rset},
    [VERB_NOOP]     = {IN_OPEN,             GROUP_ANY,  do_noop},
    [VERB_VRFY]     = {IN_OPEN,             GROUP_ANY,  do_vrfy},
    [VERB_EXPN]     = {IN_OPEN,             GROUP_ANY,  do_missing},
    [VERB_HELP]     = {IN_OPEN,             GROUP_ANY,  do_help},
    [VERB_QUIT]     = {IN_ANY,              GROUP_ANY,  do_quit},
    [VERB_STARTTLS] = {IN(CONNECTED) | IN(READY), GROUP_LAST, do_starttls},
    [VERB_AUTH]     = {IN_OPEN,             GROUP_LAST, do_missing},
    [VERB_FOREIGN]  = {IN_ANY,              GROUP_ANY,  do_foreign},
};
/* clang-format on */

/* wrong_order names what is missing, for a command that the table refuses now (503). */
static struct bytes wrong_order(const struct sink_session *session, enum verb verb)
{
    switch ((enum sink_state)session->state) {
    case SINK_REJECTED: return LINE("503 5.5.1 Nothing but QUIT is taken here");
    case SINK_CONNECTED: return LINE("503 5.5.1 Say hello first");
    case SINK_READY: return LINE("503 5.5.1 Need MAIL first");
    case SINK_MAIL:
        if (verb == VERB_DATA)
            return session->message->refused_count > 0 ? LINE("554 5.5.1 No valid recipients")
                                                       : LINE("503 5.5.1 Need RCPT first");
        break;
    case SINK_RCPT: break;
    case SINK_CHUNKS: return LINE("503 5.5.1 Chunks under way: BDAT, RSET or QUIT");
    }
    return LINE("503 5.5.1 A transaction is under way");
}

/* wrong_command gives the reply to a line that command_parse refused. */
static struct bytes wrong_command(enum command_result result, enum verb verb)
{
    switch (result) {
    case COMMAND_OK:
    case COMMAND_UNKNOWN: break;
    case COMMAND_SYNTAX:
    case COMMAND_BAD_PARAMETER: return LINE("501 5.5.4 Syntax error in arguments");
    case COMMAND_BAD_ADDRESS:
    case COMMAND_LONG_ADDRESS:
        return verb == VERB_MAIL ? LINE("501 5.1.7 Bad sender address syntax")
                                 : LINE("501 5.1.3 Bad recipient address syntax");
    case COMMAND_UTF8_ADDRESS: return LINE("553 5.6.7 Address needs SMTPUTF8");
    case COMMAND_UNKNOWN_PARAMETER: return LINE("555 5.5.4 Unknown parameter");
    case COMMAND_BAD_OCTETS: return LINE("500 5.5.2 NUL, CR or LF inside a command");
    }
    return LINE("500 5.5.2 Command not recognized");
}

void sink_verbs_run(struct sink_session *session, struct bytes line, bool more_behind)
{
    struct command command;
    bool utf8 = session->message != NULL && session->message->smtputf8;
    enum command_result result = command_parse(line, utf8, true, &command);
    const struct rule *rule = &rules[command.verb];
    if (rule->proceed == NULL)
        sink_session_say(session, wrong_command(COMMAND_UNKNOWN, command.verb));
    else if (!(rule->allowed & 1u << session->state))
        sink_session_say(session, wrong_order(session, command.verb));
    else if (result != COMMAND_OK)
        sink_session_say(session, wrong_command(result, command.verb));
    else if (rule->last_in_group && more_behind)
        sink_session_leave(session, LINE("554 5.5.0 Wait for the reply: improper pipelining"));
    else
        rule->proceed(session, &command);
}
