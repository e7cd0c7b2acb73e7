/* A handshake in memory between a context of ours and a client's SSL object, without tls/tls: for
 * tests of what contexts tell BoringSSL. */
#ifndef TESTS_SUPPORT_PAIR_H
#define TESTS_SUPPORT_PAIR_H

#include "tls/inside.h"

struct pair_end {
    struct tls tls; /* made by hand */
    struct tls_handshake handshake;
    int reason; /* SSL_R_... of the first error; 0: none */
    int result; /* SSL_get_error, or 0 when the handshake is done */
};

struct pair {
    struct pair_end server, client;
    bool done; /* both are */
};

/* pair_run makes the handshake, then passes the server's ticket. It takes `client`, and keeps the
 * context until pair_end. */
void pair_run(struct pair *pair, struct tls_context *context, SSL *client);
void pair_end(struct pair *pair);

/* pair_client makes a client's SSL object of one of our contexts, or of BoringSSL's defaults with a
 * single version (TLS1_3_VERSION). `name` is for SNI, NULL: none. */
SSL *pair_client(struct tls_context *context, const char *name);
SSL *pair_stranger(uint16_t version, const char *name);

/* pair_sent tells whether the client got the certificate of this chain file. */
bool pair_sent(const struct pair *pair, const char *chain_path);

#endif
