/* The hosts of a destination: from targets and DNS answers to addresses in order (RFC 5321 5.1),
 * and why there are none. The choice among them: exchange_choice_test.c. */
#include "gateway/deliver/exchange.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include <cmocka.h>

#include "tests/support/finder.h"

enum { PORT = 2525 };

/* has asserts the hosts: "PREFERENCE NAME ADDRESS:PORT", in this order. */
static void has(struct exchange *exchange, const char *const *wanted, uint32_t count)
{
    assert_false(finder_tale.refused_it);
    assert_int_equal(exchange_count(exchange), count);
    for (uint32_t i = 0; i < count; i++) {
        char text[400];
        assert_string_equal(host_text(exchange_at(exchange, i), text, sizeof(text)), wanted[i]);
    }
}

/* refuses asserts that a domain's mail can't go anywhere: "REFUSED 556 5.1.10" and a text. */
static void refuses(const struct route *route, const char *domain, const char *wanted,
                    const char *text)
{
    static const char *const kinds[] = {"OPEN", "ACCEPTED", "DELIVERED", "DEFERRED", "REFUSED"};
    char got[100];
    struct exchange *made = finder_make(route, domain);
    find(made);
    assert_true(finder_tale.refused_it);
    assert_int_equal(exchange_count(made), 0);
    uint32_t index;
    assert_null(exchange_pick(made, finder_now(), 0, &index));
    const struct verdict *why = &finder_tale.why;
    snprintf(got, sizeof(got), "%s %u %u.%u.%u", kinds[why->kind], why->code, why->status.class,
             why->status.subject, why->status.detail);
    assert_string_equal(got, wanted);
    if (strstr(why->text, text) == NULL)
        assert_string_equal(why->text, text);
    exchange_free(made);
}

/* --- order --- */

static const char *const zone[] = {"sorted.test 300 MX 30 c.test",
                                   "sorted.test 300 MX 10 a.test",
                                   "sorted.test 300 MX 20 b.test",
                                   "a.test 300 A 127.0.0.1",
                                   "b.test 300 A 127.0.0.2",
                                   "c.test 300 A 127.0.0.3",
                                   "implicit.test 300 A 127.0.0.4",
                                   "both.test 300 A 127.0.0.5",
                                   "both.test 300 AAAA 2001:db8::5",
                                   "both.test 300 A 127.0.0.6",
                                   "both.test 300 AAAA 2001:db8::6",
                                   "mapped.test 300 AAAA ::ffff:127.0.0.99",
                                   "mapped-other.test 300 AAAA ::ffff:192.0.2.9",
                                   "zero.test 300 A 0.0.0.0",
                                   "zero-v6.test 300 AAAA ::",
                                   "loopback.test 300 A 127.8.9.10",
                                   "multi.test 300 MX 10 of-many.test",
                                   "of-many.test 300 A 224.0.0.1",
                                   "of-many.test 300 A 255.255.255.255",
                                   "of-many.test 300 AAAA ff02::1",
                                   "of-many.test 300 AAAA ::ffff:239.1.2.3",
                                   "equal.test 300 MX 10 a.test",
                                   "equal.test 300 MX 10 b.test",
                                   "equal.test 300 MX 10 c.test",
                                   "equal.test 300 MX 5 both.test",
                                   "null.test 300 MX 0 .",
                                   "nulls.test 300 MX 0 .",
                                   "nulls.test 300 MX 10 a.test",
                                   "nowhere.test 300 MX 10 gone.test",
                                   "nowhere.test 300 MX 20 mailless.test",
                                   "mailless.test 300 MX 10 mailless.test",
                                   "partly.test 300 MX 10 gone.test",
                                   "partly.test 300 MX 15 failing.test",
                                   "partly.test 300 MX 20 b.test",
                                   "failing.test 1 SERVFAIL",
                                   "silent.test 1 SILENT",
                                   "unsure.test 300 MX 10 failing.test",
                                   "unsure.test 300 MX 20 gone.test",
                                   "own-name.test 300 MX 10 a.test",
                                   "own-name.test 300 MX 20 MX.ours.Test",
                                   "own-name.test 300 MX 20 b.test",
                                   "own-name.test 300 MX 30 c.test",
                                   "own-first.test 300 MX 10 mx.ours.test",
                                   "own-first.test 300 MX 10 b.test",
                                   "own-first.test 300 MX 30 c.test",
                                   "us.test 300 A 127.0.0.99",
                                   "us6.test 300 AAAA ::1",
                                   "own-address.test 300 MX 10 a.test",
                                   "own-address.test 300 MX 20 us.test",
                                   "own-address.test 300 MX 20 b.test",
                                   "own-address.test 300 MX 30 c.test",
                                   "own-v6.test 300 MX 10 us6.test",
                                   "own-v6.test 300 MX 20 c.test",
                                   "before-us.test 300 MX 10 failing.test",
                                   "before-us.test 300 MX 20 us.test",
                                   "alias.test 300 CNAME sorted.test",
                                   "twice.test 300 MX 10 a.test",
                                   "twice.test 300 MX 20 A.test",
                                   "xn--mnchen-3ya.test 300 MX 10 a.test",
                                   "many.test 300 MX 10 hundred.test",
                                   "many.test 300 MX 20 b.test",
                                   "hundred.test 300 MANY 100",
                                   "v6only.test 300 AAAA 2001:db8::9",
                                   NULL};

static void in_order(void **state)
{
    (void)state;
    finder_begin_patient(zone);
    static const char *const sorted[] = {"10 a.test 127.0.0.1:2525", "20 b.test 127.0.0.2:2525",
                                         "30 c.test 127.0.0.3:2525"};
    struct exchange *made = find_mx("sorted.test");
    has(made, sorted, 3);
    exchange_forget(made);
    assert_int_equal(exchange_count(made), 0);
    find(made);
    has(made, sorted, 3);
    exchange_free(made);
    made = find_mx("SORTED.Test");
    has(made, sorted, 3);
    exchange_free(made);
    made = find_mx("alias.test"); /* RFC 5321 5.1: the MX of the canonical name */
    has(made, sorted, 3);
    exchange_free(made);
    const struct route other = {.kind = ROUTE_MX, .exchange = "sorted.test"};
    made = finder_make(&other, "null.test");
    find(made);
    has(made, sorted, 3);
    exchange_free(made);
    static const char *const implicit[] = {"0 implicit.test 127.0.0.4:2525"};
    made = find_mx("implicit.test");
    has(made, implicit, 1);
    exchange_free(made);
    made = find_mx("twice.test");
    has(made, sorted, 1);
    exchange_free(made);
    made = find_mx("m\xc3\xbcnchen.test");
    has(made, sorted, 1);
    exchange_free(made);
    made = find_mx("M\xc3\x9cNCHEN.test");
    has(made, sorted, 1);
    exchange_free(made);
    made = find_mx("nulls.test"); /* RFC 7505 3: "." means nothing beside others */
    has(made, sorted, 1);
    exchange_free(made);
    static const char *const partly[] = {"20 b.test 127.0.0.2:2525"};
    made = find_mx("partly.test");
    has(made, partly, 1);
    exchange_free(made);
    asker_end();
}

/* Equal preferences come in any order, and so do a host's addresses, its families by turns. */
static void by_chance(void **state)
{
    (void)state;
    finder_begin_patient(zone);
    uint32_t first_of_equal[4] = {0}, first_family[2] = {0};
    for (int i = 0; i < 60; i++) {
        struct exchange *made = find_mx("equal.test");
        assert_int_equal(exchange_count(made), 7);
        for (uint32_t j = 0; j < 4; j++) {
            const struct exchange_host *host = exchange_at(made, j);
            assert_string_equal(host->peer.name, "both.test");
            assert_int_equal(host->peer.address.ss_family == AF_INET6,
                             (exchange_at(made, 0)->peer.address.ss_family == AF_INET6) ^ (j & 1));
        }
        first_family[exchange_at(made, 0)->peer.address.ss_family == AF_INET6]++;
        uint32_t seen = 0;
        for (uint32_t j = 4; j < 7; j++)
            seen |= 1u << (exchange_at(made, j)->peer.name[0] - 'a');
        assert_int_equal(seen, 7);
        first_of_equal[exchange_at(made, 4)->peer.name[0] - 'a']++;
        exchange_free(made);
    }
    for (int i = 0; i < 3; i++)
        assert_in_range(first_of_equal[i], 8, 40);
    assert_in_range(first_family[0], 15, 45);
    asker_end();
}

static void bounded(void **state)
{
    (void)state;
    finder_begin_patient(zone);
    struct exchange *made = find_mx("many.test");
    assert_int_equal(exchange_count(made), 17); /* 16 of a hundred, and the other one */
    assert_string_equal(exchange_at(made, 16)->peer.name, "b.test");
    exchange_free(made);
    asker_end();
    static char text[120][64];
    static const char *lines[121];
    for (int i = 0; i < 60; i++) {
        snprintf(text[2 * i], 64, "crowd.test 300 MX %d m%d.test", 60 - i, i);
        snprintf(text[2 * i + 1], 64, "m%d.test 300 MANY 5", i);
        lines[2 * i] = text[2 * i];
        lines[2 * i + 1] = text[2 * i + 1];
    }
    finder_begin_patient(lines);
    made = find_mx("crowd.test"); /* over TCP */
    assert_int_equal(exchange_count(made), 32);
    assert_string_equal(exchange_at(made, 0)->peer.name, "m59.test");
    assert_string_equal(exchange_at(made, 31)->peer.name, "m44.test"); /* two of each */
    exchange_free(made);
    asker_end();
}

static void without_ipv6(void **state)
{
    (void)state;
    finder_begin(zone);
    finder_setup.ipv6 = false;
    struct exchange *made = find_mx("both.test");
    assert_int_equal(exchange_count(made), 2);
    exchange_free(made);
    refuses(&finder_mx, "v6only.test", "REFUSED 0 5.1.2", "v6only.test");
    asker_end();
}

static void literals(void **state)
{
    (void)state;
    finder_begin(zone);
    static const char *const v4[] = {"0  192.0.2.1:2525"};
    static const char *const v6[] = {"0  [2001:db8::1]:2525"};
    struct exchange *made = find_mx("[192.0.2.1]");
    has(made, v4, 1);
    exchange_free(made);
    made = find_mx("[IPv6:2001:DB8::1]");
    has(made, v6, 1);
    exchange_free(made);
    refuses(&finder_mx, "[127.0.0.99]", "REFUSED 0 5.4.6", "ourselves");
    refuses(&finder_mx, "[1.2.3]", "REFUSED 0 5.1.2", "[1.2.3]");
    refuses(&finder_mx, "[]", "REFUSED 0 5.1.2", "[]");
    refuses(&finder_mx, "[", "REFUSED 0 5.1.2", "no such domain");
    refuses(&finder_mx, "[IPv6:]", "REFUSED 0 5.1.2", "no such domain");
    refuses(&finder_mx, "", "REFUSED 0 5.1.2", "no such domain");
    refuses(&finder_mx, "\xff\xfe.test", "REFUSED 0 5.1.2", "no such domain");
    assert_int_equal(asker_heard(), 0);
    asker_end();
}

/* --- why there are none --- */

static void reasons(void **state)
{
    (void)state;
    finder_begin(zone);
    refuses(&finder_mx, "null.test", "REFUSED 556 5.1.10", "null MX");
    refuses(&finder_mx, "gone.test", "REFUSED 0 5.1.2", "no such domain: gone.test");
    refuses(&finder_mx, "xn--mnchen-3ya.test.gone", "REFUSED 0 5.1.2", "no such domain");
    refuses(&finder_mx, "v6only.gone", "REFUSED 0 5.1.2", "no such domain");
    refuses(&finder_mx, "nowhere.test", "REFUSED 0 5.4.4", "no MX of nowhere.test has an address");
    refuses(&finder_mx, "failing.test", "DEFERRED 0 4.4.3", "MX of failing.test");
    refuses(&finder_mx, "silent.test", "DEFERRED 0 4.4.3", "MX of silent.test");
    refuses(&finder_mx, "unsure.test", "DEFERRED 0 4.4.3", "address of failing.test");
    char longest[600];
    memset(longest, 'a', sizeof(longest));
    longest[599] = '\0';
    refuses(&finder_mx, longest, "REFUSED 0 5.1.2", "no such domain");
    /* What the administrator has written is not the sender's fault. */
    struct route other = {.kind = ROUTE_MX, .exchange = "gone.test"};
    refuses(&other, "a.test", "DEFERRED 0 4.1.2", "gone.test");
    other.exchange = "null.test";
    refuses(&other, "a.test", "DEFERRED 0 4.1.10", "null.test");
    static const struct route_host missing[] = {
        {"gone.test",     25, 1},
        {"mailless.test", 25, 1}
    };
    struct route smtp = {.kind = ROUTE_SMTP, .hosts = missing, .host_count = 2};
    refuses(&smtp, "a.test", "DEFERRED 0 4.4.4", "gone.test");
    static const struct route_host failing[] = {
        {"gone.test",    25, 1},
        {"failing.test", 25, 1}
    };
    smtp.hosts = failing;
    refuses(&smtp, "a.test", "DEFERRED 0 4.4.3", "failing.test");
    asker_end();
}

static void loops(void **state)
{
    (void)state;
    finder_begin(zone);
    static const char *const before_us[] = {"10 a.test 127.0.0.1:2525"};
    struct exchange *made = find_mx("own-name.test"); /* also not the equal one */
    has(made, before_us, 1);
    exchange_free(made);
    made = find_mx("own-address.test");
    has(made, before_us, 1);
    exchange_free(made);
    refuses(&finder_mx, "own-first.test", "REFUSED 0 5.4.6", "ourselves");
    refuses(&finder_mx, "own-v6.test", "REFUSED 0 5.4.6", "ourselves");
    refuses(&finder_mx, "us.test", "REFUSED 0 5.4.6", "ourselves"); /* without MX */
    refuses(&finder_mx, "before-us.test", "DEFERRED 0 4.4.3", "failing.test");
    finder_setup.smtp_port = 2526; /* another service at our address is not us */
    made = find_mx("us.test");
    assert_int_equal(exchange_count(made), 1);
    exchange_free(made);
    finder_setup.smtp_port = PORT;
    /* A next hop of the configuration, too: by address, by name; refused when it is the only one.
     * Another port is another service. */
    static const struct route_host us[] = {
        {"127.0.0.99", 2525, 1},
        {"us.test",    2525, 1},
        {"192.0.2.7",  2525, 1},
        {"127.0.0.99", 2526, 1},
    };
    struct route smtp = {.kind = ROUTE_SMTP, .hosts = us, .host_count = 2};
    refuses(&smtp, "a.test", "REFUSED 0 5.4.6", "ourselves");
    smtp.hosts = &us[1];
    smtp.host_count = 1;
    refuses(&smtp, "a.test", "REFUSED 0 5.4.6", "ourselves");
    static const char *const other[] = {"0  192.0.2.7:2525", "0  127.0.0.99:2526"};
    smtp.host_count = 3;
    made = finder_make(&smtp, "a.test");
    find(made);
    has(made, other, 2);
    exchange_free(made);
    asker_end();
}

/* Addresses that lead to us though they are not those that we listen on, or to nobody. */
static void odd_addresses(void **state)
{
    (void)state;
    finder_begin(zone);
    const union address_any *usual = finder_setup.ours;
    refuses(&finder_mx, "mapped.test", "REFUSED 0 5.4.6", "ourselves");
    refuses(&finder_mx, "zero-v6.test", "REFUSED 0 5.4.6", "ourselves"); /* we are at ::1 */
    static const char *const mapped[] = {"0 mapped-other.test 192.0.2.9:2525"};
    static const char *const zero[] = {"0 zero.test 0.0.0.0:2525"};
    static const char *const loopback[] = {"0 loopback.test 127.8.9.10:2525"};
    struct exchange *made = find_mx("mapped-other.test");
    has(made, mapped, 1);
    exchange_free(made);
    made = find_mx("zero.test"); /* at 127.0.0.1 there is somebody else */
    has(made, zero, 1);
    exchange_free(made);
    made = find_mx("loopback.test");
    has(made, loopback, 1);
    exchange_free(made);
    union address_any ours[1];
    finder_setup.ours = ours;
    finder_setup.our_count = 1;
    assert_true(listener_parse("127.0.0.1:2525", &ours[0]));
    refuses(&finder_mx, "zero.test", "REFUSED 0 5.4.6", "ourselves");
    made = find_mx("loopback.test");
    has(made, loopback, 1);
    exchange_free(made);
    assert_true(listener_parse("0.0.0.0:2525", &ours[0]));
    refuses(&finder_mx, "zero.test", "REFUSED 0 5.4.6", "ourselves");
    refuses(&finder_mx, "loopback.test", "REFUSED 0 5.4.6", "ourselves");
    assert_true(listener_parse("0.0.0.0:2526", &ours[0]));
    made = find_mx("zero.test");
    has(made, zero, 1);
    exchange_free(made);
    finder_setup.ours = usual;
    finder_setup.our_count = 2;
    refuses(&finder_mx, "multi.test", "REFUSED 0 5.4.4", "no MX of multi.test has an address");
    asker_end();
}

/* --- next hops that are named --- */

static void named(void **state)
{
    (void)state;
    finder_begin(zone);
    static const struct route_host hosts[] = {
        {"b.test",      2500, 1},
        {"192.0.2.7",   26,   1},
        {"2001:db8::7", 27,   1},
        {"localhost",   28,   1},
    };
    struct route route = {.kind = ROUTE_SMTP, .hosts = hosts, .host_count = 4};
    route.options.tls = ROUTE_TLS_REQUIRED;
    route.options.tls_verify = true;
    struct exchange *made = finder_make(&route, "unheard-of.test");
    find(made);
    static const char *const wanted[] = {"0 b.test 127.0.0.2:2500", "0  192.0.2.7:26",
                                         "0  [2001:db8::7]:27"};
    assert_int_equal(exchange_count(made), 5);
    for (uint32_t i = 0; i < 3; i++) {
        char text[400];
        assert_string_equal(host_text(exchange_at(made, i), text, sizeof(text)), wanted[i]);
    }
    for (uint32_t i = 0; i < 5; i++) {
        const struct client_peer *peer = &exchange_at(made, i)->peer;
        assert_false(peer->lmtp);
        assert_true(peer->tls_verify);
        assert_int_equal(peer->tls, ROUTE_TLS_REQUIRED);
        assert_int_equal(peer->address_len, peer->address.ss_family == AF_INET6
                                                ? sizeof(struct sockaddr_in6)
                                                : sizeof(struct sockaddr_in));
    }
    exchange_free(made);
    static const struct route_host sockets[] = {
        {"/run/dovecot/lmtp", 0, 1}
    };
    const struct route lmtp = {.kind = ROUTE_LMTP, .hosts = sockets, .host_count = 1};
    made = finder_make(&lmtp, "a.test");
    exchange_ask(made, finder_now(), finder_told, &finder_tale);
    assert_int_equal(finder_tale.found, 2); /* at once: there is nothing to ask */
    const struct client_peer *peer = &exchange_at(made, 0)->peer;
    const struct sockaddr_un *address = (const struct sockaddr_un *)&peer->address;
    assert_true(peer->lmtp);
    assert_int_equal(address->sun_family, AF_UNIX);
    assert_string_equal(address->sun_path, "/run/dovecot/lmtp");
    exchange_free(made);
    asker_end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(in_order),     cmocka_unit_test(by_chance),     cmocka_unit_test(bounded),
        cmocka_unit_test(without_ipv6), cmocka_unit_test(literals),      cmocka_unit_test(reasons),
        cmocka_unit_test(loops),        cmocka_unit_test(odd_addresses), cmocka_unit_test(named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
