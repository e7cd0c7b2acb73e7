/* IP addresses as text. Pure. */
#ifndef PARSER_IP_H
#define PARSER_IP_H

#include "parser/bytes.h"

enum { IP_TEXT_MAX = 45 /* the longest IPv6 address with an IPv4 tail */ };

/* ip_parse_v4 reads "192.0.2.1", all of `in`, into 4 octets; ip_parse_v6 "2001:db8::1" into 16. In
 * network byte order; no leading zeros in IPv4, no zone in IPv6. False: it is none, and `out` is
 * not touched. */
bool ip_parse_v4(struct bytes in, uint8_t *out) __attribute__((warn_unused_result));
bool ip_parse_v6(struct bytes in, uint8_t *out) __attribute__((warn_unused_result));

/* ip_parse_port reads 0 to 65535 in decimal digits, without leading zeros. */
bool ip_parse_port(struct bytes in, uint16_t *out) __attribute__((warn_unused_result));

#endif
