/* Rates: the bucket against a plain model of it, what counts together, who is forgotten when there
 * are more than there is room for, closing, and many threads. */
#include "gateway/policy/rates.h"
#include "tests/support/clients.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const uint64_t second = 1000000, minute = 60 * 1000000;

static struct rate_limits limits_of(uint32_t address, uint32_t network)
{
    struct rate_limits limits = {0};
    limits.per_minute[RATE_CONNECTIONS][RATE_ADDRESS] = address;
    limits.per_minute[RATE_CONNECTIONS][RATE_NETWORK] = network;
    return limits;
}

/* passed returns how many of `count` at one moment are let through. */
static uint32_t passed(struct rates *rates, const struct rate_limits *limits, enum rate_kind kind,
                       const union address_any *peer, uint64_t now_us, uint32_t count)
{
    uint32_t through = 0;
    for (uint32_t i = 0; i < count; i++)
        through += rates_take(rates, limits, kind, peer, now_us) == RATE_OK;
    return through;
}

static void so_many_at_once_and_then_one_by_one(void **state)
{
    (void)state;
    static const uint32_t numbers[] = {1, 2, 7, 10, 60, 100, 6000};
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        struct rates *rates = rates_new(0);
        uint32_t n = numbers[i];
        struct rate_limits limits = limits_of(n, 0);
        union address_any peer = client_v4(0x0a000001);
        uint64_t now = 12345678901, each = minute / n;
        assert_int_equal(passed(rates, &limits, RATE_CONNECTIONS, &peer, now, 2 * n), n);
        for (int round = 0; round < 20; round++) {
            now += each; /* give or take what ticks are rounded by */
            assert_int_equal(passed(rates, &limits, RATE_CONNECTIONS, &peer, now - 20, 3), 0);
            assert_int_equal(passed(rates, &limits, RATE_CONNECTIONS, &peer, now + 20, 3), 1);
        }
        assert_int_equal(passed(rates, &limits, RATE_CONNECTIONS, &peer, now + minute + 20, 2 * n),
                         n);
        /* In half a minute half of it is back. */
        now += minute + minute / 2 + 200;
        assert_in_range(passed(rates, &limits, RATE_CONNECTIONS, &peer, now, 2 * n), n / 2,
                        n / 2 + 1);
        rates_free(rates);
    }
}

/* Random arrivals: never more than N and what has been paid back since, never fewer. */
static void as_the_model_says(void **state)
{
    (void)state;
    struct rates *rates = rates_new(0);
    struct rate_limits limits = limits_of(50, 0);
    union address_any peer = client_v4(0x0a000002);
    uint32_t random = 7;
    uint64_t now = (uint64_t)1 << 50;
    double paid = 0, each = (double)minute / 50;
    for (int i = 0; i < 100000; i++) {
        random = random * 1664525 + 1013904223;
        now += (random >> 8) % (i % 1000 < 500 ? minute / 100 : minute / 20);
        double ahead = paid > (double)now ? paid - (double)now : 0;
        bool sure = ahead + each<(double)minute - 100, never = ahead + each>(double) minute + 100;
        bool through = rates_take(rates, &limits, RATE_CONNECTIONS, &peer, now) == RATE_OK;
        assert_false(sure && !through);
        assert_false(never && through);
        if (through)
            paid = (double)now + ahead + each;
        if (i % 100 == 0) /* or the roundings add up */
            paid = 0, now += 2 * minute;
    }
    rates_free(rates);
}

static void none_is_none(void **state)
{
    (void)state;
    struct rates *rates = rates_new(0);
    struct rate_limits limits = limits_of(0, 0);
    union address_any peer = client_v4(1);
    assert_int_equal(passed(rates, &limits, RATE_CONNECTIONS, &peer, 5, 100000), 100000);
    limits = limits_of(1000000, 0); /* the most that can be said */
    uint32_t through = passed(rates, &limits, RATE_CONNECTIONS, &peer, 5, 1100000);
    assert_in_range(through, 1000000, 1010000);
    rates_free(rates);
    rates_free(NULL);
}

static void kinds_and_addresses_are_apart(void **state)
{
    (void)state;
    struct rates *rates = rates_new(0);
    struct rate_limits limits = limits_of(5, 0);
    limits.per_minute[RATE_MESSAGES][RATE_ADDRESS] = 3;
    union address_any one = client_v4(0x0a000001), other = client_v4(0x0a000002);
    assert_int_equal(passed(rates, &limits, RATE_CONNECTIONS, &one, 9, 10), 5);
    assert_int_equal(passed(rates, &limits, RATE_MESSAGES, &one, 9, 10), 3);
    assert_int_equal(passed(rates, &limits, RATE_CONNECTIONS, &other, 9, 10), 5);
    assert_int_equal(passed(rates, &limits, RATE_MESSAGES, &other, 9, 10), 3);
    one.v4.sin_port++;
    assert_int_equal(passed(rates, &limits, RATE_CONNECTIONS, &one, 9, 10), 0);
    rates_free(rates);
}

static void networks_have_their_own(void **state)
{
    (void)state;
    struct rates *rates = rates_new(0);
    struct rate_limits limits = limits_of(4, 10);
    uint64_t now = 77 * minute;
    union address_any a = client_v4(0x0a000101), b = client_v4(0x0a000102),
                      c = client_v4(0x0a0001ff);
    union address_any stranger = client_v4(0x0a000201);
    assert_int_equal(passed(rates, &limits, RATE_CONNECTIONS, &a, now, 9), 4);
    assert_int_equal(rates_take(rates, &limits, RATE_CONNECTIONS, &a, now), RATE_ADDRESS_OVER);
    assert_int_equal(passed(rates, &limits, RATE_CONNECTIONS, &b, now, 9), 4);
    assert_int_equal(passed(rates, &limits, RATE_CONNECTIONS, &c, now, 9), 2);
    assert_int_equal(rates_take(rates, &limits, RATE_CONNECTIONS, &c, now), RATE_NETWORK_OVER);
    assert_int_equal(passed(rates, &limits, RATE_CONNECTIONS, &stranger, now, 9), 4);
    /* What the network refused is not counted for the address: with the network's limit away it has
     * two left. */
    limits.per_minute[RATE_CONNECTIONS][RATE_NETWORK] = 0;
    assert_int_equal(passed(rates, &limits, RATE_CONNECTIONS, &c, now, 9), 2);
    rates_free(rates);
}

static void ipv6_counts_by_its_64_and_48(void **state)
{
    (void)state;
    struct rates *rates = rates_new(0);
    struct rate_limits limits = limits_of(2, 3);
    union address_any one = client_at("[2001:db8:1:2::1]:1");
    union address_any neighbour = client_at("[2001:db8:1:2:ffff:eeee:dddd:cccc]:1");
    union address_any other = client_at("[2001:db8:1:3::1]:1");
    union address_any stranger = client_at("[2001:db8:2:3::1]:1");
    union address_any mapped = client_at("[::ffff:192.0.2.1]:1"), plain = client_v4(0xc0000201);
    assert_int_equal(rates_take(rates, &limits, RATE_CONNECTIONS, &one, 1), RATE_OK);
    assert_int_equal(rates_take(rates, &limits, RATE_CONNECTIONS, &neighbour, 1), RATE_OK);
    assert_int_equal(rates_take(rates, &limits, RATE_CONNECTIONS, &one, 1), RATE_ADDRESS_OVER);
    assert_int_equal(rates_take(rates, &limits, RATE_CONNECTIONS, &other, 1), RATE_OK);
    assert_int_equal(rates_take(rates, &limits, RATE_CONNECTIONS, &other, 1), RATE_NETWORK_OVER);
    assert_int_equal(rates_take(rates, &limits, RATE_CONNECTIONS, &stranger, 1), RATE_OK);
    assert_int_equal(passed(rates, &limits, RATE_CONNECTIONS, &mapped, 1, 9), 2);
    assert_int_equal(passed(rates, &limits, RATE_CONNECTIONS, &plain, 1, 9), 0);
    rates_free(rates);
}

static void closed_until_it_is_over(void **state)
{
    (void)state;
    struct rates *rates = rates_new(0);
    struct rate_limits limits = limits_of(6, 0);
    uint64_t now = 1000 * second;
    union address_any peer = client_v4(0xc0000201), neighbour = client_v4(0xc0000202);
    assert_int_equal(passed(rates, &limits, RATE_CONNECTIONS, &peer, now, 1), 1);
    rates_close(rates, RATE_CONNECTIONS, RATE_ADDRESS, &peer, now, now + 40 * second);
    rates_close(rates, RATE_CONNECTIONS, RATE_ADDRESS, &peer, now, now + 20 * second);
    rates_close(rates, RATE_CONNECTIONS, RATE_ADDRESS, &peer, now, now - 20 * second);
    for (uint64_t s = 0; s < 49; s++)
        assert_int_equal(passed(rates, &limits, RATE_CONNECTIONS, &peer, now + s * second, 5), 0);
    assert_int_equal(passed(rates, &limits, RATE_CONNECTIONS, &peer, now + 51 * second, 5), 1);
    assert_int_equal(passed(rates, &limits, RATE_CONNECTIONS, &neighbour, now, 9), 6);
    /* A network; for longer than it can be: it ends all the same. */
    now += 1000 * second;
    limits = limits_of(0, 6);
    rates_close(rates, RATE_CONNECTIONS, RATE_NETWORK, &peer, now, now + 10000 * second);
    assert_int_equal(passed(rates, &limits, RATE_CONNECTIONS, &neighbour, now + second, 9), 0);
    assert_int_equal(passed(rates, &limits, RATE_CONNECTIONS, &neighbour, now + 11 * minute, 9), 6);
    rates_free(rates);
}

/* Cells mean what they mean at any time, also when ticks wrap around, and nothing when they are
 * old. */
static void time_goes_on(void **state)
{
    (void)state;
    struct rates *rates = rates_new(0);
    struct rate_limits limits = limits_of(5, 0);
    union address_any peer = client_v4(0x0a000001);
    const uint64_t round = (uint64_t)4 << 38;
    static const uint64_t days[] = {1, 6, 7, 12, 13, 100, 1000};
    uint64_t now = 0;
    assert_int_equal(passed(rates, &limits, RATE_CONNECTIONS, &peer, now, 9), 5);
    for (size_t i = 0; i < sizeof(days) / sizeof(days[0]); i++) {
        now += days[i] * 86400 * second;
        assert_int_equal(passed(rates, &limits, RATE_CONNECTIONS, &peer, now, 9), 5);
    }
    now = 40 * round - 20 * second; /* over the edge */
    assert_int_equal(passed(rates, &limits, RATE_CONNECTIONS, &peer, now, 9), 5);
    assert_int_equal(passed(rates, &limits, RATE_CONNECTIONS, &peer, now + 11 * second, 9), 0);
    assert_int_equal(passed(rates, &limits, RATE_CONNECTIONS, &peer, now + 25 * second, 9), 2);
    rates_free(rates);
}

/* Ticks have gone round since somebody was here, at his limit: he is a stranger. Whether others
 * came all the while, or nobody. */
static void time_goes_round(void **state)
{
    (void)state;
    struct rates *rates = rates_new(0);
    struct rate_limits limits = limits_of(5, 0);
    const uint64_t round = (uint64_t)4 << 38, hour = 60 * minute;
    uint64_t begin = 3 * hour;
    for (uint64_t pause = hour; pause <= 2 * round; pause *= 2) {
        union address_any peer = client_v4(0x0a000001 + (uint32_t)(pause / hour) * 256);
        assert_int_equal(passed(rates, &limits, RATE_CONNECTIONS, &peer, begin, 9), 5);
        for (uint64_t now = begin + pause; now < begin + round; now += pause) {
            union address_any other = client_v4(0x0b000000 + (uint32_t)(now / minute));
            assert_int_equal(passed(rates, &limits, RATE_CONNECTIONS, &other, now, 1), 1);
        }
        assert_int_equal(passed(rates, &limits, RATE_CONNECTIONS, &peer, begin + round, 9), 5);
        begin += 2 * round;
    }
    rates_free(rates);
}

/* More addresses than cells: nobody is refused because of others, and who is at his limit is
 * remembered as long as possible. */
static void too_many_addresses(void **state)
{
    (void)state;
    enum { CELLS = 1024, OFTEN = 50, ONCE = 20000 };
    struct rates *rates = rates_new(CELLS);
    struct rate_limits limits = limits_of(10, 0);
    uint64_t now = minute;
    for (uint32_t i = 0; i < OFTEN; i++) {
        union address_any peer = client_v4(0xc6330000 + i * 256);
        assert_int_equal(passed(rates, &limits, RATE_CONNECTIONS, &peer, now, 20), 10);
    }
    for (uint32_t i = 0; i < ONCE; i++) {
        union address_any peer = client_v4(0x0a000000 + i * 17);
        assert_int_equal(rates_take(rates, &limits, RATE_CONNECTIONS, &peer, now), RATE_OK);
    }
    uint32_t remembered = 0;
    for (uint32_t i = 0; i < OFTEN; i++) {
        union address_any peer = client_v4(0xc6330000 + i * 256);
        remembered += passed(rates, &limits, RATE_CONNECTIONS, &peer, now, 1) == 0;
    }
    assert_in_range(remembered, OFTEN * 8 / 10, OFTEN);
    rates_free(rates);
}

static void texts(void **state)
{
    (void)state;
    static const struct {
        const char *peer;
        enum rate_scope scope;
        const char *text;
    } cases[] = {
        {"192.0.2.9:25",                RATE_ADDRESS, "192.0.2.9"               },
        {"192.0.2.9:25",                RATE_NETWORK, "192.0.2.0/24"            },
        {"[2001:db8:1:2:3:4:5:6]:25",   RATE_ADDRESS, "2001:db8:1:2::/64"       },
        {"[2001:db8:1:2:3:4:5:6]:25",   RATE_NETWORK, "2001:db8:1::/48"         },
        {"[::ffff:192.0.2.9]:25",       RATE_NETWORK, "192.0.2.0/24"            },
        {"[fdff:ffff:ffff:ffff::1]:25", RATE_ADDRESS, "fdff:ffff:ffff:ffff::/64"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        union address_any peer;
        char out[RATES_TEXT];
        assert_true(listener_parse(cases[i].peer, &peer));
        size_t len = rates_network(&peer, cases[i].scope, out);
        assert_string_equal(out, cases[i].text);
        assert_int_equal(len, strlen(cases[i].text));
    }
}

/* --- many threads --- */

enum { THREADS = 4, ADDRESSES = 8, LIMIT = 500 };

static struct rates *common;
static _Atomic uint32_t through[ADDRESSES];

static void *come(void *argument)
{
    struct rate_limits limits = limits_of(LIMIT, 0);
    uint32_t random = (uint32_t)(uintptr_t)argument;
    for (uint32_t i = 0; i < ADDRESSES * LIMIT; i++) {
        random = random * 1664525 + 1013904223;
        uint32_t at = (random >> 16) % ADDRESSES;
        union address_any peer = client_v4(at * 256);
        if (rates_take(common, &limits, RATE_CONNECTIONS, &peer, minute) == RATE_OK)
            atomic_fetch_add(&through[at], 1);
        if (i % 100 == 0) { /* others that come and are forgotten in between */
            union address_any other = client_v4(random | 1);
            (void)!rates_take(common, &limits, RATE_MESSAGES, &other, minute);
            rates_close(common, RATE_MESSAGES, RATE_NETWORK, &other, minute, minute + second);
        }
    }
    return NULL;
}

static void many_threads(void **state)
{
    (void)state;
    pthread_t threads[THREADS];
    common = rates_new(0);
    for (uintptr_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, come, (void *)(i + 1)), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < ADDRESSES; i++) /* the first one of an address may find two cells */
        assert_in_range(atomic_load(&through[i]), LIMIT, LIMIT + LIMIT / 100);
    rates_free(common);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(so_many_at_once_and_then_one_by_one),
        cmocka_unit_test(as_the_model_says),
        cmocka_unit_test(none_is_none),
        cmocka_unit_test(kinds_and_addresses_are_apart),
        cmocka_unit_test(networks_have_their_own),
        cmocka_unit_test(ipv6_counts_by_its_64_and_48),
        cmocka_unit_test(closed_until_it_is_over),
        cmocka_unit_test(time_goes_on),
        cmocka_unit_test(time_goes_round),
        cmocka_unit_test(too_many_addresses),
        cmocka_unit_test(texts),
        cmocka_unit_test(many_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
