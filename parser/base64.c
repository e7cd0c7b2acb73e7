/* Base64 without tables: a look-up would tell by its time what a password is made of. See base64.h.
 */
#include "parser/base64.h"

/* in_range is all ones when low <= c <= high, else 0. */
static uint32_t in_range(uint32_t c, uint32_t low, uint32_t high)
{
    return 0u - (((low - 1 - c) & (c - high - 1)) >> 31);
}

static char character_of(uint32_t value)
{
    uint32_t c = in_range(value, 0, 25) & (value + 'A');
    c |= in_range(value, 26, 51) & (value - 26 + 'a');
    c |= in_range(value, 52, 61) & (value - 52 + '0');
    c |= in_range(value, 62, 62) & '+';
    c |= in_range(value, 63, 63) & '/';
    return (char)c;
}

/* value_of sets *bad, and never resets it, for what is no character of base64. */
static uint32_t value_of(uint8_t c, uint32_t *bad)
{
    uint32_t upper = in_range(c, 'A', 'Z'), lower = in_range(c, 'a', 'z');
    uint32_t digit = in_range(c, '0', '9');
    uint32_t plus = in_range(c, '+', '+'), slash = in_range(c, '/', '/');
    *bad |= ~(upper | lower | digit | plus | slash);
    return (upper & (c - 'A')) | (lower & (c - 'a' + 26u)) | (digit & (c - '0' + 52u)) |
           (plus & 62) | (slash & 63);
}

size_t base64_encode(struct bytes in, char *out)
{
    size_t len = 0;
    for (size_t i = 0; i < in.len; i += 3) {
        size_t count = in.len - i < 3 ? in.len - i : 3;
        uint32_t word = (uint32_t)in.data[i] << 16;
        word |= count > 1 ? (uint32_t)in.data[i + 1] << 8 : 0;
        word |= count > 2 ? in.data[i + 2] : 0;
        out[len++] = character_of(word >> 18);
        out[len++] = character_of(word >> 12 & 63);
        out[len++] = count > 1 ? character_of(word >> 6 & 63) : '=';
        out[len++] = count > 2 ? character_of(word & 63) : '=';
    }
    return len;
}

bool base64_decode(struct bytes in, uint8_t *out, size_t *len)
{
    uint32_t bad = 0;
    *len = 0;
    if (in.len % 4 != 0)
        return false;
    size_t padding = in.len > 0 && in.data[in.len - 1] == '=';
    padding += padding > 0 && in.data[in.len - 2] == '=';
    for (size_t i = 0; i < in.len; i += 4) {
        size_t missing = i + 4 == in.len ? padding : 0;
        uint32_t word = value_of(in.data[i], &bad) << 18;
        word |= value_of(in.data[i + 1], &bad) << 12;
        word |= missing > 1 ? 0 : value_of(in.data[i + 2], &bad) << 6;
        word |= missing > 0 ? 0 : value_of(in.data[i + 3], &bad);
        out[(*len)++] = (uint8_t)(word >> 16);
        if (missing < 2)
            out[(*len)++] = (uint8_t)(word >> 8);
        if (missing < 1)
            out[(*len)++] = (uint8_t)word;
        bad |= missing > 1 ? word & 0xffff : missing > 0 ? word & 0xff : 0;
    }
    return bad == 0;
}
