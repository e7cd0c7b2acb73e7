/* Characters of Unicode that make a line look like what it is not. */
#ifndef GATEWAY_BASE_CHARACTERS_H
#define GATEWAY_BASE_CHARACTERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* character_misleads: U+2028 and U+2029 end a line for some readers; those that turn the direction
 * of writing (U+061C, U+200E, U+200F, U+202A to U+202E, U+2066 to U+2069) show one that was never
 * written; U+FEFF is not seen at all. */
static inline bool character_misleads(uint32_t character)
{
    return character == 0x061c || character == 0x200e || character == 0x200f ||
           (character >= 0x2028 && character <= 0x202e) ||
           (character >= 0x2066 && character <= 0x2069) || character == 0xfeff;
}

/* character_number returns the number of a well-formed character of UTF-8 with `len` octets, or 0
 * when it has four: none of the above does. */
static inline uint32_t character_number(const uint8_t *data, size_t len)
{
    return len == 1   ? data[0]
           : len == 2 ? (data[0] & 31u) << 6 | (data[1] & 63u)
           : len == 3 ? (data[0] & 15u) << 12 | (data[1] & 63u) << 6 | (data[2] & 63u)
                      : 0;
}

#endif
