/* The comparisons of bytes.h, at the edges: empty runs, bytes that only look alike, nothing read
 * beyond the end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "parser/bytes.h"
#include "tests/unit/guard.h"

static void lower_maps_only_the_letters(void **state)
{
    (void)state;
    for (unsigned c = 0; c < 256; c++)
        assert_int_equal(byte_lower((uint8_t)c), c >= 'A' && c <= 'Z' ? c + 32 : c);
}

static void equal_compares_length_and_octets(void **state)
{
    (void)state;
    assert_true(bytes_equal(bytes_make(NULL, 0), BYTES("")));
    assert_true(bytes_equal(BYTES("a\0b"), BYTES("a\0b")));
    assert_false(bytes_equal(BYTES("a\0b"), BYTES("a\0c")));
    assert_false(bytes_equal(BYTES("a"), BYTES("ab")));
    assert_false(bytes_equal(BYTES("a"), BYTES("A")));
}

static void equal_without_case_knows_ascii_only(void **state)
{
    (void)state;
    assert_true(bytes_equal_nocase(bytes_make(NULL, 0), BYTES("")));
    assert_true(bytes_equal_nocase(BYTES("MaiL-9"), BYTES("mAIl-9")));
    assert_false(bytes_equal_nocase(BYTES("mail"), BYTES("mai")));
    assert_false(bytes_equal_nocase(BYTES("@"), BYTES("`")));
    assert_false(bytes_equal_nocase(BYTES("["), BYTES("{")));
    assert_false(bytes_equal_nocase(BYTES("\xc9"), BYTES("\xe9")));
}

static void slices_and_skips_stay_inside(void **state)
{
    (void)state;
    struct bytes in = BYTES("abc");
    assert_true(bytes_equal(bytes_slice(in, 1, 3), BYTES("bc")));
    assert_int_equal(bytes_slice(in, 3, 3).len, 0);
    assert_true(bytes_equal(bytes_skip(in, 2), BYTES("c")));
    assert_int_equal(bytes_skip(in, 3).len, 0);
    assert_int_equal(bytes_skip(in, SIZE_MAX).len, 0);
    assert_int_equal(bytes_skip(bytes_make(NULL, 0), 1).len, 0);
    assert_true(bytes_equal(bytes_of_string("abc"), in));
}

static void find_reads_nothing_beyond_the_end(void **state)
{
    (void)state;
    struct guard guard = guard_make(64);
    for (size_t len = 0; len <= 64; len++) {
        uint8_t text[64];
        memset(text, 'a', sizeof(text));
        struct bytes in = guard_at_end(&guard, bytes_make(text, len));
        assert_int_equal(bytes_find(in, 'b'), len);
        for (size_t at = 0; at < len; at++) {
            text[at] = 'b';
            in = guard_at_end(&guard, bytes_make(text, len));
            assert_int_equal(bytes_find(in, 'b'), at);
            text[at] = 'a';
        }
    }
    assert_int_equal(bytes_find(bytes_make(NULL, 0), 'a'), 0);
    guard_free(&guard);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lower_maps_only_the_letters),
        cmocka_unit_test(equal_compares_length_and_octets),
        cmocka_unit_test(equal_without_case_knows_ascii_only),
        cmocka_unit_test(slices_and_skips_stay_inside),
        cmocka_unit_test(find_reads_nothing_beyond_the_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
