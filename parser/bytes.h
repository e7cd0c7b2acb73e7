/* A run of bytes that somebody else owns, and the few comparisons that mail needs. Bytes from the
 * network are never NUL-terminated and may contain anything; every function here takes the length
 * from the struct. Nothing allocates, nothing copies unless its name says so. */
#ifndef PARSER_BYTES_H
#define PARSER_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct bytes {
    const uint8_t *data; /* borrowed; may be NULL only when len is 0 */
    size_t len;
};

/* BYTES makes a run from a string literal, without its final NUL. */
#define BYTES(literal) ((struct bytes){(const uint8_t *)(literal), sizeof(literal) - 1})

static inline struct bytes bytes_make(const void *data, size_t len)
{
    return (struct bytes){(const uint8_t *)data, len};
}

static inline struct bytes bytes_of_string(const char *text)
{
    return bytes_make(text, strlen(text));
}

static inline bool bytes_equal(struct bytes a, struct bytes b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

/* byte_lower maps A-Z to a-z and leaves every other octet alone, whatever the locale. */
static inline uint8_t byte_lower(uint8_t c)
{
    return (uint8_t)(c - 'A') < 26 ? (uint8_t)(c + 32) : c;
}

/* bytes_equal_nocase compares without regard to ASCII case (RFC 5321 2.4). */
static inline bool bytes_equal_nocase(struct bytes a, struct bytes b)
{
    if (a.len != b.len)
        return false;
    for (size_t i = 0; i < a.len; i++)
        if (byte_lower(a.data[i]) != byte_lower(b.data[i]))
            return false;
    return true;
}

/* bytes_slice returns `in` from `start` up to, not including, `end`; both must lie inside. */
static inline struct bytes bytes_slice(struct bytes in, size_t start, size_t end)
{
    return bytes_make(in.data + start, end - start);
}

/* bytes_skip drops the first `count` bytes, or all of them when there are fewer. */
static inline struct bytes bytes_skip(struct bytes in, size_t count)
{
    if (count >= in.len)
        return bytes_make(in.data, 0);
    return bytes_make(in.data + count, in.len - count);
}

/* bytes_find returns the index of the first `wanted`, or in.len when there is none. */
static inline size_t bytes_find(struct bytes in, uint8_t wanted)
{
    const uint8_t *at = in.len == 0 ? NULL : memchr(in.data, wanted, in.len);
    return at == NULL ? in.len : (size_t)(at - in.data);
}

#endif
