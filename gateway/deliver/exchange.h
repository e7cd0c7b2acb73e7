/* The hosts of a destination: from a target to addresses in the order in which they are to be tried
 * (RFC 5321 5.1, RFC 7505), with weights and health. */
#ifndef GATEWAY_DELIVER_EXCHANGE_H
#define GATEWAY_DELIVER_EXCHANGE_H

#include "gateway/deliver/client.h"
#include "gateway/deliver/route.h"
#include "gateway/io/dns.h"

enum {
    EXCHANGE_HOSTS_MAX = 32,        /* addresses of one destination are kept */
    EXCHANGE_SEARCH_OCTETS = 20480, /* what is allocated while hosts are found out, at most */
    EXCHANGE_WEIGHT_UNIT = 720,     /* what weight=1 is for a name; its addresses share it */
};

/* One address. */
struct exchange_host {
    struct client_peer peer;
    uint32_t preference; /* lower first */
    uint32_t weight;     /* among those of one preference */
    uint64_t dead_us;    /* not to be tried before (monotonic); 0: healthy */
    uint32_t failures;   /* in a row */
    uint32_t served;     /* deliveries given to it since its weight was last balanced */
    uint32_t picked;     /* the same of connections */
};

/* What the exchanges of a worker have in common. Borrowed. */
struct exchange_setup {
    struct dns *dns;
    const char *hostname;          /* ours */
    const union address_any *ours; /* addresses that we listen on for SMTP, port included; an MX */
    uint32_t our_count;            /* that leads there is us. A wildcard: the loopback, too */
    uint16_t smtp_port;            /* of MX hosts: 25 (another for tests) */
    bool ipv6;                     /* AAAA are asked for, too */
    uint64_t (*random)(void *user);
    void *random_user;
};

struct exchange;

/* exchange_new makes the hosts of `route` (copied; its `domain` does not matter) for the
 * recipients' domain `domain` (copied; for mx: without DOMAIN). NULL: no memory. exchange_free
 * drops questions under way. */
struct exchange *exchange_new(const struct exchange_setup *setup, const struct route *route,
                              struct bytes domain) __attribute__((warn_unused_result));
void exchange_free(struct exchange *exchange);

/* exchange_ask finds the hosts out, unless they are known and fresh; `found` is called exactly
 * once for each call (which must wait for the one before), perhaps at once, and may free the
 * exchange: with NULL, or with why there are none. DEFERRED: the DNS gave no answer
 * (4.4.3), or only failures. REFUSED: no such domain (5.1.2), null MX (556 5.1.10, RFC 7505),
 * neither MX nor address (5.1.2), MX without addresses (5.4.4), all MX lead to ourselves or are
 * preceded by us (5.4.6, RFC 5321 5.1); DEFERRED all the same when the next hop stands in the
 * configuration (smtp:, lmtp:, mx:DOMAIN), where it can be corrected. MX records sorted, equal
 * preferences shuffled, IPv6 and IPv4 of a host alternating from a random start; an MX whose own
 * addresses can't be found is left out if others have some. An address literal domain
 * ("[192.0.2.1]") needs no DNS. */
void exchange_ask(struct exchange *exchange, uint64_t now_us,
                  void (*found)(void *user, const struct verdict *why), void *user);

/* exchange_forget gives the memory of the hosts back: they must be found out again. No link may be
 * on its way to one. */
void exchange_forget(struct exchange *exchange);

/* exchange_pick returns the host to connect to next: of the lowest preference that has one which is
 * not dead and not in `tried` (bit per host), by weight. NULL: none. Sets *index. With `now_us`
 * UINT64_MAX dead ones count, too. What was dead is picked once, and is dead again until
 * exchange_worked or exchange_failed tell what became of it. */
struct exchange_host *exchange_pick(struct exchange *exchange, uint64_t now_us, uint32_t tried,
                                    uint32_t *index);

/* exchange_failed and exchange_worked tell what became of a connection: a host that fails is left
 * out for 30 s, doubling up to 15 minutes, and then tried by one connection again. */
void exchange_failed(struct exchange *exchange, uint32_t index, uint64_t now_us);
void exchange_worked(struct exchange *exchange, uint32_t index);

uint32_t exchange_count(const struct exchange *exchange);
struct exchange_host *exchange_at(struct exchange *exchange, uint32_t index);

#endif
