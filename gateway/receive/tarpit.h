/* The tarpit: whose commands are refused again and again hears of it later and later commands wait
 * (limits.tarpit, docs/edge.md). So who tries names out gets few answers, while one mistake costs
 * nobody anything. */
#ifndef GATEWAY_RECEIVE_TARPIT_H
#define GATEWAY_RECEIVE_TARPIT_H

#include "gateway/receive/session.h"

/* tarpit_refuse says the reply to a refused command: at once, or, when this session has had more of
 * them than limits.tarpit_after, after limits.tarpit (SESSION_TARPIT). What the client sends
 * meanwhile waits. tarpit_refuse_line does so with a line of a next hop. */
void tarpit_refuse(struct session *session, enum reply reply);
void tarpit_refuse_line(struct session *session, struct bytes line);

/* tarpit_concerns: the reply to a recipient that is held back, too. */
bool tarpit_concerns(enum reply reply);

/* tarpit_turn, once a turn, says at once what is held back of clients whose input holds receive
 * buffers while others go without: the tarpit may cost its clients time, but nobody else.
 * tarpit_next_us tells when it wants to look again (monotonic); UINT64_MAX: no need. */
void tarpit_turn(struct server *server);
uint64_t tarpit_next_us(const struct server *server);

/* tarpit_over: the time has passed. It says the reply, and the session goes on. */
void tarpit_over(struct session *session);

#endif
