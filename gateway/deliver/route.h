/* Recipient -> where its mail goes. Immutable once built. */
#ifndef GATEWAY_DELIVER_ROUTE_H
#define GATEWAY_DELIVER_ROUTE_H

#include "parser/bytes.h"

enum route_kind { ROUTE_MAILDIR = 0, ROUTE_DISCARD = 1 };

/* Everything in it is owned by the table. */
struct route {
    enum route_kind kind;
    const char *maildir; /* template with %d (domain), %u (user) and %%: see deliver/folder.h */
    struct bytes domain; /* in lower case */
};

struct routes;

/* routes_new returns an empty table, owned; NULL: no memory. routes_free takes it back. */
struct routes *routes_new(void);
void routes_free(struct routes *routes);

/* routes_add maps a domain (any case) to a target: "maildir:TEMPLATE" or "discard:". The first
 * domain added also serves <postmaster> without a domain (RFC 5321 4.5.1). False with *error
 * (constant) set: a bad target, a domain that is there already, or no memory. */
bool routes_add(struct routes *routes, struct bytes domain, const char *target, const char **error)
    __attribute__((warn_unused_result));

/* routes_find returns the route for a mailbox (as in the envelope), or NULL: its domain is no
 * longer configured. */
const struct route *routes_find(const struct routes *routes, struct bytes mailbox);

/* routes_discard_only is true when there are routes and every one is a discard. */
bool routes_discard_only(const struct routes *routes);

#endif
