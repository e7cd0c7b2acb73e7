/* Private keys that sign mail: RSA (PKCS #1 v1.5, SHA-256) and Ed25519 (RFC 6376 3.3, RFC 8463).
 * Any thread may sign with the same key. */
#ifndef TLS_SIGNATURE_H
#define TLS_SIGNATURE_H

#include "tls/crypto.h"

struct signature_key;

enum signature_kind { SIGNATURE_RSA = 0, SIGNATURE_ED25519 = 1 };

enum { SIGNATURE_LEN_MAX = 512 /* RSA of 4096 bits */, SIGNATURE_PUBLIC_MAX = 1024 };

/* signature_key_read takes a private key in PEM (PKCS #8, or "RSA PRIVATE KEY"): RSA of 1024 to
 * 4096 bits, or Ed25519. Owned, wiped when freed. NULL: `error` has a sentence. */
struct signature_key *signature_key_read(const char *pem, size_t len, char *error,
                                         size_t error_size) __attribute__((warn_unused_result));
/* signature_key_make makes a new one (`bits` of RSA; seconds of work). NULL: it can't be. */
struct signature_key *signature_key_make(enum signature_kind kind, unsigned bits)
    __attribute__((warn_unused_result));
void signature_key_free(struct signature_key *key); /* NULL is allowed */

enum signature_kind signature_key_kind(const struct signature_key *key);
unsigned signature_key_bits(const struct signature_key *key); /* of RSA; 256 of Ed25519 */

/* signature_make signs a SHA-256 digest and returns the signature's length; 0: it failed. RSA takes
 * a millisecond (2048 bits), Ed25519 some microseconds. */
size_t signature_make(const struct signature_key *key, const uint8_t digest[CRYPTO_SHA256_LEN],
                      uint8_t out[SIGNATURE_LEN_MAX]);

/* signature_key_pem writes the private key as PKCS #8 in PEM, owned, NUL-terminated; NULL: no
 * memory. signature_key_public writes what p= of a DKIM record holds (SubjectPublicKeyInfo of RSA,
 * the 32 octets of Ed25519), before base64, and returns its length; 0: no memory. */
char *signature_key_pem(const struct signature_key *key) __attribute__((warn_unused_result));
size_t signature_key_public(const struct signature_key *key, uint8_t out[SIGNATURE_PUBLIC_MAX]);

#endif
