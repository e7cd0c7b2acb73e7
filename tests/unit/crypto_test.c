/* tls/crypto: SHA-256 against the examples of FIPS 180-4 and of NIST's CAVP, random bytes against
 * the mistakes that could hide in the call (a part not filled, the same bytes twice). */
#include "tls/crypto.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void hash_is(const void *data, size_t len, const char *want)
{
    uint8_t hash[CRYPTO_SHA256_LEN];
    char hex[2 * CRYPTO_SHA256_LEN + 1];

    crypto_sha256(data, len, hash);
    for (size_t i = 0; i < sizeof(hash); i++)
        snprintf(hex + 2 * i, 3, "%02x", hash[i]);
    assert_string_equal(hex, want);
}

static void sha256_knows_the_examples(void **state)
{
    (void)state;
    static const char two_blocks[] = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
    static const uint8_t cavp[] = {0xd3};

    hash_is("abc", 3, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    hash_is("", 0, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    hash_is(two_blocks, sizeof(two_blocks) - 1,
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    hash_is(cavp, sizeof(cavp), "28969cdfa74a12c82f3bad960b0b000aca2ac329deea5c2328ebc6f2ba9802c1");
}

static void sha256_takes_a_million_bytes(void **state)
{
    (void)state;
    size_t len = 1000000;
    char *data = malloc(len);

    assert_non_null(data);
    memset(data, 'a', len);
    hash_is(data, len, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    free(data);
}

static void hmac_is(const void *key, size_t key_len, const void *data, size_t len, const char *want)
{
    uint8_t code[CRYPTO_SHA1_LEN];
    char hex[2 * CRYPTO_SHA1_LEN + 1];

    assert_true(crypto_hmac_sha1(key, key_len, data, len, code));
    for (size_t i = 0; i < sizeof(code); i++)
        snprintf(hex + 2 * i, 3, "%02x", code[i]);
    assert_string_equal(hex, want);
}

/* The test cases of RFC 2202 3: 1, 2, 3, 4 and 7. */
static void hmac_sha1_knows_the_examples(void **state)
{
    (void)state;
    static const char large[] = "Test Using Larger Than Block-Size Key and Larger Than One Block-"
                                "Size Data";
    uint8_t key[80], data[50];

    memset(key, 0x0b, 20);
    hmac_is(key, 20, "Hi There", 8, "b617318655057264e28bc0b6fb378c8ef146be00");
    hmac_is("Jefe", 4, "what do ya want for nothing?", 28,
            "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79");
    memset(key, 0xaa, sizeof(key));
    memset(data, 0xdd, sizeof(data));
    hmac_is(key, 20, data, sizeof(data), "125d7342b9ac11cd91a39af48aa17b4f63f175d3");
    hmac_is(key, 80, large, sizeof(large) - 1, "e8e99d0f45237d786d6bbaa7965c7808bbff1a91");
    for (uint8_t i = 0; i < 25; i++)
        key[i] = (uint8_t)(i + 1);
    memset(data, 0xcd, sizeof(data));
    hmac_is(key, 25, data, sizeof(data), "4c9007f4026250c6bc8414f9bf50c86c2d7235da");
}

/* Every byte must take other values in 64 tries; a byte that never changed would be there by chance
 * once in 2^504. The bytes around the buffer must stay. */
static void random_fills_all_and_only_all(void **state)
{
    (void)state;
    uint8_t first[66], again[66];
    bool changed[66] = {false};

    memset(first, 0xa5, sizeof(first));
    crypto_random(first + 1, 64);
    for (size_t try = 0; try < 64; try++) {
        memset(again, 0xa5, sizeof(again));
        crypto_random(again + 1, 64);
        for (size_t i = 0; i < sizeof(again); i++)
            changed[i] |= again[i] != first[i];
    }
    for (size_t i = 0; i < sizeof(again); i++)
        assert_int_equal(changed[i], i != 0 && i != 65);
}

static void random_takes_no_bytes(void **state)
{
    (void)state;
    uint8_t byte = 7;

    crypto_random(&byte, 0);
    assert_int_equal(byte, 7);
}

static void library_names_its_version(void **state)
{
    (void)state;
    const char *name = crypto_library();

    assert_true(strstr(name, "BoringSSL Debian ") || strstr(name, "BoringSSL upstream "));
    assert_true(strstr(name, ", static") || strstr(name, ", shared, compiled for size"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sha256_knows_the_examples),
        cmocka_unit_test(sha256_takes_a_million_bytes),
        cmocka_unit_test(hmac_sha1_knows_the_examples),
        cmocka_unit_test(random_fills_all_and_only_all),
        cmocka_unit_test(random_takes_no_bytes),
        cmocka_unit_test(library_names_its_version),
    };
    return cmocka_run_group_tests_name("crypto", tests, NULL, NULL);
}
