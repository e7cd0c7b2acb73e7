/* What a client goes through before it is greeted: the PROXY header of the balancer in front of it,
 * the counts and rates of its address, the pause in which one that talks too early betrays itself.
 * docs/edge.md has the states. Each step may end the connection with one line (421 or 554), or,
 * where TLS comes first, without a word. XCLIENT goes through it again. */
#ifndef GATEWAY_RECEIVE_GATE_H
#define GATEWAY_RECEIVE_GATE_H

#include "gateway/receive/session.h"
#include "parser/xclient.h"

/* gate_arrive looks at a connection that was accepted, before there is a session: unless it comes
 * from a balancer, its address is counted. REPLY_NONE, or why it may not stay. gate_enter follows,
 * or nothing was counted. */
enum reply gate_arrive(struct server *server, const union address_any *peer)
    __attribute__((warn_unused_result));

/* gate_enter begins a session with what gate_arrive has found. It goes on in SESSION_PROXY, in a
 * handshake, in SESSION_DELAY, or is greeted. */
void gate_enter(struct session *session);

/* gate_received takes octets that come before the greeting (SESSION_PROXY, SESSION_DELAY) and
 * returns how many. */
size_t gate_received(struct session *session, struct bytes in);

/* gate_talked_early notes that the client talks before our greeting can have come to it (RFC 5321
 * 3.1). */
void gate_talked_early(struct session *session);

/* gate_timed_out: the deadline of one of these modes has passed. */
void gate_timed_out(struct session *session);

/* gate_welcome greets a client that is known, and inside TLS where that comes first: after the
 * pause, if there is one; or it says why not. */
void gate_welcome(struct session *session);

/* gate_xclient lets the session begin anew with the client that XCLIENT names, and says the new
 * greeting, or why that client may not stay. */
void gate_xclient(struct session *session, const struct xclient *client);

/* gate_leave gives back what the session was counted for. Once, at its end. */
void gate_leave(struct session *session);

#endif
