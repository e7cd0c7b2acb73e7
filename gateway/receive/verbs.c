/* The commands: see verbs.h. A command is checked against the table, then its function proceeds; no
 * function looks at the order of commands again. */
#include "gateway/receive/verbs.h"

#include "gateway/base/check.h"
#include "gateway/base/limits.h"
#include "gateway/receive/asking.h"
#include "gateway/receive/authenticating.h"
#include "gateway/receive/gate.h"
#include "gateway/receive/greylisting.h"
#include "gateway/receive/server.h"
#include "gateway/receive/server_log.h"
#include "gateway/receive/submission.h"
#include "gateway/receive/tarpit.h"
#include "gateway/receive/terms.h"

#include <stdio.h>
#include <string.h>

enum { COMMAND_MAX = 512 /* CR LF included (RFC 5321 4.5.3.1.4) */ };

/* A command's function returns its reply, or REPLY_NONE when it has said it itself. */
typedef enum reply command_function(struct session *session, const struct command *command);

/* must_secure: the listener takes no mail in clear. */
static bool must_secure(struct session *session)
{
    return session->tls == SERVER_TLS_REQUIRED && !session_is_secure(session);
}

static enum server_ehlo offered(struct session *session)
{
    if (session_is_secure(session))
        return SERVER_EHLO_SECURE;
    return session->tls == SERVER_TLS_NONE ? SERVER_EHLO_CLEAR : SERVER_EHLO_STARTTLS;
}

/* say_ehlo says what is offered. Behind the first line: to those whom XCLIENT is for, that, too;
 * how to log in, and what submitted mail may ask for. */
static void say_ehlo(struct session *session)
{
    struct bytes text = server_ehlo(session->server, session->submission, offered(session));
    char auth[AUTHENTICATING_OFFER_MAX], terms[TERMS_EHLO_MAX];
    size_t terms_len =
        terms_ehlo(terms_rules(session), session->server->worker->now_wall_us, terms);
    if (session->trusted || session->submission) {
        size_t first = bytes_find(text, '\n') + 1;
        session_say(session, bytes_slice(text, 0, first));
        text = bytes_skip(text, first);
    }
    if (session->trusted)
        session_say(session, BYTES("250-XCLIENT NAME ADDR PORT PROTO HELO LOGIN DESTADDR "
                                   "DESTPORT\r\n"));
    size_t auth_len = session->submission ? authenticating_offers(session, auth) : 0;
    if (auth_len > 0)
        session_say(session, bytes_make(auth, auth_len));
    if (terms_len > 0)
        session_say(session, bytes_make(terms, terms_len));
    session_say(session, text);
}

static enum reply do_helo(struct session *session, const struct command *command)
{
    if (command->argument.len > SESSION_HELO_MAX)
        return REPLY_BAD_ARGUMENT;
    session_drop_transaction(session);
    session->state = SESSION_READY;
    session->extended = command->verb == VERB_EHLO;
    session_set_helo(session, command->argument);
    struct server *server = session->server;
    counter_add(&server->counters.hellos, 1);
    if (session->extended) {
        say_ehlo(session);
    } else {
        char line[SERVER_GREETING_LEN_MAX];
        int len = snprintf(line, sizeof(line), "250 %s\r\n", server->options->hostname);
        session_say(session, bytes_make(line, (size_t)len));
    }
    return REPLY_NONE;
}

static enum reply spool_refusal(enum spool_state state)
{
    switch (state) {
    case SPOOL_OPEN: return REPLY_NONE;
    case SPOOL_FULL: return REPLY_SPOOL_FULL;
    case SPOOL_QUEUE_FULL: return REPLY_QUEUE_FULL;
    case SPOOL_BROKEN: return REPLY_SPOOL_BROKEN;
    }
    CHECK(false);
}

/* over_rate counts a message, unless it is one too many of its client's. */
static enum reply over_rate(struct session *session)
{
    struct server *server = session->server;
    const struct server_options *options = server->options;
    const uint32_t *limits = options->rates.per_minute[RATE_MESSAGES];
    if ((limits[RATE_ADDRESS] == 0 && limits[RATE_NETWORK] == 0) || session->exempt)
        return REPLY_NONE;
    switch (rates_take(server->rates, &options->rates, RATE_MESSAGES, &session->peer,
                       server->worker->now_us)) {
    case RATE_OK: break;
    case RATE_ADDRESS_OVER: return REPLY_TOO_MANY_MESSAGES;
    case RATE_NETWORK_OVER: return REPLY_TOO_MANY_MESSAGES_FROM_NETWORK;
    }
    if (server->shared != NULL)
        shared_count(server->shared, &options->rates, RATE_MESSAGES, &session->peer);
    return REPLY_NONE;
}

/* over_limit: a message that nobody answers for is too big, or comes too often. */
static enum reply over_limit(struct session *session, const struct command *mail)
{
    struct server *server = session->server;
    if (mail->has_size && mail->size > server->options->message_size_max)
        return REPLY_MESSAGE_TOO_BIG;
    enum reply refusal = over_rate(session);
    if (refusal != REPLY_NONE)
        server_log_refused(server, session, refusal);
    return refusal;
}

static enum reply do_mail(struct session *session, const struct command *command)
{
    struct server *server = session->server;
    enum reply unable = spool_refusal(spool_state(server->spool));
    if (unable != REPLY_NONE)
        return unable;
    if (command->requiretls && !session_is_secure(session))
        return REPLY_REQUIRETLS_IN_CLEAR;
    bool submitted = submission_is(session);
    struct envelope_terms terms = {0};
    if (terms_rules(session) != NULL && submission_has_user(session))
        unable = terms_judge(terms_rules(session), command, server->worker->now_wall_us, &terms);
    /* What users have held must not keep the mail of others out. */
    if (unable == REPLY_NONE && terms.release_s != 0 && spool_half_full(server->spool))
        unable = REPLY_QUEUE_FULL;
    if (unable != REPLY_NONE)
        return unable;
    unable = submitted ? submission_mail(session, command) : over_limit(session, command);
    if (unable != REPLY_NONE)
        return unable;
    session->transaction = transaction_new(&server->context, command, server_id_next(server));
    if (session->transaction == NULL) {
        if (submitted)
            submission_ended(session);
        return REPLY_NO_MEMORY;
    }
    session->transaction->envelope.terms = terms;
    session->transaction->session = session;
    session->transaction->session_id = session->id;
    session->transaction->begun_us = server->worker->now_us;
    if (submitted && !submission_begin(session)) {
        session_drop_transaction(session);
        return REPLY_NO_MEMORY;
    }
    session->state = SESSION_MAIL;
    return REPLY_SENDER_OK;
}

/* check_recipient: `known`: the greylist lets this one pass. */
static enum reply check_recipient(struct session *session, const struct command *command,
                                  bool known)
{
    struct server *server = session->server;
    struct directory_expansion *expansion = &server->expansion;
    enum reply reply = REPLY_RECIPIENT_OK;
    switch (directory_expand(server->options->directory, &command->address,
                             server->worker->now_wall_us / 1000000, expansion)) {
    case DIRECTORY_ACCEPT:
        if (!known)
            reply = greylisting_recipient(session, command);
        if (reply != REPLY_RECIPIENT_OK)
            return reply;
        if (asking_recipient(session, command, expansion->flags, &reply))
            return reply;
        if (session->transaction->fixups != NULL)
            return submission_recipient_here(session, command, expansion);
        return transaction_recipients_add(&server->context, session->transaction, command,
                                          expansion->targets, expansion->target_count,
                                          expansion->aliased);
    case DIRECTORY_NO_SUCH_USER: return REPLY_NO_SUCH_USER;
    case DIRECTORY_ROUTED: return REPLY_RELAY_DENIED;
    case DIRECTORY_RELAY_DENIED: return submission_recipient(session, command);
    case DIRECTORY_LOOP: return REPLY_ALIAS_LOOP;
    case DIRECTORY_TOO_MANY: return REPLY_ALIAS_TOO_LONG;
    case DIRECTORY_LATER: return REPLY_SRS_LATER;
    case DIRECTORY_BAD_SRS:
        server_log_bad_srs(server, session, command->address.text);
        return REPLY_BAD_SRS;
    case DIRECTORY_BAD_ADDRESS:
        reply = submission_recipient(session, command); /* elsewhere names may be so long */
        return reply == REPLY_RELAY_DENIED ? REPLY_BAD_FORWARD_PATH : reply;
    }
    CHECK(false);
}

static enum reply take_recipient(struct session *session, const struct command *command, bool known)
{
    enum reply reply = check_recipient(session, command, known);
    if (reply == REPLY_RECIPIENT_OK)
        session->state = SESSION_RCPT;
    else if (session->mode != SESSION_ASK)
        session->transaction->refused_count++;
    return reply;
}

static enum reply do_rcpt(struct session *session, const struct command *command)
{
    return take_recipient(session, command, false);
}

void verbs_recipient(struct session *session, const struct command *rcpt)
{
    session->mode = SESSION_COMMAND;
    enum reply reply = take_recipient(session, rcpt, true);
    if (reply != REPLY_NONE) /* else the next hop is asked */
        session_asked_reply(session, reply);
}

/* begin_text: the envelope is complete. */
static void begin_text(struct session *session)
{
    struct server *server = session->server;
    struct transaction *transaction = session->transaction;
    transaction->data_us = server->worker->now_us;
    histogram_add(&server->counters.phases[SERVER_PHASE_ENVELOPE],
                  transaction->data_us - transaction->begun_us);
    asking_text_begins(session);
}

static enum reply do_data(struct session *session, const struct command *command)
{
    (void)command;
    if (session->transaction->binary)
        return REPLY_NEED_BDAT; /* RFC 3030 3 */
    begin_text(session);
    session->mode = SESSION_DATA;
    session->discreet = session->doubtful = false;
    return REPLY_START_DATA;
}

/* chunk_refusal tells why a chunk can only be skipped, whatever it holds. */
static enum reply chunk_refusal(struct session *session)
{
    if (must_secure(session))
        return REPLY_TLS_FIRST;
    switch ((enum session_state)session->state) {
    case SESSION_CONNECTED: return REPLY_GREET_FIRST;
    case SESSION_READY: return REPLY_NEED_MAIL;
    case SESSION_MAIL:
        return session->transaction->refused_count > 0 ? REPLY_NO_VALID_RECIPIENTS
                                                       : REPLY_NEED_RECIPIENT;
    case SESSION_RCPT:
    case SESSION_CHUNKS: return REPLY_NONE;
    }
    CHECK(false);
}

/* do_bdat is allowed always: the octets of the chunk come whether it is welcome or not (RFC 3030
 * 2). */
static enum reply do_bdat(struct session *session, const struct command *command)
{
    session->chunk_left = command->size;
    session->chunk_last = command->last;
    session->chunk_refusal = (uint8_t)chunk_refusal(session);
    session->mode = SESSION_CHUNK;
    session->doubtful = session->doubtful && !session->asked_text;
    if (session->chunk_refusal != REPLY_NONE)
        return REPLY_NONE;
    struct transaction *transaction = session->transaction;
    transaction->chunked = true;
    if (session->state == SESSION_RCPT)
        begin_text(session);
    session->state = SESSION_CHUNKS;
    if (command->size > transaction->message_size_max - transaction->octets &&
        transaction->refusal == REPLY_NONE)
        transaction->refusal = REPLY_MESSAGE_TOO_BIG;
    return REPLY_NONE;
}

static enum reply do_rset(struct session *session, const struct command *command)
{
    (void)command;
    session_reset(session);
    return REPLY_RESET;
}

static enum reply do_noop(struct session *session, const struct command *command)
{
    (void)session;
    (void)command;
    return REPLY_OK;
}

static enum reply do_vrfy(struct session *session, const struct command *command)
{
    (void)session;
    (void)command;
    return REPLY_CANNOT_VERIFY; /* RFC 5321 3.5.3, 7.3 */
}

static enum reply do_help(struct session *session, const struct command *command)
{
    (void)session;
    (void)command;
    return REPLY_HELP;
}

static enum reply do_quit(struct session *session, const struct command *command)
{
    (void)command;
    session_leave(session, REPLY_BYE);
    return REPLY_NONE;
}

static enum reply do_starttls(struct session *session, const struct command *command)
{
    (void)command;
    return session_start_tls(session);
}

static enum reply do_auth(struct session *session, const struct command *command)
{
    return authenticating_begin(session, command->argument);
}

static enum reply do_missing(struct session *session, const struct command *command)
{
    (void)session;
    (void)command;
    return REPLY_NOT_OFFERED;
}

static enum reply do_foreign(struct session *session, const struct command *command)
{
    session_leave(session,
                  command->verb == VERB_PROXY ? REPLY_FOREIGN_PROXY : REPLY_FOREIGN_PROTOCOL);
    return REPLY_NONE;
}

static enum reply do_xclient(struct session *session, const struct command *command)
{
    struct xclient client;
    if (!xclient_parse(command->argument, &client))
        return REPLY_BAD_ARGUMENT;
    gate_xclient(session, &client);
    return REPLY_NONE;
}

/* --- the table --- */

#define IN(state) (1u << SESSION_##state)
#define IN_ANY    (IN(CONNECTED) | IN(READY) | IN(MAIL) | IN(RCPT) | IN(CHUNKS))
#define LAST      true /* nothing may be sent behind it before its reply (RFC 2920 3.1) */
#define MORE      false
#define SECURE    true /* not in clear where TLS is required (RFC 3207 4) */
#define CLEAR     false

struct rule {
    unsigned allowed; /* bits of enum session_state */
    bool last_in_group;
    bool tls_first;
    uint16_t len_max; /* octets of the line, CR LF included */
    command_function *proceed;
};

/* clang-format off */
static const struct rule rules[VERB_COUNT] = {
    /*                 allowed in           behind      line         proceed     RFC (5321) */
    [VERB_HELO]     = {IN_ANY,              LAST, CLEAR,  COMMAND_MAX, do_helo},     /* 4.1.1.1 */
    [VERB_EHLO]     = {IN_ANY,              LAST, CLEAR,  COMMAND_MAX, do_helo},     /* 4.1.1.1 */
    [VERB_MAIL]     = {IN(READY),           MORE, SECURE, LIMIT_LINE,  do_mail},     /* 4.1.1.2 */
    [VERB_RCPT]     = {IN(MAIL) | IN(RCPT), MORE, SECURE, LIMIT_LINE,  do_rcpt},     /* 4.1.1.3 */
    [VERB_DATA]     = {IN(RCPT),            LAST, SECURE, COMMAND_MAX, do_data},     /* 4.1.1.4 */
    [VERB_BDAT]     = {IN_ANY,              MORE, CLEAR,  COMMAND_MAX, do_bdat},     /* 3030 2 */
    [VERB_RSET]     = {IN_ANY,              MORE, CLEAR,  COMMAND_MAX, do_rset},     /* 4.1.1.5 */
    [VERB_VRFY]     = {IN_ANY,              MORE, SECURE, COMMAND_MAX, do_vrfy},     /* 4.1.1.6 */
    [VERB_EXPN]     = {IN_ANY,              MORE, SECURE, COMMAND_MAX, do_missing},  /* 4.1.1.7 */
    [VERB_HELP]     = {IN_ANY,              MORE, CLEAR,  COMMAND_MAX, do_help},     /* 4.1.1.8 */
    [VERB_NOOP]     = {IN_ANY,              MORE, CLEAR,  COMMAND_MAX, do_noop},     /* 4.1.1.9 */
    [VERB_QUIT]     = {IN_ANY,              MORE, CLEAR,  COMMAND_MAX, do_quit},     /* 4.1.1.10 */
    [VERB_STARTTLS] = {IN(READY),           LAST, CLEAR,  COMMAND_MAX, do_starttls}, /* 3207 */
    [VERB_AUTH]     = {IN(READY),           LAST, SECURE, LIMIT_LINE,  do_auth},     /* 4954 */
    [VERB_XCLIENT]  = {IN(CONNECTED) | IN(READY),
                                            LAST, CLEAR,  LIMIT_LINE,  do_xclient},  /* edge.md */
    [VERB_PROXY]    = {IN_ANY,              MORE, CLEAR,  LIMIT_LINE,  do_foreign},  /* edge.md */
    [VERB_FOREIGN]  = {IN_ANY,              MORE, CLEAR,  LIMIT_LINE,  do_foreign},
};
/* clang-format on */

/* wrong_order names what is missing, for a command that the table refuses now (503). */
static enum reply wrong_order(const struct session *session, enum verb verb)
{
    if (session->state == SESSION_CONNECTED)
        return REPLY_GREET_FIRST;
    if (session->state == SESSION_CHUNKS)
        return REPLY_DATA_AFTER_BDAT;
    if (verb == VERB_AUTH)
        return REPLY_AUTH_IN_TRANSACTION;
    if (verb == VERB_MAIL)
        return REPLY_NESTED_MAIL;
    if (verb == VERB_STARTTLS || verb == VERB_XCLIENT)
        return REPLY_BAD_SEQUENCE;
    if (session->state == SESSION_READY)
        return REPLY_NEED_MAIL;
    if (session->transaction->refused_count > 0)
        return REPLY_NO_VALID_RECIPIENTS;
    return REPLY_NEED_RECIPIENT;
}

/* not_now gives the reply to a command whose time has not come; REPLY_NONE: it may proceed. */
static enum reply not_now(struct session *session, enum verb verb)
{
    if (verb == VERB_STARTTLS && session->tls == SERVER_TLS_NONE)
        return REPLY_NOT_OFFERED;
    if (verb == VERB_STARTTLS && session_is_secure(session))
        return REPLY_TLS_ACTIVE;
    if (rules[verb].tls_first && must_secure(session))
        return REPLY_TLS_FIRST;
    if (verb == VERB_AUTH && !session->submission)
        return REPLY_NOT_OFFERED;
    if (verb == VERB_AUTH && authenticating_user(session).len > 0)
        return REPLY_AUTH_TWICE;
    if (!(rules[verb].allowed & 1u << session->state))
        return wrong_order(session, verb);
    if (verb == VERB_AUTH && !session->extended)
        return REPLY_BAD_SEQUENCE; /* who said HELO was offered nothing */
    return REPLY_NONE;
}

/* wrong_command gives the reply to a line that command_parse refused. */
static enum reply wrong_command(enum command_result result, enum verb verb)
{
    switch (result) {
    case COMMAND_OK: break;
    case COMMAND_UNKNOWN: return REPLY_UNKNOWN_COMMAND;
    case COMMAND_SYNTAX:
    case COMMAND_BAD_PARAMETER: return REPLY_BAD_ARGUMENT;
    case COMMAND_BAD_ADDRESS:
    case COMMAND_LONG_ADDRESS:
        return verb == VERB_MAIL ? REPLY_BAD_REVERSE_PATH : REPLY_BAD_FORWARD_PATH;
    case COMMAND_UTF8_ADDRESS: return REPLY_UTF8_ADDRESS;
    case COMMAND_UNKNOWN_PARAMETER: return REPLY_UNKNOWN_PARAMETER;
    case COMMAND_BAD_OCTETS: return REPLY_BAD_OCTETS;
    }
    CHECK(false);
}

/* forgive_followers: the recipients and the DATA that a client has pipelined behind a refused MAIL
 * (RFC 2920 3.1) get their 503 or 530, but do not count as bad commands. */
static void forgive_followers(struct session *session)
{
    const struct server_options *options = session->server->options;
    bool submission = session->submission && options->submission != NULL;
    uint32_t recipients_max =
        submission ? options->submission->recipients_max : options->recipients_max;
    session->forgiven = (uint16_t)(recipients_max + 1);
}

/* heed remembers what may come in place of commands, also while nobody watches (trace.h): somebody
 * may begin to. It is not said of DATA that it was refused, but taken back when a text begins. A
 * client whose next word is RSET has understood. */
static void heed(struct session *session, struct bytes line, enum verb verb)
{
    bool text_next = verb == VERB_DATA || verb == VERB_BDAT;
    if (verb == VERB_RSET && line.len == 4 && session->asked_text)
        session->doubtful = false;
    session->asked_text = text_next && !session->doubtful;
    session->doubtful |= text_next;
    session->discreet |= verb == VERB_AUTH;
}

/* judge_command finds the rule's verdict on a line without its CR LF, and lets the command proceed
 * if it may. */
static enum reply judge_command(struct session *session, struct bytes line, bool more_behind,
                                struct command *command)
{
    const struct transaction *transaction = session->transaction;
    bool utf8 = transaction != NULL && (transaction->envelope.flags & ENVELOPE_SMTPUTF8);
    enum command_result result = command_parse(line, utf8, true, command);
    if (session->server->trace.filters != NULL)
        trace_command(session, line, command, result);
    heed(session, line, command->verb);
    const struct rule *rule = &rules[command->verb];
    if (rule->proceed == NULL || (command->verb == VERB_XCLIENT && !session->trusted))
        return REPLY_UNKNOWN_COMMAND;
    if (line.len + 2 > rule->len_max)
        return REPLY_LINE_TOO_LONG;
    /* Order first: arguments of a misplaced command mean nothing. */
    enum reply refusal = not_now(session, command->verb);
    if (refusal != REPLY_NONE)
        return refusal;
    if (command->asks != 0 && !terms_offered(terms_rules(session), command))
        return REPLY_UNKNOWN_PARAMETER;
    if (result != COMMAND_OK)
        return wrong_command(result, command->verb);
    if (command->verb == VERB_STARTTLS && more_behind) {
        session_leave(session, REPLY_CLEAR_BEHIND_STARTTLS);
        return REPLY_NONE;
    }
    if (command->verb == VERB_AUTH && more_behind) { /* no backend is to be asked for nothing */
        session_leave(session, REPLY_EARLY_INPUT);
        return REPLY_NONE;
    }
    enum reply reply = rule->proceed(session, command);
    bool taken = reply == REPLY_NONE || reply_code(reply) < 400;
    if (rule->last_in_group && more_behind && taken) {
        session_leave(session, REPLY_EARLY_INPUT);
        return REPLY_NONE;
    }
    return reply;
}

void verbs_run(struct session *session, struct bytes line, bool more_behind)
{
    struct command command;
    enum reply reply = judge_command(session, line, more_behind, &command);
    unsigned code = reply_code(reply);
    bool bad = code == 500 || code == 501 || code == 502 || code == 503 || code == 530 ||
               code == 504 || code == 538 || code == 555 ||
               reply == REPLY_BAD_SRS; /* a guess at an SRS hash */
    if (session->mode == SESSION_HANDSHAKE || session->mode == SESSION_ASK ||
        session->mode == SESSION_AUTHING)
        return; /* it has said all, and has a deadline of its own */
    if (command.verb == VERB_MAIL)
        session->forgiven = 0; /* nothing was pipelined behind the one before any more */
    if (bad)
        session_refuse(session, reply);
    else if (tarpit_concerns(reply))
        tarpit_refuse(session, reply);
    else if (reply != REPLY_NONE)
        session_reply(session, reply);
    if (command.verb == VERB_MAIL && reply != REPLY_SENDER_OK)
        forgive_followers(session);
    if (session->mode == SESSION_TARPIT)
        return;
    session_deadline(session, session->server->options->command_timeout_s);
    if (session->server->draining)
        session_drain(session);
}
