/* The resolver: the cache, merging, cancelling, asking again from within an answer, many questions,
 * and its end under way. */
#include "gateway/io/dns.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/support/asker.h"

/* --- the cache --- */

static void kept_and_forgotten(void **state)
{
    (void)state;
    static const char *const lines[] = {"a.test 300 A 127.0.0.1", "brief.test 1 A 127.0.0.1",
                                        "never.test 0 A 127.0.0.1", "bad.test 1 SERVFAIL", NULL};
    asker_begin(lines, (struct dns_options){.ttl_max_s = 100});
    ask_is(ask_now("a.test", DNS_A), DNS_FOUND, 100, 1);
    ask_is(ask_now("A.TEST", DNS_A), DNS_FOUND, 100, 1);
    (void)ask_now("gone.test", DNS_A);
    ask_is(ask_now("gone.test", DNS_A), DNS_NO_NAME, 60, 0);
    (void)ask_now("bad.test", DNS_A);
    ask_is(ask_now("bad.test", DNS_A), DNS_FAILED, 5, 0);
    assert_int_equal(asker_heard(), 3);
    ask_is(ask_now("never.test", DNS_A), DNS_FOUND, 0, 1);
    ask_is(ask_now("never.test", DNS_A), DNS_FOUND, 0, 1);
    assert_int_equal(asker_heard(), 5);
    (void)ask_now("brief.test", DNS_A);
    (void)ask_now("brief.test", DNS_A);
    assert_int_equal(asker_heard(), 6);
    wait_ms(1100);
    ask_is(ask_now("brief.test", DNS_A), DNS_FOUND, 1, 1);
    assert_int_equal(asker_heard(), 7);
    struct dns_snapshot counts = asker_counts();
    assert_int_equal(counts.hits, 4);
    assert_int_equal(counts.cached, 5);
    dns_forget(asker.dns);
    counts = asker_counts();
    assert_int_equal(counts.cached, 0);
    (void)ask_now("a.test", DNS_A);
    assert_int_equal(asker_heard(), 8);
    asker_end();
}

static void used_longest_ago(void **state)
{
    (void)state;
    asker_begin(asker_plain, (struct dns_options){.cache_max = 3});
    (void)ask_now("a.test", DNS_A);
    (void)ask_now("mail.test", DNS_MX);
    (void)ask_now("null.test", DNS_MX);
    (void)ask_now("a.test", DNS_A);    /* used again */
    (void)ask_now("a.test", DNS_AAAA); /* so it is mail.test that goes */
    uint32_t asked = asker_heard();
    assert_int_equal(asked, 4);
    (void)ask_now("a.test", DNS_A);
    (void)ask_now("null.test", DNS_MX);
    (void)ask_now("a.test", DNS_AAAA);
    assert_int_equal(asker_heard(), 4);
    (void)ask_now("mail.test", DNS_MX);
    assert_int_equal(asker_heard(), 5);
    struct dns_snapshot counts = asker_counts();
    assert_int_equal(counts.cached, 3);
    asker_end();
}

/* Many large answers stay within what so many usual ones take. */
static void octets_are_bounded(void **state)
{
    (void)state;
    static const char *const lines[] = {"a.test 60 MANY 64", "b.test 60 MANY 64",
                                        "c.test 60 MANY 64", "d.test 60 A 127.0.0.1", NULL};
    asker_begin(lines, (struct dns_options){.cache_max = 2});
    (void)ask_now("a.test", DNS_A); /* 256 octets each */
    (void)ask_now("b.test", DNS_A);
    (void)ask_now("c.test", DNS_A);
    struct dns_snapshot counts = asker_counts();
    assert_int_equal(counts.cached, 2);
    (void)ask_now("d.test", DNS_A);
    counts = asker_counts();
    assert_int_equal(counts.cached, 2);
    asker_end();
}

/* --- who asks, and takes back --- */

static void merged(void **state)
{
    (void)state;
    asker_begin(asker_plain, (struct dns_options){0});
    for (int i = 0; i < 50; i++)
        (void)ask(i % 2 == 0 ? "A.test" : "a.TEST", DNS_A);
    run_all();
    for (uint32_t i = 0; i < 50; i++) {
        ask_is(&asker.asks[i], DNS_FOUND, 200, 2);
        assert_int_equal(asker.asks[i].order, i);
    }
    assert_int_equal(asker_heard(), 1);
    for (int i = 0; i < 50; i++)
        (void)ask("a.test", DNS_A);
    assert_int_equal(asker.told, 50); /* known, and yet not told within dns_ask */
    run_all();
    assert_int_equal(asker_heard(), 1);
    asker_end();
}

static uint32_t wanted; /* what wait_for waits for */

static bool is_told(struct turner *turner)
{
    (void)turner;
    return asker.told >= wanted;
}

static bool is_cached(struct turner *turner)
{
    (void)turner;
    return asker_counts().cached >= wanted;
}

static void wait_for(bool (*reached)(struct turner *turner), uint32_t count)
{
    wanted = count;
    assert_true(turner_run(asker.turner, reached, 10000));
}

static void cancelled(void **state)
{
    (void)state;
    static const char *const lines[] = {"a.test 60 A 127.0.0.1",     "slow.test 60 SLOW 50",
                                        "slow.test 60 A 127.0.0.1",  "later.test 60 SLOW 50",
                                        "later.test 60 A 127.0.0.1", NULL};
    asker_begin(lines, (struct dns_options){0});
    struct ask *before = ask("a.test", DNS_A);
    dns_cancel(asker.dns, &before->question); /* before it was sent */
    dns_cancel(asker.dns, &before->question); /* at rest */
    wait_ms(20);
    assert_int_equal(asker_heard(), 0);
    struct ask *first = ask("slow.test", DNS_A);
    struct ask *second = ask("slow.test", DNS_A);
    struct ask *third = ask("slow.test", DNS_A);
    wait_ms(10); /* under way */
    dns_cancel(asker.dns, &first->question);
    dns_cancel(asker.dns, &third->question);
    wait_for(is_told, 1);
    assert_int_equal(asker.told, 1);
    assert_int_equal(second->told, 1);
    struct ask *known = ask("slow.test", DNS_A);
    dns_cancel(asker.dns, &known->question); /* of an answer that is known */
    struct ask *invalid = ask("", DNS_A);
    dns_cancel(asker.dns, &invalid->question);
    wait_ms(10);
    assert_int_equal(asker.told, 1);
    struct ask *alone = ask("later.test", DNS_A);
    wait_ms(10);
    dns_cancel(asker.dns, &alone->question);
    wait_for(is_cached, 2); /* what comes all the same is of use */
    assert_int_equal(asker.told, 1);
    struct dns_snapshot counts = asker_counts();
    assert_int_equal(counts.pending, 0);
    asker_end();
}

/* From within `answered`: the neighbours in line, before and behind, and another question. */
static void cancel_others(struct ask *asked)
{
    for (uint32_t i = 0; i < asker.ask_count; i++)
        if (&asker.asks[i] != asked)
            dns_cancel(asker.dns, &asker.asks[i].question);
}

static void cancelled_within(void **state)
{
    (void)state;
    for (int round = 0; round < 2; round++) {
        asker_begin(asker_plain, (struct dns_options){0});
        if (round == 1) { /* the second time all is known, and told in one turn */
            (void)ask_now("a.test", DNS_A);
            (void)ask_now("a.test", DNS_AAAA);
            (void)ask_now("b.test", DNS_A);
        }
        uint32_t told = asker.told;
        for (int i = 0; i < 3; i++) {
            ask("a.test", DNS_A)->then = cancel_others;
            ask("a.test", DNS_AAAA)->then = cancel_others;
            ask("b.test", DNS_A)->then = cancel_others;
            ask("a..test", DNS_A)->then = cancel_others;
        }
        wait_for(is_told, told + 1);
        wait_ms(20);
        assert_int_equal(asker.told, told + 1);
        asker_end();
    }
}

static uint32_t again_left;

static void ask_again(struct ask *asked)
{
    if (again_left == 0)
        return;
    again_left--;
    struct ask *next = ask(asked->count == 1            ? "never.test"
                           : asked->status == DNS_FOUND ? "a.test"
                                                        : "",
                           DNS_A);
    next->then = ask_again;
}

static void asked_within(void **state)
{
    (void)state;
    static const char *const lines[] = {"never.test 0 A 127.0.0.1", "a.test 60 A 127.0.0.1",
                                        "a.test 60 A 127.0.0.2", NULL};
    asker_begin(lines, (struct dns_options){0});
    static const struct {
        const char *name;
        uint32_t questions;
    } cases[] = {
        {"never.test", 21}, /* each has to be asked anew */
        {"a.test",     1 },
        {"",           0 },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint32_t before = asker_heard();
        uint64_t turns = asker.turner->worker.turns;
        again_left = 20;
        ask(cases[i].name, DNS_A)->then = ask_again;
        run_all();
        assert_int_equal(again_left, 0);
        assert_int_equal(asker_heard() - before, cases[i].questions);
        assert_true(asker.turner->worker.turns - turns > 20); /* a turn each */
    }
    /* The question itself, again. */
    struct ask *own = ask("a.test", DNS_A);
    run_all();
    own->told = 0;
    asker.told--;
    asker.asking = true;
    dns_ask(asker.dns, "a.test", DNS_A, &own->question);
    asker.asking = false;
    run_all();
    asker_end();
}

static void forget_within(struct ask *asked)
{
    (void)asked;
    dns_forget(asker.dns);
}

static void forgotten_within(void **state)
{
    (void)state;
    asker_begin(asker_plain, (struct dns_options){0});
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < 3; i++) {
            ask("a.test", DNS_A)->then = forget_within;
            ask("a.test", DNS_AAAA)->then = forget_within;
            ask("mail.test", DNS_MX)->then = forget_within;
        }
        run_all();
    }
    assert_int_equal(asker_heard(), 6);
    asker_end();
}

/* --- many --- */

static void crowd(void **state)
{
    (void)state;
    asker_begin(asker_plain, (struct dns_options){.pending_max = 20});
    for (int i = 0; i < 1200; i++) {
        char name[64];
        snprintf(name, sizeof(name), "%d.crowd.test", i);
        (void)ask(name, i % 2 == 0 ? DNS_A : DNS_MX);
    }
    struct dns_snapshot counts = asker_counts();
    assert_int_equal(counts.pending, 1200);
    run_all();
    for (uint32_t i = 0; i < asker.ask_count; i++)
        ask_is(&asker.asks[i], DNS_NO_NAME, 60, 0);
    counts = asker_counts();
    assert_int_equal(counts.pending, 0);
    assert_int_equal(counts.cached, 1200);
    assert_true(asker_heard() >= 1200);
    /* Nobody can foretell id and port together: ids are spread, and ports change under way. */
    assert_true(atomic_load(&asker.server.ids) > 1100);
    assert_true(atomic_load(&asker.server.ports) >= 5);
    asker_end();
}

static uint32_t count_descriptors(void)
{
    uint32_t count = 0;
    DIR *folder = opendir("/proc/self/fd");
    assert_non_null(folder);
    while (readdir(folder) != NULL)
        count++;
    closedir(folder);
    return count;
}

/* Questions are under way over UDP and TCP, others in line, when the resolver ends. */
static void ended_under_way(void **state)
{
    (void)state;
    static const char *const lines[] = {"silent.test 1 SILENT", "tcp.test 1 TRUNCATED",
                                        "tcp.test 1 SLOW 300", NULL};
    asker_begin(lines, (struct dns_options){.pending_max = 2});
    uint32_t before = count_descriptors();
    (void)ask("silent.test", DNS_A);
    (void)ask("tcp.test", DNS_A);
    (void)ask("lined.test", DNS_A);
    wait_ms(100);
    assert_int_equal(asker.told, 0);
    assert_true(count_descriptors() > before);
    assert_true(asker.turner->worker.turns < 40); /* also while TCP waits it sleeps */
    dns_free(asker.dns);
    assert_int_equal(count_descriptors() - (atomic_load(&asker.server.tcp) > 0), before);
    struct dns_options options = {.servers = {asker.server.address}, .server_count = 1};
    asker.dns = dns_new(&asker.turner->worker, &options);
    wait_ms(50);
    assert_int_equal(asker.told, 0);
    asker_end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kept_and_forgotten),
        cmocka_unit_test(used_longest_ago),
        cmocka_unit_test(octets_are_bounded),
        cmocka_unit_test(merged),
        cmocka_unit_test(cancelled),
        cmocka_unit_test(cancelled_within),
        cmocka_unit_test(asked_within),
        cmocka_unit_test(forgotten_within),
        cmocka_unit_test(crowd),
        cmocka_unit_test(ended_under_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
