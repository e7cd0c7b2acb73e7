/* SCRAM-SHA-256 and SCRAM-SHA-256-PLUS, the server's side (RFC 5802, 7677, 9266 for tls-exporter).
 * Cheap: a few hashes, no work on the helpers. Messages are not in base64 here. */
#ifndef GATEWAY_POLICY_SCRAM_H
#define GATEWAY_POLICY_SCRAM_H

#include "parser/bytes.h"
#include "parser/sasl.h"
#include "tls/crypto.h"

enum {
    SCRAM_SALT_MAX = 64,
    SCRAM_MESSAGE_MAX = 1024, /* of ours */
    SCRAM_BINDING_LEN = 32,   /* of tls-exporter */
    SCRAM_ITERATIONS_MIN = 4096,
    SCRAM_ITERATIONS_MAX = 10000000,
};

/* What the server knows of a user's password. */
struct scram_secret {
    uint32_t iterations;
    uint8_t salt_len;
    uint8_t salt[SCRAM_SALT_MAX];
    uint8_t stored_key[CRYPTO_SHA256_LEN];
    uint8_t server_key[CRYPTO_SHA256_LEN];
};

/* scram_secret_read reads Dovecot's form "iterations,salt,StoredKey,ServerKey" (base64).
 * scram_secret_write is the way back (its length; 0: no room). scram_secret_make computes one from
 * a password, scram_secret_matches compares with one (both slow; *failed: no memory).
 * scram_secret_stranger makes one for a user that does not exist: the salt is always the same for a
 * name, its length and the iterations are those of another one, and no password fits. */
bool scram_secret_read(struct bytes text, struct scram_secret *out)
    __attribute__((warn_unused_result));
size_t scram_secret_write(const struct scram_secret *secret, char *out, size_t size);
bool scram_secret_make(struct bytes password, uint32_t iterations, struct scram_secret *out)
    __attribute__((warn_unused_result));
bool scram_secret_matches(const struct scram_secret *secret, struct bytes password, bool *failed)
    __attribute__((warn_unused_result));
void scram_secret_stranger(const uint8_t seed[CRYPTO_SHA256_LEN], struct bytes user,
                           const struct scram_secret *like, struct scram_secret *out);

/* One exchange; zero before scram_first, wiped by its owner. */
struct scram {
    struct scram_secret secret;
    uint8_t user[SASL_NAME_MAX];
    uint16_t user_len;
    uint16_t gs2_len, bare_len, first_len, nonce_len;
    uint8_t gs2[320];
    uint8_t bare[SASL_NAME_MAX * 3 + SASL_NONCE_MAX + 64];
    char first[SCRAM_MESSAGE_MAX]; /* our first message */
    char nonce[SASL_NONCE_MAX + 64];
    bool plus;
};

/* scram_begin reads the client's first message; `plus`: the mechanism, `offered`: we have offered
 * PLUS (a client that says "y" then has been lied to). The user is in scram->user. False: it must
 * be refused. scram_challenge gives our answer, once the secret is known (scram->secret is set by
 * the caller), in scram->first. */
bool scram_begin(struct scram *scram, struct bytes message, bool plus, bool offered)
    __attribute__((warn_unused_result));
struct bytes scram_challenge(struct scram *scram);

/* scram_finish checks the client's proof and writes our last message ("v=...") to `out` of
 * SCRAM_MESSAGE_MAX; `binding` is tls-exporter of the connection (NULL without PLUS). False: wrong.
 */
bool scram_finish(struct scram *scram, struct bytes message,
                  const uint8_t binding[SCRAM_BINDING_LEN], char *out, size_t *out_len)
    __attribute__((warn_unused_result));

#endif
