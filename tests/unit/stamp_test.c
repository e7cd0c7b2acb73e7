/* The Received field: its forms (RFC 5321 4.4, RFC 3848, RFC 6531 4.3), dates against the C
 * library's, and a HELO that wants to write header fields of its own. */
#include "gateway/receive/stamp.h"
#include "tests/support/clients.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

/* made returns the field as a string. */
static const char *made(const struct stamp *stamp)
{
    static char out[STAMP_LEN_MAX + 1];
    size_t len = stamp_received(stamp, out);
    assert_in_range(len, 1, STAMP_LEN_MAX);
    out[len] = '\0';
    assert_int_equal(strlen(out), len);
    return out;
}

static void forms(void **state)
{
    (void)state;
    union address_any v4 = client_at("192.0.2.7:1");
    union address_any v6 = client_at("[2001:db8::25]:1");
    struct stamp stamp = {
        .helo = BYTES("client.example.com"),
        .peer = &v4,
        .hostname = BYTES("mx.example.org"),
        .extended = true,
        .id = "aerukz4jvpg66",
        .wall_us = 1795292715u * 1000000ull + 999999, /* date -u -d @1795292715 */
    };
    assert_string_equal(made(&stamp), "Received: from client.example.com ([192.0.2.7])\r\n"
                                      "\tby mx.example.org with ESMTP id aerukz4jvpg66;\r\n"
                                      "\tSat, 21 Nov 2026 20:25:15 +0000\r\n");
    stamp.recipient = BYTES("alice@example.org");
    stamp.extended = false;
    stamp.peer = &v6;
    assert_string_equal(made(&stamp), "Received: from client.example.com ([IPv6:2001:db8::25])\r\n"
                                      "\tby mx.example.org with SMTP id aerukz4jvpg66\r\n"
                                      "\tfor <alice@example.org>;\r\n"
                                      "\tSat, 21 Nov 2026 20:25:15 +0000\r\n");
    /* RFC 6710: behind FOR, where RFC 5321 4.4 has additional clauses. */
    stamp.priority = -9;
    assert_string_equal(made(&stamp), "Received: from client.example.com ([IPv6:2001:db8::25])\r\n"
                                      "\tby mx.example.org with SMTP id aerukz4jvpg66\r\n"
                                      "\tfor <alice@example.org>\r\n"
                                      "\tpriority -9;\r\n"
                                      "\tSat, 21 Nov 2026 20:25:15 +0000\r\n");
    stamp.priority = 0;
    stamp.utf8 = true;
    stamp.extended = true;
    stamp.helo = BYTES("[IPv6:2001:db8::25]");
    stamp.recipient = BYTES("j\xc3\xb6rg@example.org");
    assert_string_equal(made(&stamp), "Received: from [IPv6:2001:db8::25] ([IPv6:2001:db8::25])\r\n"
                                      "\tby mx.example.org with UTF8SMTP id aerukz4jvpg66\r\n"
                                      "\tfor <j\xc3\xb6rg@example.org>;\r\n"
                                      "\tSat, 21 Nov 2026 20:25:15 +0000\r\n");
}

/* results returns the Authentication-Results field as a string. */
static const char *results(const struct stamp *stamp)
{
    static char out[STAMP_RESULTS_MAX + 1];
    size_t len = stamp_results(stamp, out);
    assert_in_range(len, 0, STAMP_RESULTS_MAX);
    out[len] = '\0';
    return out;
}

/* Of one who has logged in: the protocol's name (RFC 3848, RFC 6531 4.3), and RFC 8601. */
static void of_users(void **state)
{
    (void)state;
    static const struct {
        const char *user, *told; /* "": not told */
        bool utf8;
    } cases[] = {
        {"alice@example.org",       "alice@example.org",           false},
        {"alice",                   "alice",                       false},
        {"a.b-c_d+e@example.org",   "a.b-c_d+e@example.org",       false},
        {"a b",                     "\"a b\"",                     false},
        {"a\"b\\",                  "\"a\\\"b\\\\\"",              false},
        {"a..b@example.org",        "\"a..b@example.org\"",        false},
        {".a@example.org",          "\".a@example.org\"",          false},
        {"a@b@c",                   "\"a@b@c\"",                   false},
        {"a;smtp.auth=root",        "\"a;smtp.auth=root\"",        false},
        {"a (b)",                   "\"a (b)\"",                   false},
        {"j\xc3\xb6rg@example.org", "",                            false},
        {"j\xc3\xb6rg@example.org", "\"j\xc3\xb6rg@example.org\"", true },
    };
    union address_any v4 = client_at("192.0.2.7:1");
    struct tls_info tls = {.version = "TLSv1.3", .cipher = "X", .peer_name = ""};
    struct stamp stamp = {
        .peer = &v4,
        .hostname = BYTES("mx.example.org"),
        .extended = true,
        .id = "aerukz4jvpg66",
        .user = BYTES("alice"),
        .mechanism = "PLAIN",
    };
    assert_string_equal(results(&stamp), "");
    assert_non_null(strstr(made(&stamp), " with ESMTPA id "));
    stamp.tls = &tls;
    assert_non_null(strstr(made(&stamp), " with ESMTPSA id "));
    stamp.utf8 = true;
    assert_non_null(strstr(made(&stamp), " with UTF8SMTPSA id "));
    stamp.tls = NULL;
    assert_non_null(strstr(made(&stamp), " with UTF8SMTPA id "));
    stamp.results = true;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char wanted[STAMP_RESULTS_MAX];
        stamp.user = bytes_of_string(cases[i].user);
        stamp.utf8 = cases[i].utf8;
        snprintf(wanted, sizeof(wanted),
                 "Authentication-Results: mx.example.org;\r\n\tauth=pass (PLAIN)%s%s\r\n",
                 cases[i].told[0] == '\0' ? "" : "\r\n\tsmtp.auth=", cases[i].told);
        assert_string_equal(results(&stamp), wanted);
    }
    char longest[255], host[255];
    memset(longest, '"', sizeof(longest));
    memset(host, 'h', sizeof(host));
    stamp.user = bytes_make(longest, sizeof(longest));
    stamp.hostname = bytes_make(host, sizeof(host));
    stamp.mechanism = "SCRAM-SHA-256-PLUS";
    assert_in_range(strlen(results(&stamp)), 255 + 2 * 255, STAMP_RESULTS_MAX);
    stamp.user = bytes_make(NULL, 0);
    assert_string_equal(results(&stamp), "");
}

/* Behind TLS: the protocol names of RFC 3848 and RFC 6531 4.3, and a comment. */
static void tls_forms(void **state)
{
    (void)state;
    union address_any peer = client_at("192.0.2.7:1");
    const struct tls_info info = {
        .version = "TLSv1.3",
        .cipher = "TLS_AES_128_GCM_SHA256",
        .group = "X25519",
        .server_name = "mx.example.org",
        .peer_name = "",
    };
    struct tls_info named = info;
    named.peer_name = "relay.example.com";
    struct stamp stamp = {
        .helo = BYTES("client.example.com"),
        .peer = &peer,
        .hostname = BYTES("mx.example.org"),
        .extended = true,
        .tls = &info,
        .id = "aerukz4jvpg66",
        .wall_us = 1795292715u * 1000000ull,
    };
    assert_string_equal(made(&stamp), "Received: from client.example.com ([192.0.2.7])\r\n"
                                      "\t(using TLSv1.3 with cipher TLS_AES_128_GCM_SHA256)\r\n"
                                      "\tby mx.example.org with ESMTPS id aerukz4jvpg66;\r\n"
                                      "\tSat, 21 Nov 2026 20:25:15 +0000\r\n");
    stamp.tls = &named;
    stamp.utf8 = true;
    assert_string_equal(made(&stamp), "Received: from client.example.com ([192.0.2.7])\r\n"
                                      "\t(using TLSv1.3 with cipher TLS_AES_128_GCM_SHA256)\r\n"
                                      "\t(client certificate \"relay.example.com\" verified)\r\n"
                                      "\tby mx.example.org with UTF8SMTPS id aerukz4jvpg66;\r\n"
                                      "\tSat, 21 Nov 2026 20:25:15 +0000\r\n");
    stamp.tls = &info;
    stamp.utf8 = stamp.extended = false;
    assert_non_null(strstr(made(&stamp), "\r\n\tby mx.example.org with SMTP id "));
}

/* A name in a certificate may not end the comment, nor begin a field. */
static void hostile_names(void **state)
{
    (void)state;
    static const struct {
        const char *name, *shown;
    } cases[] = {
        {"a)(b",               "a??b"            },
        {"a\\",                "a?"              },
        {"\"x\" verified) by", "?x? verified? by"},
        {"a\r\nSubject: x",    "a??Subject: x"   },
        {"b\xc3\xbc"
         "cher",      "b??cher"         },
        {"\x7f\t\x01",         "???"             },
        {"Some Name, Inc.",    "Some Name, Inc." },
    };
    union address_any peer = client_at("10.1.2.3:1");
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char wanted[128];
        const struct tls_info info = {
            .version = "TLSv1.2", .cipher = "X", .peer_name = cases[i].name};
        struct stamp stamp = {.peer = &peer, .hostname = BYTES("mx"), .id = "x", .tls = &info};
        snprintf(wanted, sizeof(wanted), "\r\n\t(client certificate \"%s\" verified)\r\n\tby mx ",
                 cases[i].shown);
        assert_non_null(strstr(made(&stamp), wanted));
    }
}

static void hostile_helo(void **state)
{
    (void)state;
    static const char *const hostile[] = {
        "",
        "a b",
        "a\r\nSubject: x",
        "a\nb",
        "a\rb",
        "a\tb",
        "(comment",
        "x) by evil; ",
        "a;b",
        "<a>",
        "a\"b",
        "\xff\xfe",
        "-a.example",
        "a..b",
        ".",
        "[1.2.3.4",
        "[1.2.3.4]x",
        "[\r\n]",
        "under_score.example",
        "a\x7f",
    };
    union address_any peer = client_at("10.1.2.3:1");
    struct stamp stamp = {.peer = &peer, .hostname = BYTES("mx"), .id = "x", .wall_us = 0};
    for (size_t i = 0; i < sizeof(hostile) / sizeof(hostile[0]); i++)
        for (int utf8 = 0; utf8 <= 1; utf8++) {
            stamp.utf8 = utf8;
            stamp.helo = bytes_of_string(hostile[i]);
            const char *text = made(&stamp);
            assert_memory_equal(text, "Received: from unknown ([10.1.2.3])\r\n\tby mx with ", 49);
        }
    stamp.helo = BYTES("nul\0inside");
    assert_memory_equal(made(&stamp), "Received: from unknown (", 24);
}

/* A header in UTF-8 goes only into a message that asked for it (RFC 6531 3.7.3). */
static void utf8_helo(void **state)
{
    (void)state;
    union address_any peer = client_at("10.1.2.3:1");
    struct stamp stamp = {.peer = &peer,
                          .hostname = BYTES("mx"),
                          .id = "x",
                          .helo = BYTES("b\xc3\xbc"
                                        "cher.example")};
    assert_memory_equal(made(&stamp), "Received: from unknown (", 24);
    stamp.utf8 = true;
    assert_memory_equal(made(&stamp),
                        "Received: from b\xc3\xbc"
                        "cher.example (",
                        32);
}

static void longest(void **state)
{
    (void)state;
    char name[256];
    char mailbox[255];
    char certified[1001];
    for (size_t i = 0; i < sizeof(name) - 1; i++)
        name[i] = i % 64 == 63 ? '.' : 'a';
    memset(mailbox, 'b', sizeof(mailbox) - 1);
    memset(certified, 'c', sizeof(certified) - 1);
    certified[1000] = '\0';
    const struct tls_info info = {
        .version = "TLSv1.2",
        .cipher = "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        .peer_name = certified,
    };
    union address_any peer = client_at("[1111:2222:3333:4444:5555:6666:7777:8888]:1");
    struct stamp stamp = {
        .peer = &peer,
        .helo = bytes_make(name, 255),
        .hostname = bytes_make(name, 255),
        .recipient = bytes_make(mailbox, 254),
        .extended = true,
        .utf8 = true,
        .tls = &info,
        .id = "7777777777776",
        .wall_us = 1,
    };
    const char *text = made(&stamp);
    assert_non_null(strstr(text, "IPv6:1111:2222:3333:4444:5555:6666:7777:8888"));
    /* RFC 5322 2.1.1: no line over 998 octets. */
    size_t line = 0;
    for (; *text != '\0'; text++) {
        line = *text == '\n' ? 0 : line + 1;
        assert_in_range(line, 0, 998);
    }
}

static void expect_date(time_t seconds)
{
    static union address_any peer;
    peer.v4.sin_family = AF_INET;
    struct stamp stamp = {.peer = &peer, .hostname = BYTES("mx"), .id = "x"};
    char wanted[64];
    struct tm tm;
    gmtime_r(&seconds, &tm);
    assert_int_equal(
        strftime(wanted, sizeof(wanted), ";\r\n\t%a, %d %b %Y %H:%M:%S +0000\r\n", &tm),
        STAMP_DATE_LEN + 6);
    stamp.wall_us = (uint64_t)seconds * 1000000;
    const char *text = made(&stamp);
    assert_string_equal(text + strlen(text) - strlen(wanted), wanted);
}

static void dates(void **state)
{
    (void)state;
    expect_date(0);
    static const time_t special[] = {
        951782399,    951782400,  /* before and in 29 February 2000 */
        951868799,    951868800,  /* its end */
        1709164800,   1709251199, /* 29 February 2024 */
        4107542399,   4107542400, /* 2100 has none */
        1798761599,   1798761600, /* 31 December 2026, 1 January 2027 */
        2147483647,   2147483648, /* 2038 */
        253402300799,             /* the end of 9999 */
    };
    for (size_t i = 0; i < sizeof(special) / sizeof(special[0]); i++)
        expect_date(special[i]);
    for (time_t day = 0; day < 200 * 366; day++)
        expect_date(day * 86400 + day * 7919 % 86400);
    expect_date(special[0]); /* and back: the one kept is not given again */
    expect_date(special[1]);
    expect_date(special[1]);
    expect_date(0);
}

static void peers(void **state)
{
    (void)state;
    static const struct {
        const char *address, *text;
    } cases[] = {
        {"0.0.0.0:1",                                   "0.0.0.0"              },
        {"1.20.255.100:1",                              "1.20.255.100"         },
        {"255.255.255.255:1",                           "255.255.255.255"      },
        {"10.9.99.101:1",                               "10.9.99.101"          },
        {"[::]:1",                                      "IPv6:::"              },
        {"[::1]:1",                                     "IPv6:::1"             },
        {"[::ffff:192.0.2.1]:1",                        "IPv6:::ffff:192.0.2.1"},
        {"[fe80::1]:1",                                 "IPv6:fe80::1"         },
        {"[1111:2222:3333:4444:5555:6666:7777:8888]:1",
         "IPv6:1111:2222:3333:4444:5555:6666:7777:8888"                        },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char out[STAMP_PEER_LEN];
        memset(out, 'x', sizeof(out));
        union address_any peer = client_at(cases[i].address);
        assert_int_equal(stamp_peer(&peer, out), strlen(cases[i].text));
        assert_string_equal(out, cases[i].text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dates), /* first: at its very beginning nothing is kept */
        cmocka_unit_test(forms),        cmocka_unit_test(of_users),
        cmocka_unit_test(tls_forms),    cmocka_unit_test(hostile_names),
        cmocka_unit_test(hostile_helo), cmocka_unit_test(utf8_helo),
        cmocka_unit_test(longest),      cmocka_unit_test(peers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
