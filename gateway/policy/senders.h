/* Whose addresses are whose: which reverse-paths and From addresses a user may send with.
 * Immutable once built; a reload builds a new one. docs/submission.md has the rules. */
#ifndef GATEWAY_POLICY_SENDERS_H
#define GATEWAY_POLICY_SENDERS_H

#include "parser/bytes.h"

struct senders;

/* senders_new: `domain` (borrowed; NULL: none) is that of users without "@". Owned; NULL: no
 * memory. */
struct senders *senders_new(const char *domain) __attribute__((warn_unused_result));
void senders_free(struct senders *senders);

/* senders_add lets `user` send as `pattern`: "sales@example.org", "alice+*@example.org" (alice,
 * with any tag or none), "*@example.org" (a whole domain), "*" (anything: for a trusted relay).
 * False: *error (constant) says why. */
bool senders_add(struct senders *senders, struct bytes user, struct bytes pattern,
                 const char **error) __attribute__((warn_unused_result));

/* senders_owns tells whether a user may send as `mailbox` (without brackets). A user whose name is
 * an address owns that address, with any "+tag"; one without "@" owns it in the domain of
 * senders_new; and each owns what senders_add says. ASCII case does not matter; a quoted local part
 * is compared as what it means. The null reverse-path is not asked about. What was added for
 * "alice" and for "alice@" with the domain of senders_new is for both. senders_owns_all: he has
 * "*", and may send as anything, be it a mailbox or not. */
bool senders_owns(const struct senders *senders, struct bytes user, struct bytes mailbox);
bool senders_owns_all(const struct senders *senders, struct bytes user);

/* senders_main writes the address that stands for a user in Sender and Message-ID (the name itself,
 * or name@domain) to `out` and returns its length; 0: there is none, or no room. */
size_t senders_main(const struct senders *senders, struct bytes user, char *out, size_t size);

size_t senders_count(const struct senders *senders); /* patterns */

#endif
