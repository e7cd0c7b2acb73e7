/* The greylist: who is let pass when, in which memory, and that threads do not disturb each other.
 */
#include "gateway/policy/greylist.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static const struct greylist_rules rules = {.delay_s = 300, .window_s = 7200, .keep_s = 86400};

enum { NOW = 1700000000 };

static union address_any address(const char *text)
{
    union address_any out;
    char with_port[80];
    snprintf(with_port, sizeof(with_port), strchr(text, ':') == NULL ? "%s:25" : "[%s]:25", text);
    assert_true(listener_parse(with_port, &out));
    return out;
}

static uint64_t key(const char *peer, const char *from, const char *to)
{
    union address_any from_address = address(peer);
    return greylist_key(7, &from_address, bytes_of_string(from), bytes_of_string(to));
}

static uint64_t network(const char *peer)
{
    union address_any from_address = address(peer);
    return greylist_network_key(7, &from_address);
}

static void test_keys(void **state)
{
    (void)state;
    uint64_t one = key("192.0.2.1", "a@b.example", "c@d.example");
    assert_int_equal(one, key("192.0.2.254", "A@b.Example", "c@D.example"));
    assert_int_equal(one, key("::ffff:192.0.2.9", "a@b.example", "c@d.example"));
    assert_int_not_equal(one, key("192.0.3.1", "a@b.example", "c@d.example"));
    assert_int_not_equal(one, key("192.0.2.1", "a@b.examplec", "@d.example"));
    assert_int_not_equal(one, key("192.0.2.1", "c@d.example", "a@b.example"));
    assert_int_equal(key("2001:db8:1:2::1", "a@b", "c@d"),
                     key("2001:db8:1:2:3:4:5:6", "a@b", "c@d"));
    assert_int_not_equal(key("2001:db8:1:2::1", "a@b", "c@d"),
                         key("2001:db8:1:3::1", "a@b", "c@d"));
    assert_int_equal(network("192.0.2.1"), network("192.0.2.77"));
    assert_int_not_equal(network("192.0.2.1"), network("192.0.3.1"));
    assert_int_not_equal(network("192.0.2.1"), key("192.0.2.1", "", ""));
    union address_any peer = address("192.0.2.1");
    assert_int_not_equal(greylist_network_key(7, &peer), greylist_network_key(8, &peer));
    /* It must stay so: gateways of several versions share them. */
    assert_int_equal(greylist_key(0, &peer, BYTES("a@b.example"), BYTES("c@d.example")),
                     0x3dbaa382c23a2e5f);
}

static void test_times(void **state)
{
    (void)state;
    struct greylist *greylist = greylist_new(64);
    uint64_t triplet = key("192.0.2.1", "a@b", "c@d"), net = network("192.0.2.1");
    uint64_t other = key("192.0.2.1", "a@b", "e@d");
    assert_int_equal(greylist_knows(greylist, &rules, net, NOW), GREYLIST_FIRST);
    assert_int_equal(greylist_ask(greylist, &rules, triplet, net, NOW), GREYLIST_FIRST);
    assert_int_equal(greylist_ask(greylist, &rules, triplet, net, NOW), GREYLIST_EARLY);
    assert_int_equal(greylist_ask(greylist, &rules, triplet, net, NOW + 299), GREYLIST_EARLY);
    assert_int_equal(greylist_ask(greylist, &rules, other, net, NOW + 299), GREYLIST_FIRST);
    assert_int_equal(greylist_ask(greylist, &rules, triplet, net, NOW + 300), GREYLIST_PASSED);
    /* From now on the network is known, whoever writes to whom. */
    assert_int_equal(greylist_ask(greylist, &rules, other, net, NOW + 301), GREYLIST_KNOWN);
    assert_int_equal(greylist_knows(greylist, &rules, net, NOW + 302), GREYLIST_KNOWN);
    /* Others hear of it again after a while, and `keep` begins anew. */
    assert_int_equal(greylist_knows(greylist, &rules, net, NOW + 300 + 3600), GREYLIST_PASSED);
    assert_int_equal(greylist_knows(greylist, &rules, net, NOW + 300 + 3601), GREYLIST_KNOWN);
    assert_int_equal(greylist_knows(greylist, &rules, net, NOW + 300 + 3600 + 86400),
                     GREYLIST_PASSED);
    assert_int_equal(greylist_knows(greylist, &rules, net, NOW + 300 + 3600 + 86400 * 2 + 1),
                     GREYLIST_FIRST);
    uint64_t late = NOW + 1000000;
    assert_int_equal(greylist_ask(greylist, &rules, triplet, net, late), GREYLIST_FIRST);
    /* After the window it is the first time again. */
    assert_int_equal(greylist_ask(greylist, &rules, triplet, net, late + 7201), GREYLIST_FIRST);
    assert_int_equal(greylist_ask(greylist, &rules, triplet, net, late + 7202), GREYLIST_EARLY);
    assert_int_equal(greylist_ask(greylist, &rules, triplet, net, late + 7201 + 7200),
                     GREYLIST_PASSED);
    greylist_free(greylist);
}

/* A clock that is set back by a day must not lock anybody out for a day. */
static void test_clock_set_back(void **state)
{
    (void)state;
    struct greylist *greylist = greylist_new(64);
    uint64_t triplet = key("192.0.2.1", "a@b", "c@d"), net = network("192.0.2.1");
    assert_int_equal(greylist_ask(greylist, &rules, triplet, net, NOW), GREYLIST_FIRST);
    assert_int_equal(greylist_ask(greylist, &rules, triplet, net, NOW - 86400), GREYLIST_FIRST);
    assert_int_equal(greylist_ask(greylist, &rules, triplet, net, NOW - 86400 + 300),
                     GREYLIST_PASSED);
    assert_int_equal(greylist_knows(greylist, &rules, net, NOW - 2 * 86400), GREYLIST_KNOWN);
    greylist_free(greylist);
}

static void test_learn(void **state)
{
    (void)state;
    struct greylist *greylist = greylist_new(64);
    uint64_t triplet = key("192.0.2.1", "a@b", "c@d"), net = network("192.0.2.1");
    assert_int_equal(greylist_ask(greylist, &rules, triplet, net, NOW), GREYLIST_FIRST);
    /* Times that can't be teach nothing. */
    assert_int_equal(greylist_learn(greylist, &rules, triplet, net, NOW + 10, NOW), GREYLIST_EARLY);
    assert_int_equal(greylist_learn(greylist, &rules, triplet, net, 1, NOW), GREYLIST_EARLY);
    assert_int_equal(greylist_ask(greylist, &rules, triplet, net, NOW + 299), GREYLIST_EARLY);
    /* Somebody else has seen it 100 seconds before. */
    assert_int_equal(greylist_learn(greylist, &rules, triplet, net, NOW - 100, NOW),
                     GREYLIST_EARLY);
    assert_int_equal(greylist_ask(greylist, &rules, triplet, net, NOW + 199), GREYLIST_EARLY);
    assert_int_equal(greylist_ask(greylist, &rules, triplet, net, NOW + 200), GREYLIST_PASSED);
    net = network("198.51.100.1");
    assert_int_equal(greylist_learn(greylist, &rules, 5, net, NOW - 300, NOW), GREYLIST_PASSED);
    assert_int_equal(greylist_knows(greylist, &rules, net, NOW), GREYLIST_KNOWN);
    net = network("203.0.113.1");
    assert_int_equal(greylist_learn(greylist, &rules, 5, net, 0, NOW), GREYLIST_KNOWN);
    assert_int_equal(greylist_knows(greylist, &rules, net, NOW), GREYLIST_KNOWN);
    greylist_free(greylist);
}

/* A client with ever new triplets forgets its own, not those of others; and a full table forgets
 * the oldest. */
static void test_bounded(void **state)
{
    (void)state;
    enum { CELLS = 1 << 16, HONEST = 1000, FLOOD = 100000 };
    struct greylist *greylist = greylist_new(CELLS);
    for (uint64_t i = 0; i < HONEST; i++)
        assert_int_equal(greylist_ask(greylist, &rules, i + 1, i * 1000 + 1, NOW), GREYLIST_FIRST);
    for (uint64_t i = 0; i < FLOOD; i++)
        (void)greylist_ask(greylist, &rules, i << 20, 3, NOW + 1);
    uint32_t kept = 0;
    for (uint64_t i = 0; i < HONEST; i++)
        kept += greylist_ask(greylist, &rules, i + 1, i * 1000 + 1, NOW + 300) == GREYLIST_PASSED;
    assert_in_range(kept, HONEST * 85 / 100, HONEST); /* 4096 of 65536 cells are the flood's */
    for (uint64_t i = 0; i < CELLS * 4; i++)
        (void)greylist_ask(greylist, &rules, i << 20 | 5, i << 20 | 9, NOW + 400 + i / 1000);
    uint32_t newest = 0;
    for (uint64_t i = CELLS * 4 - 1000; i < CELLS * 4; i++)
        newest += greylist_ask(greylist, &rules, i << 20 | 5, i << 20 | 9, NOW + 400 + i / 1000) ==
                  GREYLIST_EARLY;
    assert_in_range(newest, 990, 1000);
    greylist_free(greylist);
}

/* --- threads --- */

enum { THREADS = 4, ROUNDS = 20000, TRIPLETS = 97 };

static struct greylist *common;
static _Atomic uint32_t passed, wrong;

static void *race(void *unused)
{
    (void)unused;
    for (uint32_t i = 0; i < ROUNDS; i++) {
        uint64_t triplet = i % TRIPLETS + 1, net = triplet * 31;
        uint64_t now_s = NOW + i / TRIPLETS * 10;
        enum greylist_verdict verdict = greylist_ask(common, &rules, triplet, net, now_s);
        if (verdict == GREYLIST_PASSED)
            atomic_fetch_add(&passed, 1);
        if (verdict == GREYLIST_FIRST && i > ROUNDS / 2)
            atomic_fetch_add(&wrong, 1);
        if (i % 50 == 0)
            (void)greylist_learn(common, &rules, i, i + 1, now_s - 100, now_s);
    }
    return NULL;
}

static void test_threads(void **state)
{
    (void)state;
    pthread_t threads[THREADS];
    common = greylist_new(1 << 14);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, race, NULL), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_true(atomic_load(&passed) >= TRIPLETS);
    assert_int_equal(atomic_load(&wrong), 0); /* who has passed stays known */
    greylist_free(common);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keys),           cmocka_unit_test(test_times),
        cmocka_unit_test(test_clock_set_back), cmocka_unit_test(test_learn),
        cmocka_unit_test(test_bounded),        cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
