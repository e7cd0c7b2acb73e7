/* Random bytes and hashes from BoringSSL. Only calls that Debian's source (2022) and upstream of
 * today both have are used here. */
#include "tls/crypto.h"

#include <boringssl_build.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/mem.h>
#include <openssl/rand.h>
#include <openssl/sha.h>

_Static_assert(CRYPTO_SHA256_LEN == SHA256_DIGEST_LENGTH, "one length of SHA-256");
_Static_assert(CRYPTO_SHA1_LEN == SHA_DIGEST_LENGTH, "one length of SHA-1");

void crypto_random(void *out, size_t len)
{
    RAND_bytes(out, len);
}

void crypto_sha256(const void *data, size_t len, uint8_t out[CRYPTO_SHA256_LEN])
{
    SHA256(data, len, out);
}

bool crypto_hmac_sha1(const void *key, size_t key_len, const void *data, size_t len,
                      uint8_t out[CRYPTO_SHA1_LEN])
{
    unsigned written = 0;
    return HMAC(EVP_sha1(), key, key_len, data, len, out, &written) != NULL &&
           written == CRYPTO_SHA1_LEN;
}

bool crypto_hmac_sha256(const void *key, size_t key_len, const void *data, size_t len,
                        uint8_t out[CRYPTO_SHA256_LEN])
{
    unsigned written = 0;
    return HMAC(EVP_sha256(), key, key_len, data, len, out, &written) != NULL &&
           written == CRYPTO_SHA256_LEN;
}

bool crypto_pbkdf2_sha256(const void *password, size_t password_len, const void *salt,
                          size_t salt_len, uint32_t iterations, uint8_t out[CRYPTO_SHA256_LEN])
{
    return PKCS5_PBKDF2_HMAC(password, password_len, salt, salt_len, iterations, EVP_sha256(),
                             CRYPTO_SHA256_LEN, out) == 1;
}

_Static_assert(sizeof(SHA256_CTX) <= sizeof(struct crypto_hash), "there is room for it");
_Static_assert(_Alignof(SHA256_CTX) <= _Alignof(struct crypto_hash), "and it lies well");

void crypto_hash_begin(struct crypto_hash *hash)
{
    SHA256_Init((SHA256_CTX *)hash->state);
}

void crypto_hash_add(struct crypto_hash *hash, const void *data, size_t len)
{
    SHA256_Update((SHA256_CTX *)hash->state, data, len);
}

void crypto_hash_end(struct crypto_hash *hash, uint8_t out[CRYPTO_SHA256_LEN])
{
    SHA256_Final(out, (SHA256_CTX *)hash->state);
}

bool crypto_equal(const void *a, const void *b, size_t len)
{
    return CRYPTO_memcmp(a, b, len) == 0;
}

void crypto_wipe(void *data, size_t len)
{
    OPENSSL_cleanse(data, len);
}

const char *crypto_library(void)
{
    return "BoringSSL " RINGMX_BORINGSSL;
}
