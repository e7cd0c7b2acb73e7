/* Sets of networks: what is one and what is none, who lies in them, IPv4 inside IPv6; and the
 * masks that clients are counted by. */
#include "gateway/policy/networks.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <arpa/inet.h>
#include <cmocka.h>

static union address_any address_of(const char *text)
{
    union address_any address = {0};
    if (strchr(text, ':') == NULL) {
        address.v4.sin_family = AF_INET;
        assert_int_equal(inet_pton(AF_INET, text, &address.v4.sin_addr), 1);
    } else {
        address.v6.sin6_family = AF_INET6;
        assert_int_equal(inet_pton(AF_INET6, text, &address.v6.sin6_addr), 1);
    }
    return address;
}

static bool contains(const struct networks *networks, const char *text)
{
    union address_any address = address_of(text);
    return networks_contain(networks, &address);
}

static void what_is_a_network(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        enum networks_result result;
    } cases[] = {
        {"192.0.2.1",                                              NETWORKS_ADDED     },
        {"192.0.2.0/24",                                           NETWORKS_ADDED     },
        {"0.0.0.0/0",                                              NETWORKS_ADDED     },
        {"192.0.2.1/32",                                           NETWORKS_ADDED     },
        {"192.0.2.128/25",                                         NETWORKS_ADDED     },
        {"2001:db8::/32",                                          NETWORKS_ADDED     },
        {"::1",                                                    NETWORKS_ADDED     },
        {"::/0",                                                   NETWORKS_ADDED     },
        {"2001:db8::1/128",                                        NETWORKS_ADDED     },
        {"::ffff:192.0.2.0/120",                                   NETWORKS_ADDED     },
        {"10.0.0.1/8",                                             NETWORKS_HOST_BITS },
        {"192.0.2.129/25",                                         NETWORKS_HOST_BITS },
        {"2001:db8::1/127",                                        NETWORKS_HOST_BITS },
        {"2001:db8::1/0",                                          NETWORKS_HOST_BITS },
        {"",                                                       NETWORKS_NO_NETWORK},
        {"/",                                                      NETWORKS_NO_NETWORK},
        {"/8",                                                     NETWORKS_NO_NETWORK},
        {"192.0.2.0/",                                             NETWORKS_NO_NETWORK},
        {"192.0.2.0/33",                                           NETWORKS_NO_NETWORK},
        {"192.0.2.0/-1",                                           NETWORKS_NO_NETWORK},
        {"192.0.2.0/+8",                                           NETWORKS_NO_NETWORK},
        {"192.0.2.0/ 8",                                           NETWORKS_NO_NETWORK},
        {"192.0.2.0/8x",                                           NETWORKS_NO_NETWORK},
        {"192.0.2.0/0000000000024",                                NETWORKS_NO_NETWORK},
        {"192.0.2",                                                NETWORKS_NO_NETWORK},
        {"192.0.2.256",                                            NETWORKS_NO_NETWORK},
        {" 192.0.2.1",                                             NETWORKS_NO_NETWORK},
        {"::/129",                                                 NETWORKS_NO_NETWORK},
        {"[::1]",                                                  NETWORKS_NO_NETWORK},
        {"fe80::1%lo",                                             NETWORKS_NO_NETWORK},
        {"localhost",                                              NETWORKS_NO_NETWORK},
        {"1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa:bbbb", NETWORKS_NO_NETWORK},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct networks *networks = networks_new();
        enum networks_result result = networks_add(networks, cases[i].text);
        if (result != cases[i].result)
            fail_msg("\"%s\": %d", cases[i].text, result);
        networks_free(networks);
    }
}

static void who_lies_in_them(void **state)
{
    (void)state;
    struct networks *networks = networks_new();
    assert_false(contains(networks, "192.0.2.1"));
    assert_false(contains(networks, "::"));
    assert_int_equal(networks_add(networks, "192.0.2.128/25"), NETWORKS_ADDED);
    assert_int_equal(networks_add(networks, "198.51.100.7"), NETWORKS_ADDED);
    assert_int_equal(networks_add(networks, "2001:db8:1::/48"), NETWORKS_ADDED);
    assert_int_equal(networks_add(networks, "2001:db8:2:4::/63"), NETWORKS_ADDED);
    assert_int_equal(networks_add(networks, "::1"), NETWORKS_ADDED);
    assert_false(contains(networks, "192.0.2.127"));
    assert_true(contains(networks, "192.0.2.128"));
    assert_true(contains(networks, "192.0.2.255"));
    assert_false(contains(networks, "192.0.3.128"));
    assert_false(contains(networks, "198.51.100.6"));
    assert_true(contains(networks, "198.51.100.7"));
    assert_false(contains(networks, "198.51.100.8"));
    assert_true(contains(networks, "2001:db8:1::"));
    assert_true(contains(networks, "2001:db8:1:ffff:ffff:ffff:ffff:ffff"));
    assert_false(contains(networks, "2001:db8:2::"));
    assert_false(contains(networks, "2001:db8:2:3::1"));
    assert_true(contains(networks, "2001:db8:2:4::1"));
    assert_true(contains(networks, "2001:db8:2:5::1"));
    assert_false(contains(networks, "2001:db8:2:6::1"));
    assert_true(contains(networks, "::1"));
    assert_false(contains(networks, "::2"));
    assert_false(contains(networks, "0.0.0.1"));
    networks_free(networks);
}

static void ipv4_in_ipv6_is_ipv4(void **state)
{
    (void)state;
    struct networks *networks = networks_new();
    assert_int_equal(networks_add(networks, "192.0.2.0/24"), NETWORKS_ADDED);
    assert_true(contains(networks, "::ffff:192.0.2.9"));
    assert_false(contains(networks, "::ffff:192.0.3.9"));
    assert_false(contains(networks, "::192.0.2.9"));
    networks_free(networks);
    networks = networks_new();
    assert_int_equal(networks_add(networks, "::ffff:192.0.2.0/120"), NETWORKS_ADDED);
    assert_true(contains(networks, "192.0.2.9"));
    networks_free(networks);
}

static void all_and_none(void **state)
{
    (void)state;
    assert_false(contains(NULL, "192.0.2.1"));
    networks_free(NULL);
    struct networks *networks = networks_new();
    assert_int_equal(networks_add(networks, "0.0.0.0/0"), NETWORKS_ADDED);
    assert_true(contains(networks, "255.255.255.255"));
    assert_false(contains(networks, "2001:db8::1"));
    assert_int_equal(networks_add(networks, "::/0"), NETWORKS_ADDED);
    assert_true(contains(networks, "2001:db8::1"));
    networks_free(networks);
}

static void masked(const char *text, unsigned v4_bits, unsigned v6_bits, const char *expected)
{
    union address_any address = address_of(text);
    uint8_t octets[16];
    char got[INET6_ADDRSTRLEN];
    bool is_v4 = networks_mask(&address, v4_bits, v6_bits, octets);
    inet_ntop(is_v4 ? AF_INET : AF_INET6, is_v4 ? octets + 12 : octets, got, sizeof(got));
    assert_string_equal(got, expected);
}

static void masks(void **state)
{
    (void)state;
    masked("192.0.2.255", 32, 64, "192.0.2.255");
    masked("192.0.2.255", 24, 64, "192.0.2.0");
    masked("192.0.2.255", 28, 64, "192.0.2.240");
    masked("192.0.2.255", 0, 64, "0.0.0.0");
    masked("::ffff:192.0.2.255", 24, 64, "192.0.2.0");
    masked("2001:db8:1:2:3:4:5:6", 24, 64, "2001:db8:1:2::");
    masked("2001:db8:1:2:3:4:5:6", 24, 48, "2001:db8:1::");
    masked("2001:db8:ffff:2:3:4:5:6", 24, 44, "2001:db8:fff0::");
    masked("2001:db8:1:2:3:4:5:6", 24, 128, "2001:db8:1:2:3:4:5:6");
    masked("2001:db8:1:2:3:4:5:6", 24, 0, "::");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_a_network),
        cmocka_unit_test(who_lies_in_them),
        cmocka_unit_test(ipv4_in_ipv6_is_ipv4),
        cmocka_unit_test(all_and_none),
        cmocka_unit_test(masks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
