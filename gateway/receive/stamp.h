/* The header fields that we put before a message: Received (RFC 5321 4.4, protocol names of RFC
 * 3848 and RFC 6531 4.3), Authentication-Results of one who has logged in (RFC 8601). Return-Path
 * belongs to final delivery. */
#ifndef GATEWAY_RECEIVE_STAMP_H
#define GATEWAY_RECEIVE_STAMP_H

#include "gateway/io/listener.h"
#include "parser/bytes.h"
#include "tls/tls.h"

enum {
    STAMP_DATE_LEN = 31,      /* "Sat, 21 Nov 2026 20:25:15 +0000" */
    STAMP_LEN_MAX = 2048,     /* a Received field with the longest names */
    STAMP_RESULTS_MAX = 1024, /* an Authentication-Results field with the longest names */
    STAMP_PEER_LEN = 48,      /* "IPv6:" and an address */
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
    struct bytes user;      /* who has logged in; empty: nobody */
    const char *mechanism;  /* how; NULL: nobody has */
    bool results;           /* and that is to be told by Authentication-Results */
    uint64_t wall_us;
    int8_t priority; /* MT-PRIORITY (RFC 6710); 0: the usual, which is not said */
};

/* stamp_received writes the field with its CR LF to `out` of STAMP_LEN_MAX octets and returns its
 * length. */
size_t stamp_received(const struct stamp *stamp, char *out);

/* stamp_results writes Authentication-Results to `out` of STAMP_RESULTS_MAX octets and returns its
 * length; 0: the stamp wants none. */
size_t stamp_results(const struct stamp *stamp, char *out);

/* stamp_peer writes an address as RFC 5321 4.1.3 wants it inside brackets ("192.0.2.1",
 * "IPv6:2001:db8::1") to `out` of STAMP_PEER_LEN octets, NUL-terminated, and returns its length. */
size_t stamp_peer(const union address_any *peer, char *out);

/* stamp_date writes a time as RFC 5322 3.3 has it, in UTC. */
void stamp_date(uint64_t wall_us, char out[STAMP_DATE_LEN]);

#endif
