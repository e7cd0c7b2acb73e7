/* Base64 (RFC 4648 4), as SASL and DKIM use it: strict, so that each text has one meaning. */
#ifndef PARSER_BASE64_H
#define PARSER_BASE64_H

#include "parser/bytes.h"

/* base64_encoded_len returns the characters that `len` octets need, padding included. */
static inline size_t base64_encoded_len(size_t len)
{
    return (len + 2) / 3 * 4;
}

/* base64_encode writes `in` to `out`, which has room for base64_encoded_len; no line ends, no NUL.
 * Returns the length. */
size_t base64_encode(struct bytes in, char *out);

/* base64_decode writes what `in` stands for to `out`, which has room for in.len / 4 * 3 octets and
 * may be where `in` lies, and sets *len. False: a character that is none, missing or misplaced
 * padding, or bits behind the end that are not zero. Takes time by length alone. */
bool base64_decode(struct bytes in, uint8_t *out, size_t *len) __attribute__((warn_unused_result));

#endif
