/* See tls_sign.h. */
#include "bench/tls_sign.h"

#include "bench/tls_clock.h"
#include "bench/tls_side.h"

#include <openssl/bn.h>
#include <openssl/nid.h>
#include <openssl/rsa.h>

#include <stdint.h>

enum { BITS = 2048, BATCH = 16, BATCHES_MAX = 4096 };

static double batch(RSA *key)
{
    uint8_t digest[32] = {1}, signature[BITS / 8];
    unsigned len;
    double begun = clock_cpu_now();
    for (int i = 0; i < BATCH; i++) {
        digest[0] = (uint8_t)i;
        must(RSA_sign(NID_sha256, digest, sizeof(digest), signature, &len, key) == 1,
             "no signature");
    }
    return (clock_cpu_now() - begun) / BATCH;
}

double tls_sign_seconds(double seconds)
{
    static double times[BATCHES_MAX];
    RSA *key = RSA_new();
    BIGNUM *exponent = BN_new();
    must(key != NULL && exponent != NULL && BN_set_word(exponent, RSA_F4) == 1 &&
             RSA_generate_key_ex(key, BITS, exponent, NULL) == 1,
         "no RSA key");
    BN_free(exponent);
    batch(key); /* warms up, and makes what the key makes once */
    size_t count = 0;
    for (double end = clock_cpu_now() + seconds;
         (count < 3 || clock_cpu_now() < end) && count < BATCHES_MAX;)
        times[count++] = batch(key);
    RSA_free(key);
    return clock_median(times, count);
}
