/* How many connections there are, in all and from each address, over all workers: the one thing
 * that workers share on the way in. Lock-free: a few atomic words, touched when a connection begins
 * and ends. */
#ifndef GATEWAY_RECEIVE_ADMISSION_H
#define GATEWAY_RECEIVE_ADMISSION_H

#include "gateway/io/listener.h"

struct admission;

enum admission_verdict { ADMISSION_OK, ADMISSION_FULL, ADMISSION_ADDRESS_FULL };

/* admission_new makes room to count `connections_max` connections. Owned; NULL: no memory. */
struct admission *admission_new(uint32_t connections_max);
void admission_free(struct admission *admission);

/* admission_enter counts a connection from `peer` in, unless one of the bounds is reached. An IPv6
 * peer counts by its /64. */
enum admission_verdict admission_enter(struct admission *admission, const union address_any *peer,
                                       uint32_t total_max, uint32_t per_address_max);

/* admission_leave takes it out again. */
void admission_leave(struct admission *admission, const union address_any *peer);

/* admission_count returns how many are in. */
uint32_t admission_count(const struct admission *admission);

#endif
