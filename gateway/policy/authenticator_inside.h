/* What the parts of the authenticator share: the frame (authenticator.c) keeps exchanges and reads
 * their first messages; a backend (authenticator_file.c, authenticator_dovecot.c) goes on. */
#ifndef GATEWAY_POLICY_AUTHENTICATOR_INSIDE_H
#define GATEWAY_POLICY_AUTHENTICATOR_INSIDE_H

#include "gateway/base/blocks.h"
#include "gateway/io/worker.h"
#include "gateway/policy/authenticator.h"

/* What the log knows of Dovecot. */
enum dovecot_seen {
    DOVECOT_SEEN_NOTHING = 0,
    DOVECOT_SEEN_CONNECTED = 1,
    DOVECOT_SEEN_AWAY = 2,
};

struct authenticator {
    struct worker *worker;
    struct authenticator_options options;
    const struct authenticator_rules *rules; /* NULL: a reload has taken them away */
    struct dovecot *dovecot;                 /* NULL: users file */
    enum dovecot_seen dovecot_seen;
    struct log_port *log;
    struct blocks logins;
    uint32_t hashing; /* jobs that have not come back */
    _Atomic uint64_t hashed, cached, unavailable;
};

enum login_state {
    LOGIN_AWAITS_FIRST = 0,    /* the mechanism's first message */
    LOGIN_AWAITS_NAME = 1,     /* LOGIN */
    LOGIN_AWAITS_PASSWORD = 2, /* LOGIN */
    LOGIN_AT_BACKEND = 3,
};

struct login {
    struct helper_job job; /* first; under way while `hashing`, and then this memory stays */
    struct authenticator *authenticator;
    struct login_setup setup; /* peer, local and binding point to the next three */
    union address_any peer, local;
    uint8_t binding[SCRAM_BINDING_LEN];
    struct login_view view;
    enum login_state state;
    bool hashing;
    _Atomic bool ended; /* nobody wants to hear of it */
    uint16_t name_len;
    uint8_t name[SASL_NAME_MAX]; /* view.user, mostly */
    uint64_t cache_key;          /* 0: it is not kept */
    uint32_t dovecot_request;

    /* What the helper compares, and what came of it. */
    bool known; /* there is such a user; else it is only compared for the time that it takes */
    bool compared, matched, failed;
    enum password_scheme scheme;
    uint16_t hash_len, password_len;
    uint8_t hash[PASSWORD_TEXT_MAX];
    uint8_t password[SASL_PASSWORD_MAX];

    struct scram scram;
    char message[SCRAM_MESSAGE_MAX]; /* view.challenge, if it is a last one */
};

/* login_step tells the asker; nobody touches the login afterwards. login_name sets the user's name;
 * one that is too long, or empty, becomes none. */
void login_step(struct login *login, enum login_step step);
void login_name(struct login *login, struct bytes name);

/* The backends: _begin takes the first message, which is well-formed (PLAIN's, if the mechanism is
 * LOGIN), login->name is set; _respond each further one; _end lets go. False of login_file_end: a
 * helper still reads the login, and gives it back (login_give) when it is done. */
void login_file_begin(struct login *login, struct bytes message);
void login_file_respond(struct login *login, struct bytes response);
bool login_file_end(struct login *login) __attribute__((warn_unused_result));
uint32_t authenticator_file_mechanisms(const struct authenticator *authenticator, bool secure);

void login_dovecot_begin(struct login *login, struct bytes message);
void login_dovecot_respond(struct login *login, struct bytes response);
void login_dovecot_end(struct login *login);
uint32_t authenticator_dovecot_mechanisms(const struct authenticator *authenticator);
void authenticator_dovecot_turn(struct authenticator *authenticator);

/* login_give wipes a login and gives its memory back. */
void login_give(struct login *login);

#endif
