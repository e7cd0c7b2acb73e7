/* Random bytes and hashes: with the rest of tls/ the only door to BoringSSL. Nothing here keeps
 * state; every function may be called from any thread. */
#ifndef TLS_CRYPTO_H
#define TLS_CRYPTO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CRYPTO_SHA1_LEN   20
#define CRYPTO_SHA256_LEN 32

/* crypto_random fills `out` with `len` bytes that nobody can guess. It cannot fail: BoringSSL
 * aborts the program when the kernel has no randomness, which Linux >= 5.6 does not do once it has
 * started. */
void crypto_random(void *out, size_t len);

/* crypto_sha256 writes the SHA-256 (FIPS 180-4) of `len` bytes at `data`, which it borrows. */
void crypto_sha256(const void *data, size_t len, uint8_t out[CRYPTO_SHA256_LEN]);

/* crypto_hmac_sha1 writes HMAC-SHA1 (RFC 2104) of `len` bytes at `data`; it borrows both. Only for
 * what others have fixed (SRS). False: no memory. */
bool crypto_hmac_sha1(const void *key, size_t key_len, const void *data, size_t len,
                      uint8_t out[CRYPTO_SHA1_LEN]) __attribute__((warn_unused_result));

/* The same in pieces: crypto_hash_begin, _add any number of times, _end once. A plain copy of the
 * struct goes on from where it was. */
struct crypto_hash {
    _Alignas(8) uint8_t state[128];
};
void crypto_hash_begin(struct crypto_hash *hash);
void crypto_hash_add(struct crypto_hash *hash, const void *data, size_t len);
void crypto_hash_end(struct crypto_hash *hash, uint8_t out[CRYPTO_SHA256_LEN]);

/* crypto_hmac_sha256 writes HMAC-SHA256 (RFC 2104). False: no memory. crypto_pbkdf2_sha256 is
 * SCRAM's Hi() (RFC 5802 2.2); slow by `iterations`. */
bool crypto_hmac_sha256(const void *key, size_t key_len, const void *data, size_t len,
                        uint8_t out[CRYPTO_SHA256_LEN]) __attribute__((warn_unused_result));
bool crypto_pbkdf2_sha256(const void *password, size_t password_len, const void *salt,
                          size_t salt_len, uint32_t iterations, uint8_t out[CRYPTO_SHA256_LEN])
    __attribute__((warn_unused_result));

/* crypto_equal compares in a time that depends on `len` alone. crypto_wipe overwrites what nobody
 * may read any more; no compiler leaves it out. */
bool crypto_equal(const void *a, const void *b, size_t len);
void crypto_wipe(void *data, size_t len);

/* crypto_library says which BoringSSL this is, for --version; constant. */
const char *crypto_library(void);

#endif
