/* How often: connections and messages a minute of each address (IPv4, or IPv6 /64) and each network
 * (IPv4 /24, or IPv6 /48), over all workers, and with policy/shared over all gateways. A leaky
 * bucket of one atomic word for each (GCRA): a limit of N lets N through at once, and then one each
 * 60/N seconds. Lock-free; bounded memory: when too many addresses come, those seen longest ago are
 * forgotten first, and a limit errs on the side of the client. */
#ifndef GATEWAY_POLICY_RATES_H
#define GATEWAY_POLICY_RATES_H

#include "gateway/io/listener.h"

struct rates;

enum rate_kind { RATE_CONNECTIONS = 0, RATE_MESSAGES = 1, RATE_KINDS };
enum rate_scope { RATE_ADDRESS = 0, RATE_NETWORK = 1, RATE_SCOPES };

/* A minute; 0: no limit. */
struct rate_limits {
    uint32_t per_minute[RATE_KINDS][RATE_SCOPES];
};

enum rate_verdict { RATE_OK = 0, RATE_ADDRESS_OVER = 1, RATE_NETWORK_OVER = 2 };

/* rates_new makes room for about `cells` pairs of kind and address, or kind and network (8 octets
 * each; 128 MiB at most). Owned; NULL: no memory. */
struct rates *rates_new(uint32_t cells) __attribute__((warn_unused_result));
void rates_free(struct rates *rates);

/* rates_take counts one of a kind from `peer` at `now_us` (monotonic), unless that would be too
 * many; then nothing is counted. Any thread. */
enum rate_verdict rates_take(struct rates *rates, const struct rate_limits *limits,
                             enum rate_kind kind, const union address_any *peer, uint64_t now_us)
    __attribute__((warn_unused_result));

/* rates_close lets nothing of this kind through from the address, or network, of `peer` until
 * `until_us` (monotonic, at most 9 minutes away): all gateways together have had enough of it. From
 * then on one each 60/N seconds. Any thread. */
void rates_close(struct rates *rates, enum rate_kind kind, enum rate_scope scope,
                 const union address_any *peer, uint64_t now_us, uint64_t until_us);

/* rates_network writes the text of the address or network that `peer` is counted under
 * ("192.0.2.0/24") to `out` of RATES_TEXT and returns its length: the key of policy/shared, and for
 * the log. */
enum { RATES_TEXT = 64 };
size_t rates_network(const union address_any *peer, enum rate_scope scope, char *out);

#endif
