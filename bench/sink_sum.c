/* CRC-32: see sink_sum.h. ISA-L's AVX-512 version returns with the upper halves of the vector
 * registers in use, which makes the next SSE instruction wait (see gateway/spool/crc.c). */
#include "bench/sink_sum.h"

#include <isa-l/crc.h>

#ifdef __x86_64__

#include <immintrin.h>

__attribute__((target("avx"))) static void zero_upper_halves(void)
{
    _mm256_zeroupper();
}

static void leave_vector_code(void)
{
    if (__builtin_cpu_supports("avx"))
        zero_upper_halves();
}

#else

static void leave_vector_code(void)
{
}

#endif

uint32_t sink_sum(uint32_t start, const void *data, size_t len)
{
    uint32_t sum = crc32_gzip_refl(start, data, len);
    leave_vector_code();
    return sum;
}
