/* Sets of IP networks ("10.0.0.0/8", "2001:db8::/32", "192.0.2.1"), as the configuration lists
 * them: who may speak PROXY or XCLIENT, who is not limited. Immutable once it is filled. An IPv4
 * address in an IPv6 socket (::ffff:192.0.2.1) is looked up as IPv4. */
#ifndef GATEWAY_POLICY_NETWORKS_H
#define GATEWAY_POLICY_NETWORKS_H

#include "gateway/io/listener.h"

struct networks;

/* networks_new returns an empty set, owned; NULL: no memory. networks_free takes NULL, too. */
struct networks *networks_new(void) __attribute__((warn_unused_result));
void networks_free(struct networks *networks);

/* networks_copy returns a set with the same networks, owned; NULL: no memory. */
struct networks *networks_copy(const struct networks *networks) __attribute__((warn_unused_result));

enum networks_result {
    NETWORKS_ADDED = 0,
    NETWORKS_NO_NETWORK = 1, /* the text is none */
    NETWORKS_HOST_BITS = 2,  /* bits are set behind the prefix: "10.0.0.1/8" is a slip */
    NETWORKS_NO_MEMORY = 3,
};

/* networks_add adds what `text` names: an address, with or without /LENGTH. */
enum networks_result networks_add(struct networks *networks, const char *text)
    __attribute__((warn_unused_result));

/* networks_contain: does the address (its port does not matter) lie in one of them? NULL is the
 * empty set. Any thread. */
bool networks_contain(const struct networks *networks, const union address_any *address);

/* networks_contain_all: does one of them hold every address, of IPv4 or of IPv6? */
bool networks_contain_all(const struct networks *networks);

/* networks_mask writes the first `v4_bits` of an IPv4 address or the first `v6_bits` of an IPv6 one
 * to `out` as an IPv6 address, zeros behind them; IPv4 (also inside an IPv6 socket) is
 * ::ffff:0:0/96. Returns true when it is IPv4. What clients are counted and remembered by. */
bool networks_mask(const union address_any *address, unsigned v4_bits, unsigned v6_bits,
                   uint8_t out[16]);

#endif
