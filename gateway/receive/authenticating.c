/* AUTH: see authenticating.h. An exchange takes steps: the backend asks, and the client responds.
 * A step that the backend takes at once, within our call of it, is looked at when that call is
 * over; one that comes later finds the session waiting (SESSION_AUTHING). */
#include "gateway/receive/authenticating.h"

#include "gateway/base/check.h"
#include "gateway/base/limits.h"
#include "gateway/receive/attempt.h"
#include "gateway/receive/claimed_name.h"
#include "gateway/receive/lines.h"
#include "gateway/receive/server.h"
#include "gateway/receive/server_log.h"
#include "parser/base64.h"
#include "tls/crypto.h"

#include <string.h>

enum {
    MESSAGE_MAX = LIMIT_LINE / 4 * 3, /* of a client, decoded */
    CHALLENGE_MAX = SCRAM_MESSAGE_MAX,
    /* Backends have time-outs of their own, all of them shorter. */
    BACKEND_S_MAX = 75,
    /* How long a guess waits for others that are under way, and how often it looks. */
    WAIT_US_MAX = 30 * 1000 * 1000,
    WAIT_US = 100 * 1000,
};

/* Where an exchange stands. */
enum stage {
    STAGE_BACKEND,   /* the backend is asked */
    STAGE_WAIT,      /* it is not yet: the message lies in session->line */
    STAGE_CHALLENGE, /* the client is */
    STAGE_LAST,      /* logged in, but for the client's word that it has the last message */
    STAGE_HELD,      /* over: the reply is held back */
    STAGE_IN,        /* logged in */
};

struct identity {
    struct session *session;
    struct login *login; /* NULL: none under way */
    uint64_t asked_us;   /* monotonic: AUTH, or the last response */
    struct login_view view;
    struct attempt attempt;
    uint8_t mechanism; /* enum sasl_mechanism */
    uint8_t stage;
    uint8_t step; /* enum login_step, once it is `heard` */
    uint8_t held; /* STAGE_HELD: enum reply */
    bool noted;   /* counted and logged */
    bool inside;  /* the backend is being called */
    bool heard;   /* and has taken its step already */
    bool named;   /* the message with the user's name has come */
    uint16_t user_len;
    uint8_t user[SASL_NAME_MAX]; /* as the client wrote it, with the domain; STAGE_IN: as the
                                    backend does */
};

static_assert(sizeof(struct identity) <= AUTHENTICATING_IDENTITY_SIZE, "an identity has room");
static_assert(AUTHENTICATING_IDENTITY_SIZE % 64 == 0, "as blocks.h wants it");

struct bytes authenticating_user(const struct session *session)
{
    const struct identity *identity = session->identity;
    if (identity == NULL || identity->stage != STAGE_IN)
        return bytes_make(NULL, 0);
    return bytes_make(identity->user, identity->user_len);
}

const char *authenticating_mechanism(const struct session *session)
{
    const struct identity *identity = session->identity;
    if (identity == NULL || identity->stage != STAGE_IN)
        return NULL;
    return sasl_mechanism_name((enum sasl_mechanism)identity->mechanism);
}

/* --- what is offered --- */

static bool local_address(struct session *session, union address_any *out)
{
    socklen_t len = sizeof(*out);
    memset(out, 0, sizeof(*out));
    return getsockname(stream_of(session)->descriptor, &out->any, &len) == 0;
}

/* may_tell_secrets: nobody can listen. In clear only if the listener says so, and then what is said
 * stays in this machine: for the client, and for who has told us of it (PROXY, XCLIENT). */
static bool may_tell_secrets(struct session *session)
{
    union address_any local;
    if (session_is_secure(session))
        return true;
    const struct server_listener *listener = server_listener(session->server, session->listener);
    return listener != NULL && listener->auth_clear && listener_is_loopback(&session->peer) &&
           local_address(session, &local) && listener_is_loopback(&local);
}

static const uint8_t *binding_of(struct session *session)
{
    return session_is_secure(session) ? tls_exporter(stream_tls(stream_of(session))) : NULL;
}

/* offered returns the mechanisms as bits. A reload may have taken all of them away. */
static uint32_t offered(struct session *session)
{
    const struct server *server = session->server;
    if (server->authenticator == NULL || server->options->authentication == NULL)
        return 0;
    return authenticator_mechanisms(server->authenticator, binding_of(session) != NULL);
}

size_t authenticating_offers(struct session *session, char *out)
{
    /* The best first: some clients take the first that they know. */
    static const enum sasl_mechanism order[] = {
        SASL_SCRAM_SHA_256_PLUS, SASL_SCRAM_SHA_256, SASL_PLAIN, SASL_LOGIN,
        SASL_OAUTHBEARER,        SASL_XOAUTH2,
    };
    uint32_t mechanisms = session->submission && may_tell_secrets(session) ? offered(session) : 0;
    if (mechanisms == 0)
        return 0;
    struct bytes begin = BYTES("250-AUTH");
    size_t len = begin.len;
    memcpy(out, begin.data, len);
    for (size_t i = 0; i < sizeof(order) / sizeof(order[0]); i++) {
        if ((mechanisms & 1u << order[i]) == 0)
            continue;
        struct bytes name = bytes_of_string(sasl_mechanism_name(order[i]));
        CHECK(len + 1 + name.len + 2 <= AUTHENTICATING_OFFER_MAX);
        out[len++] = ' ';
        memcpy(out + len, name.data, name.len);
        len += name.len;
    }
    memcpy(out + len, "\r\n", 2);
    return len + 2;
}

/* --- the end of an exchange --- */

static struct bytes name_of(const struct identity *identity)
{
    return bytes_make(identity->user, identity->user_len);
}

/* note_end counts and logs what became of an exchange. Who has not come to the end may have typed
 * his password where his name should be. */
static void note_end(struct identity *identity, enum server_login result)
{
    const struct session *session = identity->session;
    struct server *server = session->server;
    enum sasl_mechanism mechanism = (enum sasl_mechanism)identity->mechanism;
    identity->noted = true;
    counter_add(&server->counters.logins[mechanism][result], 1);
    bool whole = result != SERVER_LOGIN_MALFORMED && result != SERVER_LOGIN_CANCELLED;
    struct bytes user = bytes_make(identity->user, whole ? identity->user_len : 0);
    server_log_login(server, session, user, mechanism, result);
}

static void end_login(struct identity *identity)
{
    if (identity->login != NULL)
        login_end(identity->login);
    identity->login = NULL;
}

void authenticating_forget(struct session *session)
{
    struct identity *identity = session->identity;
    if (identity == NULL)
        return;
    if (!identity->noted) /* the client leaves, or we do */
        note_end(identity, SERVER_LOGIN_CANCELLED);
    if (identity->stage == STAGE_LAST) /* he was right */
        attempt_withdraw(&identity->attempt, session);
    attempt_failed(&identity->attempt, session); /* if a guess is under way */
    end_login(identity);
    crypto_wipe(identity, sizeof(*identity));
    blocks_give(&session->server->identities, identity);
    session->identity = NULL;
}

/* settle goes on with the session, unless it waits, or has ended. */
static void settle(struct session *session)
{
    struct server *server = session->server;
    struct stream *stream = stream_of(session);
    if (stream->state != STREAM_OPEN || session->mode == SESSION_AUTHING ||
        session->mode == SESSION_TARPIT)
        return;
    session_deadline(session, server->options->command_timeout_s);
    if (server->draining)
        session_drain(session);
    stream_resume(server->worker, stream);
}

/* release says the reply that was held back. It counts as a bad command, so that a session does not
 * try for ever. */
static void release(struct session *session)
{
    enum reply reply = (enum reply)session->identity->held;
    authenticating_forget(session);
    session->mode = SESSION_COMMAND;
    session->bad_commands++;
    if (session->bad_commands > session->server->options->bad_commands_max)
        session_leave(session, REPLY_TOO_MANY_ERRORS);
    else
        session_reply(session, reply);
}

/* refuse ends an exchange that has come to nothing; the reply waits for its time. */
static void refuse(struct identity *identity, enum reply reply, enum server_login result)
{
    struct session *session = identity->session;
    struct server *server = session->server;
    uint64_t due_us = identity->asked_us + (uint64_t)server->options->auth_delay_ms * 1000;
    note_end(identity, result);
    end_login(identity);
    identity->stage = STAGE_HELD;
    identity->held = (uint8_t)reply;
    if (server->draining || due_us <= server->worker->now_us) {
        release(session);
        return;
    }
    session->mode = SESSION_AUTHING;
    stream_attend(stream_of(session));
    stream_set_deadline(server->worker, stream_of(session), due_us);
}

static void refuse_limited(struct identity *identity, enum attempt_verdict verdict)
{
    static const enum server_login results[] = {
        [ATTEMPT_ADDRESS_OVER] = SERVER_LOGIN_ADDRESS_OVER,
        [ATTEMPT_NETWORK_OVER] = SERVER_LOGIN_NETWORK_OVER,
        [ATTEMPT_USER_OVER] = SERVER_LOGIN_USER_OVER,
    };
    refuse(identity, REPLY_AUTH_LATER, results[verdict]);
}

static void refuse_unavailable(struct identity *identity)
{
    attempt_withdraw(&identity->attempt, identity->session);
    refuse(identity, REPLY_AUTH_UNAVAILABLE, SERVER_LOGIN_UNAVAILABLE);
}

void authenticating_broken(struct session *session, enum reply reply)
{
    struct identity *identity = session->identity;
    bool cancelled = reply == REPLY_AUTH_CANCELLED;
    note_end(identity, cancelled ? SERVER_LOGIN_CANCELLED : SERVER_LOGIN_MALFORMED);
    authenticating_forget(session);
    session_refuse(session, reply);
}

/* malformed ends the exchange between two lines. */
static void malformed(struct identity *identity)
{
    identity->session->mode = SESSION_COMMAND;
    authenticating_broken(identity->session, REPLY_AUTH_MALFORMED);
}

/* --- the backend's steps --- */

static void challenge(struct identity *identity, struct bytes text, enum stage stage)
{
    struct session *session = identity->session;
    char line[4 + (CHALLENGE_MAX + 2) / 3 * 4 + 2];
    if (text.len > CHALLENGE_MAX) {
        refuse_unavailable(identity);
        return;
    }
    memcpy(line, "334 ", 4);
    size_t len = 4 + base64_encode(text, line + 4);
    memcpy(line + len, "\r\n", 2);
    identity->stage = (uint8_t)stage;
    session->mode = SESSION_AUTH;
    counter_add(&session->server->counters.challenges, 1);
    session_say(session, bytes_make(line, len + 2));
}

/* log_in: the name is the backend's from here on. */
static void log_in(struct identity *identity)
{
    struct session *session = identity->session;
    struct bytes user = identity->view.user;
    attempt_passed(&identity->attempt, session, name_of(identity), user);
    memcpy(identity->user, user.data, user.len);
    identity->user_len = (uint16_t)user.len;
    note_end(identity, SERVER_LOGIN_PASSED);
    end_login(identity);
    identity->stage = STAGE_IN;
    identity->view = (struct login_view){0};
    session->mode = SESSION_COMMAND;
    session->discreet = false;
    session_reply(session, REPLY_LOGGED_IN);
}

static void pass(struct identity *identity)
{
    if (!sasl_name_valid(identity->view.user))
        refuse_unavailable(identity);
    else if (identity->view.challenge.len > 0)
        challenge(identity, identity->view.challenge, STAGE_LAST);
    else
        log_in(identity);
}

/* judged: the guess was right, or wrong. False: the user, as the backend calls him, is over his
 * limit. */
static bool judged(struct identity *identity, bool right)
{
    enum attempt_verdict verdict = attempt_judged(&identity->attempt, identity->session,
                                                  name_of(identity), identity->view.user, right);
    if (verdict != ATTEMPT_OK)
        refuse_limited(identity, verdict);
    else if (!right)
        attempt_failed(&identity->attempt, identity->session);
    return verdict == ATTEMPT_OK;
}

static void take_step(struct identity *identity, enum login_step step)
{
    struct server *server = identity->session->server;
    if (step != LOGIN_CHALLENGE)
        histogram_add(&server->counters.phases[SERVER_PHASE_LOGIN],
                      server->worker->now_us - identity->asked_us);
    switch (step) {
    case LOGIN_CHALLENGE: challenge(identity, identity->view.challenge, STAGE_CHALLENGE); return;
    case LOGIN_PASSED:
        if (judged(identity, true))
            pass(identity);
        return;
    case LOGIN_REFUSED:
        if (judged(identity, false))
            refuse(identity, REPLY_AUTH_REFUSED, SERVER_LOGIN_REFUSED);
        return;
    case LOGIN_MALFORMED: malformed(identity); return;
    case LOGIN_UNAVAILABLE: refuse_unavailable(identity); return;
    }
    CHECK(false);
}

static void stepped(void *user, enum login_step step, const struct login_view *view)
{
    struct identity *identity = user;
    struct session *session = identity->session;
    identity->view = *view;
    identity->step = (uint8_t)step;
    identity->heard = true;
    if (identity->inside)
        return;
    if (stream_of(session)->state != STREAM_OPEN) {
        end_login(identity); /* a farewell is on its way */
        return;
    }
    take_step(identity, step);
    settle(session);
}

/* asked is called when the backend has been: its step is here, or awaited. */
static void asked(struct identity *identity)
{
    struct session *session = identity->session;
    identity->inside = false;
    if (identity->login == NULL) {
        refuse_unavailable(identity);
    } else if (identity->heard) {
        take_step(identity, (enum login_step)identity->step);
    } else {
        identity->stage = STAGE_BACKEND;
        session->mode = SESSION_AUTHING;
        stream_attend(stream_of(session));
        session_deadline(session, BACKEND_S_MAX);
    }
}

/* --- what the client says --- */

/* read_name remembers whom the attempt is for. False: the message has no name where it should. */
static bool read_name(struct identity *identity, struct bytes message)
{
    /* A reload may have taken it all away since AUTH. */
    const struct authenticator_rules *rules = identity->session->server->options->authentication;
    size_t len;
    if (!claimed_name_read((enum sasl_mechanism)identity->mechanism, message,
                           rules == NULL ? NULL : rules->domain, identity->user, &len))
        return false;
    identity->user_len = (uint16_t)len;
    return true;
}

/* wait_for_others puts a guess off. False: there is no room to keep it. */
static bool wait_for_others(struct identity *identity, struct bytes message)
{
    struct session *session = identity->session;
    struct worker *worker = session->server->worker;
    CHECK(message.len <= LIMIT_LINE);
    if (identity->stage != STAGE_WAIT) { /* else it lies there */
        CHECK(session->line == NULL);
        session->line = blocks_take(&session->server->lines);
        if (session->line == NULL)
            return false;
        memcpy(session->line, message.data, message.len);
        session->line_len = (uint16_t)message.len;
    }
    identity->stage = STAGE_WAIT;
    session->mode = SESSION_AUTHING;
    stream_attend(stream_of(session));
    stream_set_deadline(worker, stream_of(session), worker->now_us + WAIT_US);
    return true;
}

/* look_into sees to the limits before the backend sees a message: as soon as there is a name, and
 * when there is a password, a proof or a token. False: the exchange is over, or waits. */
static bool look_into(struct identity *identity, struct bytes message)
{
    struct session *session = identity->session;
    bool in_two = identity->mechanism == SASL_LOGIN || identity->mechanism == SASL_SCRAM_SHA_256 ||
                  identity->mechanism == SASL_SCRAM_SHA_256_PLUS;
    bool guess = identity->named || !in_two, undecided = false;
    if (!identity->named && !read_name(identity, message)) {
        malformed(identity);
        return false;
    }
    identity->named = true;
    enum attempt_verdict verdict =
        guess ? attempt_begin(&identity->attempt, session, name_of(identity), &undecided)
              : attempt_look(session, name_of(identity));
    if (verdict == ATTEMPT_OK)
        return true;
    if (!undecided || session->server->worker->now_us - identity->asked_us >= WAIT_US_MAX ||
        !wait_for_others(identity, message))
        refuse_limited(identity, verdict);
    return false;
}

/* begin_login gives the exchange to the backend; `initial` NULL: there is none. */
static void begin_login(struct identity *identity, const struct bytes *initial)
{
    struct session *session = identity->session;
    union address_any local;
    if (initial != NULL && !look_into(identity, *initial))
        return;
    struct login_setup setup = {
        .mechanism = (enum sasl_mechanism)identity->mechanism,
        .secure = session_is_secure(session),
        .binding = binding_of(session),
        .peer = &session->peer,
        .local = local_address(session, &local) ? &local : &session->peer,
        .stepped = stepped,
        .user = identity,
    };
    identity->inside = true;
    identity->heard = false;
    identity->login = login_begin(session->server->authenticator, &setup, initial);
    asked(identity);
}

static struct identity *new_identity(struct session *session, enum sasl_mechanism mechanism)
{
    struct identity *identity = blocks_take(&session->server->identities);
    CHECK(identity != NULL && session->identity == NULL); /* there is one for each session */
    memset(identity, 0, sizeof(*identity));
    identity->session = session;
    identity->mechanism = (uint8_t)mechanism;
    identity->asked_us = session->server->worker->now_us;
    session->identity = identity;
    return identity;
}

enum reply authenticating_begin(struct session *session, struct bytes argument)
{
    size_t end = bytes_find(argument, ' ');
    struct bytes initial = bytes_skip(argument, end + 1);
    enum sasl_mechanism mechanism = sasl_mechanism_find(bytes_slice(argument, 0, end));
    uint8_t message[MESSAGE_MAX];
    size_t len = 0;
    if (!may_tell_secrets(session))
        return REPLY_AUTH_IN_CLEAR;
    if (end == 0)
        return REPLY_BAD_ARGUMENT;
    uint32_t mechanisms = offered(session);
    if (mechanisms == 0)
        return REPLY_AUTH_UNAVAILABLE;
    if (mechanism == SASL_UNKNOWN || (mechanisms & 1u << mechanism) == 0)
        return REPLY_AUTH_MECHANISM;
    /* "=" is an initial response without octets (RFC 4954 4). */
    bool decoded = initial.len / 4 * 3 <= sizeof(message) &&
                   (bytes_equal(initial, BYTES("=")) || base64_decode(initial, message, &len));
    struct identity *identity = new_identity(session, mechanism);
    struct bytes decoded_initial = bytes_make(message, len);
    if (!decoded)
        malformed(identity);
    else
        begin_login(identity, end < argument.len ? &decoded_initial : NULL);
    crypto_wipe(message, len);
    return REPLY_NONE;
}

static void give_response(struct identity *identity, struct bytes message)
{
    if (!look_into(identity, message))
        return;
    identity->inside = true;
    identity->heard = false;
    login_respond(identity->login, message);
    asked(identity);
}

/* respond takes a response that has come. */
static void respond(struct identity *identity, struct bytes message)
{
    identity->asked_us = identity->session->server->worker->now_us;
    if (identity->stage == STAGE_LAST) {
        if (message.len > 0)
            malformed(identity);
        else
            log_in(identity);
        return;
    }
    give_response(identity, message);
}

void authenticating_line(struct session *session, struct bytes line)
{
    struct identity *identity = session->identity;
    uint8_t message[MESSAGE_MAX];
    size_t len = 0;
    CHECK(session->mode == SESSION_AUTH && identity != NULL);
    if (session->traced != 0)
        trace_response(session, line.len);
    if (bytes_equal(line, BYTES("*"))) {
        session->mode = SESSION_COMMAND;
        authenticating_broken(session, REPLY_AUTH_CANCELLED);
    } else if (line.len / 4 * 3 > sizeof(message) || !base64_decode(line, message, &len)) {
        malformed(identity);
    } else {
        respond(identity, bytes_make(message, len));
    }
    crypto_wipe(message, len);
    settle(session);
}

/* --- time --- */

/* try_again looks whether the others have come to an end. */
static void try_again(struct identity *identity)
{
    struct session *session = identity->session;
    struct bytes message = bytes_make(session->line, session->line_len);
    session->mode = SESSION_AUTH;
    if (identity->login == NULL)
        begin_login(identity, &message);
    else
        give_response(identity, message);
    if (session->identity != identity || identity->stage != STAGE_WAIT)
        lines_drop(session);
}

void authenticating_timed_out(struct session *session)
{
    struct identity *identity = session->identity;
    CHECK(session->mode == SESSION_AUTHING);
    if (identity->stage == STAGE_BACKEND) {
        identity->asked_us = 0; /* that was long enough */
        refuse_unavailable(identity);
    } else if (identity->stage == STAGE_WAIT) {
        try_again(identity);
    } else {
        release(session);
    }
    settle(session);
}

bool authenticating_drain(struct session *session)
{
    if (session->mode != SESSION_AUTHING)
        return false;
    if (session->identity->stage == STAGE_HELD)
        session_deadline(session, 0); /* its reply now, and then session_drain again */
    return true;
}
