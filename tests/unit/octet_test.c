/* The table of octet classes against the ranges as the RFCs write them, and the UTF-8 decoder
 * against every code point, encoded here. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "parser/octet.h"
#include "tests/unit/guard.h"

static bool in(unsigned c, unsigned first, unsigned last)
{
    return c >= first && c <= last;
}

static bool one_of(unsigned c, const char *letters)
{
    return c != 0 && c < 128 && strchr(letters, (int)c) != NULL;
}

static void classes_are_those_of_the_rfcs(void **state)
{
    (void)state;
    for (unsigned c = 0; c < 256; c++) {
        uint8_t octet = (uint8_t)c;
        bool let_dig = in(c, 'a', 'z') || in(c, 'A', 'Z') || in(c, '0', '9');
        bool printable = in(c, 33, 126);
        assert_int_equal(octet_is(octet, OCTET_LET_DIG), let_dig);
        assert_int_equal(octet_is(octet, OCTET_LDH), let_dig || c == '-');
        assert_int_equal(octet_is(octet, OCTET_ATEXT), let_dig || one_of(c, "!#$%&'*+-/=?^_`{|}~"));
        assert_int_equal(octet_is(octet, OCTET_QTEXT),
                         in(c, 32, 33) || in(c, 35, 91) || in(c, 93, 126));
        assert_int_equal(octet_is(octet, OCTET_DCONTENT), in(c, 33, 90) || in(c, 94, 126));
        assert_int_equal(octet_is(octet, OCTET_XCHAR), printable && c != '+' && c != '=');
        assert_int_equal(octet_is(octet, OCTET_FTEXT), in(c, 33, 57) || in(c, 59, 126));
        assert_int_equal(octet_is(octet, OCTET_VALUE), in(c, 33, 60) || in(c, 62, 126));
        assert_int_equal(octet_is_digit(octet), in(c, '0', '9'));
        assert_int_equal(octet_is_space(octet), c == ' ' || c == 9);
        const char *digits = "0123456789abcdef";
        const char *at = c == 0 || c > 127 ? NULL : strchr(digits, in(c, 'A', 'F') ? c + 32 : c);
        assert_int_equal(octet_hex_value(octet), at == NULL ? 16 : at - digits);
    }
}

/* Writes `code` in `len` octets, also where that is too many for it. */
static struct bytes encode(uint32_t code, size_t len, uint8_t *out)
{
    static const uint8_t leads[] = {0, 0, 0xc0, 0xe0, 0xf0};
    for (size_t i = len - 1; i > 0; i--, code >>= 6)
        out[i] = (uint8_t)(0x80 | (code & 0x3f));
    out[0] = (uint8_t)(leads[len] | code);
    return bytes_make(out, len);
}

static void utf8_takes_each_code_point_in_its_shortest_form(void **state)
{
    (void)state;
    uint8_t room[4];
    for (uint32_t code = 0x80; code < 0x200000; code++) {
        size_t shortest = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
        bool allowed = code <= 0x10ffff && !in(code, 0xd800, 0xdfff);
        for (size_t len = shortest; len <= 4; len++) {
            size_t wanted = allowed && len == shortest ? len : 0;
            if (octet_utf8_len(encode(code, len, room)) != wanted)
                fail_msg("U+%04X in %zu octets", (unsigned)code, len);
        }
    }
    for (uint32_t code = 0; code < 0x80; code++)
        for (size_t len = 2; len <= 4; len++)
            assert_int_equal(octet_utf8_len(encode(code, len, room)), 0);
}

static void utf8_wants_every_octet(void **state)
{
    (void)state;
    struct guard guard = guard_make(16);
    const uint32_t codes[] = {0xe9, 0x4e2d, 0x1d11e};
    for (size_t i = 0; i < 3; i++) {
        uint8_t room[4];
        struct bytes whole = encode(codes[i], i + 2, room);
        for (size_t len = 0; len < whole.len; len++)
            assert_int_equal(octet_utf8_len(guard_at_end(&guard, bytes_slice(whole, 0, len))), 0);
        assert_int_equal(octet_utf8_len(guard_at_end(&guard, whole)), whole.len);
        for (size_t at = 1; at < whole.len; at++) {
            uint8_t kept = room[at];
            room[at] = 'a';
            assert_int_equal(octet_utf8_len(whole), 0);
            room[at] = 0xc3;
            assert_int_equal(octet_utf8_len(whole), 0);
            room[at] = kept;
        }
    }
    for (unsigned c = 0x80; c < 0x100; c++) {
        uint8_t alone[5] = {(uint8_t)c, 0x80, 0x80, 0x80, 0x80};
        size_t len = octet_utf8_len(bytes_make(alone, sizeof(alone)));
        size_t wanted = in(c, 0xc2, 0xdf) ? 2 : in(c, 0xe1, 0xef) ? 3 : in(c, 0xf1, 0xf4) ? 4 : 0;
        assert_int_equal(len, wanted);
    }
    guard_free(&guard);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(classes_are_those_of_the_rfcs),
        cmocka_unit_test(utf8_takes_each_code_point_in_its_shortest_form),
        cmocka_unit_test(utf8_wants_every_octet),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
