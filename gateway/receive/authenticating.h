/* AUTH (RFC 4954): the dialogue in which a client says who it is. Between policy/authenticator.h,
 * which knows mechanisms and backends, and the session, which reads lines. Limits come from
 * policy/attempts.h; a refusal is answered auth_delay_ms after its AUTH, or after the response that
 * it is for, whatever was wrong, so that time tells nothing. What a client said is wiped as soon as
 * it is decoded. docs/submission.md has the states and replies. */
#ifndef GATEWAY_RECEIVE_AUTHENTICATING_H
#define GATEWAY_RECEIVE_AUTHENTICATING_H

#include "gateway/receive/session.h"

/* Who has logged in, or tries to; a block of server->identities, from AUTH on. */
struct identity;

enum {
    AUTHENTICATING_IDENTITY_SIZE = 384, /* octets of struct identity, rounded up to 64 */
    AUTHENTICATING_OFFER_MAX = 160,
};

/* authenticating_offers writes "250-AUTH ...\r\n" for this session, now, to `out` of
 * AUTHENTICATING_OFFER_MAX octets and returns its length; 0: AUTH is not offered. */
size_t authenticating_offers(struct session *session, char *out);

/* authenticating_begin takes AUTH with its arguments, in a session where its time has come.
 * REPLY_NONE: it has said, or will say, all; the mode tells what comes next (SESSION_AUTH,
 * SESSION_AUTHING). Else nothing has begun. */
enum reply authenticating_begin(struct session *session, struct bytes argument);

/* authenticating_line takes a response, without its CR LF (SESSION_AUTH). authenticating_broken
 * ends the exchange with this reply: what came is no such line. The caller has set the mode. */
void authenticating_line(struct session *session, struct bytes line);
void authenticating_broken(struct session *session, enum reply reply);

/* authenticating_timed_out: the delay of a refusal is over, or the backend has not answered.
 * authenticating_drain: the server ends; what is held back is said now. True: the session waits for
 * its backend, and ends then. */
void authenticating_timed_out(struct session *session);
bool authenticating_drain(struct session *session);

/* authenticating_forget drops an exchange and the identity: the session ends, or TLS begins anew.
 * Nothing, if there is none. */
void authenticating_forget(struct session *session);

/* authenticating_user is the user who has logged in, once 235 was said; empty: nobody. Borrowed
 * until authenticating_forget. */
struct bytes authenticating_user(const struct session *session);

/* authenticating_mechanism is how ("PLAIN"); NULL: nobody has. */
const char *authenticating_mechanism(const struct session *session);

#endif
