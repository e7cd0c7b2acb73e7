/* Quotas: of each user and kind; given back; however the name is written. */
#include "gateway/policy/quotas.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static const uint64_t second = 1000000, hour = 3600 * (uint64_t)1000000;

static uint32_t passed(struct quotas *quotas, enum quota quota, uint32_t per_hour,
                       struct bytes user, uint64_t now, uint32_t count)
{
    uint32_t through = 0;
    for (uint32_t i = 0; i < count; i++)
        through += quotas_take(quotas, quota, per_hour, user, now);
    return through;
}

static void each_has_his_own(void **state)
{
    (void)state;
    struct quotas *quotas = quotas_new(0);
    assert_int_equal(passed(quotas, QUOTA_MESSAGES, 10, BYTES("alice"), hour, 7), 7);
    assert_int_equal(passed(quotas, QUOTA_MESSAGES, 10, BYTES("ALICE"), hour, 7), 3);
    assert_int_equal(passed(quotas, QUOTA_RECIPIENTS, 100, BYTES("alice"), hour, 200), 100);
    assert_int_equal(passed(quotas, QUOTA_MESSAGES, 10, BYTES("alice@example.org"), hour, 99), 10);
    assert_int_equal(passed(quotas, QUOTA_MESSAGES, 10, BYTES("bob"), hour, 99), 10);
    assert_int_equal(passed(quotas, QUOTA_MESSAGES, 0, BYTES("alice"), hour, 9999), 9999);
    uint64_t now = hour;
    for (int i = 0; i < 20; i++) {
        now += 360 * second + 50;
        assert_int_equal(passed(quotas, QUOTA_MESSAGES, 10, BYTES("alice"), now, 9), 1);
    }
    assert_int_equal(passed(quotas, QUOTA_MESSAGES, 10, BYTES("alice"), now + 2 * hour, 99), 10);
    quotas_free(quotas);
    quotas_free(NULL);
}

static void given_back(void **state)
{
    (void)state;
    struct quotas *quotas = quotas_new(0);
    assert_int_equal(passed(quotas, QUOTA_RECIPIENTS, 5, BYTES("alice"), hour, 9), 5);
    quotas_give(quotas, QUOTA_RECIPIENTS, 5, BYTES("Alice"), hour);
    quotas_give(quotas, QUOTA_RECIPIENTS, 5, BYTES("Alice"), hour);
    quotas_give(quotas, QUOTA_RECIPIENTS, 0, BYTES("Alice"), hour);
    assert_int_equal(passed(quotas, QUOTA_RECIPIENTS, 5, BYTES("alice"), hour, 9), 2);
    quotas_give(quotas, QUOTA_MESSAGES, 5, BYTES("alice"), hour);
    assert_int_equal(passed(quotas, QUOTA_MESSAGES, 5, BYTES("alice"), hour, 9), 5);
    quotas_free(quotas);
}

static void names_of_any_length(void **state)
{
    (void)state;
    struct quotas *quotas = quotas_new(0);
    static uint8_t name[4096];
    uint8_t fill = 0;
    for (size_t len = 0; len < sizeof(name); len = len * 2 + 1) {
        memset(name, fill++, sizeof(name));
        assert_int_equal(passed(quotas, QUOTA_MESSAGES, 5, bytes_make(name, len), hour, 9), 5);
    }
    quotas_free(quotas);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_has_his_own),
        cmocka_unit_test(given_back),
        cmocka_unit_test(names_of_any_length),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
