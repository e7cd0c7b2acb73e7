/* What an attempt to log in counts against: policy/attempts.h, with the limits of its session. */
#ifndef GATEWAY_RECEIVE_ATTEMPT_H
#define GATEWAY_RECEIVE_ATTEMPT_H

#include "gateway/receive/session.h"

/* All false before attempt_begin. */
struct attempt {
    bool counted; /* as a failure of its address and network */
    bool named;   /* and of its user */
};

/* attempt_begin counts a failure of the client's address and network; attempt_name one of the user,
 * as soon as the name is known. Over a limit nothing is counted. */
enum attempt_verdict attempt_begin(struct attempt *attempt, const struct session *session)
    __attribute__((warn_unused_result));
enum attempt_verdict attempt_name(struct attempt *attempt, const struct session *session,
                                  struct bytes user) __attribute__((warn_unused_result));

/* attempt_passed gives all back, and lets the user be known in this network. attempt_withdraw only
 * gives back: it was no guess after all. `user` as attempt_name had it. Both do nothing when
 * nothing counts. */
void attempt_passed(struct attempt *attempt, const struct session *session, struct bytes user);
void attempt_withdraw(struct attempt *attempt, const struct session *session, struct bytes user);

#endif
