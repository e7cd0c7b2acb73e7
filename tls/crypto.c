/* Random bytes and hashes from BoringSSL. Only calls that Debian's source (2022) and upstream of
 * today both have are used here. */
#include "tls/crypto.h"

#include <boringssl_build.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
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

const char *crypto_library(void)
{
    return "BoringSSL " RINGMX_BORINGSSL;
}
