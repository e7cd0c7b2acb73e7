/* Passwords that were right: what is found, until when, and for whom alone. */
#include "gateway/policy/login_cache.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static uint64_t key(const struct login_cache *cache, const char *user, const char *password,
                    const char *proof)
{
    return login_cache_key(cache, bytes_of_string(user), bytes_of_string(password),
                           bytes_of_string(proof));
}

static void test_keys(void **state)
{
    (void)state;
    struct login_cache *cache = login_cache_new(100), *other = login_cache_new(100);
    assert_non_null(cache);
    assert_non_null(other);
    uint64_t one = key(cache, "alice", "secret", "hash");
    assert_true(one == key(cache, "alice", "secret", "hash"));
    assert_true(one != key(cache, "alice", "secreT", "hash"));
    assert_true(one != key(cache, "alicf", "secret", "hash"));
    assert_true(one != key(cache, "alice", "secret", "hasi"));
    assert_true(one != key(cache, "alic", "esecret", "hash")); /* no part lends to the next */
    assert_true(one != key(cache, "alice", "secreth", "ash"));
    assert_true(one != key(other, "alice", "secret", "hash")); /* another process */
    login_cache_free(cache);
    login_cache_free(other);
    login_cache_free(NULL);
}

static void test_time(void **state)
{
    (void)state;
    struct login_cache *cache = login_cache_new(100);
    assert_false(login_cache_has(cache, 5, 0));
    login_cache_put(cache, 5, 100);
    assert_true(login_cache_has(cache, 5, 99));
    assert_false(login_cache_has(cache, 5, 100));
    assert_false(login_cache_has(cache, 6, 99));
    login_cache_put(cache, 5, 200);
    assert_true(login_cache_has(cache, 5, 199));
    login_cache_free(cache);
}

/* In a full line the one that ends first gives way. */
static void test_full(void **state)
{
    (void)state;
    struct login_cache *cache = login_cache_new(64); /* 16 lines of four */
    for (uint64_t i = 0; i < 4; i++)
        login_cache_put(cache, 1 + i * 16, 100 + i);
    for (uint64_t i = 0; i < 4; i++)
        assert_true(login_cache_has(cache, 1 + i * 16, 50));
    login_cache_put(cache, 1 + 4 * 16, 150);
    assert_false(login_cache_has(cache, 1, 50));
    for (uint64_t i = 1; i < 5; i++)
        assert_true(login_cache_has(cache, 1 + i * 16, 50));
    assert_in_range(login_cache_octets(64), 64 * 16, 64 * 16 + 64);
    login_cache_free(cache);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keys),
        cmocka_unit_test(test_time),
        cmocka_unit_test(test_full),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
