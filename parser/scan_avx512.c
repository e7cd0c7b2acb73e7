/* The scan with AVX-512BW (and BMI): one register holds a block, a comparison is a bit mask at
 * once, and a short block is a masked load, which never touches what lies outside. */
#if defined(__x86_64__)

#include <immintrin.h>

#include "parser/scan_internal.h"

struct scan_block {
    __m512i octets;
};

static inline struct scan_block scan_load(const uint8_t *at)
{
    return (struct scan_block){_mm512_loadu_si512(at)};
}

static inline struct scan_block scan_load_short(const uint8_t *at, size_t len)
{
    __mmask64 valid = (UINT64_C(1) << len) - 1;
    return (struct scan_block){_mm512_mask_loadu_epi8(_mm512_set1_epi8(' '), valid, at)};
}

static inline uint64_t scan_equal(struct scan_block block, char octet)
{
    uint64_t bits = _mm512_cmpeq_epi8_mask(block.octets, _mm512_set1_epi8(octet));
    /* Left alone, gcc shifts and ands in the mask registers, where each step takes 4 cycles. */
    __asm__("" : "+r"(bits));
    return bits;
}

static inline uint64_t scan_high(struct scan_block block)
{
    return _mm512_movepi8_mask(block.octets);
}

struct scan_octets {
    __m512i any; /* all octets, ored */
    __m512i min;
};

static inline struct scan_octets scan_octets_none(void)
{
    return (struct scan_octets){_mm512_setzero_si512(), _mm512_set1_epi8(' ')};
}

static inline struct scan_octets scan_octets_add(struct scan_octets octets, struct scan_block block)
{
    octets.any = _mm512_or_si512(octets.any, block.octets);
    octets.min = _mm512_min_epu8(octets.min, block.octets);
    return octets;
}

static inline uint8_t scan_octets_seen(struct scan_octets octets)
{
    bool nul = _mm512_testn_epi8_mask(octets.min, octets.min) != 0;
    bool high = _mm512_movepi8_mask(octets.any) != 0;
    return (uint8_t)((nul ? SCAN_SEEN_NUL : 0) | (high ? SCAN_SEEN_8BIT : 0));
}

#include "parser/scan_generic.h"

static size_t avx512_data(struct scan *scan, struct bytes in)
{
    return scan->lengths ? scan_generic(scan, in, true, true) : scan_generic(scan, in, true, false);
}

static void avx512_text(struct scan *scan, struct bytes in)
{
    if (scan->lengths)
        scan_generic(scan, in, false, true);
    else
        scan_generic(scan, in, false, false);
}

const struct scan_code scan_avx512_code = {avx512_data, avx512_text};

#else

/* Another processor: nothing here but a declaration, for the standard wants one. */
struct scan_avx512_is_for_x86_64;

#endif
