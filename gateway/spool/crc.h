/* Checksums by ISA-L, which picks the processor's best instructions itself: CRC32C (Castagnoli, RFC
 * 3720 B.4) of the spool, CRC-32 of zlib and gzip (RFC 1952 8) of the load programs. */
#ifndef GATEWAY_SPOOL_CRC_H
#define GATEWAY_SPOOL_CRC_H

#include <stddef.h>
#include <stdint.h>

/* crc32c continues from `start`: 0 for the standard checksum ("123456789" gives 0xe3069283), or the
 * result of the part before. */
uint32_t crc32c(uint32_t start, const void *data, size_t len);

/* crc32 does the same with zlib's polynomial ("123456789" gives 0xcbf43926). */
uint32_t crc32(uint32_t start, const void *data, size_t len);

#endif
