/* Guessing of passwords: how many attempts to log in may fail, for an address (IPv4, IPv6 /64), a
 * network (IPv4 /24, IPv6 /48) and a user. An attempt is counted when it begins and given back when
 * it succeeds, so many at once guess no more than one after the other. A user who has logged in
 * from a network in the last 30 days is known there, and counted apart: what others use up does not
 * touch that. Shared by all workers; atomic words, bounded memory. docs/submission.md has the
 * rules. */
#ifndef GATEWAY_POLICY_ATTEMPTS_H
#define GATEWAY_POLICY_ATTEMPTS_H

#include "gateway/io/listener.h"
#include "parser/bytes.h"

struct attempts;

/* Failures an hour; 0: no limit. */
struct attempt_limits {
    uint32_t per_address, per_network, per_user;
};

enum attempt_verdict {
    ATTEMPT_OK = 0,
    ATTEMPT_ADDRESS_OVER = 1,
    ATTEMPT_NETWORK_OVER = 2,
    ATTEMPT_USER_OVER = 3,
};

/* attempts_new makes room for about `cells` addresses, networks and users, and as many known pairs
 * of user and network (attempts_octets). Owned; NULL: no memory. */
struct attempts *attempts_new(uint32_t cells) __attribute__((warn_unused_result));
void attempts_free(struct attempts *attempts);
uint64_t attempts_octets(uint32_t cells);

/* attempts_begin counts an attempt from `peer` as a failure of its address and network, before the
 * password is looked at; attempts_user counts it for the user, as soon as the name is known. Over a
 * limit nothing is counted, and attempts_user gives back what attempts_begin has counted: no
 * password will be looked at. A user's name counts in any case of ASCII letters. Any thread. */
enum attempt_verdict attempts_begin(struct attempts *attempts, const struct attempt_limits *limits,
                                    const union address_any *peer, uint64_t now_us)
    __attribute__((warn_unused_result));
enum attempt_verdict attempts_user(struct attempts *attempts, const struct attempt_limits *limits,
                                   const union address_any *peer, struct bytes user,
                                   uint64_t now_us) __attribute__((warn_unused_result));

/* attempts_passed gives all back, after both calls, and remembers the user in this network. */
void attempts_passed(struct attempts *attempts, const struct attempt_limits *limits,
                     const union address_any *peer, struct bytes user, uint64_t now_us);

/* attempts_withdrawn gives back what was counted: the attempt was neither right nor wrong
 * (cancelled before a password came, or the backend was away). `user` empty: attempts_user was not
 * called. */
void attempts_withdrawn(struct attempts *attempts, const struct attempt_limits *limits,
                        const union address_any *peer, struct bytes user, uint64_t now_us);

#endif
