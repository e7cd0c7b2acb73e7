/* A TLS peer for tests, in memory and foreign to tls/: BoringSSL's own SSL, or the system's
 * OpenSSL, which is another implementation altogether and lets one choose among the ciphers of
 * TLS 1.3. Both have the same calls, so a table of functions makes them one. Nothing here fails
 * silently: what a test did not expect ends it. */
#ifndef TESTS_SUPPORT_PEER_H
#define TESTS_SUPPORT_PEER_H

#include <openssl/ssl.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct peer_library;

/* peer_boringssl is always there; peer_openssl is NULL where the library is not installed. */
const struct peer_library *peer_boringssl(void);
const struct peer_library *peer_openssl(void);
const char *peer_library_name(const struct peer_library *library);

/* peer_offers: can the library be told to have only this cipher of TLS 1.3? */
bool peer_offers(const struct peer_library *library, const char *modern_cipher);

struct peer_options {
    const struct peer_library *library; /* NULL: BoringSSL */
    bool server;
    uint16_t version_min, version_max; /* 0: TLS 1.2, TLS 1.3 */
    const char *cipher;                /* TLS 1.2: the cipher list; NULL: its own */
    const char *modern_cipher;         /* TLS 1.3: the only one; NULL: its own */
    const char *groups;                /* as "X25519:P-256"; NULL: its own */
    const char *chain, *key;           /* PEM files; NULL: none */
    const char *ca;                    /* PEM file: the other side must be verified by it */
    const char *server_name;           /* SNI; NULL: none */
    const char *alpn;                  /* client: one protocol; NULL: none */
    SSL_SESSION *session;              /* client: of the same library; borrowed */
};

struct peer {
    const struct peer_library *library;
    SSL_CTX *context;
    SSL *ssl;
    BIO *in, *out;
    uint8_t client_secret[48], server_secret[48]; /* TLS 1.3: application traffic, first */
    size_t secret_len;
    SSL_SESSION *session; /* client: the newest ticket; owned */
};

void peer_new(struct peer *peer, const struct peer_options *options);
void peer_free(struct peer *peer);

/* peer_give hands octets to the peer; peer_take moves what it wants to send to `out` and returns
 * how much that is, at most `room`. */
void peer_give(struct peer *peer, const uint8_t *data, size_t len);
size_t peer_take(struct peer *peer, uint8_t *out, size_t room);

/* What SSL_get_error says, of those that can happen. */
enum peer_result { PEER_DONE, PEER_WAITS, PEER_CLOSED, PEER_FAILED };

enum peer_result peer_handshake(struct peer *peer);
enum peer_result peer_read(struct peer *peer, uint8_t *out, size_t room, size_t *len);
enum peer_result peer_write(struct peer *peer, const uint8_t *text, size_t len);

/* peer_update queues a KeyUpdate, which leaves with the next peer_write (BoringSSL) or
 * peer_handshake (OpenSSL; peer_write does it, too). */
void peer_update(struct peer *peer, bool request);
void peer_close(struct peer *peer); /* sends close_notify */

const char *peer_version(const struct peer *peer); /* "TLSv1.3" */
bool peer_resumed(const struct peer *peer);

/* peer_export writes `len` octets of keying material (RFC 5705; RFC 8446 7.5) without a context. */
void peer_export(const struct peer *peer, const char *label, uint8_t *out, size_t len);

/* peer_connect lets two of them finish a handshake with each other. */
void peer_connect(struct peer *client, struct peer *server);

#endif
