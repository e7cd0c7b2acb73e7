/* What each SMTP command does, and the one table that states what is allowed when. */
#ifndef GATEWAY_RECEIVE_VERBS_H
#define GATEWAY_RECEIVE_VERBS_H

#include "gateway/receive/session.h"

/* verbs_run carries out one command line, given without its CR LF, and says the reply.
 * `more_behind`: octets behind the line have already come. More than the configured number of bad
 * commands ends the session with 421. */
void verbs_run(struct session *session, struct bytes line, bool more_behind);

/* verbs_recipient goes on with a RCPT that the greylist has let pass while the session waited, and
 * says the reply. */
void verbs_recipient(struct session *session, const struct command *rcpt);

#endif
