/* The scan with AVX2 (and BMI): two registers a block. */
#if defined(__x86_64__)

#include <immintrin.h>

#include "parser/scan_internal.h"

struct scan_block {
    __m256i low, high;
};

static inline struct scan_block scan_load(const uint8_t *at)
{
    const __m256i *from = (const void *)at;
    return (struct scan_block){_mm256_loadu_si256(from), _mm256_loadu_si256(from + 1)};
}

static inline struct scan_block scan_load_short(const uint8_t *at, size_t len)
{
    uint8_t padded[64];
    memset(padded, ' ', sizeof(padded));
    memcpy(padded, at, len);
    return scan_load(padded);
}

static inline uint64_t scan_join(__m256i low, __m256i high)
{
    uint64_t upper = (uint32_t)_mm256_movemask_epi8(high);
    return upper << 32 | (uint32_t)_mm256_movemask_epi8(low);
}

static inline uint64_t scan_equal(struct scan_block block, char octet)
{
    __m256i wanted = _mm256_set1_epi8(octet);
    return scan_join(_mm256_cmpeq_epi8(block.low, wanted), _mm256_cmpeq_epi8(block.high, wanted));
}

static inline uint64_t scan_high(struct scan_block block)
{
    return scan_join(block.low, block.high);
}

struct scan_octets {
    __m256i any; /* all octets, ored */
    __m256i min;
};

static inline struct scan_octets scan_octets_none(void)
{
    return (struct scan_octets){_mm256_setzero_si256(), _mm256_set1_epi8(' ')};
}

static inline struct scan_octets scan_octets_add(struct scan_octets octets, struct scan_block block)
{
    octets.any = _mm256_or_si256(octets.any, _mm256_or_si256(block.low, block.high));
    octets.min = _mm256_min_epu8(octets.min, _mm256_min_epu8(block.low, block.high));
    return octets;
}

static inline uint8_t scan_octets_seen(struct scan_octets octets)
{
    __m256i zero = _mm256_cmpeq_epi8(octets.min, _mm256_setzero_si256());
    bool nul = _mm256_movemask_epi8(zero) != 0;
    bool high = _mm256_movemask_epi8(octets.any) != 0;
    return (uint8_t)((nul ? SCAN_SEEN_NUL : 0) | (high ? SCAN_SEEN_8BIT : 0));
}

#include "parser/scan_generic.h"

static size_t avx2_data(struct scan *scan, struct bytes in)
{
    return scan->lengths ? scan_generic(scan, in, true, true) : scan_generic(scan, in, true, false);
}

static void avx2_text(struct scan *scan, struct bytes in)
{
    if (scan->lengths)
        scan_generic(scan, in, false, true);
    else
        scan_generic(scan, in, false, false);
}

const struct scan_code scan_avx2_code = {avx2_data, avx2_text};

#else

/* Another processor: nothing here but a declaration, for the standard wants one. */
struct scan_avx2_is_for_x86_64;

#endif
