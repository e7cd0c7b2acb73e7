/* What the files of tls/ know of each other and nobody else may: the two structs behind tls.h and
 * context.h. */
#ifndef TLS_INSIDE_H
#define TLS_INSIDE_H

#include "tls/offload.h"
#include "tls/record.h"
#include "tls/tls.h"

#include <openssl/ssl.h>

#include <stdatomic.h>

struct tls_context {
    SSL_CTX *ssl;
    _Atomic uint32_t references;
    uint64_t id; /* unlike that of any other, now or later */
    bool offload;
    bool exporter;
    bool verify; /* the peer's certificate, where there is one, must be good */
    struct certificate **certificates;
    size_t certificate_count;
    const struct certificate *usual; /* server: the one that SSL_CTX has already */
    bool resumable;
    struct ticket_keys tickets; /* used by the thread whose context it is */
};

/* A ticket. A resumed handshake shows no certificate, so what was verified is remembered: who made
 * it, and for which name. */
enum { TLS_NAME_MAX = 255 };
struct tls_session {
    SSL_SESSION *session;
    uint64_t context_id;
    char server_name[TLS_NAME_MAX + 1]; /* "": none was asked for */
};

/* What only the handshake needs. */
struct tls_handshake {
    uint8_t client_secret[RECORD_SECRET_MAX]; /* TLS 1.3: the first application traffic secrets */
    uint8_t server_secret[RECORD_SECRET_MAX];
    uint8_t secret_len;
    bool alpn_refused;
    const struct certificate *certificate; /* server: the one chosen; the context's */
    struct tls_session *session;           /* client: the newest ticket */
};

struct tls {
    struct record read, write; /* after the handshake */
    SSL *ssl; /* until it is over; a client's until the first text has come, because
                 tickets come before it */
    struct tls_context *context; /* as long as ssl */
    struct tls_handshake *handshake;
    struct tls_io *io;   /* of the call under way */
    struct tls_job *job; /* a private-key operation: wanted, under way or done */
    uint8_t *prelude;    /* octets that go before our next record, or NULL */
    uint16_t prelude_len;
    bool server;
    bool begun; /* the peer has said something */
    bool ready;
    bool silent;       /* no alert of ours: the peer's ended it */
    bool update_owed;  /* an answer to KeyUpdate */
    uint8_t empty_run; /* records in a row that brought no text */
    uint8_t update_run, warning_run;
    uint8_t alert;   /* description of our fatal alert; 0: close_notify */
    uint8_t failure; /* enum tls_failure */
    const char *failure_text;
    struct tls_info info;
    char *names;       /* what info.server_name and info.peer_name point into; owned */
    uint8_t *exporter; /* TLS_EXPORTER_LEN octets, owned; NULL: none */
};

/* tls_of finds the connection of an SSL object, context_of the context. */
static inline struct tls *tls_of(const SSL *ssl)
{
    return SSL_get_app_data(ssl);
}

/* --- failure.c --- */

/* tls_fail keeps the first reason; `alert` is what the peer is told. tls_handshake_failed finds the
 * reason in BoringSSL's errors and in the input. */
void tls_fail(struct tls *tls, enum tls_failure failure, uint8_t alert, const char *text);
void tls_handshake_failed(struct tls *tls, const struct tls_io *io);
const char *tls_alert_text(uint8_t description); /* constant */

/* --- handshake.c --- */

enum tls_opened tls_open_first(struct tls *tls, uint8_t *record, size_t len, uint8_t **text,
                               size_t *text_len) __attribute__((warn_unused_result));

/* --- certificate.c --- */

/* certificate_use gives the chain and the key to a connection, certificate_use_always to all of a
 * context; offloaded: RSA operations go through offload_method. False: no memory. */
bool certificate_use(const struct certificate *certificate, SSL *ssl, bool offload);
bool certificate_use_always(const struct certificate *certificate, SSL_CTX *context, bool offload);
EVP_PKEY *certificate_key(const struct certificate *certificate); /* borrowed */

/* certificate_curve is the group of an ECDSA key (SSL_CURVE_...), 0 for RSA;
 * certificate_shares_name tells whether two are for a common name (or pattern). */
uint16_t certificate_curve(const struct certificate *certificate);
bool certificate_shares_name(const struct certificate *one, const struct certificate *other);

/* certificate_peer_name writes the name in the peer's verified certificate (first DNS name of
 * subjectAltName, else the common name; no controls) to `out`; returns its length, 0: none. */
size_t certificate_peer_name(const SSL *ssl, char *out, size_t out_size);

/* --- choose.c --- */

/* choose_certificate tells which certificate of the context the client of this ClientHello gets. */
const struct certificate *choose_certificate(const struct tls_context *context,
                                             const SSL_CLIENT_HELLO *hello);

#endif
