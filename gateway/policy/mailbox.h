/* Mailboxes as text, when their meaning counts: "Alice"@Example.ORG and alice@example.org are one
 * mailbox of ours. Local parts of ours have no case; those of others may have (RFC 5321 2.4). */
#ifndef GATEWAY_POLICY_MAILBOX_H
#define GATEWAY_POLICY_MAILBOX_H

#include "parser/address.h"

/* mailbox_split takes a valid mailbox (or one without a domain: "Postmaster") apart: writes the
 * meaning of the local part, quotes removed, to `local`, returns its length, and sets *domain,
 * which borrows from `mailbox`. */
size_t mailbox_split(struct bytes mailbox, uint8_t local[ADDRESS_LOCAL_LEN_MAX],
                     struct bytes *domain);

/* mailbox_hash and mailbox_same look at the meaning of valid mailboxes: domains in any case, local
 * parts in any case with `fold`. The hash is not keyed: good for short lists only, which no
 * stranger chooses. */
uint32_t mailbox_hash(struct bytes mailbox, bool fold);
bool mailbox_same(struct bytes a, struct bytes b, bool fold);

/* mailbox_write writes the mailbox with this local part (its meaning, without quotes) and domain to
 * `out`, which has room for ADDRESS_LEN_MAX octets, in quotes only if it must be, and returns its
 * length; 0: there is no such mailbox, or it is too long. */
size_t mailbox_write(struct bytes local, struct bytes domain, char *out);

#endif
