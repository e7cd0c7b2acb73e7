/* CRC-32 as zlib and gzip have it (ISO 3309, reflected), by ISA-L. */
#ifndef BENCH_SINK_SUM_H
#define BENCH_SINK_SUM_H

#include <stddef.h>
#include <stdint.h>

/* sink_sum goes on with the sum `start` (0 at the beginning) over `len` octets. */
uint32_t sink_sum(uint32_t start, const void *data, size_t len);

#endif
