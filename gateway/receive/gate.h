/* What a client goes through before it is greeted: the PROXY header of the balancer in front of it,
 * the counts and rates of its address, the pause in which one that talks too early betrays itself.
 * docs/edge.md has the states. Each step may end the connection with one line (421 or 554), or,
 * where TLS comes first, without a word. */
#ifndef GATEWAY_RECEIVE_GATE_H
#define GATEWAY_RECEIVE_GATE_H

#include "gateway/receive/session.h"

/* gate_enter: a connection was accepted; it is not yet known who the client is when its peer is a
 * balancer. Ends in session_greet, in a handshake, or in the modes SESSION_PROXY and SESSION_DELAY.
 */
void gate_enter(struct session *session);

/* gate_received takes octets that come before the greeting (SESSION_PROXY, SESSION_DELAY) and
 * returns how many. */
size_t gate_received(struct session *session, struct bytes in);

/* gate_timed_out: the deadline of one of these modes has passed. */
void gate_timed_out(struct session *session);

/* gate_leave gives back what the session was counted for, once. */
void gate_leave(struct session *session);

/* gate_identify makes `peer` the client's address (PROXY, XCLIENT): the counts of the old one are
 * given back, those of the new one taken. REPLY_NONE, or why it may not stay. */
enum reply gate_identify(struct session *session, const union address_any *peer)
    __attribute__((warn_unused_result));

#endif
