/* What the two parts of the exchange share: exchange.c has the hosts and chooses among them,
 * exchange_search.c finds them out. */
#ifndef GATEWAY_DELIVER_EXCHANGE_INSIDE_H
#define GATEWAY_DELIVER_EXCHANGE_INSIDE_H

#include "gateway/deliver/exchange.h"

struct exchange_search;

/* A next hop of smtp: or lmtp:, as configured. */
struct exchange_place {
    char *name;
    uint16_t port, weight;
};

struct exchange {
    const struct exchange_setup *setup;
    bool mx, lmtp;
    bool configured; /* the next hop stands in the configuration: that it is not there may pass */
    bool tls_verify;
    enum route_tls tls;
    char *domain; /* MX: in A-labels and lower case, or an address literal; NULL: none of both */
    struct exchange_place *places;
    uint32_t place_count;
    struct exchange_host *hosts; /* NULL: not known */
    uint32_t host_count;
    uint64_t fresh_us;              /* the hosts are good until then */
    struct exchange_search *search; /* NULL: none is under way */
    void (*found)(void *user, const struct verdict *why);
    void *user;
};

/* exchange_search begins a search, which ends, perhaps at once, with exchange_search_done.
 * exchange_search_drop ends it in silence; NULL is allowed. */
void exchange_search(struct exchange *exchange, uint64_t now_us);
void exchange_search_drop(struct exchange *exchange);

/* exchange_search_done is told the hosts (to be copied; in order, with zero health) and how long
 * they are good, or why there are none. The search is over and gone. */
void exchange_search_done(struct exchange *exchange, const struct exchange_host *hosts,
                          uint32_t count, uint64_t fresh_us, const struct verdict *why);

#endif
