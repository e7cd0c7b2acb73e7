/* What each octet may be in the grammars of SMTP and of header fields, as one table of bits; and
 * where a well-formed UTF-8 character ends. Shared by address, command and header. */
#ifndef PARSER_OCTET_H
#define PARSER_OCTET_H

#include "parser/bytes.h"

/* The classes hold US-ASCII only; UTF-8 is taken by octet_utf8_len where RFC 6531 allows it. */
enum octet_class {
    OCTET_ATEXT = 1 << 0,    /* RFC 5322 3.2.3: atoms */
    OCTET_QTEXT = 1 << 1,    /* RFC 5321 4.1.2 qtextSMTP: inside quotes, not escaped */
    OCTET_LET_DIG = 1 << 2,  /* RFC 5321 4.1.2 Let-dig */
    OCTET_LDH = 1 << 3,      /* Let-dig and the hyphen */
    OCTET_DCONTENT = 1 << 4, /* RFC 5321 4.1.3 dcontent: inside an address literal */
    OCTET_XCHAR = 1 << 5,    /* RFC 3461 4 xchar: stands for itself in xtext */
    OCTET_FTEXT = 1 << 6,    /* RFC 5322 3.6.8 ftext: name of a header field */
    OCTET_VALUE = 1 << 7,    /* RFC 5321 4.1.2 esmtp-value */
};

extern const uint8_t octet_classes[256];

/* octet_is tells whether `c` is in any of `classes`. */
static inline bool octet_is(uint8_t c, unsigned classes)
{
    return (octet_classes[c] & classes) != 0;
}

static inline bool octet_is_digit(uint8_t c)
{
    return (uint8_t)(c - '0') < 10;
}

static inline bool octet_is_space(uint8_t c)
{
    return c == ' ' || c == '\t';
}

/* octet_hex_value returns 0..15 for a hexadecimal digit in either case, 16 for anything else. */
static inline unsigned octet_hex_value(uint8_t c)
{
    if (octet_is_digit(c))
        return (unsigned)c - '0';
    uint8_t letter = (uint8_t)(byte_lower(c) - 'a');
    return letter < 6 ? letter + 10u : 16u;
}

/* octet_utf8_len returns the length, 2..4, of the well-formed non-ASCII character at the front of
 * `in` (RFC 3629 4: no over-long forms, no surrogates, nothing above U+10FFFF), or 0 when there is
 * none. */
size_t octet_utf8_len(struct bytes in);

#endif
