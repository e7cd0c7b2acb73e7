/* Keys that sign: the examples of RFC 8463, keys made here and read again, texts that are no key;
 * and many threads with one key. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <openssl/curve25519.h>
#include <openssl/evp.h>
#include <openssl/nid.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/dkim_examples.h"
#include "tls/signature.h"

static struct signature_key *must_read(const char *pem)
{
    char error[256] = "";
    struct signature_key *key = signature_key_read(pem, strlen(pem), error, sizeof(error));
    assert_string_equal(error, "");
    assert_non_null(key);
    return key;
}

/* BoringSSL, with the public key alone. */
static bool verifies(const struct signature_key *key, const uint8_t *digest,
                     const uint8_t *signature, size_t len)
{
    uint8_t public[SIGNATURE_PUBLIC_MAX];
    size_t public_len = signature_key_public(key, public);
    if (signature_key_kind(key) == SIGNATURE_ED25519)
        return public_len == 32 && len == 64 && ED25519_verify(digest, 32, signature, public) == 1;
    const uint8_t *at = public;
    EVP_PKEY *read = d2i_PUBKEY(NULL, &at, (long)public_len);
    assert_non_null(read);
    bool good = RSA_verify(NID_sha256, digest, 32, signature, len, EVP_PKEY_get0_RSA(read)) == 1;
    EVP_PKEY_free(read);
    return good;
}

static void keys_of_rfc_8463_are_read(void **state)
{
    (void)state;
    struct signature_key *rsa = must_read(example_rsa_pem);
    assert_int_equal(signature_key_kind(rsa), SIGNATURE_RSA);
    assert_int_equal(signature_key_bits(rsa), 1024);
    signature_key_free(rsa);
    struct signature_key *ed25519 = must_read(example_ed25519_pem);
    uint8_t public[SIGNATURE_PUBLIC_MAX];
    assert_int_equal(signature_key_kind(ed25519), SIGNATURE_ED25519);
    assert_int_equal(signature_key_bits(ed25519), 256);
    assert_int_equal(signature_key_public(ed25519, public), 32);
    assert_memory_equal(public, example_ed25519_public, 32);
    signature_key_free(ed25519);
}

static void check_made(enum signature_kind kind, unsigned bits)
{
    uint8_t digest[CRYPTO_SHA256_LEN], signature[SIGNATURE_LEN_MAX], again[SIGNATURE_LEN_MAX];
    struct signature_key *made = signature_key_make(kind, bits);
    assert_non_null(made);
    char *pem = signature_key_pem(made);
    assert_non_null(pem);
    assert_non_null(strstr(pem, "-----BEGIN PRIVATE KEY-----"));
    struct signature_key *read = must_read(pem);
    free(pem);
    assert_int_equal(signature_key_kind(read), kind);
    assert_int_equal(signature_key_bits(read), kind == SIGNATURE_RSA ? bits : 256);
    crypto_random(digest, sizeof(digest));
    size_t len = signature_make(made, digest, signature);
    assert_int_equal(len, kind == SIGNATURE_RSA ? bits / 8 : 64);
    assert_int_equal(signature_make(read, digest, again), len);
    assert_memory_equal(signature, again, len);
    assert_true(verifies(read, digest, signature, len));
    digest[7] ^= 1;
    assert_false(verifies(read, digest, signature, len));
    signature_key_free(made);
    signature_key_free(read);
}

static void keys_that_are_made_can_be_read_and_sign(void **state)
{
    (void)state;
    check_made(SIGNATURE_RSA, 1024);
    check_made(SIGNATURE_RSA, 2048);
    check_made(SIGNATURE_ED25519, 0);
    assert_null(signature_key_make(SIGNATURE_RSA, 512));
    assert_null(signature_key_make(SIGNATURE_RSA, 8192));
}

static void what_is_no_key_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *pem, *error;
    } cases[] = {
        {"",                                                               "no private key in PEM"},
        {"hello\n",                                                        "no private key in PEM"},
        {"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "no private key in PEM"},
        {example_encrypted_pem,                                            "encrypted"            },
        {example_short_pem,                                                "512 bits"             },
        {example_ecdsa_pem,                                                "of this kind"         },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char error[256] = "";
        assert_null(signature_key_read(cases[i].pem, strlen(cases[i].pem), error, sizeof(error)));
        assert_non_null(strstr(error, cases[i].error));
    }
    signature_key_free(NULL);
}

/* --- threads --- */

enum { THREADS = 4, ROUNDS = 50 };

struct racer {
    pthread_t thread;
    const struct signature_key *key;
    bool good;
};

static void *race(void *user)
{
    struct racer *racer = user;
    uint8_t digest[CRYPTO_SHA256_LEN], signature[SIGNATURE_LEN_MAX];
    racer->good = true;
    for (int i = 0; i < ROUNDS; i++) {
        crypto_random(digest, sizeof(digest));
        size_t len = signature_make(racer->key, digest, signature);
        racer->good = racer->good && verifies(racer->key, digest, signature, len);
    }
    return NULL;
}

static void threads_share_a_key(void **state)
{
    (void)state;
    struct racer racers[THREADS];
    struct signature_key *key = must_read(example_rsa_pem);
    for (int i = 0; i < THREADS; i++) {
        racers[i].key = key;
        assert_int_equal(pthread_create(&racers[i].thread, NULL, race, &racers[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(racers[i].thread, NULL);
        assert_true(racers[i].good);
    }
    signature_key_free(key);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_of_rfc_8463_are_read),
        cmocka_unit_test(keys_that_are_made_can_be_read_and_sign),
        cmocka_unit_test(what_is_no_key_is_refused),
        cmocka_unit_test(threads_share_a_key),
    };
    return cmocka_run_group_tests_name("signature", tests, NULL, NULL);
}
