/* CRC32C (Castagnoli, RFC 3720 B.4) by ISA-L, which picks the processor's best instructions itself.
 */
#ifndef GATEWAY_SPOOL_CRC_H
#define GATEWAY_SPOOL_CRC_H

#include "gateway/base/check.h"

#include <isa-l/crc.h>
#include <limits.h>
#include <stddef.h>
#include <stdint.h>

/* crc32c continues from `start`: 0 for the standard checksum ("123456789" gives 0xe3069283), or the
 * result of the part before. */
static inline uint32_t crc32c(uint32_t start, const void *data, size_t len)
{
    CHECK(len <= INT_MAX);
    /* ISA-L takes a pointer without const, and neither inverts at the start nor at the end. */
    union {
        const void *in;
        unsigned char *out;
    } pointer = {.in = data};
    return ~crc32_iscsi(pointer.out, (int)len, ~start);
}

#endif
