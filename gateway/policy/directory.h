/* Who receives mail here: domains and their recipients, from the configuration and the files it
 * names. Immutable once built; a reload builds a new one. Looked up at every RCPT, so a lookup is
 * one hash of the domain and one or two of the local part. */
#ifndef GATEWAY_POLICY_DIRECTORY_H
#define GATEWAY_POLICY_DIRECTORY_H

#include "parser/address.h"

struct directory;

enum directory_verdict {
    DIRECTORY_ACCEPT = 0,
    DIRECTORY_NO_SUCH_USER = 1, /* the domain is ours, the user is not: 550 5.1.1 */
    DIRECTORY_RELAY_DENIED = 2, /* the domain is not ours: 550 5.7.1 */
};

/* directory_new returns an empty directory, owned; NULL: no memory. directory_free takes it back.
 */
struct directory *directory_new(void);
void directory_free(struct directory *directory);

/* directory_add_domain adds a domain (any case; U-labels and A-labels are the same name only when
 * given both). Returns its index from 0, or -1: no memory, -2: already there. */
int directory_add_domain(struct directory *directory, struct bytes name);

/* directory_add_recipient adds one pattern to a domain: "alice", "alice+*" (alice and
 * alice+anything), "*" (catch-all). Local parts are compared without regard to ASCII case, as
 * unquoted text. False: no memory, or not a valid pattern. */
bool directory_add_recipient(struct directory *directory, int domain, struct bytes pattern)
    __attribute__((warn_unused_result));

/* directory_check says whether mail for `address` is taken. Postmaster, with or without one of our
 * domains, always is (RFC 5321 4.5.1), in any case. "user+tag" is taken where "user+*" is listed.
 */
enum directory_verdict directory_check(const struct directory *directory,
                                       const struct address *address);

/* directory_recipient_count returns how many patterns there are, for the log. */
size_t directory_recipient_count(const struct directory *directory);

#endif
