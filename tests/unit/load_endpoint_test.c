/* Near ends of connections: addresses under a prefix (different ones, none that a host can't have,
 * never the server's), sockets bound to them, and PROXY headers octet by octet as HAProxy's
 * proxy-protocol.txt has them. */
#include "bench/load/endpoint.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <unistd.h>

static struct load_prefix prefix_of(const char *address, uint8_t length)
{
    struct load_prefix prefix = {.length = length};
    prefix.family = strchr(address, ':') == NULL ? AF_INET : AF_INET6;
    assert_int_equal(inet_pton(prefix.family, address, prefix.address), 1);
    return prefix;
}

static union endpoint end_of(const char *address, uint16_t port)
{
    union endpoint end = {0};
    if (strchr(address, ':') == NULL) {
        end.v4.sin_family = AF_INET;
        end.v4.sin_port = htons(port);
        assert_int_equal(inet_pton(AF_INET, address, &end.v4.sin_addr), 1);
    } else {
        end.v6.sin6_family = AF_INET6;
        end.v6.sin6_port = htons(port);
        assert_int_equal(inet_pton(AF_INET6, address, &end.v6.sin6_addr), 1);
    }
    return end;
}

static const char *text_of(const union endpoint *end)
{
    static char text[INET6_ADDRSTRLEN];
    bool v4 = end->any.sa_family == AF_INET;
    const void *octets = v4 ? (const void *)&end->v4.sin_addr : &end->v6.sin6_addr;
    assert_non_null(inet_ntop(end->any.sa_family, octets, text, sizeof(text)));
    return text;
}

/* Checks the address with this number, when the server has address `peer` (NULL: elsewhere). */
static void check(const char *prefix, uint8_t length, uint64_t number, const char *peer,
                  const char *expected)
{
    struct load_prefix under = prefix_of(prefix, length);
    union endpoint server = {0}, address;
    if (peer != NULL)
        server = end_of(peer, 25);
    endpoint_address(&under, number, peer == NULL ? NULL : &server.any, &address);
    assert_string_equal(text_of(&address), expected);
}

static void addresses_in_order(void **state)
{
    (void)state;
    check("127.0.0.0", 8, 0, NULL, "127.0.0.1");
    check("127.0.0.0", 8, 0, "127.0.0.1", "127.0.0.2");
    check("127.0.0.0", 8, 253, "127.0.0.1", "127.0.0.255");
    check("127.0.0.0", 8, 254, "127.0.0.1", "127.0.1.0");
    check("127.0.0.0", 8, 3, "127.0.0.5", "127.0.0.4");
    check("127.0.0.0", 8, 4, "127.0.0.5", "127.0.0.6");
    check("127.0.0.0", 8, 0, "192.0.2.1", "127.0.0.1");
    check("127.9.128.0", 17, 0x7ffc, NULL, "127.9.255.253");
    check("127.9.128.0", 17, 0x7ffd, NULL, "127.9.255.254");
    check("127.9.128.0", 17, 0x7ffe, NULL, "127.9.128.1"); /* and so round again */
    check("127.0.0.0", 8, 16777212, "127.0.0.1", "127.255.255.254");
    check("127.0.0.0", 8, 16777213, "127.0.0.1", "127.0.0.2");
    check("10.0.0.4", 31, 0, NULL, "10.0.0.4");
    check("10.0.0.4", 31, 1, NULL, "10.0.0.5");
    check("10.0.0.4", 31, 7, "10.0.0.4", "10.0.0.5");
    check("127.0.0.1", 32, 9, "127.0.0.1", "127.0.0.1"); /* the only one there is */
    check("0.0.0.0", 0, 0xfffffffd, NULL, "255.255.255.254");
}

static void addresses_of_ipv6(void **state)
{
    (void)state;
    check("2001:db8::", 64, 0, NULL, "2001:db8::1");
    check("2001:db8::", 64, 0x12345678, NULL, "2001:db8::1234:5679");
    check("2001:db8::", 64, 6, "2001:db8::7", "2001:db8::8");
    check("2001:db8::", 64, 6, "2001:db8:0:0:ffff::7", "2001:db8::7");
    check("2001:db8::", 64, 6, "2001:db9::7", "2001:db8::7");
    check("2001:db8::", 64, 6, "127.0.0.7", "2001:db8::7");
    check("2001:db8::", 32, 1, "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", "2001:db8::2");
    check("fd00::ff00", 120, 254, NULL, "fd00::ffff");
    check("fd00::ff00", 120, 255, NULL, "fd00::ff01");
    check("::1", 128, 77, "::1", "::1");
}

static void no_address_twice(void **state)
{
    (void)state;
    static uint8_t seen[1 << 16];
    struct load_prefix prefix = prefix_of("127.77.0.0", 16);
    union endpoint server = end_of("127.77.3.9", 25), address;
    for (uint32_t i = 0; i < (1 << 16) - 3; i++) {
        endpoint_address(&prefix, i, &server.any, &address);
        uint32_t whole = ntohl(address.v4.sin_addr.s_addr);
        assert_int_equal(whole >> 16, 127 << 8 | 77);
        assert_int_equal(address.v4.sin_port, 0);
        assert_int_equal(seen[whole & 0xffff]++, 0);
    }
    assert_int_equal(seen[0] + seen[0xffff] + seen[0x0309], 0);
}

static void bound_sockets(void **state)
{
    (void)state;
    char message[256] = "";
    struct load_options options = {.sources = prefix_of("127.0.0.0", 8)};
    union endpoint server = end_of("127.0.0.1", 25), own;
    memcpy(&options.peer, &server, sizeof(server));
    int descriptor = endpoint_open(&options, 4, message, sizeof(message));
    assert_true(descriptor >= 0);
    socklen_t len = sizeof(own);
    assert_int_equal(getsockname(descriptor, &own.any, &len), 0);
    assert_string_equal(text_of(&own), "127.0.0.6");
    close(descriptor);
    options.sources = prefix_of("192.0.2.0", 24);
    assert_int_equal(endpoint_open(&options, 4, message, sizeof(message)), -EADDRNOTAVAIL);
    assert_non_null(strstr(message, "192.0.2.5"));
}

/* Section 2.1: the examples, and the longest header that there can be. */
static void headers_of_version_1(void **state)
{
    (void)state;
    char header[ENDPOINT_HEADER_MAX];
    union endpoint source = end_of("192.168.0.1", 56324), target = end_of("192.168.0.11", 443);
    static const char v4[] = "PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n";
    assert_int_equal(endpoint_header(LOAD_PROXY_V1, &source, &target, header), sizeof(v4) - 1);
    assert_memory_equal(header, v4, sizeof(v4) - 1);
    static const char longest[] = "PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff "
                                  "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n";
    source = target = end_of("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 65535);
    size_t len = endpoint_header(LOAD_PROXY_V1, &source, &target, header);
    assert_int_equal(len, sizeof(longest) - 1);
    assert_true(len <= ENDPOINT_HEADER_MAX);
    assert_memory_equal(header, longest, len);
}

/* Section 2.2. */
static void headers_of_version_2(void **state)
{
    (void)state;
    static const uint8_t v4[] = {
        0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a, /* signature */
        0x21, 0x11, 0x00, 0x0c, /* version 2, PROXY; TCP over IPv4; 12 octets follow */
        192,  168,  0,    1,    192,  168,  0,    11,   0xdc, 0x04, 0x01, 0xbb,
    };
    static const uint8_t v6[] = {
        0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a, 0x21,
        0x21, 0x00, 0x24, 0x20, 0x01, 0x0d, 0xb8, 0,    0,    0,    0,    0,    0,
        0,    0,    0,    0,    0,    1,    0x20, 0x01, 0x0d, 0xb8, 0,    0,    0,
        0,    0,    0,    0,    0,    0,    0,    0,    2,    0xff, 0xff, 0x00, 0x19,
    };
    char header[ENDPOINT_HEADER_MAX];
    union endpoint source = end_of("192.168.0.1", 56324), target = end_of("192.168.0.11", 443);
    assert_int_equal(endpoint_header(LOAD_PROXY_V2, &source, &target, header), sizeof(v4));
    assert_memory_equal(header, v4, sizeof(v4));
    source = end_of("2001:db8::1", 65535);
    target = end_of("2001:db8::2", 25);
    assert_int_equal(endpoint_header(LOAD_PROXY_V2, &source, &target, header), sizeof(v6));
    assert_memory_equal(header, v6, sizeof(v6));
}

static void invented_sources(void **state)
{
    (void)state;
    char header[ENDPOINT_HEADER_MAX + 1];
    struct load_options options = {.proxy = LOAD_PROXY_V1};
    union endpoint server = end_of("127.0.0.1", 2525);
    memcpy(&options.peer, &server, sizeof(server));
    options.proxy_sources = prefix_of("198.51.100.0", 24);
    header[endpoint_proxy(&options, 2, -1, header)] = '\0';
    assert_string_equal(header, "PROXY TCP4 198.51.100.3 127.0.0.1 1026 2525\r\n");
    options.proxy_sources = prefix_of("2001:db8::", 32); /* both ends must be of one family */
    header[endpoint_proxy(&options, 64513, -1, header)] = '\0';
    assert_string_equal(header, "PROXY TCP6 2001:db8::fc02 ::ffff:127.0.0.1 1025 2525\r\n");
    options.proxy_sources.family = AF_UNSPEC; /* then its own, and this is no socket */
    assert_int_equal(endpoint_proxy(&options, 2, -1, header), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses_in_order),   cmocka_unit_test(addresses_of_ipv6),
        cmocka_unit_test(no_address_twice),     cmocka_unit_test(bound_sockets),
        cmocka_unit_test(headers_of_version_1), cmocka_unit_test(headers_of_version_2),
        cmocka_unit_test(invented_sources),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
