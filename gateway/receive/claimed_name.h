/* Whom a client says it is, in the first message of a SASL mechanism: what attempts to log in are
 * counted for, before a backend sees anything. */
#ifndef GATEWAY_RECEIVE_CLAIMED_NAME_H
#define GATEWAY_RECEIVE_CLAIMED_NAME_H

#include <stdbool.h>
#include <stddef.h>

#include "parser/sasl.h"

/* claimed_name_read writes the name to `out` of SASL_NAME_MAX octets, and its length; one without
 * "@" gets the domain (NULL: none), for it is the same user. 0 octets: a token without a name.
 * False: `message` is none of this mechanism; nothing is written. */
bool claimed_name_read(enum sasl_mechanism mechanism, struct bytes message, const char *domain,
                       uint8_t *out, size_t *len);

#endif
