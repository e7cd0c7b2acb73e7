/* PROXY headers of both versions: what is taken, what is refused, every good one cut off at every
 * octet and with every octet changed, with the input at both ends of readable memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "parser/ip.h"
#include "parser/proxy.h"
#include "tests/unit/guard.h"

static struct guard guard;

/* Parses at both ends of readable memory; the second result is *out. */
static enum proxy_result parse(struct bytes in, struct proxy *out)
{
    memset(out, 0xff, sizeof(*out));
    enum proxy_result first = proxy_parse(guard_at_start(&guard, in), out);
    in = guard_at_end(&guard, in);
    memset(out, 0xff, sizeof(*out));
    assert_int_equal(proxy_parse(in, out), first);
    if (first != PROXY_OK) {
        static const struct proxy nothing;
        assert_memory_equal(out, &nothing, sizeof(nothing));
    }
    return first;
}

static struct proxy good(struct bytes in)
{
    struct proxy header;
    assert_int_equal(parse(in, &header), PROXY_OK);
    assert_int_equal(header.len, in.len);
    return header;
}

static struct proxy good_v1(const char *text)
{
    struct proxy header;
    if (parse(bytes_of_string(text), &header) != PROXY_OK)
        fail_msg("refused: %s", text);
    assert_int_equal(header.version, 1);
    assert_int_equal(header.len, strlen(text));
    return header;
}

static void assert_bytes(struct bytes is, const char *text)
{
    assert_int_equal(is.len, strlen(text));
    assert_memory_equal(is.data, text, is.len);
}

/* --- version 1 --- */

static void v1_tells_addresses(void **state)
{
    (void)state;
    struct proxy header = good_v1("PROXY TCP4 192.0.2.1 198.51.100.255 65535 0\r\n");
    assert_int_equal(header.family, PROXY_V4);
    assert_memory_equal(header.source, "\xc0\x00\x02\x01", 4);
    assert_memory_equal(header.target, "\xc6\x33\x64\xff", 4);
    assert_int_equal(header.source_port, 65535);
    assert_int_equal(header.target_port, 0);
    assert_false(header.local);
    header = good_v1("PROXY TCP6 2001:db8::1 ::ffff:192.0.2.1 25 10000\r\n");
    assert_int_equal(header.family, PROXY_V6);
    assert_memory_equal(header.source, "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01", 16);
    assert_memory_equal(header.target, "\0\0\0\0\0\0\0\0\0\0\xff\xff\xc0\x00\x02\x01", 16);
    assert_int_equal(header.source_port, 25);
    assert_int_equal(header.target_port, 10000);
}

static void v1_unknown_tells_none(void **state)
{
    (void)state;
    assert_int_equal(good_v1("PROXY UNKNOWN\r\n").family, PROXY_NONE);
    assert_int_equal(good_v1("PROXY UNKNOWN ffff:: \x80 1 2\r\n").family, PROXY_NONE);
}

static void v1_may_be_as_long_as_the_longest(void **state)
{
    (void)state;
    static const char six[] = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
    char line[128];
    snprintf(line, sizeof(line), "PROXY TCP6 %s %s 65535 65535\r\n", six, six);
    assert_int_equal(good_v1(line).source_port, 65535);
    for (int len = PROXY_V1_MAX - 1; len <= PROXY_V1_MAX + 1; len++) {
        struct proxy header;
        snprintf(line, sizeof(line), "PROXY UNKNOWN %0*d\r\n", len - 16, 0);
        assert_int_equal(strlen(line), len);
        enum proxy_result wanted = len <= PROXY_V1_MAX ? PROXY_OK : PROXY_BAD;
        assert_int_equal(parse(bytes_of_string(line), &header), wanted);
        /* and nobody waits for the end of one that is too long */
        assert_int_equal(parse(bytes_make(line, (size_t)len - 2), &header),
                         len <= PROXY_V1_MAX ? PROXY_MORE : PROXY_BAD);
    }
}

static void v1_refuses(void **state)
{
    (void)state;
    static const char *const lines[] = {
        "EHLO example.org\r\n",
        "proxy TCP4 1.2.3.4 1.2.3.4 1 2\r\n",
        "PROXYTCP4 1.2.3.4 1.2.3.4 1 2\r\n",
        "PROXY\r\n",
        "PROXY \r\n",
        "PROXY TCP4\r\n",
        "PROXY tcp4 1.2.3.4 1.2.3.4 1 2\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 \r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 2 \r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 2 3\r\n",
        "PROXY TCP4  1.2.3.4 1.2.3.4 1 2\r\n",
        "PROXY TCP4 1.2.3.4\t1.2.3.4 1 2\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 -1 2\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 +1 2\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 01 2\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 65536\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 4294967297\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 0x2\r\n",
        "PROXY TCP4 1.2.3.04 1.2.3.4 1 2\r\n",
        "PROXY TCP4 1.2.3 1.2.3.4 1 2\r\n",
        "PROXY TCP4 1.2.3.256 1.2.3.4 1 2\r\n",
        "PROXY TCP4 ::1 ::1 1 2\r\n",
        "PROXY TCP6 1.2.3.4 1.2.3.4 1 2\r\n",
        "PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n",
        "PROXY TCP6 [::1] ::1 1 2\r\n",
        "PROXY TCP6 :::1 ::1 1 2\r\n",
        "PROXY UNKNOWNX\r\n",
        "PROXY UNKNOWN\n",
        "PROXY UNKNOWN\rX",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n",
    };
    struct proxy header;
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
        if (parse(bytes_of_string(lines[i]), &header) != PROXY_BAD)
            fail_msg("not refused: %s", lines[i]);
    assert_int_equal(parse(BYTES("PROXY TCP4 1.2.3.4\0 1.2.3.4 1 2\r\n"), &header), PROXY_BAD);
}

/* --- version 2 --- */

enum { FRONT = 16 };

/* A header under construction. */
struct draft {
    uint8_t octets[PROXY_V2_MAX + 512];
    size_t len;
};

static void add(struct draft *draft, const void *octets, size_t len)
{
    memcpy(draft->octets + draft->len, octets, len);
    draft->len += len;
    draft->octets[14] = (uint8_t)((draft->len - FRONT) >> 8);
    draft->octets[15] = (uint8_t)(draft->len - FRONT);
}

static void add_tlv(struct draft *draft, uint8_t type, struct bytes value)
{
    const uint8_t front[] = {type, (uint8_t)(value.len >> 8), (uint8_t)value.len};
    add(draft, front, sizeof(front));
    add(draft, value.data, value.len);
}

static struct draft draft_of(uint8_t command, uint8_t family)
{
    static const char addresses[] = "\xc0\x00\x02\x01\xc6\x33\x64\x02\x12\x34\x00\x19";
    struct draft draft = {.octets = "\r\n\r\n\0\r\nQUIT\n", .len = FRONT};
    draft.octets[12] = (uint8_t)(0x20 | command);
    draft.octets[13] = family;
    if (family >> 4 == 1)
        add(&draft, addresses, 12);
    return draft;
}

static struct bytes octets_of(const struct draft *draft)
{
    return bytes_make(draft->octets, draft->len);
}

/* refused: this draft is, although the one that it was made of was not. */
static void refused(struct draft draft, size_t at, uint8_t octet)
{
    struct proxy header;
    assert_int_equal(parse(octets_of(&draft), &header), PROXY_OK);
    draft.octets[at] = octet;
    assert_int_equal(parse(octets_of(&draft), &header), PROXY_BAD);
}

static void v2_tells_addresses(void **state)
{
    (void)state;
    struct draft draft = draft_of(1, 0x11);
    struct proxy header = good(octets_of(&draft));
    assert_int_equal(header.version, 2);
    assert_int_equal(header.family, PROXY_V4);
    assert_memory_equal(header.source, "\xc0\x00\x02\x01", 4);
    assert_memory_equal(header.target, "\xc6\x33\x64\x02", 4);
    assert_int_equal(header.source_port, 0x1234);
    assert_int_equal(header.target_port, 25);
    draft = draft_of(1, 0x21);
    for (uint8_t i = 0; i < 36; i++)
        add(&draft, &i, 1);
    header = good(octets_of(&draft));
    assert_int_equal(header.family, PROXY_V6);
    assert_memory_equal(header.source, draft.octets + FRONT, 16);
    assert_memory_equal(header.target, draft.octets + FRONT + 16, 16);
    assert_int_equal(header.source_port, 32 << 8 | 33);
    assert_int_equal(header.target_port, 34 << 8 | 35);
}

static void v2_without_an_address(void **state)
{
    (void)state;
    static const uint8_t zeros[216];
    struct draft draft = draft_of(0, 0x11);
    struct proxy header = good(octets_of(&draft));
    assert_true(header.local);
    assert_int_equal(header.family, PROXY_NONE);
    add(&draft, "\x02\xff\xff", 3); /* what LOCAL brings is not looked at */
    assert_true(good(octets_of(&draft)).local);
    draft = draft_of(0, 0x00);
    assert_true(good(octets_of(&draft)).local);
    draft = draft_of(1, 0x00); /* UNSPEC */
    add(&draft, "whatever", 8);
    header = good(octets_of(&draft));
    assert_false(header.local);
    assert_int_equal(header.family, PROXY_NONE);
    draft = draft_of(1, 0x12); /* datagrams */
    assert_int_equal(good(octets_of(&draft)).family, PROXY_NONE);
    draft = draft_of(1, 0x31); /* AF_UNIX */
    add(&draft, zeros, sizeof(zeros));
    add_tlv(&draft, 0x02, BYTES("mx.example.org"));
    header = good(octets_of(&draft));
    assert_int_equal(header.family, PROXY_NONE);
    assert_bytes(header.authority, "mx.example.org");
}

static void v2_refuses(void **state)
{
    (void)state;
    struct draft inet = draft_of(1, 0x11);
    for (size_t i = 0; i < 12; i++)
        refused(inet, i, 'x');
    refused(inet, 12, 0x11); /* version 1 */
    refused(inet, 12, 0x31);
    refused(inet, 12, 0x22); /* commands that are none */
    refused(inet, 12, 0x2f);
    refused(inet, 13, 0x41); /* families and transports that are none */
    refused(inet, 13, 0xf1);
    refused(inet, 13, 0x13);
    refused(inet, 13, 0x1f);
    refused(inet, 13, 0x21); /* too short for its family */
    refused(inet, 13, 0x31);
    refused(inet, 14, 0xff); /* too long for us */
    refused(draft_of(0, 0x11), 13, 0x21);
    struct proxy header;
    struct draft longest = draft_of(0, 0x00);
    static const uint8_t zeros[PROXY_V2_MAX];
    add(&longest, zeros, PROXY_V2_MAX - FRONT);
    assert_int_equal(good(octets_of(&longest)).len, PROXY_V2_MAX);
    add(&longest, zeros, 1);
    assert_int_equal(parse(octets_of(&longest), &header), PROXY_BAD);
    assert_int_equal(parse(bytes_make(longest.octets, FRONT), &header), PROXY_BAD);
}

/* A header with everything in it but a checksum. */
static struct draft full(void)
{
    struct draft draft = draft_of(1, 0x11);
    struct draft ssl = {.len = FRONT};
    add(&ssl, "\x07\0\0\0\0", 5);
    add_tlv(&ssl, 0x21, BYTES("TLSv1.3"));
    add_tlv(&ssl, 0x22, BYTES("client.example.net"));
    add_tlv(&ssl, 0x23, BYTES("TLS_AES_256_GCM_SHA384"));
    add_tlv(&ssl, 0x25, BYTES("RSA4096"));
    add_tlv(&draft, 0x02, BYTES("mx.example.org"));
    add_tlv(&draft, 0x05, BYTES("unique\0id"));
    add_tlv(&draft, 0x20, bytes_make(ssl.octets + FRONT, ssl.len - FRONT));
    add_tlv(&draft, 0xea, BYTES("somebody's own"));
    return draft;
}

static void v2_tlvs_are_read(void **state)
{
    (void)state;
    struct draft draft = full();
    struct proxy header = good(octets_of(&draft));
    assert_bytes(header.authority, "mx.example.org");
    assert_int_equal(header.unique_id.len, 9);
    assert_memory_equal(header.unique_id.data, "unique\0id", 9);
    assert_true(header.tls && header.tls_verified);
    assert_bytes(header.tls_version, "TLSv1.3");
    assert_bytes(header.tls_name, "client.example.net");
    assert_bytes(header.tls_cipher, "TLS_AES_256_GCM_SHA384");
}

/* Verified is who came by TLS, had a certificate, and it was found good. */
static void v2_verified(void **state)
{
    (void)state;
    static const struct {
        uint8_t octets[5];
        bool tls, verified;
    } cases[] = {
        {{7, 0, 0, 0, 0},  true,  true },
        {{3, 0, 0, 0, 0},  true,  true },
        {{5, 0, 0, 0, 0},  true,  true },
        {{1, 0, 0, 0, 0},  true,  false}, /* without a certificate */
        {{7, 0, 0, 0, 1},  true,  false},
        {{7, 1, 0, 0, 0},  true,  false},
        {{6, 0, 0, 0, 0},  false, false},
        {{0, 0, 0, 0, 20}, false, false},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct draft draft = draft_of(1, 0x11);
        add_tlv(&draft, 0x20, bytes_make(cases[i].octets, 5));
        struct proxy header = good(octets_of(&draft));
        assert_int_equal(header.tls, cases[i].tls);
        assert_int_equal(header.tls_verified, cases[i].verified);
    }
}

static void v2_tlvs_must_be_whole(void **state)
{
    (void)state;
    struct draft draft = draft_of(1, 0x11);
    struct proxy header;
    add(&draft, "\x02", 1);
    assert_int_equal(parse(octets_of(&draft), &header), PROXY_BAD);
    add(&draft, "\0", 1);
    assert_int_equal(parse(octets_of(&draft), &header), PROXY_BAD);
    add(&draft, "\x01", 1);
    assert_int_equal(parse(octets_of(&draft), &header), PROXY_BAD);
    add(&draft, "x", 1);
    assert_bytes(good(octets_of(&draft)).authority, "x");
    refused(draft, draft.len - 2, 2);
    draft = draft_of(1, 0x11);
    add_tlv(&draft, 0x20, BYTES("\x01\0\0\0"));
    assert_int_equal(parse(octets_of(&draft), &header), PROXY_BAD);
    draft = draft_of(1, 0x11);
    add_tlv(&draft, 0x20, BYTES("\x01\0\0\0\0\x21\0\x02x"));
    add(&draft, "xxxxxxxx", 8); /* it may not reach out of what it is in */
    assert_int_equal(parse(octets_of(&draft), &header), PROXY_BAD);
    static const uint8_t id[PROXY_UNIQUE_ID_MAX + 1];
    for (size_t len = PROXY_UNIQUE_ID_MAX - 1; len <= sizeof(id); len++) {
        draft = draft_of(1, 0x11);
        add_tlv(&draft, 0x05, bytes_make(id, len));
        assert_int_equal(parse(octets_of(&draft), &header),
                         len <= PROXY_UNIQUE_ID_MAX ? PROXY_OK : PROXY_BAD);
    }
}

/* One that HAProxy has made. Whatever is changed in it, the checksum tells. */
static void v2_checksum_is_checked(void **state)
{
    (void)state;
    static const char octets[] =
        "\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x72\x7f\0\0\x01\x7f\0\0\x01\xb0\x52\x62\xa5"
        "\x03\0\x04\x54\xfd\xc6\xff\x02\0\x09"
        "AUTHORITY\x05\0\x09UNIQUE_ID\x20\0\x44\x01\0\0\0\0\x21\0\x07TLSv1.2\x25\0\x07"
        "RSA4096$\0\x0aRSA-SHA256#\0\x1b"
        "ECDHE-RSA-AES256-GCM-SHA384";
    struct draft draft = {.len = sizeof(octets) - 1};
    memcpy(draft.octets, octets, draft.len);
    struct proxy header = good(octets_of(&draft));
    assert_bytes(header.authority, "AUTHORITY");
    for (size_t i = FRONT; i < draft.len; i++) {
        bool frame = i == 28 || i == 29 || i == 30; /* it is no checksum then, or no TLV */
        if (!frame)
            refused(draft, i, (uint8_t)(draft.octets[i] ^ 0x20));
    }
    refused(draft, 30, 3);
}

/* --- both --- */

/* Cut off at each octet a header is unfinished, and never anything else; with octets behind it, it
 * is as without. */
static void cut_headers_are_unfinished(void **state)
{
    (void)state;
    struct draft drafts[] = {
        full(),
        draft_of(0, 0x00),
        draft_of(1, 0x11),
        {.octets = "PROXY TCP6 2001:db8::1 2001:db8::2 12345 25\r\n", .len = 45},
        {.octets = "PROXY UNKNOWN\r\n",                               .len = 15},
    };
    for (size_t i = 0; i < sizeof(drafts) / sizeof(drafts[0]); i++) {
        struct proxy header, again;
        struct draft draft = drafts[i];
        for (size_t len = 0; len < draft.len; len++)
            assert_int_equal(parse(bytes_make(draft.octets, len), &header), PROXY_MORE);
        assert_int_equal(proxy_parse(octets_of(&draft), &header), PROXY_OK);
        memcpy(draft.octets + draft.len, "\r\nEHLO x\r\n", 10);
        assert_int_equal(proxy_parse(bytes_make(draft.octets, draft.len + 10), &again), PROXY_OK);
        assert_int_equal(again.len, draft.len);
        assert_int_equal(again.family, header.family);
        assert_memory_equal(again.source, header.source, 16);
        for (size_t at = 0; at < draft.len; at++) {
            for (int octet = 0; octet < 256; octet++) {
                uint8_t before = draft.octets[at];
                draft.octets[at] = (uint8_t)octet;
                (void)parse(octets_of(&draft), &again);
                draft.octets[at] = before;
            }
        }
    }
}

static void beginnings_are_known(void **state)
{
    (void)state;
    assert_true(proxy_begins(BYTES("PROXY UNKNOWN\r\n")));
    assert_true(proxy_begins(BYTES("PROXY ")));
    assert_false(proxy_begins(BYTES("PROXY")));
    assert_false(proxy_begins(BYTES("EHLO x")));
    assert_false(proxy_begins(bytes_make(NULL, 0)));
    struct draft draft = draft_of(0, 0);
    for (size_t len = 0; len <= draft.len; len++)
        assert_int_equal(proxy_begins(bytes_make(draft.octets, len)), len >= 12);
}

static void ip_texts_have_a_limit(void **state)
{
    (void)state;
    uint8_t address[16];
    static const char longest[] = "ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255";
    assert_int_equal(strlen(longest), IP_TEXT_MAX);
    assert_true(ip_parse_v6(bytes_of_string(longest), address));
    assert_false(ip_parse_v6(BYTES("0ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255"), address));
    assert_false(ip_parse_v4(BYTES("1.2.3.4\0"), address));
    assert_false(ip_parse_v4(BYTES(""), address));
}

int main(void)
{
    guard = guard_make(PROXY_V2_MAX + 512);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(v1_tells_addresses),
        cmocka_unit_test(v1_unknown_tells_none),
        cmocka_unit_test(v1_may_be_as_long_as_the_longest),
        cmocka_unit_test(v1_refuses),
        cmocka_unit_test(v2_tells_addresses),
        cmocka_unit_test(v2_without_an_address),
        cmocka_unit_test(v2_refuses),
        cmocka_unit_test(v2_tlvs_are_read),
        cmocka_unit_test(v2_verified),
        cmocka_unit_test(v2_tlvs_must_be_whole),
        cmocka_unit_test(v2_checksum_is_checked),
        cmocka_unit_test(cut_headers_are_unfinished),
        cmocka_unit_test(beginnings_are_known),
        cmocka_unit_test(ip_texts_have_a_limit),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    guard_free(&guard);
    return failed;
}
