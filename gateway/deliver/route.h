/* Recipient -> where its mail goes: the targets of the configuration, and the table that maps
 * domains to routes. Immutable once built; a reload makes another. */
#ifndef GATEWAY_DELIVER_ROUTE_H
#define GATEWAY_DELIVER_ROUTE_H

#include "parser/bytes.h"

#include <stdbool.h>

enum route_kind {
    ROUTE_MAILDIR = 0, /* maildir:TEMPLATE */
    ROUTE_DISCARD = 1, /* discard: */
    ROUTE_SMTP = 2,    /* smtp:HOST[:PORT], several with weights; A and AAAA of the host */
    ROUTE_MX = 3,      /* mx: (the MX of the recipient's own domain), mx:DOMAIN or smtp:[MX] */
    ROUTE_LMTP = 4,    /* lmtp:HOST:PORT, lmtp:unix:PATH, several with weights (RFC 2033) */
};

/* How mail for a route travels (docs/delivery.md, "TLS to the next hop"). */
enum route_tls {
    ROUTE_TLS_OPPORTUNISTIC = 0, /* when STARTTLS is offered; in clear when it is not or fails */
    ROUTE_TLS_NONE = 1,          /* never */
    ROUTE_TLS_REQUIRED = 2,      /* else the message waits */
    ROUTE_TLS_IMPLICIT = 3,      /* from the first octet */
};

enum { ROUTE_HOSTS_MAX = 16 };

/* One next hop of smtp: or lmtp:. */
struct route_host {
    const char *name; /* host name, address without brackets, or the path of a unix socket */
    uint16_t port;    /* 0: a unix socket */
    uint16_t weight;  /* 1..1000: how many of that many deliveries it gets */
};

/* What a domain's section says beside the target. */
struct route_options {
    enum route_tls tls;
    bool tls_verify;      /* the certificate must be good, and for the host's name. Implies that
                             opportunistic TLS that fails to verify waits, too */
    bool through;         /* mode = through: see policy/hop.h */
    bool callahead;       /* verify = callahead */
    uint32_t connections; /* to one destination at a time; 0: 20 */
    uint32_t rate;        /* messages a second to one destination; 0: no limit */
};

/* Everything in it is owned by the table. */
struct route {
    enum route_kind kind;
    struct route_options options;
    const char *maildir;  /* template with %d (domain), %u (user) and %%: see deliver/folder.h */
    const char *exchange; /* ROUTE_MX: the domain whose MX is meant; NULL: the recipient's own */
    const struct route_host *hosts; /* ROUTE_SMTP, ROUTE_LMTP */
    uint32_t host_count;
    struct bytes domain; /* in lower case; empty: the route of foreign domains */
    const char *text;    /* the targets as written, joined by ", ", and the options that are not the
                            default: two routes with the same text are the same destination */
};

struct routes;

/* routes_new returns an empty table, owned; NULL: no memory. routes_free takes it back. */
struct routes *routes_new(void);
void routes_free(struct routes *routes);

/* routes_hold returns one more claim to a table, which goes when as many were freed; for who may
 * need it longer than a reload lets it live. Any thread, as routes_free. */
struct routes *routes_hold(const struct routes *routes);

/* routes_add maps a domain (any case) to targets, at least one: "maildir:TEMPLATE", "discard:",
 * "mx:", "smtp:HOST[:PORT] [weight=N]", "lmtp:..."; several only of smtp: or of lmtp:. The first
 * domain added also serves <postmaster> without a domain (RFC 5321 4.5.1). `options` is copied.
 * False with *error set (valid until the next call): a bad target, an option that the target can't
 * have, a domain that is there already, or no memory. */
bool routes_add(struct routes *routes, struct bytes domain, const char *const *targets,
                uint32_t target_count, const struct route_options *options, const char **error)
    __attribute__((warn_unused_result));

/* routes_add_foreign sets the route of every domain that has none (section relay { }); for
 * recipients that forwarding made foreign, and those that users write to. Without it that is "mx:"
 * with default options. */
bool routes_add_foreign(struct routes *routes, const char *const *targets, uint32_t target_count,
                        const struct route_options *options, const char **error)
    __attribute__((warn_unused_result));

/* routes_find returns the route for a mailbox (as in the envelope): of its domain; else, with
 * `forwarded`, that of foreign domains; else NULL: its domain is no longer configured. */
const struct route *routes_find(const struct routes *routes, struct bytes mailbox, bool forwarded);

/* route_mailbox_domain returns what follows the last "@" of a mailbox; empty: no domain. */
struct bytes route_mailbox_domain(struct bytes mailbox);

/* routes_each calls `act` for the route of every domain, and for that of foreign ones if it was
 * set. */
void routes_each(const struct routes *routes, void (*act)(void *user, const struct route *route),
                 void *user);

/* routes_same tells whether two tables say the same of every domain, in the same order. */
bool routes_same(const struct routes *a, const struct routes *b);

/* route_same_destination tells whether mail for recipients in these domains goes the same way
 * (NULL: no route). All Maildirs are one way, and so are all discards. */
bool route_same_destination(const struct route *a, struct bytes a_domain, const struct route *b,
                            struct bytes b_domain);

/* routes_discard_only is true when there are domains, every one is a discard, and nothing foreign
 * is to be expected: routes_add_foreign was not called. (Who has aliases calls it.) */
bool routes_discard_only(const struct routes *routes);

#endif
