/* The scan with SSE2, which every x86-64 processor has: four registers a block. */
#if defined(__x86_64__)

#include <emmintrin.h>

#include "parser/scan_internal.h"

struct scan_block {
    __m128i a, b, c, d;
};

static inline struct scan_block scan_load(const uint8_t *at)
{
    const __m128i *from = (const void *)at;
    return (struct scan_block){_mm_loadu_si128(from), _mm_loadu_si128(from + 1),
                               _mm_loadu_si128(from + 2), _mm_loadu_si128(from + 3)};
}

static inline struct scan_block scan_load_short(const uint8_t *at, size_t len)
{
    uint8_t padded[64];
    memset(padded, ' ', sizeof(padded));
    memcpy(padded, at, len);
    return scan_load(padded);
}

static inline uint64_t scan_join(__m128i low, __m128i high)
{
    uint32_t upper = (uint32_t)_mm_movemask_epi8(high);
    return upper << 16 | (uint32_t)_mm_movemask_epi8(low);
}

/* scan_high also turns four comparisons into one mask: a match is an octet of ones. */
static inline uint64_t scan_high(struct scan_block block)
{
    return scan_join(block.c, block.d) << 32 | scan_join(block.a, block.b);
}

static inline uint64_t scan_equal(struct scan_block block, char octet)
{
    __m128i wanted = _mm_set1_epi8(octet);
    return scan_high(
        (struct scan_block){_mm_cmpeq_epi8(block.a, wanted), _mm_cmpeq_epi8(block.b, wanted),
                            _mm_cmpeq_epi8(block.c, wanted), _mm_cmpeq_epi8(block.d, wanted)});
}

struct scan_octets {
    __m128i any; /* all octets, ored */
    __m128i min;
};

static inline struct scan_octets scan_octets_none(void)
{
    return (struct scan_octets){_mm_setzero_si128(), _mm_set1_epi8(' ')};
}

static inline struct scan_octets scan_octets_add(struct scan_octets octets, struct scan_block block)
{
    __m128i any = _mm_or_si128(_mm_or_si128(block.a, block.b), _mm_or_si128(block.c, block.d));
    __m128i min = _mm_min_epu8(_mm_min_epu8(block.a, block.b), _mm_min_epu8(block.c, block.d));
    octets.any = _mm_or_si128(octets.any, any);
    octets.min = _mm_min_epu8(octets.min, min);
    return octets;
}

static inline uint8_t scan_octets_seen(struct scan_octets octets)
{
    bool nul = _mm_movemask_epi8(_mm_cmpeq_epi8(octets.min, _mm_setzero_si128())) != 0;
    bool high = _mm_movemask_epi8(octets.any) != 0;
    return (uint8_t)((nul ? SCAN_SEEN_NUL : 0) | (high ? SCAN_SEEN_8BIT : 0));
}

#include "parser/scan_generic.h"

static size_t sse2_data(struct scan *scan, struct bytes in)
{
    return scan->lengths ? scan_generic(scan, in, true, true) : scan_generic(scan, in, true, false);
}

static void sse2_text(struct scan *scan, struct bytes in)
{
    if (scan->lengths)
        scan_generic(scan, in, false, true);
    else
        scan_generic(scan, in, false, false);
}

const struct scan_code scan_sse2_code = {sse2_data, sse2_text};

#else

/* Another processor: nothing here but a declaration, for the standard wants one. */
struct scan_sse2_is_for_x86_64;

#endif
