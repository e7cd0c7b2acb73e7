/* The arguments of XCLIENT, as Postfix's XCLIENT_README defines them: what a trusted server in
 * front of us says of the client. Pure. */
#ifndef PARSER_XCLIENT_H
#define PARSER_XCLIENT_H

#include "parser/bytes.h"

#include <stdbool.h>
#include <stdint.h>

enum { XCLIENT_VALUE_MAX = 255 /* octets of a value, decoded */ };

/* What became of an attribute. */
enum xclient_value {
    XCLIENT_ABSENT = 0, /* not named: as it was */
    XCLIENT_GIVEN = 1,
    XCLIENT_UNAVAILABLE = 2, /* [UNAVAILABLE] or [TEMPUNAVAIL]: not known */
};

struct xclient_text {
    uint8_t state; /* enum xclient_value */
    uint8_t len;
    char text[XCLIENT_VALUE_MAX + 1]; /* decoded xtext, NUL-terminated; without NUL, CR, LF */
};

struct xclient {
    struct xclient_text name, helo, login;
    uint8_t address_state; /* enum xclient_value */
    uint8_t family;        /* 4 or 6, when GIVEN */
    uint8_t address[16];   /* network byte order */
    uint8_t port_state;
    uint16_t port; /* host byte order */
    uint8_t proto_state;
    bool esmtp; /* PROTO=ESMTP; else SMTP */
    /* DESTADDR and DESTPORT are checked and not kept. */
};

/* xclient_parse reads what stands behind the verb (in any case, separated by spaces). False: an
 * unknown attribute, one twice, or a value that is none (501 5.5.4). */
bool xclient_parse(struct bytes arguments, struct xclient *out) __attribute__((warn_unused_result));

#endif
