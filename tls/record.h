/* The record layer after the handshake, one direction of a connection: opens and seals records
 * where they lie (RFC 8446 5, RFC 5246 6.2.3.3, RFC 5288, RFC 7905). All cryptography is
 * BoringSSL's EVP_AEAD; here are only header, nonce, sequence number and content type. AEAD ciphers
 * only. */
#ifndef TLS_RECORD_H
#define TLS_RECORD_H

#include <openssl/aead.h>
#include <openssl/digest.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum record_type {
    RECORD_CHANGE_CIPHER_SPEC = 20,
    RECORD_ALERT = 21,
    RECORD_HANDSHAKE = 22,
    RECORD_DATA = 23,
};

enum { RECORD_SECRET_MAX = 48, RECORD_IV_LEN = 12, RECORD_TAG_LEN = 16 };

struct record {
    EVP_AEAD_CTX aead;
    uint64_t sequence;         /* of the next record; never returns to an earlier value */
    uint8_t iv[RECORD_IV_LEN]; /* TLS 1.2 with GCM: the first four octets */
    bool modern;               /* TLS 1.3 */
    bool nonce_sent;           /* TLS 1.2 with GCM: eight octets of the nonce are in the record */
    uint8_t secret_len;        /* TLS 1.3: of the traffic secret, for KeyUpdate */
    uint8_t secret[RECORD_SECRET_MAX];
    const EVP_AEAD *algorithm;
    const EVP_MD *digest; /* TLS 1.3: of the secrets */
};

/* record_start_modern begins a direction of TLS 1.3 from its traffic secret; record_start of
 * TLS 1.2 from key and fixed part of the nonce. `sequence` is the next record's. False: no memory.
 * The caller's struct holds keys until record_end, which wipes it and is legal on the zero value.
 */
bool record_start_modern(struct record *record, const EVP_AEAD *algorithm, const EVP_MD *digest,
                         const uint8_t *secret, size_t secret_len, uint64_t sequence)
    __attribute__((warn_unused_result));
bool record_start(struct record *record, const EVP_AEAD *algorithm, const uint8_t *key,
                  const uint8_t *iv, size_t iv_len, uint64_t sequence)
    __attribute__((warn_unused_result));
void record_end(struct record *record);

/* record_update moves to the next traffic secret (RFC 8446 7.2). False: no memory. */
bool record_update(struct record *record) __attribute__((warn_unused_result));

/* record_front is the offset of the text in a record. record_seal makes a record of `type` around
 * `len` octets of text, which stand at out + record_front() already or elsewhere; returns the
 * record's length, or 0 when the sequence is used up. */
size_t record_front(const struct record *record);
size_t record_seal(struct record *record, enum record_type type, uint8_t *out, const uint8_t *text,
                   size_t len) __attribute__((warn_unused_result));

enum record_result {
    RECORD_OK,
    RECORD_BAD_MAC,    /* not authentic (alert 20) */
    RECORD_OVERFLOW,   /* longer than allowed (22) */
    RECORD_UNEXPECTED, /* a type that may not come (10) */
};

/* record_open decrypts one whole record (header included, length as its header says) where it lies;
 * *type, *text and *text_len tell what was in it. */
enum record_result record_open(struct record *record, uint8_t *data, size_t len,
                               enum record_type *type, uint8_t **text, size_t *text_len)
    __attribute__((warn_unused_result));

#endif
