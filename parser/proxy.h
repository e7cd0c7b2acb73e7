/* The header of the PROXY protocol, versions 1 and 2, as HAProxy's doc/proxy-protocol.txt defines
 * it: what a balancer says of the client in front of all other octets. Pure; the result points into
 * the input. */
#ifndef PARSER_PROXY_H
#define PARSER_PROXY_H

#include "parser/bytes.h"

#include <stdbool.h>
#include <stdint.h>

enum {
    PROXY_V1_MAX = 107,  /* octets of a version 1 header, CR LF included (section 2.1) */
    PROXY_V2_MAX = 4096, /* of a version 2 header that we take, TLVs included: far more than anybody
                            sends; a longer one is bad */
    PROXY_UNIQUE_ID_MAX = 128, /* section 2.2.5 */
};

enum proxy_result {
    PROXY_MORE = 0, /* right so far, and unfinished */
    PROXY_OK = 1,
    PROXY_BAD = 2, /* no header, or a wrong one: nothing behind it means anything */
};

enum proxy_family { PROXY_NONE = 0, PROXY_V4 = 4, PROXY_V6 = 6 };

struct proxy {
    size_t len;      /* octets of the header */
    uint8_t version; /* 1 or 2 */
    bool local;      /* LOCAL: the balancer speaks for itself (a health check) */
    uint8_t family;  /* enum proxy_family; PROXY_NONE: LOCAL, UNKNOWN, AF_UNSPEC, AF_UNIX or not a
                        stream: the connection's own addresses hold */
    uint8_t source[16];   /* the client; network byte order, the first 4 octets of PROXY_V4 */
    uint8_t target[16];   /* the address that it came to */
    uint16_t source_port; /* host byte order */
    uint16_t target_port;
    struct bytes authority;   /* PP2_TYPE_AUTHORITY: the name that the client asked for (SNI) */
    struct bytes unique_id;   /* PP2_TYPE_UNIQUE_ID */
    bool tls;                 /* PP2_CLIENT_SSL: the client came to the balancer by TLS */
    bool tls_verified;        /* and its certificate was verified there */
    struct bytes tls_version; /* PP2_SUBTYPE_SSL_VERSION */
    struct bytes tls_name;    /* PP2_SUBTYPE_SSL_CN: common name of its certificate */
    struct bytes tls_cipher;  /* PP2_SUBTYPE_SSL_CIPHER */
};

/* proxy_begins tells whether `in` begins as a header of either version does: with all of "PROXY ",
 * or of the signature of version 2. */
bool proxy_begins(struct bytes in);

/* proxy_parse reads the header at the front of `in`, of either version. PROXY_OK: *out is set, and
 * what is not said is zero. A CRC32C TLV that does not fit the header is PROXY_BAD (section 2.2.3);
 * unknown TLVs are skipped. */
enum proxy_result proxy_parse(struct bytes in, struct proxy *out)
    __attribute__((warn_unused_result));

#endif
