/* Records that only a peer with the keys could make and no correct one does: wrong types, padding,
 * too long, numbers at their end. And the octets of RFC 8448. */
#include "tls/record.h"

#include "tests/support/forge.h"

#include <setjmp.h> /* before cmocka.h, which wants it */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { TEXT_MAX = 16384, RECORD_ROOM = TEXT_MAX + 512 };

/* Runs `test` on both directions of a connection in each cipher; they have the same keys. */
static void each_cipher(void (*test)(struct record *read, struct record *write))
{
    const EVP_AEAD *const algorithms[] = {EVP_aead_aes_128_gcm(), EVP_aead_aes_256_gcm(),
                                          EVP_aead_chacha20_poly1305()};
    static const uint8_t key[RECORD_SECRET_MAX] = "the key of the test, as good as any other";
    struct record read, write;
    for (size_t i = 0; i < 3; i++) {
        const EVP_MD *digest = i == 1 ? EVP_sha384() : EVP_sha256();
        size_t secret_len = EVP_MD_size(digest), iv_len = i == 2 ? 12 : 4;
        assert_true(record_start_modern(&read, algorithms[i], digest, key, secret_len, 0));
        assert_true(record_start_modern(&write, algorithms[i], digest, key, secret_len, 0));
        test(&read, &write);
        record_end(&read);
        record_end(&write);
        assert_true(record_start(&read, algorithms[i], key, key + 32, iv_len, 1));
        assert_true(record_start(&write, algorithms[i], key, key + 32, iv_len, 1));
        test(&read, &write);
        record_end(&read);
        record_end(&write);
    }
}

/* expect forges a record, opens it, and checks what was in it. */
static void expect(struct record *read, uint8_t outer_type, const uint8_t *inner, size_t inner_len,
                   enum record_result want, int want_type, size_t want_len)
{
    static uint8_t record[RECORD_ROOM];
    enum record_type type;
    uint8_t *text;
    size_t text_len;
    size_t len =
        forge_record(read, outer_type, inner, inner_len, UINT64_C(0xfedcba9876543210), record);
    assert_int_equal(record_open(read, record, len, &type, &text, &text_len), want);
    if (want != RECORD_OK)
        return;
    assert_int_equal(type, want_type);
    assert_int_equal(text_len, want_len);
    assert_memory_equal(text, inner, text_len);
}

static void forged_modern(struct record *read)
{
    static uint8_t inner[TEXT_MAX + 2]; /* text, type, padding */
    const uint8_t types[] = {20, 21, 22, 23, 24, 99, 255};
    memset(inner, 0, sizeof(inner));
    memset(inner, 'x', 3);
    for (size_t i = 0; i < sizeof(types); i++) {
        inner[3] = types[i];
        for (size_t padding = 0; padding < 300; padding += 1 + padding / 3)
            expect(read, 23, inner, 4 + padding, RECORD_OK, types[i], 3);
        expect(read, 23, inner, TEXT_MAX + 1, RECORD_OK, types[i], 3);
        expect(read, 23, inner, TEXT_MAX + 2, RECORD_OVERFLOW, 0, 0);
    }
    inner[0] = 23;
    expect(read, 23, inner, 1, RECORD_OK, 23, 0);
    inner[1] = inner[2] = inner[3] = 0;
    expect(read, 23, inner, TEXT_MAX + 1, RECORD_OK, 23, 0);
    inner[0] = 0;
    expect(read, 23, inner, 0, RECORD_UNEXPECTED, 0, 0);
    expect(read, 23, inner, 1, RECORD_UNEXPECTED, 0, 0);
    expect(read, 23, inner, TEXT_MAX + 1, RECORD_UNEXPECTED, 0, 0);
    memset(inner, 'x', sizeof(inner));
    inner[TEXT_MAX] = 23;
    expect(read, 23, inner, TEXT_MAX + 1, RECORD_OK, 23, TEXT_MAX);
    inner[TEXT_MAX + 1] = 23;
    expect(read, 23, inner, TEXT_MAX + 2, RECORD_OVERFLOW, 0, 0);
    for (int outer = 0; outer < 256; outer++) /* the type outside is always application data */
        expect(read, (uint8_t)outer, inner, TEXT_MAX + 1,
               outer == 23 ? RECORD_OK : RECORD_UNEXPECTED, 23, TEXT_MAX);
}

static void forged_old(struct record *read)
{
    static uint8_t text[TEXT_MAX + 200];
    memset(text, 'x', sizeof(text));
    for (int type = 0; type < 256; type++)
        expect(read, (uint8_t)type, text, 2, RECORD_OK, type, 2);
    expect(read, 23, text, 0, RECORD_OK, 23, 0);
    expect(read, 23, text, TEXT_MAX, RECORD_OK, 23, TEXT_MAX);
    expect(read, 23, text, TEXT_MAX + 1, RECORD_OVERFLOW, 0, 0);
    expect(read, 23, text, TEXT_MAX + 200, RECORD_OVERFLOW, 0, 0);
}

static void forged(struct record *read, struct record *write)
{
    (void)write;
    if (read->modern)
        forged_modern(read);
    else
        forged_old(read);
}

static void test_forged(void **state)
{
    (void)state;
    each_cipher(forged);
}

/* --- limits of ours --- */

static void last_numbers(struct record *read, struct record *write)
{
    static uint8_t record[RECORD_ROOM], text[TEXT_MAX + 1];
    const uint64_t end = UINT64_C(1) << 48;
    assert_int_equal(record_seal(write, RECORD_DATA, record, text, TEXT_MAX + 1), 0);
    write->sequence = read->sequence = end - 1;
    assert_int_not_equal(record_seal(write, RECORD_DATA, record, text, 1), 0);
    assert_int_equal(write->sequence, end);
    assert_int_equal(record_seal(write, RECORD_DATA, record, text, 1), 0);
    assert_int_equal(record_seal(write, RECORD_ALERT, record, text, 2), 0);
    const uint8_t inner[] = {'x', 23};
    expect(read, 23, inner, 2, RECORD_OK, 23, read->modern ? 1 : 2);
    assert_int_equal(read->sequence, end);
    expect(read, 23, inner, 2, RECORD_BAD_MAC, 0, 0);
}

static void test_last_numbers(void **state)
{
    (void)state;
    each_cipher(last_numbers);
}

static void test_refused_keys(void **state)
{
    (void)state;
    struct record record;
    const uint8_t octets[64] = {0};
    assert_false(record_start_modern(&record, EVP_aead_aes_128_gcm(), EVP_sha256(), octets, 31, 0));
    record_end(&record);
    assert_false(record_start_modern(&record, EVP_aead_aes_128_gcm(), EVP_sha384(), octets, 32, 0));
    record_end(&record);
    assert_false(record_start_modern(&record, EVP_aead_aes_128_gcm(), EVP_sha512(), octets, 64, 0));
    record_end(&record);
    assert_false(record_start(&record, EVP_aead_aes_128_gcm(), octets, octets, 5, 0));
    record_end(&record);
    memset(&record, 0, sizeof(record));
    record_end(&record);
    record_end(&record);
}

/* --- RFC 8448 3: secrets and records of a connection --- */

static size_t from_hex(const char *hex, uint8_t *out)
{
    size_t len = 0;
    for (; hex[0] != '\0'; hex += hex[2] == ' ' ? 3 : 2) {
        char digits[3] = {hex[0], hex[1], '\0'};
        out[len++] = (uint8_t)strtoul(digits, NULL, 16);
    }
    return len;
}

static void check_example(const char *secret_hex, uint64_t sequence, const char *record_hex,
                          enum record_type want_type, const char *text_hex)
{
    uint8_t secret[48], want[128], want_text[64], made[128];
    size_t secret_len = from_hex(secret_hex, secret);
    size_t want_len = from_hex(record_hex, want);
    size_t want_text_len = from_hex(text_hex, want_text);
    struct record record;
    assert_true(record_start_modern(&record, EVP_aead_aes_128_gcm(), EVP_sha256(), secret,
                                    secret_len, sequence));
    size_t len = record_seal(&record, want_type, made, want_text, want_text_len);
    assert_int_equal(len, want_len);
    assert_memory_equal(made, want, want_len);
    record.sequence = sequence;
    enum record_type type;
    uint8_t *text;
    size_t text_len;
    assert_int_equal(record_open(&record, want, want_len, &type, &text, &text_len), RECORD_OK);
    assert_int_equal(type, want_type);
    assert_int_equal(text_len, want_text_len);
    assert_memory_equal(text, want_text, text_len);
    record_end(&record);
}

static void test_rfc_8448(void **state)
{
    (void)state;
    static const char client[] = "9e40646ce79a7f9dc05af8889bce6552875afa0b06df0087f792ebb7c17504a5";
    static const char server[] = "a11af9f05531f856ad47116b45a950328204b4f44bfb6b3a4b4f1f3fcb631643";
    static const char text[] =
        "00 01 02 03 04 05 06 07 08 09 0a 0b 0c 0d 0e 0f 10 11 12 13 14 15 16 17 18 19 1a 1b 1c 1d "
        "1e 1f 20 21 22 23 24 25 26 27 28 29 2a 2b 2c 2d 2e 2f 30 31";
    check_example(client, 0,
                  "17 03 03 00 43 a2 3f 70 54 b6 2c 94 d0 af fa fe 82 28 ba 55 cb ef ac ea 42 f9 "
                  "14 aa 66 bc ab 3f 2b 98 19 a8 a5 b4 6b 39 5b d5 4a 9a 20 44 1e 2b 62 97 4e 1f "
                  "5a 62 92 a2 97 70 14 bd 1e 3d ea e6 3a ee bb 21 69 49 15 e4",
                  RECORD_DATA, text);
    check_example(server, 1,
                  "17 03 03 00 43 2e 93 7e 11 ef 4a c7 40 e5 38 ad 36 00 5f c4 a4 69 32 fc 32 25 "
                  "d0 5f 82 aa 1b 36 e3 0e fa f9 7d 90 e6 df fc 60 2d cb 50 1a 59 a8 fc c4 9c 4b "
                  "f2 e5 f0 a2 1c 00 47 c2 ab f3 32 54 0d d0 32 e1 67 c2 95 5d",
                  RECORD_DATA, text);
    check_example(client, 1,
                  "17 03 03 00 13 c9 87 27 60 65 56 66 b7 4d 7f f1 15 3e fd 6d b6 d0 b0 "
                  "e3",
                  RECORD_ALERT, "01 00");
    check_example(server, 2,
                  "17 03 03 00 13 b5 8f d6 71 66 eb f5 99 d2 47 20 cf be 7e fa 7a 88 64 "
                  "a9",
                  RECORD_ALERT, "01 00");
}

/* --- */

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forged),
        cmocka_unit_test(test_last_numbers),
        cmocka_unit_test(test_refused_keys),
        cmocka_unit_test(test_rfc_8448),
    };
    return cmocka_run_group_tests_name("record_forged", tests, NULL, NULL);
}
