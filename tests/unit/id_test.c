/* Message ids as text: known values (made with coreutils' base32), there and back, and everything
 * that is not an id. */
#include "gateway/base/id.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void known_values(void **state)
{
    (void)state;
    /* printf '\x01\x23\x45\x67\x89\xab\xcd\xef' | base32, and so on */
    static const struct {
        uint64_t id;
        const char *text;
    } cases[] = {
        {0,                  "aaaaaaaaaaaaa"},
        {1,                  "aaaaaaaaaaaac"},
        {0x0123456789abcdef, "aerukz4jvpg66"},
        {UINT64_MAX,         "7777777777776"},
        {0x68656c6c6f776f72, "nbswy3dpo5xxe"}, /* "hellowor" */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[ID_TEXT_LEN + 1];
        uint64_t back = ~cases[i].id;
        id_format(cases[i].id, text);
        assert_string_equal(text, cases[i].text);
        assert_true(id_parse(text, ID_TEXT_LEN, &back));
        assert_true(back == cases[i].id);
    }
}

static void there_and_back(void **state)
{
    (void)state;
    uint64_t id = 1;
    for (int i = 0; i < 100000; i++) {
        char text[ID_TEXT_LEN + 1];
        uint64_t back = 0;
        id = id * 6364136223846793005u + 1442695040888963407u;
        id_format(id, text);
        assert_int_equal(strlen(text), ID_TEXT_LEN);
        assert_true(id_parse(text, ID_TEXT_LEN, &back));
        assert_true(back == id);
    }
}

static void every_bit_shows(void **state)
{
    (void)state;
    for (unsigned bit = 0; bit < 64; bit++) {
        char text[ID_TEXT_LEN + 1];
        uint64_t back = 0;
        id_format(1ull << bit, text);
        assert_true(id_parse(text, ID_TEXT_LEN, &back));
        assert_true(back == 1ull << bit);
    }
}

static void refuses(void **state)
{
    (void)state;
    uint64_t id = 77;
    assert_false(id_parse("", 0, &id));
    assert_false(id_parse("aaaaaaaaaaaaa", 12, &id));
    assert_false(id_parse("aaaaaaaaaaaaaa", 14, &id));
    assert_false(id_parse("aaaaaaaaaaaab", 13, &id)); /* the 65th bit is set */
    for (int c = 0; c < 256; c++) {
        char text[] = "aaaaaa?aaaaaa";
        text[6] = (char)c;
        bool legal = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '2' && c <= '7');
        assert_int_equal(id_parse(text, 13, &id), legal);
    }
    uint64_t upper = 0;
    assert_true(id_parse("AERUKZ4JVPG66", 13, &upper));
    assert_true(upper == 0x0123456789abcdef);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_values),
        cmocka_unit_test(there_and_back),
        cmocka_unit_test(every_bit_shows),
        cmocka_unit_test(refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
