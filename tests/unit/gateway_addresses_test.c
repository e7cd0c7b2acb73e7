/* gateway/gateway_addresses: what an MX record that leads to us is known by. */
#include "gateway/gateway_inside.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/scratch.h"

static uint32_t count_of(const union address_any *all, uint32_t count, const char *text)
{
    union address_any wanted;
    uint32_t found = 0;
    assert_true(listener_parse(text, &wanted));
    for (uint32_t i = 0; i < count; i++)
        found += memcmp(&all[i], &wanted, sizeof(wanted)) == 0;
    return found;
}

static void wildcards_are_all_addresses_of_their_kind(void **state)
{
    (void)state;
    uint32_t count;
    struct config *config = scratch_good(
        "hostname = mx.example.org " SCRATCH_DOMAIN
        "listener \"a\" { address = {\"0.0.0.0:2525\", \"127.0.0.1:25\", \"192.0.2.7:25\"} }\n"
        "listener \"b\" { address = {\"127.0.0.1:2525\", \"[2001:db8::7]:25\"} }");
    union address_any *all = gateway_addresses(config, &count);
    assert_non_null(all);
    assert_int_equal(count_of(all, count, "127.0.0.1:2525"), 1);
    assert_int_equal(count_of(all, count, "127.0.0.1:25"), 1);
    assert_int_equal(count_of(all, count, "192.0.2.7:25"), 1);
    assert_int_equal(count_of(all, count, "[2001:db8::7]:25"), 1);
    assert_int_equal(count_of(all, count, "0.0.0.0:2525"), 1);
    assert_int_equal(count_of(all, count, "[::1]:2525"), 0);
    free(all);
    config_free(config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wildcards_are_all_addresses_of_their_kind),
    };
    return cmocka_run_group_tests_name("gateway_addresses", tests, scratch_begin, scratch_end);
}
