/* The resolver: what it tells of all kinds of answers, and that none does harm, from a server that
 * misbehaves. Who asks, and the cache: dns_askers_test.c; a real server: dns_nsd_test.c. */
#include "gateway/io/dns.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "gateway/base/clock.h"
#include "tests/support/asker.h"

/* --- what is told --- */

static void records(void **state)
{
    (void)state;
    asker_begin(asker_plain, (struct dns_options){0});
    struct ask *found = ask_now("a.test", DNS_A);
    ask_is(found, DNS_FOUND, 200, 2); /* the least TTL */
    assert_int_equal(ask_v4(&found->records[0]) + ask_v4(&found->records[1]), 2 * 0x7f000000u + 3);
    assert_string_equal(found->records[0].name, "");
    found = ask_now("A.Test", DNS_AAAA);
    ask_is(found, DNS_FOUND, 300, 1);
    assert_int_equal(found->records[0].address.v6.sin6_family, AF_INET6);
    assert_int_equal(found->records[0].address.v6.sin6_addr.s6_addr[15], 7);
    found = ask_now("mail.test", DNS_MX);
    ask_is(found, DNS_FOUND, 3600, 2);
    assert_int_equal(found->records[0].preference, 20);
    assert_string_equal(found->records[0].name, "b.mx.test");
    assert_int_equal(found->records[1].preference, 10);
    assert_string_equal(found->records[1].name, "a.test");
    found = ask_now("null.test", DNS_MX);
    ask_is(found, DNS_FOUND, 3600, 1);
    assert_string_equal(found->records[0].name, "");
    ask_is(ask_now("X-1_Y.test", DNS_A), DNS_FOUND, 30, 1);
    ask_is(ask_now("a.test", DNS_MX), DNS_NO_DATA, 60, 0);
    ask_is(ask_now("mail.test", DNS_A), DNS_NO_DATA, 60, 0);
    ask_is(ask_now("b.test", DNS_A), DNS_NO_NAME, 60, 0);
    struct dns_snapshot counts = asker_counts();
    assert_int_equal(counts.asked, 8);
    assert_int_equal(counts.found, 5);
    assert_int_equal(counts.no_data, 2);
    assert_int_equal(counts.no_name, 1);
    assert_int_equal(counts.hits + counts.failed + counts.timed_out + counts.pending, 0);
    assert_int_equal(counts.cached, 8);
    asker_end();
}

static void aliases(void **state)
{
    (void)state;
    static const char *const lines[] = {
        "alias.test 500 CNAME middle.test",
        "middle.test 100 CNAME a.test",
        "a.test 200 A 127.0.0.1",
        "to-nothing.test 40 CNAME missing.test",
        "to-mail.test 50 CNAME null.test",
        "null.test 3600 MX 0 .",
        "circle.test 500 CNAME elcric.test",
        "elcric.test 500 CNAME circle.test",
        "five.test 300 CHAIN 5",
        "twenty.test 300 CHAIN 20",
        NULL,
    };
    asker_begin(lines, (struct dns_options){0});
    struct ask *found = ask_now("alias.test", DNS_A);
    ask_is(found, DNS_FOUND, 100, 1);
    assert_int_equal(ask_v4(&found->records[0]), 0x7f000001);
    ask_is(ask_now("alias.test", DNS_MX), DNS_NO_DATA, 60, 0);
    ask_is(ask_now("to-mail.test", DNS_MX), DNS_FOUND, 50, 1);
    ask_is(ask_now("to-nothing.test", DNS_A), DNS_NO_NAME, 40, 0); /* no longer than the CNAME */
    ask_is(ask_now("circle.test", DNS_A), DNS_FAILED, 5, 0);
    found = ask_now("five.test", DNS_A);
    ask_is(found, DNS_FOUND, 296, 1);
    assert_int_equal(ask_v4(&found->records[0]), 0x7f000009);
    ask_is(ask_now("twenty.test", DNS_A), DNS_FAILED, 5, 0);
    asker_end();
}

static void invalid_names(void **state)
{
    (void)state;
    char longest[256], label[70];
    memset(longest, 'a', sizeof(longest));
    for (int i = 50; i < 253; i += 50)
        longest[i] = '.';
    longest[253] = '\0';
    memset(label, 'a', 63);
    memcpy(label + 63, ".test", 6);
    asker_begin(asker_plain, (struct dns_options){0});
    ask_is(ask_now(longest, DNS_A), DNS_NO_NAME, 60, 0); /* asked, and not there */
    ask_is(ask_now(label, DNS_A), DNS_NO_NAME, 60, 0);
    assert_int_equal(asker_heard(), 2);
    longest[253] = 'a';
    longest[254] = '\0';
    static const char *const bad[] = {
        "",         ".",        "a.",         ".a.test",        "a..test",
        "a b.test", "a/b.test", "\"a\".test", "b\xc3\xbc.test", "a\\.test",
        "a\n.test", "*.test",   "[127.0.0.1]"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        (void)ask(bad[i], DNS_MX);
    (void)ask(longest, DNS_A);
    memset(label, 'a', 64);
    memcpy(label + 64, ".tes", 5);
    (void)ask(label, DNS_A);
    run_all();
    for (uint32_t i = 2; i < asker.ask_count; i++)
        assert_int_equal(asker.asks[i].status, DNS_NO_NAME);
    ask_is(ask_now("hidden.onion", DNS_A), DNS_NO_NAME, 5, 0); /* RFC 7686 */
    assert_int_equal(asker_heard(), 2);                        /* nothing of that was asked */
    asker_end();
}

/* --- servers that fail --- */

static void failures(void **state)
{
    (void)state;
    static const char *const lines[] = {
        "servfail.test 1 SERVFAIL", "refused.test 1 REFUSED",
        "silent.test 1 SILENT",     "slow.test 1 SLOW 300",
        "slow.test 70 A 127.0.0.1", "once.test 1 SILENT 1",
        "once.test 80 A 127.0.0.1", NULL,
    };
    asker_begin(lines, (struct dns_options){.timeout_ms = 250});
    ask_is(ask_now("servfail.test", DNS_A), DNS_FAILED, 5, 0);
    ask_is(ask_now("refused.test", DNS_MX), DNS_FAILED, 5, 0);
    assert_int_equal(asker_heard(), 2); /* not asked again at once */
    uint64_t start_us = clock_monotonic_us();
    ask_is(ask_now("silent.test", DNS_MX), DNS_TIMED_OUT, 5, 0);
    assert_in_range(clock_monotonic_us() - start_us, 500 * 1000, 8000 * 1000);
    assert_int_equal(asker_heard(), 4);
    ask_is(ask_now("once.test", DNS_A), DNS_FOUND, 80, 1);
    ask_is(ask_now("slow.test", DNS_A), DNS_FOUND, 70,
           1);                                    /* the first answer comes after the retry */
    assert_true(asker.turner->worker.turns < 60); /* it sleeps between the tries */
    asker_end();
}

static void nobody_there(void **state)
{
    (void)state;
    asker_begin(asker_plain, (struct dns_options){.timeout_ms = 200});
    name_server_stop(&asker.server);
    ask_is(ask_now("a.test", DNS_A), DNS_TIMED_OUT, 5, 0);
    dns_free(asker.dns);
    asker.turner->on_turn = NULL;
    asker.turner->next_us = NULL;
    turner_free(asker.turner);
}

static void several_servers(void **state)
{
    (void)state;
    static const char *const bad_lines[] = {"a.test 1 SERVFAIL", "b.test 1 SILENT",
                                            "c.test 1 REFUSED", NULL};
    static const char *const good_lines[] = {"a.test 30 A 127.0.0.1", "b.test 30 A 127.0.0.1",
                                             "c.test 1 REFUSED", NULL};
    static struct name_server bad;
    name_server_start(&bad, bad_lines);
    struct dns_options options = {.timeout_ms = 200, .server_count = 2};
    asker_begin(good_lines, (struct dns_options){.timeout_ms = 200});
    dns_free(asker.dns);
    options.servers[0] = bad.address;
    options.servers[1] = asker.server.address;
    asker.dns = dns_new(&asker.turner->worker, &options);
    assert_non_null(asker.dns);
    ask_is(ask_now("a.test", DNS_A), DNS_FOUND, 30, 1);
    ask_is(ask_now("b.test", DNS_A), DNS_FOUND, 30, 1);
    ask_is(ask_now("c.test", DNS_A), DNS_FAILED, 5, 0);
    name_server_stop(&bad);
    dns_forget(asker.dns);
    ask_is(ask_now("b.test", DNS_A), DNS_FOUND, 30, 1); /* nobody is at the first one's port */
    asker_end();
}

static void hostile_answers(void **state)
{
    (void)state;
    static const char *const lines[] = {
        "garbage.test 60 GARBAGE",
        "cut.test 60 CUT",
        "loop.test 60 LOOP",
        "short.test 60 SHORT",
        "foreign.test 60 FOREIGN",
        "referral.test 60 REFERRAL",
        "wrong-id.test 60 WRONG-ID",
        "wrong-id.test 60 A 127.0.0.1",
        "wrong-name.test 60 WRONG-NAME",
        "wrong-name.test 60 A 127.0.0.1",
        "no-soa.test 60 NO-SOA",
        "odd.test 60 ODD-NAME",
        "high.test 2147483648 A 127.0.0.1",
        NULL,
    };
    asker_begin(lines, (struct dns_options){.timeout_ms = 500});
    static const char *const failing[] = {"garbage.test", "cut.test",     "loop.test",
                                          "short.test",   "foreign.test", "referral.test"};
    for (size_t i = 0; i < sizeof(failing) / sizeof(failing[0]); i++) {
        ask_is(ask_now(failing[i], DNS_A), DNS_FAILED, 5, 0);
        ask_is(ask_now(failing[i], DNS_AAAA), DNS_FAILED, 5, 0);
        ask_is(ask_now(failing[i], DNS_MX), DNS_FAILED, 5, 0);
    }
    ask_is(ask_now("no-soa.test", DNS_MX), DNS_NO_DATA, 5, 0);
    ask_is(ask_now("wrong-id.test", DNS_A), DNS_FOUND, 60, 1);
    ask_is(ask_now("wrong-name.test", DNS_A), DNS_FOUND, 60, 1);
    struct ask *odd = ask_now("odd.test", DNS_MX);
    ask_is(odd, DNS_FOUND, 60, 1); /* only what is a name */
    assert_string_equal(odd->records[0].name, "good.test");
    assert_int_equal(odd->records[0].preference, 40);
    ask_is(ask_now("high.test", DNS_A), DNS_FOUND, 0, 1); /* RFC 2181 8 */
    asker_end();
}

static void long_answers(void **state)
{
    (void)state;
    static const char *const lines[] = {"truncated.test 60 TRUNCATED",
                                        "truncated.test 60 A 127.0.0.1", "many.test 60 MANY 60",
                                        "more.test 60 MANY 1000", NULL};
    asker_begin(lines, (struct dns_options){.timeout_ms = 1000});
    ask_is(ask_now("truncated.test", DNS_A), DNS_FOUND, 60, 1);
    assert_int_equal(atomic_load(&asker.server.tcp), 1);
    struct ask *many = ask_now("many.test", DNS_A);
    ask_is(many, DNS_FOUND, 60, 60);
    assert_int_equal(ask_v4(&many->records[3]), 0x7f010004);
    ask_is(ask_now("more.test", DNS_A), DNS_FOUND, 60, DNS_RECORDS_MAX);
    assert_int_equal(atomic_load(&asker.server.tcp), 3);
    asker_end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(records),         cmocka_unit_test(aliases),
        cmocka_unit_test(invalid_names),   cmocka_unit_test(failures),
        cmocka_unit_test(nobody_there),    cmocka_unit_test(several_servers),
        cmocka_unit_test(hostile_answers), cmocka_unit_test(long_answers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
