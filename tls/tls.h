/* One TLS connection: octets in, octets out; no sockets, no threads of its own. BoringSSL makes the
 * handshake and is then let go of: the keys stay, and tls/record opens and seals the records where
 * they lie. docs/tls.md tells why. One thread at a time for one connection.
 *
 *   tls_server | tls_client -> tls_handshake until TLS_READY -> tls_open, tls_seal -> tls_free */
#ifndef TLS_TLS_H
#define TLS_TLS_H

#include "tls/context.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    TLS_HEADER_LEN = 5,
    TLS_TEXT_MAX = 16384,                                 /* octets of text in one record */
    TLS_RECORD_MAX = TLS_HEADER_LEN + TLS_TEXT_MAX + 256, /* RFC 8446 5.2 */
    TLS_FRONT_MAX = 13,                                   /* header and nonce before the text */
    TLS_BACK_MAX = 17,                                    /* content type and tag behind it */
    TLS_PRELUDE_MAX = 1024,                               /* what tls_prelude writes */
    TLS_ALERT_MAX = 2 + TLS_FRONT_MAX + TLS_BACK_MAX,     /* what tls_alert writes */
    TLS_EXPORTER_LEN = 32,                                /* octets of tls_exporter */
};

struct tls;
struct tls_job;
struct tls_session;

/* tls_server begins a connection on which we are the server; tls_client one on which we are the
 * client. `server_name` (borrowed; NULL: none) goes into SNI and, if the context verifies, must be
 * in the certificate. `resume` (borrowed, may be NULL) is tried; by a context that verifies only if
 * it made it, for the same name. NULL: no memory, or a name that can be none (empty, above 255
 * octets). The caller owns the result; the context is kept until the handshake is over. */
struct tls *tls_server(struct tls_context *context) __attribute__((warn_unused_result));
struct tls *tls_client(struct tls_context *context, const char *server_name,
                       const struct tls_session *resume) __attribute__((warn_unused_result));
void tls_free(struct tls *tls); /* NULL is allowed; keys are wiped */

/* --- the handshake (RFC 8446 4, RFC 5246 7) --- */

enum tls_status {
    TLS_INPUT,  /* all input was taken; more of it is needed */
    TLS_OUTPUT, /* the output is full: call again when there is room */
    TLS_KEY,    /* a private-key operation: tls_job_take, and call again after tls_job_done */
    TLS_READY,  /* done; input that was not taken are records for tls_open */
    TLS_FAILED, /* over: tls_failure; the alert is in the output as far as it had room */
};

/* What one call works on: input that it may take from the front of, output that it appends to. */
struct tls_io {
    const uint8_t *in;
    size_t in_len;
    size_t in_taken; /* set by the call */
    uint8_t *out;
    size_t out_room;
    size_t out_len; /* set by the call */
};

/* tls_handshake goes on with the handshake as far as it gets. To start a client, call it without
 * input. Must not be called again after TLS_READY or TLS_FAILED. */
enum tls_status tls_handshake(struct tls *tls, struct tls_io *io)
    __attribute__((warn_unused_result));

/* A private-key operation (RSA takes half a millisecond) for a helper thread. tls_job_take hands it
 * out after TLS_KEY, once; the taker owns it. tls_job_run does the work, in any thread, and touches
 * nothing of the connection. tls_job_done gives the result back, in the connection's thread, and
 * frees the job; with `tls` NULL (the connection ended meanwhile) it only frees it. */
struct tls_job *tls_job_take(struct tls *tls) __attribute__((warn_unused_result));
void tls_job_run(struct tls_job *job);
void tls_job_done(struct tls_job *job, struct tls *tls);

/* --- records, after TLS_READY (RFC 8446 5, RFC 5246 6.2) --- */

/* tls_record_len tells the length of the record that begins with these `len` >= TLS_HEADER_LEN
 * octets, header included; 0 when no valid record begins so (tls_open says which alert). */
size_t tls_record_len(const uint8_t *data, size_t len);

enum tls_opened {
    TLS_TEXT,    /* application data: *text, *text_len, inside the record; at least one octet */
    TLS_NOTHING, /* a record for this layer only */
    TLS_CLOSED,  /* close_notify: the peer will send no more */
    TLS_BROKEN,  /* not authentic, or not allowed: send tls_alert and close; tls_failure */
};

/* tls_open decrypts one whole record where it lies. `record` is overwritten whatever comes of it. A
 * record whose length tls_record_len could not tell is TLS_BROKEN. */
enum tls_opened tls_open(struct tls *tls, uint8_t *record, size_t len, uint8_t **text,
                         size_t *text_len) __attribute__((warn_unused_result));

/* tls_front tells at which offset of a record its text stands; at most TLS_FRONT_MAX. tls_seal
 * makes the record around `len` (1..TLS_TEXT_MAX) octets of text: from `record + tls_front()`,
 * where it lies already, or from elsewhere (no other overlap). Returns the length of the record: at
 * most len + TLS_FRONT_MAX + TLS_BACK_MAX, for which `record` has room. 0: no more can be sealed
 * with these keys (2^48 records), the connection must end. */
size_t tls_front(const struct tls *tls);
size_t tls_seal(struct tls *tls, uint8_t *record, const uint8_t *text, size_t len)
    __attribute__((warn_unused_result));

/* tls_prelude writes what must precede the next record of ours (the session ticket that BoringSSL
 * wants to go with the first reply, an answer to KeyUpdate) to `out` of TLS_PRELUDE_MAX octets.
 * Returns its length, mostly 0. */
size_t tls_prelude(struct tls *tls, uint8_t *out) __attribute__((warn_unused_result));

/* tls_alert writes our last word to `out` of TLS_ALERT_MAX octets: the fatal alert after
 * TLS_BROKEN, else close_notify. Returns its length. */
size_t tls_alert(struct tls *tls, uint8_t *out) __attribute__((warn_unused_result));

/* --- what became of it --- */

struct tls_info {
    const char *version;     /* "TLSv1.3"; constant */
    const char *cipher;      /* as IANA writes it: "TLS_AES_128_GCM_SHA256"; constant */
    const char *group;       /* "X25519"; constant, "" when unknown */
    const char *server_name; /* SNI as the client asked for it, lower case; "" : none */
    const char *peer_name;   /* the verified name of the peer's certificate; "": none */
    bool resumed;
    uint8_t cipher_index;  /* of tls_cipher_names */
    uint8_t version_index; /* 0: TLS 1.2, 1: TLS 1.3 */
};

/* tls_info tells about a connection after TLS_READY, tls_exporter its channel binding (RFC 9266;
 * NULL: the context was not asked for it, or below TLS 1.3); both as long as it lives. */
const struct tls_info *tls_info(const struct tls *tls);
const uint8_t *tls_exporter(const struct tls *tls);

/* Why a handshake or a connection failed, coarse enough to count. */
enum tls_failure {
    TLS_FAILURE_NONE = 0,
    TLS_FAILURE_NOT_TLS,     /* the octets are no TLS at all (a clear-text client) */
    TLS_FAILURE_VERSION,     /* no version in common */
    TLS_FAILURE_CIPHER,      /* no cipher, group or signature algorithm in common */
    TLS_FAILURE_ALPN,        /* the client wants another protocol */
    TLS_FAILURE_ALERT,       /* the peer sent an alert */
    TLS_FAILURE_CERTIFICATE, /* the peer's certificate is not good */
    TLS_FAILURE_RECORD,      /* a record that is not authentic */
    TLS_FAILURE_PROTOCOL,    /* everything else that a correct peer would not do */
    TLS_FAILURE_INTERNAL,    /* we could not: memory, a key operation */
    TLS_FAILURE_COUNT,
};

/* tls_failure tells the kind; tls_failure_text what BoringSSL or we say of it, for the log (lives
 * as long as the connection); tls_failure_name is a word for the kind, constant. */
enum tls_failure tls_failure(const struct tls *tls);
const char *tls_failure_text(const struct tls *tls);
const char *tls_failure_name(enum tls_failure failure);

/* The ciphers that can be negotiated, by cipher_index. */
enum { TLS_CIPHER_COUNT = 9 };
extern const char *const tls_cipher_names[TLS_CIPHER_COUNT];

/* tls_session_take gives the newest ticket that the server has sent us, or NULL; the caller owns
 * it. tls_session_free takes NULL, too. */
struct tls_session *tls_session_take(struct tls *tls);
void tls_session_free(struct tls_session *session);

/* tls_memory tells how many octets of ours a connection holds after TLS_READY (docs/tls.md). */
size_t tls_memory(const struct tls *tls);

#endif
