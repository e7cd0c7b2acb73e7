/* Addresses: good, bad and cut-off ones, each read twice, once so that one octet too far crashes,
 * once so that one too early does. tests/e2e/test_vectors.py holds the same functions against the
 * ABNF. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "parser/address.h"
#include "tests/unit/guard.h"

static struct guard guard;

static bool same_address(const struct address *a, const struct address *b)
{
    return bytes_equal(a->text, b->text) && bytes_equal(a->local, b->local) &&
           bytes_equal(a->domain, b->domain) && a->domain_kind == b->domain_kind &&
           a->quoted == b->quoted && a->utf8 == b->utf8;
}

static bool is_zero(const struct address *address)
{
    const struct address zero = {0};
    return address->text.data == NULL && same_address(address, &zero);
}

/* Parses at both ends of readable memory; *out is the second result. */
static enum address_result mailbox(struct bytes in, bool utf8, struct address *out)
{
    struct address at_start;
    enum address_result result = address_mailbox(guard_at_start(&guard, in), utf8, &at_start);
    uint8_t kept[1024];
    size_t kept_len = at_start.text.len;
    if (kept_len > 0)
        memcpy(kept, at_start.text.data, kept_len);
    assert_int_equal(address_mailbox(guard_at_end(&guard, in), utf8, out), result);
    assert_true(bytes_equal(bytes_make(kept, kept_len), out->text));
    assert_int_equal(is_zero(out), result != ADDRESS_OK && result != ADDRESS_LONG_LOCAL);
    return result;
}

static const struct {
    const char *text;
    const char *local;
    uint8_t kind;
} good[] = {
    {"a@b",                          "a",                     ADDRESS_NAME   },
    {"user+tag@Example.ORG",         "user+tag",              ADDRESS_NAME   },
    {"!#$%&'*+-/=?^_`{|}~.x@1.2",    "!#$%&'*+-/=?^_`{|}~.x", ADDRESS_NAME   },
    {"a@xn--bcher-kva.example",      "a",                     ADDRESS_NAME   },
    {"a@a--b.0",                     "a",                     ADDRESS_NAME   },
    {"\"\"@b",                       "\"\"",                  ADDRESS_NAME   },
    {"\"a b@c>\\\"\\\\\\ \"@b",      "\"a b@c>\\\"\\\\\\ \"", ADDRESS_NAME   },
    {"a@[0.0.0.0]",                  "a",                     ADDRESS_IPV4   },
    {"a@[255.001.99.7]",             "a",                     ADDRESS_IPV4   },
    {"a@[IPv6:::]",                  "a",                     ADDRESS_IPV6   },
    {"a@[ipv6:2001:DB8::1]",         "a",                     ADDRESS_IPV6   },
    {"a@[IPV6:1:2:3:4:5:6:7:8]",     "a",                     ADDRESS_IPV6   },
    {"a@[IPv6:1:2:3:4:5:6::]",       "a",                     ADDRESS_IPV6   },
    {"a@[IPv6:::3:4:5:6:7:8]",       "a",                     ADDRESS_IPV6   },
    {"a@[IPv6:1::8]",                "a",                     ADDRESS_IPV6   },
    {"a@[IPv6:1:2:3:4:5:6:1.2.3.4]", "a",                     ADDRESS_IPV6   },
    {"a@[IPv6:::1.2.3.4]",           "a",                     ADDRESS_IPV6   },
    {"a@[IPv6:1:2:3:4::1.2.3.4]",    "a",                     ADDRESS_IPV6   },
    {"a@[IPv6:::ffff:1.2.3.4]",      "a",                     ADDRESS_IPV6   },
    {"a@[IPv6:1::3:4:5:1.2.3.4]",    "a",                     ADDRESS_IPV6   },
    {"a@[x-1:y]",                    "a",                     ADDRESS_GENERAL},
    {"a@[-0:<>:@\"]",                "a",                     ADDRESS_GENERAL},
    {"a@[IPv66:1]",                  "a",                     ADDRESS_GENERAL},
};

static const char *const bad[] = {
    "",
    "@",
    "a",
    "a@",
    "@b",
    "a@@b",
    "a@b@c",
    ".a@b",
    "a.@b",
    "a..b@c",
    "a b@c",
    "a@b c",
    " a@b",
    "a@b ",
    "a@b.",
    "a@.b",
    "a@b..c",
    "a@-b",
    "a@b-",
    "a@b.-c",
    "a@b_c",
    "<a@b>",
    "a,b@c",
    "a(c)@b",
    "a\\b@c",
    "a\"b\"@c",
    "\"a\"b@c",
    "\"a@b",
    "\"a\\\"@b",
    "\"a\"@",
    "\"",
    "\"\\",
    "\"\t\"@b",
    "\"\\\t\"@b",
    "a\x7f@b",
    "a@b\x7f",
    "a@[",
    "a@[]",
    "a@[1.2.3]",
    "a@[1.2.3.4",
    "a@1.2.3.4]",
    "a@[1.2.3.4]x",
    "a@[1.2.3.4].x",
    "a@[1.2.3.4.5]",
    "a@[256.1.1.1]",
    "a@[1.2.3.0001]",
    "a@[1..2.3]",
    "a@[.1.2.3]",
    "a@[1.2.3.]",
    "a@[ 1.2.3.4]",
    "a@[+1.2.3.4]",
    "a@[IPv6:]",
    "a@[IPv6::]",
    "a@[IPv6:1]",
    "a@[IPv6:::::]",
    "a@[IPv6:1:::2]",
    "a@[IPv6:1::2::3]",
    "a@[IPv6:1:2:3:4:5:6:7]",
    "a@[IPv6:1:2:3:4:5:6:7:8:9]",
    "a@[IPv6:1:2:3:4:5:6:7:8:]",
    "a@[IPv6:1:2:3:4:5:6:7::]",
    "a@[IPv6:::2:3:4:5:6:7:8]",
    "a@[IPv6:1:2:3:4:5:6:7:]",
    "a@[IPv6::1:2:3:4:5:6:7]",
    "a@[IPv6:12345::]",
    "a@[IPv6:g::]",
    "a@[IPv6:::1.2.3]",
    "a@[IPv6:::1.2.3.256]",
    "a@[IPv6:1.2.3.4]",
    "a@[IPv6:1:2:3:4:5:1.2.3.4]",
    "a@[IPv6:1:2:3:4:5:6:7:1.2.3.4]",
    "a@[IPv6:1:2:3:4:5::1.2.3.4]",
    "a@[IPv6:1.2.3.4::]",
    "a@[IPv6:::1.2.3.4:5]",
    "a@[IPv6:fe80::1%eth0]",
    "a@[x]",
    "a@[x:]",
    "a@[:y]",
    "a@[x-:y]",
    "a@[x_y:z]",
    "a@[x:y z]",
    "a@[x:y[z]",
    "a@[x:y\\z]",
    "a@[x:y]z]",
    "a@[x:\xc3\xa9]",
    "a@[[1.2.3.4]]",
    "\xff@b",
    "a@\xc3",
    "\xc3@b",
    "\xc0\xaf@b",
    "\xed\xa0\x80@b",
    "a@\xf4\x90\x80\x80",
    "\"\\\xc3\xa9\"@b",
    "a@\xc3\xa9-",
    "a@-\xc3\xa9",
};

static void good_mailboxes_are_taken_apart(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        struct address address;
        struct bytes text = bytes_of_string(good[i].text);
        if (mailbox(text, i % 2 == 0, &address) != ADDRESS_OK)
            fail_msg("refused: %s", good[i].text);
        assert_true(bytes_equal(address.text, text));
        assert_true(bytes_equal(address.local, bytes_of_string(good[i].local)));
        assert_true(bytes_equal(address.domain, bytes_skip(text, address.local.len + 1)));
        assert_int_equal(address.domain_kind, good[i].kind);
        assert_int_equal(address.quoted, good[i].local[0] == '"');
        assert_false(address.utf8);
        enum address_domain_kind kind;
        assert_int_equal(address_domain(address.domain, false, &kind), ADDRESS_OK);
        assert_int_equal(kind, good[i].kind);
    }
}

static void bad_mailboxes_are_refused(void **state)
{
    (void)state;
    struct address address;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        for (int utf8 = 0; utf8 < 2; utf8++)
            if (mailbox(bytes_of_string(bad[i]), utf8, &address) != ADDRESS_BAD)
                fail_msg("taken: %s", bad[i]);
    for (unsigned c = 0; c < 256; c++) {
        uint8_t text[] = {'a', (uint8_t)c, 'b', '@', 'c'};
        bool allowed = c > 32 && c < 127 && strchr("()<>[]:;@\\,\"", (int)c) == NULL;
        assert_int_equal(mailbox(bytes_make(text, sizeof(text)), true, &address),
                         allowed ? ADDRESS_OK : ADDRESS_BAD);
    }
}

static void quoted_pairs_escape_printable_ascii(void **state)
{
    (void)state;
    struct address address;
    for (unsigned c = 0; c < 256; c++) {
        uint8_t pair[] = {'"', '\\', (uint8_t)c, '"', '@', 'b'};
        assert_int_equal(mailbox(bytes_make(pair, sizeof(pair)), true, &address),
                         c >= 32 && c <= 126 ? ADDRESS_OK : ADDRESS_BAD);
        uint8_t plain[] = {'"', (uint8_t)c, '"', '@', 'b'};
        bool allowed = c >= 32 && c <= 126 && c != '"' && c != '\\';
        assert_int_equal(mailbox(bytes_make(plain, sizeof(plain)), true, &address),
                         allowed ? ADDRESS_OK : ADDRESS_BAD);
    }
}

/* What is cut off is never read, and a cut address is good only where the grammar lets a shorter
 * name end. */
static void cut_mailboxes_are_safe(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        struct bytes text = bytes_of_string(good[i].text);
        size_t domain = strlen(good[i].local) + 1;
        for (size_t len = 0; len < text.len; len++) {
            struct address address;
            enum address_result result = mailbox(bytes_slice(text, 0, len), true, &address);
            bool name_ends = good[i].kind == ADDRESS_NAME && len > domain &&
                             text.data[len - 1] != '.' && text.data[len - 1] != '-';
            assert_int_equal(result, name_ends ? ADDRESS_OK : ADDRESS_BAD);
        }
    }
}

static void utf8_needs_permission(void **state)
{
    (void)state;
    static const char *const texts[] = {"\xc3\xa9@b",
                                        "a@b\xc3\xbc"
                                        "cher.example",
                                        "\"\xe4\xb8\xad\"@b", "\xf0\x9d\x84\x9e.x@\xd0\xb8",
                                        "a@\xc3\xa9-\xc3\xa9"};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct address address;
        assert_int_equal(mailbox(bytes_of_string(texts[i]), false, &address), ADDRESS_UTF8);
        assert_int_equal(mailbox(bytes_of_string(texts[i]), true, &address), ADDRESS_OK);
        assert_true(address.utf8);
    }
}

/* Makes local-part and labels of given lengths; returns a slice of `room`. */
static struct bytes make(uint8_t *room, size_t local_len, const size_t *label_len,
                         size_t label_count)
{
    size_t len = local_len;
    memset(room, 'a', local_len);
    for (size_t i = 0; i < label_count; i++) {
        room[len++] = i == 0 ? '@' : '.';
        memset(room + len, 'b', label_len[i]);
        len += label_len[i];
    }
    return bytes_make(room, len);
}

static void limits_hold_exactly(void **state)
{
    (void)state;
    static const struct {
        size_t local_len;
        size_t label_len[5];
        enum address_result result;
    } cases[] = {
        {64,  {1},              ADDRESS_OK        },
        {65,  {1},              ADDRESS_LONG_LOCAL},
        {252, {1},              ADDRESS_LONG_LOCAL},
        {253, {1},              ADDRESS_TOO_LONG  },
        {65,  {63, 63, 60},     ADDRESS_LONG_LOCAL}, /* 254 */
        {65,  {63, 63, 61},     ADDRESS_TOO_LONG  },
        {1,   {63},             ADDRESS_OK        },
        {1,   {64},             ADDRESS_TOO_LONG  },
        {1,   {1, 64, 1},       ADDRESS_TOO_LONG  },
        {1,   {63, 63, 63, 60}, ADDRESS_OK        }, /* 254 octets */
        {1,   {63, 63, 63, 61}, ADDRESS_TOO_LONG  }, /* 255 */
        {2,   {63, 63, 63, 60}, ADDRESS_TOO_LONG  },
        {64,  {63, 63, 61},     ADDRESS_OK        }, /* 254 */
        {64,  {63, 63, 62},     ADDRESS_TOO_LONG  },
    };
    uint8_t room[1024];
    struct address address;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        size_t count = 0;
        while (cases[i].label_len[count] != 0)
            count++;
        struct bytes text = make(room, cases[i].local_len, cases[i].label_len, count);
        assert_int_equal(mailbox(text, false, &address), cases[i].result);
        room[text.len] = '.'; /* malformed is malformed, however long */
        assert_int_equal(mailbox(bytes_make(room, text.len + 1), false, &address), ADDRESS_BAD);
    }
    enum address_domain_kind kind;
    struct bytes text = make(room, 0, (size_t[]){63, 63, 63, 63}, 4);
    assert_int_equal(address_domain(bytes_skip(text, 1), false, &kind), ADDRESS_OK); /* 255 */
    text = make(room, 0, (size_t[]){63, 63, 63, 62, 1}, 5);
    assert_int_equal(address_domain(bytes_skip(text, 1), false, &kind), ADDRESS_TOO_LONG);
    assert_int_equal(kind, ADDRESS_NO_DOMAIN);
}

/* 63 characters of two octets are one label, 64 are not. */
static void u_labels_are_counted_in_characters(void **state)
{
    (void)state;
    uint8_t room[2 * 64];
    for (size_t i = 0; i < sizeof(room); i++)
        room[i] = i % 2 == 0 ? 0xc3 : 0xa9;
    enum address_domain_kind kind;
    assert_int_equal(address_domain(bytes_make(room, 126), true, &kind), ADDRESS_OK);
    assert_int_equal(address_domain(bytes_make(room, 126), false, &kind), ADDRESS_UTF8);
    assert_int_equal(address_domain(bytes_make(room, 128), true, &kind), ADDRESS_TOO_LONG);
    assert_int_equal(address_domain(bytes_make(room, 128), false, &kind), ADDRESS_TOO_LONG);
}

static const struct {
    const char *text;
    const char *mailbox; /* NULL: ADDRESS_BAD */
    size_t used;
} paths[] = {
    {"<a@b>",                 "a@b",         5 },
    {"<a@b>xyz",              "a@b",         5 },
    {"<a@b>>",                "a@b",         5 },
    {"<\">\"@b> SIZE=1",      "\">\"@b",     7 },
    {"<@x:a@b>",              "a@b",         8 },
    {"<@x.y,@z:a@[1.2.3.4]>", "a@[1.2.3.4]", 21},
    {"a@b",                   NULL,          0 },
    {"<a@b",                  NULL,          0 },
    {"<a@b ",                 NULL,          0 },
    {"< a@b>",                NULL,          0 },
    {"<a@b >",                NULL,          0 },
    {"<<a@b>>",               NULL,          0 },
    {"<>",                    NULL,          0 },
    {"<a>",                   NULL,          0 },
    {"<Postmaster>",          NULL,          0 },
    {"<@x>",                  NULL,          0 },
    {"<@x:>",                 NULL,          0 },
    {"<@x,a@b>",              NULL,          0 },
    {"<@x,:a@b>",             NULL,          0 },
    {"<@x,y:a@b>",            NULL,          0 },
    {"<@:a@b>",               NULL,          0 },
    {"<@x@y:a@b>",            NULL,          0 },
    {"<@x:@y:a@b>",           NULL,          0 },
    {"<@[1.2.3.4]:a@b>",      NULL,          0 },
    {"<@x-:a@b>",             NULL,          0 },
    {"",                      NULL,          0 },
    {"<",                     NULL,          0 },
};

static void paths_end_at_their_bracket(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        struct bytes text = bytes_of_string(paths[i].text);
        struct address address;
        size_t used = 99;
        enum address_result result =
            address_path(guard_at_end(&guard, text), false, &address, &used);
        if ((result == ADDRESS_OK) != (paths[i].mailbox != NULL))
            fail_msg("%s: %d", paths[i].text, (int)result);
        assert_int_equal(used, paths[i].used);
        assert_int_equal(is_zero(&address), result != ADDRESS_OK);
        if (result != ADDRESS_OK)
            continue;
        assert_true(bytes_equal(address.text, bytes_of_string(paths[i].mailbox)));
        for (size_t len = 0; len < used; len++) {
            struct bytes cut = guard_at_end(&guard, bytes_slice(text, 0, len));
            assert_int_equal(address_path(cut, false, &address, &used), ADDRESS_BAD);
        }
    }
}

static void null_path_is_for_the_reverse_path_alone(void **state)
{
    (void)state;
    struct address address;
    size_t used;
    assert_int_equal(address_reverse_path(BYTES("<> SIZE=1"), false, &address, &used), ADDRESS_OK);
    assert_int_equal(used, 2);
    assert_int_equal(address.text.len, 0);
    assert_int_equal(address.domain_kind, ADDRESS_NO_DOMAIN);
    assert_int_equal(address_forward_path(BYTES("<>"), false, &address, &used), ADDRESS_BAD);
    assert_int_equal(address_reverse_path(BYTES("<a@b>"), false, &address, &used), ADDRESS_OK);
    assert_int_equal(address_reverse_path(BYTES("<"), false, &address, &used), ADDRESS_BAD);
    assert_int_equal(address_reverse_path(bytes_make(NULL, 0), false, &address, &used),
                     ADDRESS_BAD);
}

static void postmaster_is_for_the_forward_path_alone(void **state)
{
    (void)state;
    struct address address;
    size_t used;
    struct bytes text = guard_at_end(&guard, BYTES("<POSTmaster>"));
    assert_int_equal(address_forward_path(text, false, &address, &used), ADDRESS_OK);
    assert_int_equal(used, 12);
    assert_true(bytes_equal(address.text, BYTES("POSTmaster")));
    assert_true(bytes_equal(address.local, address.text));
    assert_int_equal(address.domain.len, 0);
    assert_int_equal(address.domain_kind, ADDRESS_NO_DOMAIN);
    for (size_t len = 0; len < 12; len++) {
        text = guard_at_end(&guard, bytes_slice(BYTES("<POSTmaster>"), 0, len));
        assert_int_equal(address_forward_path(text, false, &address, &used), ADDRESS_BAD);
    }
    assert_int_equal(address_reverse_path(BYTES("<postmaster>"), false, &address, &used),
                     ADDRESS_BAD);
    assert_int_equal(address_forward_path(BYTES("<postmaste>"), false, &address, &used),
                     ADDRESS_BAD);
    assert_int_equal(address_forward_path(BYTES("<postmaster@b>"), false, &address, &used),
                     ADDRESS_OK);
    assert_true(bytes_equal(address.domain, BYTES("b")));
}

static void source_route_may_need_utf8_and_has_limits(void **state)
{
    (void)state;
    struct address address;
    size_t used;
    struct bytes text = BYTES("<@\xc3\xa9:a@b>");
    assert_int_equal(address_path(text, false, &address, &used), ADDRESS_UTF8);
    assert_int_equal(address_path(text, true, &address, &used), ADDRESS_OK);
    assert_false(address.utf8);
    uint8_t room[80] = "<@";
    memset(room + 2, 'x', 64);
    memcpy(room + 66, ":a@b>", 5);
    assert_int_equal(address_path(bytes_make(room, 71), false, &address, &used), ADDRESS_TOO_LONG);
}

static void domains_stand_alone(void **state)
{
    (void)state;
    enum address_domain_kind kind;
    assert_int_equal(address_domain(BYTES("mx.example.org"), false, &kind), ADDRESS_OK);
    assert_int_equal(kind, ADDRESS_NAME);
    assert_int_equal(address_domain(BYTES("[IPv6:::1]"), false, &kind), ADDRESS_OK);
    assert_int_equal(kind, ADDRESS_IPV6);
    static const char *const refused[] = {"",         "a.",       ".",   "a_b", "a@b",
                                          "[1.2.3.4", "1.2.3.4]", "a b", "a\r", "[IPv6:::1] "};
    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
        assert_int_equal(address_domain(bytes_of_string(refused[i]), true, &kind), ADDRESS_BAD);
        assert_int_equal(kind, ADDRESS_NO_DOMAIN);
    }
}

static void unquoted_is_the_meaning(void **state)
{
    (void)state;
    static const struct {
        const char *text, *meaning;
    } cases[] = {
        {"ab@x",           "ab"  },
        {"\"ab\"@x",       "ab"  },
        {"\"a\\b\"@x",     "ab"  },
        {"\"\\\\\\\"\"@x", "\\\""},
        {"\"\"@x",         ""    },
        {"\"a b.\"@x",     "a b."}
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct address address;
        uint8_t out[ADDRESS_LOCAL_LEN_MAX];
        assert_int_equal(mailbox(bytes_of_string(cases[i].text), false, &address), ADDRESS_OK);
        size_t len = address_local_unquoted(&address, out);
        assert_true(bytes_equal(bytes_make(out, len), bytes_of_string(cases[i].meaning)));
    }
}

int main(void)
{
    guard = guard_make(1024);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_mailboxes_are_taken_apart),
        cmocka_unit_test(bad_mailboxes_are_refused),
        cmocka_unit_test(quoted_pairs_escape_printable_ascii),
        cmocka_unit_test(cut_mailboxes_are_safe),
        cmocka_unit_test(utf8_needs_permission),
        cmocka_unit_test(limits_hold_exactly),
        cmocka_unit_test(u_labels_are_counted_in_characters),
        cmocka_unit_test(paths_end_at_their_bracket),
        cmocka_unit_test(null_path_is_for_the_reverse_path_alone),
        cmocka_unit_test(postmaster_is_for_the_forward_path_alone),
        cmocka_unit_test(source_route_may_need_utf8_and_has_limits),
        cmocka_unit_test(domains_stand_alone),
        cmocka_unit_test(unquoted_is_the_meaning),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    guard_free(&guard);
    return failed;
}
