/* Base64: the examples of RFC 4648 10, every length and octet there and back, and each way in which
 * a text can be none. */
#include "parser/base64.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static void encodes(const char *text, const char *want)
{
    char out[64];
    uint8_t back[64];
    size_t len = base64_encode(bytes_of_string(text), out);
    assert_int_equal(len, base64_encoded_len(strlen(text)));
    assert_true(bytes_equal(bytes_make(out, len), bytes_of_string(want)));
    assert_true(base64_decode(bytes_of_string(want), back, &len));
    assert_true(bytes_equal(bytes_make(back, len), bytes_of_string(text)));
}

static void test_rfc_4648(void **state)
{
    (void)state;
    encodes("", "");
    encodes("f", "Zg==");
    encodes("fo", "Zm8=");
    encodes("foo", "Zm9v");
    encodes("foob", "Zm9vYg==");
    encodes("fooba", "Zm9vYmE=");
    encodes("foobar", "Zm9vYmFy");
}

static void test_all_octets(void **state)
{
    (void)state;
    uint8_t data[259], back[262];
    char text[352];
    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (uint8_t)(i * 7 + i / 256);
    for (size_t len = 0; len <= sizeof(data); len++) {
        size_t written = base64_encode(bytes_make(data, len), text), got;
        assert_int_equal(written, base64_encoded_len(len));
        assert_true(base64_decode(bytes_make(text, written), back, &got));
        assert_int_equal(got, len);
        assert_memory_equal(back, data, len);
        /* in place */
        assert_true(base64_decode(bytes_make(text, written), (uint8_t *)text, &got));
        assert_int_equal(got, len);
        assert_memory_equal(text, data, len);
    }
}

/* Exactly 64 octets are characters, and they are those of the table. */
static void test_alphabet(void **state)
{
    (void)state;
    static const char table[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (unsigned c = 0; c < 256; c++) {
        uint8_t text[4] = {'A', 'A', 'A', (uint8_t)c}, out[3];
        size_t len;
        const char *at = c == 0 ? NULL : strchr(table, (int)c);
        bool padding = c == '='; /* AAA= is "\0\0" */
        assert_int_equal(base64_decode(bytes_make(text, 4), out, &len), at != NULL || padding);
        if (at != NULL)
            assert_int_equal(out[2], at - table);
    }
}

static void test_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "Z",    "Zg",       "Zg=",      "=",    "==",   "===",      "====",
        "Z===", "Zg==Zg==", "Zm8=Zm8=", "Zh==", "Zm9=", "Zm9v\n",   "Zm 9v===",
        "Zg=a", "Z=g=",     "=Zg=",     "Zm-v", "Zm_v", "Zm9v====", "Zg==\r\n",
    };
    uint8_t out[32];
    size_t len;
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
        if (base64_decode(bytes_of_string(bad[i]), out, &len))
            fail_msg("%s was taken", bad[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rfc_4648),
        cmocka_unit_test(test_all_octets),
        cmocka_unit_test(test_alphabet),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
