/* The scan with NEON, which every 64-bit ARM processor has: four registers a block. There is no
 * instruction that turns a comparison into bits, so three pairwise additions gather them for all
 * four registers at once. */
#if defined(__aarch64__)

#include <arm_neon.h>

#include "parser/scan_internal.h"

struct scan_block {
    uint8x16_t a, b, c, d;
};

static inline struct scan_block scan_load(const uint8_t *at)
{
    return (struct scan_block){vld1q_u8(at), vld1q_u8(at + 16), vld1q_u8(at + 32),
                               vld1q_u8(at + 48)};
}

static inline struct scan_block scan_load_short(const uint8_t *at, size_t len)
{
    uint8_t padded[64];
    memset(padded, ' ', sizeof(padded));
    memcpy(padded, at, len);
    return scan_load(padded);
}

/* scan_gather expects octets of all ones or all zeros: it keeps one bit of each, by its place, and
 * adds up. */
static inline uint64_t scan_gather(struct scan_block block)
{
    const uint8x16_t place = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
    uint8x16_t low = vpaddq_u8(vandq_u8(block.a, place), vandq_u8(block.b, place));
    uint8x16_t high = vpaddq_u8(vandq_u8(block.c, place), vandq_u8(block.d, place));
    uint8x16_t sum = vpaddq_u8(low, high);
    return vgetq_lane_u64(vreinterpretq_u64_u8(vpaddq_u8(sum, sum)), 0);
}

static inline uint64_t scan_equal(struct scan_block block, char octet)
{
    uint8x16_t wanted = vdupq_n_u8((uint8_t)octet);
    return scan_gather((struct scan_block){vceqq_u8(block.a, wanted), vceqq_u8(block.b, wanted),
                                           vceqq_u8(block.c, wanted), vceqq_u8(block.d, wanted)});
}

static inline uint64_t scan_high(struct scan_block block)
{
    uint8x16_t last = vdupq_n_u8(127);
    return scan_gather((struct scan_block){vcgtq_u8(block.a, last), vcgtq_u8(block.b, last),
                                           vcgtq_u8(block.c, last), vcgtq_u8(block.d, last)});
}

struct scan_octets {
    uint8x16_t max;
    uint8x16_t min;
};

static inline struct scan_octets scan_octets_none(void)
{
    return (struct scan_octets){vdupq_n_u8(' '), vdupq_n_u8(' ')};
}

static inline struct scan_octets scan_octets_add(struct scan_octets octets, struct scan_block block)
{
    uint8x16_t max = vmaxq_u8(vmaxq_u8(block.a, block.b), vmaxq_u8(block.c, block.d));
    uint8x16_t min = vminq_u8(vminq_u8(block.a, block.b), vminq_u8(block.c, block.d));
    octets.max = vmaxq_u8(octets.max, max);
    octets.min = vminq_u8(octets.min, min);
    return octets;
}

static inline uint8_t scan_octets_seen(struct scan_octets octets)
{
    bool nul = vminvq_u8(octets.min) == 0;
    bool high = vmaxvq_u8(octets.max) > 127;
    return (uint8_t)((nul ? SCAN_SEEN_NUL : 0) | (high ? SCAN_SEEN_8BIT : 0));
}

#include "parser/scan_generic.h"

static size_t neon_data(struct scan *scan, struct bytes in)
{
    return scan->lengths ? scan_generic(scan, in, true, true) : scan_generic(scan, in, true, false);
}

static void neon_text(struct scan *scan, struct bytes in)
{
    if (scan->lengths)
        scan_generic(scan, in, false, true);
    else
        scan_generic(scan, in, false, false);
}

const struct scan_code scan_neon_code = {neon_data, neon_text};

#else

/* Another processor: nothing here but a declaration, for the standard wants one. */
struct scan_neon_is_for_aarch64;

#endif
