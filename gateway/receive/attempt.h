/* What an attempt to log in counts against: policy/attempts.h, with the limits of its session. */
#ifndef GATEWAY_RECEIVE_ATTEMPT_H
#define GATEWAY_RECEIVE_ATTEMPT_H

#include "gateway/policy/attempts.h"
#include "gateway/receive/session.h"

/* All 0 before attempt_begin. */
struct attempt {
    struct attempt_room room;
};

/* attempt_look: failures alone are over a limit; asked as soon as the name is known. attempt_begin
 * takes room for a guess of this user (empty: a token without a name). *undecided: others that are
 * under way have it. */
enum attempt_verdict attempt_look(const struct session *session, struct bytes user)
    __attribute__((warn_unused_result));
enum attempt_verdict attempt_begin(struct attempt *attempt, const struct session *session,
                                   struct bytes user, bool *undecided)
    __attribute__((warn_unused_result));

/* attempt_judged looks at another name that the backend has for the user of a guess, right or
 * wrong; a wrong one counts for that name, too. Not ATTEMPT_OK: the answer is that, and the guess
 * is withdrawn. `user` as attempt_begin had it. */
enum attempt_verdict attempt_judged(struct attempt *attempt, const struct session *session,
                                    struct bytes user, struct bytes other, bool right)
    __attribute__((warn_unused_result));

/* The ends of a guess. attempt_passed lets the user be known in this network, by both names.
 * attempt_failed lets it count. attempt_withdraw gives all back: it was no guess after all. All do
 * nothing when none has begun. */
void attempt_passed(struct attempt *attempt, const struct session *session, struct bytes user,
                    struct bytes other);
void attempt_failed(struct attempt *attempt, const struct session *session);
void attempt_withdraw(struct attempt *attempt, const struct session *session);

#endif
