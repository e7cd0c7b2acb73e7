/* What verdicts say to people. */
#include "gateway/deliver/verdict.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static const char *said(uint16_t code, struct reply_status status, const char *text, size_t size)
{
    static char out[300];
    struct verdict verdict;
    verdict_own(&verdict, VERDICT_DEFERRED, code, status, "%s", text);
    assert_true(size <= sizeof out);
    memset(out, 'x', sizeof out);
    return verdict_say(&verdict, out, size);
}

static void says(void **state)
{
    (void)state;
    assert_string_equal(said(451, (struct reply_status){4, 7, 1}, "come back later", 200),
                        "451 4.7.1 come back later");
    assert_string_equal(said(450, (struct reply_status){4, 0, 0}, "later", 200), "450 later");
    assert_string_equal(said(554, (struct reply_status){5, 999, 999}, "", 200), "554 5.999.999 ");
    assert_string_equal(said(0, (struct reply_status){4, 4, 1}, "connect: Connection refused", 200),
                        "connect: Connection refused");
}

/* The front stays, and no half of a character. */
static void is_cut(void **state)
{
    (void)state;
    char text[VERDICT_TEXT_MAX];
    memset(text, 'y', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    const char *cut = said(451, (struct reply_status){4, 7, 1}, text, 200);
    assert_int_equal(strlen(cut), 199);
    assert_memory_equal(cut, "451 4.7.1 yyy", 13);
    assert_string_equal(said(451, (struct reply_status){4, 7, 1}, "a\xc3\xbc", 13), "451 4.7.1 a");
    assert_string_equal(said(451, (struct reply_status){4, 7, 1}, "a\xc3\xbc", 14),
                        "451 4.7.1 a\xc3\xbc");
    assert_string_equal(said(451, (struct reply_status){4, 7, 1}, "a", 1), "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(says),
        cmocka_unit_test(is_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
