/* gateway/policy/directory with a million aliases: added, looked over and looked up in time. */
#include "gateway/policy/directory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "gateway/base/clock.h"

static void a_million_aliases(void **state)
{
    (void)state;
    enum { COUNT = 1000000, LOOKED_UP = 250000, CIRCLE = 250000, DOMAINS = 1000 };
    char from[64], to[64];
    const char *error;
    struct directory_expansion expansion;
    struct directory *directory = directory_new();
    assert_true(directory_expansion_init(&expansion, 100));
    for (unsigned i = 0; i < DOMAINS; i++) {
        snprintf(from, sizeof(from), "d%u.example", i);
        assert_int_equal(directory_add_domain(directory, bytes_of_string(from)), i);
    }
    uint64_t start_us = clock_monotonic_us();
    for (unsigned i = 0; i < COUNT; i++) {
        snprintf(from, sizeof(from), "user.%u@d%u.example", i, i % DOMAINS);
        snprintf(to, sizeof(to), "user.%u@other%u.example", i, i % 7);
        assert_true(
            directory_add_alias(directory, bytes_of_string(from), bytes_of_string(to), &error));
    }
    uint64_t loaded_us = clock_monotonic_us();
    char text[256];
    assert_false(directory_alias_loop(directory, text, sizeof(text)));
    assert_false(directory_alias_missing(directory, text, sizeof(text)));
    uint64_t checked_us = clock_monotonic_us();
    size_t good = 0;
    size_t refused = 0;
    struct address address;
    for (unsigned i = 0; i < COUNT; i += COUNT / LOOKED_UP) {
        snprintf(from, sizeof(from), "user.%u@d%u.example", i, i % DOMAINS);
        assert_int_equal(address_mailbox(bytes_of_string(from), false, &address), ADDRESS_OK);
        good += directory_expand(directory, &address, 0, &expansion) == DIRECTORY_ACCEPT &&
                expansion.target_count == 1 && expansion.targets[0].forwarded;
        snprintf(from, sizeof(from), "user.%u@d%u.example", i, (i + 1) % DOMAINS);
        assert_int_equal(address_mailbox(bytes_of_string(from), false, &address), ADDRESS_OK);
        refused += directory_expand(directory, &address, 0, &expansion) == DIRECTORY_NO_SUCH_USER;
    }
    uint64_t expanded_us = clock_monotonic_us();
    assert_int_equal(good, LOOKED_UP);
    assert_int_equal(refused, LOOKED_UP);
    for (unsigned i = 0; i < CIRCLE; i++) {
        snprintf(from, sizeof(from), "c.%u@d%u.example", i, i % DOMAINS);
        snprintf(to, sizeof(to), "c.%u@d%u.example", (i + 1) % CIRCLE, (i + 1) % CIRCLE % DOMAINS);
        assert_true(
            directory_add_alias(directory, bytes_of_string(from), bytes_of_string(to), &error));
    }
    uint64_t again_us = clock_monotonic_us();
    assert_true(directory_alias_loop(directory, text, sizeof(text)));
    uint64_t found_us = clock_monotonic_us();
    assert_int_equal(strlen(text), sizeof(text) - 1);
    print_message("1,000,000 aliases: added in %.2f s, checked in %.2f s; looking one up, with "
                  "making and parsing the address, takes %.0f ns; a circle of 250,000 is found "
                  "in %.2f s\n",
                  (double)(loaded_us - start_us) / 1e6, (double)(checked_us - loaded_us) / 1e6,
                  (double)(expanded_us - checked_us) * 1e3 / (2 * LOOKED_UP),
                  (double)(found_us - again_us) / 1e6);
    directory_free(directory);
    directory_expansion_free(&expansion);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_million_aliases),
    };
    return cmocka_run_group_tests_name("directory_million", tests, NULL, NULL);
}
