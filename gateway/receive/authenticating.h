/* AUTH (RFC 4954): the dialogue in which a client says who it is. Between policy/authenticator.h,
 * which knows mechanisms and backends, and the session, which reads lines. Limits and slowness come
 * from policy/attempts.h; a refusal is answered `auth_delay` after its AUTH, or after each
 * response, whatever was wrong, so that time tells nothing. What a client said is wiped as soon as
 * it is decoded. */
#ifndef GATEWAY_RECEIVE_AUTHENTICATING_H
#define GATEWAY_RECEIVE_AUTHENTICATING_H

#include "gateway/receive/session.h"

/* Who has logged in, or tries to; a block of the server's, from AUTH on. */
struct identity;

/* authenticating_offers writes "250-AUTH ...\r\n" for this session, now, to `out`; 0: AUTH is not
 * offered. */
enum { AUTHENTICATING_OFFER_MAX = 160 };
size_t authenticating_offers(struct session *session, char *out);

/* authenticating_begin takes AUTH with its arguments. REPLY_NONE: it has said, or will say, all. */
enum reply authenticating_begin(struct session *session, struct bytes argument);

/* authenticating_line takes a response line without its CR LF (SESSION_AUTH); too_long: one that
 * was over LIMIT_LINE has been skipped. */
void authenticating_line(struct session *session, struct bytes line);
void authenticating_too_long(struct session *session);

/* authenticating_timed_out: the delay of a refusal is over, or the backend has not answered. */
void authenticating_timed_out(struct session *session);

/* authenticating_forget drops an exchange and the identity: the session ends, or TLS begins anew.
 * NULL-safe. */
void authenticating_forget(struct session *session);

/* authenticating_user is the user who has logged in; empty: nobody. Borrowed. */
struct bytes authenticating_user(const struct session *session);

/* authenticating_mechanism is how ("PLAIN"); NULL: nobody has. */
const char *authenticating_mechanism(const struct session *session);

#endif
