/* The frame of authentication: exchanges and their first messages. See authenticator.h. */
#include "gateway/policy/authenticator.h"

#include <stdlib.h>

#include "gateway/base/check.h"
#include "gateway/policy/authenticator_inside.h"
#include "tls/crypto.h"

static const struct bytes ask_name = BYTES("Username:");
static const struct bytes ask_password = BYTES("Password:");

enum { BLOCK_UNIT = 64 };

struct authenticator *authenticator_new(struct worker *worker,
                                        const struct authenticator_options *options,
                                        struct log_port *log)
{
    const size_t size = (sizeof(struct login) + BLOCK_UNIT - 1) / BLOCK_UNIT * BLOCK_UNIT;
    struct authenticator *authenticator = calloc(1, sizeof(*authenticator));
    if (authenticator == NULL)
        return NULL;
    authenticator->worker = worker;
    authenticator->options = *options;
    authenticator->log = log;
    if (!blocks_init_sized(&authenticator->logins, options->logins_max, size)) {
        free(authenticator);
        return NULL;
    }
    if (options->dovecot != NULL) {
        authenticator->dovecot = dovecot_new(worker, options->dovecot);
        if (authenticator->dovecot == NULL) {
            authenticator_free(authenticator);
            return NULL;
        }
    }
    authenticator_configure(authenticator, options->rules);
    return authenticator;
}

void authenticator_free(struct authenticator *authenticator)
{
    if (authenticator == NULL)
        return;
    CHECK(authenticator->hashing == 0);
    if (authenticator->dovecot != NULL)
        dovecot_free(authenticator->dovecot);
    blocks_cleanup(&authenticator->logins);
    free(authenticator);
}

void authenticator_configure(struct authenticator *authenticator,
                             const struct authenticator_rules *rules)
{
    /* Where to ask can't change: that needs a restart, and rules of the other kind are kept away.
     */
    bool fits = rules != NULL && (authenticator->dovecot != NULL || rules->users != NULL);
    authenticator->rules = fits ? rules : NULL;
}

uint32_t authenticator_mechanisms(const struct authenticator *authenticator, bool secure)
{
    if (authenticator->rules == NULL)
        return 0;
    return authenticator->dovecot != NULL ? authenticator_dovecot_mechanisms(authenticator)
                                          : authenticator_file_mechanisms(authenticator, secure);
}

uint64_t authenticator_login_octets(void)
{
    return sizeof(struct login) + 2 * BLOCK_UNIT;
}

/* --- exchanges --- */

void login_step(struct login *login, enum login_step step)
{
    if (step == LOGIN_UNAVAILABLE)
        counter_add(&login->authenticator->unavailable, 1);
    login->setup.stepped(login->setup.user, step, &login->view);
}

void login_name(struct login *login, struct bytes name)
{
    login->name_len = name.len <= sizeof(login->name) ? (uint16_t)name.len : 0;
    if (login->name_len > 0)
        memcpy(login->name, name.data, login->name_len);
    login->view.user = bytes_make(login->name, login->name_len);
}

void login_give(struct login *login)
{
    struct blocks *logins = &login->authenticator->logins;
    crypto_wipe(login, sizeof(*login));
    blocks_give(logins, login);
}

static void challenge(struct login *login, struct bytes text)
{
    login->view.challenge = text;
    login_step(login, LOGIN_CHALLENGE);
}

/* read_first checks the first message and notes whose it is. */
static bool read_first(struct login *login, struct bytes message)
{
    struct sasl_plain plain;
    struct sasl_scram_first scram;
    struct sasl_bearer bearer;
    uint8_t name[SASL_NAME_MAX];
    size_t len;
    switch (login->setup.mechanism) {
    case SASL_PLAIN:
    case SASL_LOGIN:
        if (!sasl_plain_parse(message, &plain))
            return false;
        login_name(login, plain.user);
        return true;
    case SASL_SCRAM_SHA_256:
    case SASL_SCRAM_SHA_256_PLUS:
        len = sasl_scram_first_parse(message, &scram) ? sasl_scram_name(scram.user, name) : 0;
        login_name(login, bytes_make(name, len));
        return len > 0;
    case SASL_OAUTHBEARER:
    case SASL_XOAUTH2:
        if (!sasl_bearer_parse(login->setup.mechanism, message, &bearer))
            return false;
        login_name(login, bearer.user);
        return true;
    default: return false;
    }
}

/* first gives the first message to the backend. */
static void first(struct login *login, struct bytes message)
{
    const struct authenticator *authenticator = login->authenticator;
    login->state = LOGIN_AT_BACKEND;
    login->view.challenge = bytes_make(NULL, 0);
    if (!read_first(login, message))
        login_step(login, LOGIN_MALFORMED);
    else if (authenticator->rules == NULL)
        login_step(login, LOGIN_UNAVAILABLE);
    else if (authenticator->dovecot != NULL)
        login_dovecot_begin(login, message);
    else
        login_file_begin(login, message);
}

/* LOGIN (which no RFC has): a name, a password, each for itself. */
static void login_named(struct login *login, struct bytes name)
{
    if (!sasl_name_valid(name)) {
        login_step(login, LOGIN_MALFORMED);
        return;
    }
    login_name(login, name);
    login->state = LOGIN_AWAITS_PASSWORD;
    challenge(login, ask_password);
}

static void login_completed(struct login *login, struct bytes password)
{
    uint8_t message[2 + SASL_NAME_MAX + SASL_PASSWORD_MAX];
    size_t head = 2 + (size_t)login->name_len;
    login->view.challenge = bytes_make(NULL, 0);
    if (password.len > SASL_PASSWORD_MAX) {
        login_step(login, LOGIN_MALFORMED);
        return;
    }
    message[0] = 0;
    memcpy(message + 1, login->name, login->name_len);
    message[head - 1] = 0;
    if (password.len > 0)
        memcpy(message + head, password.data, password.len);
    first(login, bytes_make(message, head + password.len));
    crypto_wipe(message, sizeof(message));
}

struct login *login_begin(struct authenticator *authenticator, const struct login_setup *setup,
                          const struct bytes *initial)
{
    struct login *login = blocks_take(&authenticator->logins);
    if (login == NULL) {
        counter_add(&authenticator->unavailable, 1);
        return NULL;
    }
    memset(login, 0, sizeof(*login));
    login->authenticator = authenticator;
    login->setup = *setup;
    login->peer = *setup->peer;
    login->local = *setup->local;
    login->setup.peer = &login->peer;
    login->setup.local = &login->local;
    if (setup->binding != NULL) {
        memcpy(login->binding, setup->binding, sizeof(login->binding));
        login->setup.binding = login->binding;
    }
    bool plain = setup->mechanism != SASL_LOGIN;
    if (initial == NULL) {
        login->state = plain ? LOGIN_AWAITS_FIRST : LOGIN_AWAITS_NAME;
        challenge(login, plain ? bytes_make(NULL, 0) : ask_name);
    } else if (plain) {
        first(login, *initial);
    } else {
        login_named(login, *initial);
    }
    return login;
}

void login_respond(struct login *login, struct bytes response)
{
    switch (login->state) {
    case LOGIN_AWAITS_FIRST: first(login, response); return;
    case LOGIN_AWAITS_NAME: login_named(login, response); return;
    case LOGIN_AWAITS_PASSWORD: login_completed(login, response); return;
    case LOGIN_AT_BACKEND:
        if (login->authenticator->dovecot != NULL)
            login_dovecot_respond(login, response);
        else
            login_file_respond(login, response);
        return;
    }
}

void login_end(struct login *login)
{
    login->ended = true;
    if (login->authenticator->dovecot != NULL)
        login_dovecot_end(login);
    else if (!login_file_end(login))
        return;
    login_give(login);
}

/* --- the worker's turn --- */

void authenticator_turn(struct authenticator *authenticator)
{
    if (authenticator->dovecot != NULL)
        authenticator_dovecot_turn(authenticator);
}

uint64_t authenticator_next_us(const struct authenticator *authenticator)
{
    return authenticator->dovecot != NULL ? dovecot_next_us(authenticator->dovecot) : UINT64_MAX;
}

void authenticator_snapshot(const struct authenticator *authenticator,
                            struct authenticator_snapshot *out)
{
    *out = (struct authenticator_snapshot){
        .hashed = counter_read(&authenticator->hashed),
        .cached = counter_read(&authenticator->cached),
        .unavailable = counter_read(&authenticator->unavailable),
    };
    out->asks_dovecot = authenticator->dovecot != NULL;
    if (authenticator->dovecot != NULL)
        dovecot_snapshot(authenticator->dovecot, &out->dovecot);
}
