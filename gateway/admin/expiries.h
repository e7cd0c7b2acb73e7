/* When certificates expire, for those who show it: given anew at each reload, read by any thread.
 */
#ifndef GATEWAY_ADMIN_EXPIRIES_H
#define GATEWAY_ADMIN_EXPIRIES_H

#include <stdbool.h>
#include <stdint.h>

enum { EXPIRIES_MAX = 256, EXPIRIES_LABEL = 128 };

struct expiry {
    char label[EXPIRIES_LABEL]; /* of its section certificate { }, cut */
    bool is_rsa;
    int64_t expires_s; /* Unix time */
};

struct expiries;

struct expiries *expiries_new(void) __attribute__((warn_unused_result));
void expiries_free(struct expiries *expiries);

/* expiries_set copies a list in place of the one before; of more than EXPIRIES_MAX, the first.
 * expiries_read copies it to `out` of EXPIRIES_MAX and returns how many there are. Any thread. */
void expiries_set(struct expiries *expiries, const struct expiry *list, uint32_t count);
uint32_t expiries_read(struct expiries *expiries, struct expiry *out);

#endif
