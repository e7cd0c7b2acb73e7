/* Who logs in: one SASL exchange after the other, by the users file (authenticator_file.c, hashes
 * on helper threads) or by Dovecot (authenticator_dovecot.c, over io/dovecot.h). One authenticator
 * for each worker; SMTP's side of it, base64, replies and limits, is receive/authenticating.h. */
#ifndef GATEWAY_POLICY_AUTHENTICATOR_H
#define GATEWAY_POLICY_AUTHENTICATOR_H

#include "gateway/io/dovecot.h"
#include "gateway/io/helpers.h"
#include "gateway/policy/login_cache.h"
#include "gateway/policy/scram.h"
#include "gateway/policy/users.h"

struct authenticator;
struct log_port;
struct login;

/* What the configuration says; immutable, a reload gives another one (authenticator_configure). */
struct authenticator_rules {
    const struct users *users; /* NULL: Dovecot */
    const char *domain;        /* of a name without "@"; NULL: none */
    uint32_t cache_s;          /* 0: nothing is kept */
};

struct authenticator_options {
    const struct authenticator_rules *rules;
    const struct dovecot_options *dovecot; /* NULL: users file */
    struct helpers *helpers; /* for hashes; NULL: the worker does that itself (tests) */
    struct login_cache *cache;
    uint32_t waiting_max; /* hashes queued; more are LOGIN_UNAVAILABLE */
    uint32_t logins_max;  /* exchanges at a time, those included that wait for their client */
};

/* authenticator_new: in the worker's thread; all borrowed. NULL: no memory. authenticator_free: all
 * exchanges are over, or abandoned. */
struct authenticator *authenticator_new(struct worker *worker,
                                        const struct authenticator_options *options,
                                        struct log_port *log) __attribute__((warn_unused_result));
void authenticator_free(struct authenticator *authenticator);
void authenticator_configure(struct authenticator *authenticator,
                             const struct authenticator_rules *rules);

/* authenticator_login_octets: what an exchange takes, for the memory contract. */
uint64_t authenticator_login_octets(void);

/* authenticator_mechanisms returns which can be used now, as bits 1 << enum sasl_mechanism;
 * `secure`: inside TLS that has a binding (SCRAM-SHA-256-PLUS). */
uint32_t authenticator_mechanisms(const struct authenticator *authenticator, bool secure);

enum login_step {
    LOGIN_CHALLENGE = 0,   /* `challenge` is for the client; its response is awaited */
    LOGIN_PASSED = 1,      /* `user` is logged in; a last challenge may be there (SCRAM's v=) */
    LOGIN_REFUSED = 2,     /* 535 5.7.8: wrong, whatever was */
    LOGIN_MALFORMED = 3,   /* 501 5.5.2: no message of this mechanism */
    LOGIN_UNAVAILABLE = 4, /* 454 4.7.0 */
};

/* What the asker sees of an exchange. */
struct login_view {
    struct bytes challenge; /* not in base64; borrowed until the next step */
    struct bytes user;      /* as soon as it is known, also of one that is refused */
    bool password_seen;     /* REFUSED, UNAVAILABLE: a guess was made */
};

struct login_setup {
    enum sasl_mechanism mechanism; /* LOGIN is asked for by challenges, then it is PLAIN */
    bool secure;
    const uint8_t *binding; /* tls-exporter, SCRAM_BINDING_LEN octets; NULL: none */
    const union address_any *peer, *local;
    /* Hears each step exactly once, perhaps from within the call that caused it. */
    void (*stepped)(void *user, enum login_step step, const struct login_view *view);
    void *user;
};

/* login_begin starts one; `initial` is the initial response (NULL: there was none, which is not
 * the same as an empty one). NULL: too many exchanges (454), nothing is heard. login_respond
 * gives the client's response to a challenge. Octets are borrowed during the call, the caller wipes
 * them. login_end lets go, at any step: nothing more is heard, secrets are wiped as soon as no
 * helper reads them. */
struct login *login_begin(struct authenticator *authenticator, const struct login_setup *setup,
                          const struct bytes *initial) __attribute__((warn_unused_result));
void login_respond(struct login *login, struct bytes response);
void login_end(struct login *login);

/* authenticator_turn lets time-outs happen; in every turn_end. authenticator_next_us: when it wants
 * the next turn (UINT64_MAX: no hurry). */
void authenticator_turn(struct authenticator *authenticator);
uint64_t authenticator_next_us(const struct authenticator *authenticator);

struct authenticator_snapshot {
    uint64_t hashed, cached, unavailable;
    uint64_t asks_dovecot; /* 0 or 1 */
    struct dovecot_snapshot dovecot;
};
void authenticator_snapshot(const struct authenticator *authenticator,
                            struct authenticator_snapshot *out); /* any thread */

#endif
