/* CRC32C and CRC-32: see crc.h. */
#include "gateway/spool/crc.h"

#include "gateway/base/check.h"

#include <isa-l/crc.h>
#include <limits.h>

#ifdef __x86_64__

#include <immintrin.h>

__attribute__((target("avx"))) static void zero_upper_halves(void)
{
    _mm256_zeroupper();
}

/* ISA-L's AVX-512 version returns with the upper halves of the vector registers in use. The next
 * SSE instruction, in whatever code comes then, waits for a quarter of a microsecond: more than the
 * checksum of 4 KiB itself. */
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

uint32_t crc32c(uint32_t start, const void *data, size_t len)
{
    CHECK(len <= INT_MAX);
    /* ISA-L takes a pointer without const, and neither inverts at the start nor at the end. */
    union {
        const void *in;
        unsigned char *out;
    } pointer = {.in = data};
    uint32_t crc = ~crc32_iscsi(pointer.out, (int)len, ~start);
    leave_vector_code();
    return crc;
}

uint32_t crc32(uint32_t start, const void *data, size_t len)
{
    uint32_t crc = crc32_gzip_refl(start, data, len);
    leave_vector_code();
    return crc;
}
