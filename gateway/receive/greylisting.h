/* The greylist at RCPT: who writes for the first time is asked to come again (docs/edge.md).
 * Between the directory, which knows whether there is such a mailbox, and the next hop
 * (receive/asking.h), which must not hear of a recipient that is not taken. When other gateways are
 * asked, the session waits for some milliseconds; the memory of the question is the transaction's.
 */
#ifndef GATEWAY_RECEIVE_GREYLISTING_H
#define GATEWAY_RECEIVE_GREYLISTING_H

#include "gateway/receive/session.h"

struct server;

/* greylisting_recipient judges a RCPT that the directory has accepted. REPLY_RECIPIENT_OK: it may
 * go on. REPLY_NONE: other gateways are asked, and the session waits (SESSION_ASK); then
 * verbs_recipient follows, or the client hears REPLY_GREYLISTED. Otherwise the answer. */
enum reply greylisting_recipient(struct session *session, const struct command *rcpt);

/* greylisting_cancel takes a question back that is out, if any: the session lets go of the
 * transaction. */
void greylisting_cancel(struct server *server, struct transaction *transaction);

#endif
