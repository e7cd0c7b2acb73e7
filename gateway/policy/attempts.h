/* Guessing of passwords: how many attempts to log in may fail, for an address (IPv4, IPv6 /64), a
 * network (IPv4 /24, IPv6 /48) and a user. Room for an attempt is taken when it begins and given
 * back when it does not fail, so many at once guess no more than one after the other; who finds it
 * taken by others that may yet succeed waits for them. A user who has logged in from a network in
 * the last 30 days is known there, and counted apart: what others use up does not touch that.
 * Shared by all workers; atomic words, bounded memory. docs/submission.md has the rules. */
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

/* What an attempt has room of: an address, a network, and a user or a known pair. Just that is
 * given back, whatever has changed meanwhile. All 0: of nothing. */
struct attempt_room {
    uint64_t keys[3];
    uint32_t limits[3]; /* that were in force; 0: none was taken */
};

/* attempts_begin takes room for an attempt from `peer` as `user` (empty: it has no name), before
 * the password is looked at. Over a limit it takes none; *undecided: only with attempts that are
 * under way, so it is worth another try soon. attempts_look tells whether failures alone are over a
 * limit, and takes nothing. A user's name counts in any case of ASCII letters. Any thread. */
enum attempt_verdict attempts_begin(struct attempts *attempts, const struct attempt_limits *limits,
                                    const union address_any *peer, struct bytes user,
                                    uint64_t now_us, struct attempt_room *room, bool *undecided)
    __attribute__((warn_unused_result));
enum attempt_verdict attempts_look(struct attempts *attempts, const struct attempt_limits *limits,
                                   const union address_any *peer, struct bytes user,
                                   uint64_t now_us) __attribute__((warn_unused_result));

/* The ends of an attempt. attempts_failed: it was wrong, and counts. attempts_withdrawn: neither
 * right nor wrong (the backend was away). attempts_passed remembers the user in this network. */
void attempts_failed(struct attempts *attempts, struct attempt_room *room, uint64_t now_us);
void attempts_withdrawn(struct attempts *attempts, struct attempt_room *room, uint64_t now_us);
void attempts_passed(struct attempts *attempts, struct attempt_room *room,
                     const union address_any *peer, struct bytes user, uint64_t now_us);

/* attempts_also_failed counts a failure for another name of the same user, as the backend knows
 * him: for the name alone. */
void attempts_also_failed(struct attempts *attempts, const struct attempt_limits *limits,
                          const union address_any *peer, struct bytes user, uint64_t now_us);

#endif
