/* The hosts of a destination: the choice among them by preference, weight and health, and how they
 * change in the course of time. */
#include "gateway/deliver/exchange.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/finder.h"

enum { S = 1000000 };

static const char *const zone[] = {"sorted.test 300 MX 30 c.test",
                                   "sorted.test 300 MX 10 a.test",
                                   "sorted.test 300 MX 20 b.test",
                                   "a.test 300 A 127.0.0.1",
                                   "b.test 300 A 127.0.0.2",
                                   "c.test 300 A 127.0.0.3",
                                   "both.test 300 A 127.0.0.5",
                                   "both.test 300 AAAA 2001:db8::5",
                                   "both.test 300 A 127.0.0.6",
                                   "both.test 300 AAAA 2001:db8::6",
                                   NULL};

/* --- choosing --- */

static void by_weight(void **state)
{
    (void)state;
    finder_begin(zone);
    static const struct route_host hosts[] = {
        {"both.test", 25, 3},
        {"b.test",    25, 1}
    };
    const struct route route = {.kind = ROUTE_SMTP, .hosts = hosts, .host_count = 2};
    struct exchange *made = finder_make(&route, "a.test");
    find(made);
    uint32_t by_name[2] = {0}, by_index[5] = {0}, index;
    for (int i = 0; i < 400; i++) {
        const struct exchange_host *host = exchange_pick(made, finder_now(), 0, &index);
        by_name[strcmp(host->peer.name, "b.test") == 0]++;
        by_index[index]++;
        assert_ptr_equal(host, exchange_at(made, index));
    }
    assert_in_range(by_name[0], 297, 303); /* however many addresses it has */
    for (int i = 0; i < 4; i++)
        assert_in_range(by_index[i], 74, 76);
    /* One is tried after the other, each once. */
    uint32_t tried = 0;
    for (int i = 0; i < 5; i++) {
        assert_non_null(exchange_pick(made, finder_now(), tried, &index));
        assert_int_equal(tried & 1u << index, 0);
        tried |= 1u << index;
    }
    assert_null(exchange_pick(made, finder_now(), tried, &index));
    exchange_free(made);
    asker_end();
}

static void the_dead(void **state)
{
    (void)state;
    finder_begin(zone);
    struct exchange *made = find_mx("sorted.test");
    uint64_t start = finder_now();
    uint32_t index;
    for (int i = 0; i < 10; i++) { /* the others are for when it fails */
        assert_non_null(exchange_pick(made, start, 0, &index));
        assert_int_equal(index, 0);
    }
    uint64_t out_s[] = {30, 60, 120, 240, 480, 900, 900};
    uint64_t at = start;
    for (size_t i = 0; i < sizeof(out_s) / sizeof(out_s[0]); i++) {
        exchange_failed(made, 0, at);
        assert_non_null(exchange_pick(made, at + out_s[i] * S - 1, 0, &index));
        assert_int_equal(index, 1);
        at += out_s[i] * S;
        assert_non_null(exchange_pick(made, at, 0, &index));
        assert_int_equal(index, 0); /* one connection tries */
        assert_non_null(exchange_pick(made, at + 1, 0, &index));
        assert_int_equal(index, 1); /* and only one */
    }
    exchange_worked(made, 0);
    assert_non_null(exchange_pick(made, at + 2, 0, &index));
    assert_int_equal(index, 0);
    for (uint32_t i = 0; i < 3; i++)
        exchange_failed(made, i, at);
    assert_null(exchange_pick(made, at, 0, &index));
    assert_non_null(exchange_pick(made, UINT64_MAX, 0, &index)); /* all the same */
    exchange_failed(made, 3, at);                                /* out of date: nobody's */
    exchange_worked(made, 3);
    exchange_free(made);
    asker_end();
}

/* One that comes back need not make up for what it has missed. */
static void risen(void **state)
{
    (void)state;
    finder_begin(zone);
    static const struct route_host hosts[] = {
        {"a.test", 25, 1},
        {"b.test", 25, 1}
    };
    const struct route route = {.kind = ROUTE_SMTP, .hosts = hosts, .host_count = 2};
    struct exchange *made = finder_make(&route, "a.test");
    find(made);
    uint32_t counts[2] = {0}, index;
    exchange_failed(made, 0, finder_now());
    for (int i = 0; i < 100; i++) {
        assert_non_null(exchange_pick(made, finder_now(), 0, &index));
        assert_int_equal(index, 1);
        exchange_at(made, index)->served++;
    }
    exchange_worked(made, 0);
    for (int i = 0; i < 100; i++) {
        assert_non_null(exchange_pick(made, finder_now(), 0, &index));
        counts[index]++;
    }
    assert_int_equal(counts[0], 50);
    exchange_free(made);
    asker_end();
}

/* --- in the course of time --- */

static void known_and_fresh(void **state)
{
    (void)state;
    static const char *const lines[] = {"a.test 1 MX 10 b.test",  "a.test 1 MX 20 c.test",
                                        "b.test 300 A 127.0.0.1", "c.test 300 A 127.0.0.2",
                                        "b.test 300 A 127.0.0.3", NULL};
    finder_begin(lines);
    struct exchange *made = find_mx("a.test");
    uint32_t asked = asker_heard();
    finder_tale = (struct finder_tale){0};
    exchange_ask(made, finder_now(), finder_told, &finder_tale);
    assert_int_equal(finder_tale.found, 1); /* at once */
    exchange_failed(made, 1, finder_now());
    exchange_failed(made, 2, finder_now());
    char before[400], after[400];
    host_text(exchange_at(made, 1), before, sizeof(before));
    wait_ms(1100);
    find(made);
    assert_int_equal(asker_heard(), asked + 1); /* the MX alone */
    /* The same hosts stay where they are, and the dead stay dead. */
    assert_string_equal(host_text(exchange_at(made, 1), after, sizeof(after)), before);
    assert_int_equal(exchange_at(made, 0)->failures, 0);
    assert_int_equal(exchange_at(made, 1)->failures, 1);
    assert_int_equal(exchange_at(made, 2)->failures, 1);
    static const char *const moved[] = {"a.test 1 MX 10 c.test", "c.test 300 A 127.0.0.2", NULL};
    atomic_store(&asker.server.lines, moved); /* the thread reads it next time it is asked */
    wait_ms(1100);
    find(made);
    assert_int_equal(exchange_count(made), 1);
    assert_int_equal(exchange_at(made, 0)->preference, 10);
    assert_int_equal(exchange_at(made, 0)->failures, 1);
    static const char *const closed[] = {"a.test 1 MX 0 .", NULL};
    atomic_store(&asker.server.lines, closed);
    wait_ms(1100);
    find(made);
    assert_true(finder_tale.refused_it);
    exchange_free(made);
    asker_end();
}

/* It goes while questions are under way: for MX, and for addresses; or when it is told. */
static void freed_under_way(void **state)
{
    (void)state;
    static const char *const lines[] = {
        "slow.test 60 SLOW 50",       "slow.test 60 MX 10 a.test", "quick.test 60 MX 10 slow.test",
        "quick.test 60 MX 20 a.test", "a.test 60 A 127.0.0.1",     NULL};
    finder_begin(lines);
    static const char *const domains[] = {"slow.test", "quick.test"};
    for (int i = 0; i < 2; i++) {
        struct exchange *made = finder_make(&finder_mx, domains[i]);
        exchange_ask(made, finder_now(), finder_told, &finder_tale);
        wait_ms(20);
        exchange_free(made);
        wait_ms(200);
    }
    assert_int_equal(finder_tale.found, 0);
    static const char *const others[] = {"slow.test", "gone.test", "[127.0.0.1]", "["};
    for (int i = 0; i < 4; i++) {
        finder_tale = (struct finder_tale){.to_free = finder_make(&finder_mx, others[i])};
        exchange_ask(finder_tale.to_free, finder_now(), finder_told, &finder_tale);
        assert_true(turner_run(asker.turner, finder_was_found, 5000));
    }
    exchange_free(NULL);
    asker_end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(by_weight),       cmocka_unit_test(the_dead),
        cmocka_unit_test(risen),           cmocka_unit_test(known_and_fresh),
        cmocka_unit_test(freed_under_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
