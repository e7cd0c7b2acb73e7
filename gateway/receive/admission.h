/* How many connections there are, in all, from each address and from each network, and how many TLS
 * handshakes are under way, over all workers: with policy/rates the one thing that workers share on
 * the way in. Lock-free: a few atomic words, touched when a connection begins and ends. */
#ifndef GATEWAY_RECEIVE_ADMISSION_H
#define GATEWAY_RECEIVE_ADMISSION_H

#include "gateway/io/listener.h"

struct admission;

enum admission_verdict { ADMISSION_OK, ADMISSION_ADDRESS_FULL, ADMISSION_NETWORK_FULL };

/* admission_new makes room to count `connections_max` connections. Owned; NULL: no memory. */
struct admission *admission_new(uint32_t connections_max);
void admission_free(struct admission *admission);

/* admission_enter counts a connection in, whoever it is from, unless there are `max` already.
 * admission_leave takes it out again. */
bool admission_enter(struct admission *admission, uint32_t max) __attribute__((warn_unused_result));
void admission_leave(struct admission *admission);

/* admission_enter_peer counts it by its address (IPv4, or IPv6 /64) and its network (IPv4 /24, or
 * IPv6 /48), unless one of the bounds (0: none) is reached; then neither is counted.
 * admission_leave_peer takes it out again. */
enum admission_verdict admission_enter_peer(struct admission *admission,
                                            const union address_any *peer, uint32_t address_max,
                                            uint32_t network_max)
    __attribute__((warn_unused_result));
void admission_leave_peer(struct admission *admission, const union address_any *peer);

/* admission_handshake_begin counts a TLS handshake that begins, unless `max` (0: no bound) are
 * under way. admission_handshake_end: it is over. */
bool admission_handshake_begin(struct admission *admission, uint32_t max)
    __attribute__((warn_unused_result));
void admission_handshake_end(struct admission *admission);

/* How many there are now. */
uint32_t admission_count(const struct admission *admission);
uint32_t admission_handshakes(const struct admission *admission);

#endif
