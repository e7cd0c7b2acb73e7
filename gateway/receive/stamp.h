/* The header fields that we put before a message: Received (RFC 5321 4.4, protocol names of RFC
 * 3848 and RFC 6531 4.3). Return-Path belongs to final delivery. */
#ifndef GATEWAY_RECEIVE_STAMP_H
#define GATEWAY_RECEIVE_STAMP_H

#include "gateway/io/listener.h"
#include "parser/bytes.h"
#include "tls/tls.h"

enum {
    STAMP_DATE_LEN = 31,  /* "Sat, 21 Nov 2026 20:25:15 +0000" */
    STAMP_LEN_MAX = 2048, /* a Received field with the longest names */
    STAMP_PEER_LEN = 48,  /* "IPv6:" and an address */
};

struct stamp {
    struct bytes helo; /* as the client said it; empty: it did not */
    const union address_any *peer;
    struct bytes hostname;      /* ours */
    bool extended;              /* EHLO, not HELO */
    bool utf8;                  /* SMTPUTF8 was asked for */
    const struct tls_info *tls; /* NULL: came in clear */
    const char *id;             /* the message's, NUL-terminated */
    struct bytes recipient; /* mailbox for the FOR clause; empty: none (more than one recipient must
                               not be told) */
    uint64_t wall_us;
};

/* stamp_received writes the field with its CR LF to `out` of STAMP_LEN_MAX octets and returns its
 * length. */
size_t stamp_received(const struct stamp *stamp, char *out);

/* stamp_peer writes an address as RFC 5321 4.1.3 wants it inside brackets ("192.0.2.1",
 * "IPv6:2001:db8::1") to `out` of STAMP_PEER_LEN octets, NUL-terminated, and returns its length. */
size_t stamp_peer(const union address_any *peer, char *out);

#endif
