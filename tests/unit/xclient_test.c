/* The arguments of XCLIENT: each attribute, and what is none; cut off anywhere, at both ends of
 * readable memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "parser/xclient.h"
#include "tests/unit/guard.h"

static struct guard guard;

static bool parse(struct bytes in, struct xclient *out)
{
    memset(out, 0xff, sizeof(*out));
    bool first = xclient_parse(guard_at_start(&guard, in), out);
    memset(out, 0xff, sizeof(*out));
    assert_int_equal(xclient_parse(guard_at_end(&guard, in), out), first);
    return first;
}

static struct xclient good(const char *text)
{
    struct xclient client;
    if (!parse(bytes_of_string(text), &client))
        fail_msg("refused: %s", text);
    return client;
}

static void attributes_are_taken(void **state)
{
    (void)state;
    struct xclient client =
        good("NAME=spike.example ADDR=192.0.2.1 PORT=4711 PROTO=ESMTP HELO=[192.0.2.1] LOGIN=me "
             "DESTADDR=IPV6:2001:db8::1 DESTPORT=25");
    assert_int_equal(client.name.state, XCLIENT_GIVEN);
    assert_string_equal(client.name.text, "spike.example");
    assert_int_equal(client.name.len, 13);
    assert_string_equal(client.helo.text, "[192.0.2.1]");
    assert_string_equal(client.login.text, "me");
    assert_int_equal(client.address_state, XCLIENT_GIVEN);
    assert_int_equal(client.family, 4);
    assert_memory_equal(client.address, "\xc0\x00\x02\x01", 4);
    assert_int_equal(client.port_state, XCLIENT_GIVEN);
    assert_int_equal(client.port, 4711);
    assert_int_equal(client.proto_state, XCLIENT_GIVEN);
    assert_true(client.esmtp);
    client = good("  addr=ipv6:2001:DB8::1  Proto=smtp ");
    assert_int_equal(client.family, 6);
    assert_memory_equal(client.address, "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01", 16);
    assert_int_equal(client.proto_state, XCLIENT_GIVEN);
    assert_false(client.esmtp);
    assert_int_equal(client.name.state, XCLIENT_ABSENT);
    assert_int_equal(client.port_state, XCLIENT_ABSENT);
    assert_int_equal(good("ADDR=2001:db8::1").family, 6);
    assert_int_equal(good("ADDR=::ffff:192.0.2.1").family, 6);
}

static void what_is_not_known(void **state)
{
    (void)state;
    struct xclient client =
        good("NAME=[UNAVAILABLE] ADDR=[unavailable] PORT=[TEMPUNAVAIL] PROTO=[UNAVAILABLE] "
             "HELO=[TempUnavail] LOGIN=[UNAVAILABLE] DESTADDR=[UNAVAILABLE] "
             "DESTPORT=[UNAVAILABLE]");
    assert_int_equal(client.name.state, XCLIENT_UNAVAILABLE);
    assert_int_equal(client.helo.state, XCLIENT_UNAVAILABLE);
    assert_int_equal(client.login.state, XCLIENT_UNAVAILABLE);
    assert_int_equal(client.address_state, XCLIENT_UNAVAILABLE);
    assert_int_equal(client.port_state, XCLIENT_UNAVAILABLE);
    assert_int_equal(client.proto_state, XCLIENT_UNAVAILABLE);
    assert_string_equal(client.name.text, "");
}

static void xtext_is_decoded(void **state)
{
    (void)state;
    assert_string_equal(good("HELO=a+2Bb+3dc+3D").helo.text, "a+b=c=");
    assert_string_equal(good("LOGIN=jo+20doe").login.text, "jo doe");
    assert_string_equal(good("NAME=m+C3+A4il.example").name.text, "m\xc3\xa4il.example");
    assert_string_equal(good("NAME=m\xc3\xa4il.example").name.text, "m\xc3\xa4il.example");
}

static void values_have_limits(void **state)
{
    (void)state;
    char text[1024] = "HELO=";
    memset(text + 5, 'h', XCLIENT_VALUE_MAX);
    struct xclient client = good(text);
    assert_int_equal(client.helo.len, XCLIENT_VALUE_MAX);
    assert_int_equal(strlen(client.helo.text), XCLIENT_VALUE_MAX);
    text[5 + XCLIENT_VALUE_MAX] = 'h';
    assert_false(parse(bytes_of_string(text), &client));
    for (size_t i = 0; i < XCLIENT_VALUE_MAX; i++)
        memcpy(text + 5 + 3 * i, "+68", 4);
    assert_int_equal(good(text).helo.len, XCLIENT_VALUE_MAX);
}

static void others_are_refused(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "",
        " ",
        "NAME",
        "NAME=",
        "=x",
        "NAM=x",
        "NAMES=x",
        "FOO=x",
        "NAME=a NAME=a",
        "NAME=a name=b",
        "NAME=a FOO",
        "NAME=a\tADDR=1.2.3.4",
        "NAME=+",
        "NAME=+2",
        "NAME=+2g",
        "NAME=+00",
        "NAME=+0D+0A",
        "NAME=a+20b",
        "NAME=+7F",
        "HELO=a+20b",
        "HELO=a+09b",
        "LOGIN=a+0Ab",
        "LOGIN=a+00b",
        "ADDR=",
        "ADDR=1.2.3",
        "ADDR=1.2.3.4.5",
        "ADDR=01.2.3.4",
        "ADDR=IPV6:1.2.3.4",
        "ADDR=IPV6:",
        "ADDR=IPv4:1.2.3.4",
        "ADDR=[1.2.3.4]",
        "ADDR=localhost",
        "ADDR=[UNAVAILABLE",
        "PORT=65536",
        "PORT=-1",
        "PORT=",
        "PORT=25x",
        "PROTO=LMTP",
        "PROTO=",
        "DESTADDR=x",
        "DESTPORT=x",
    };
    struct xclient client;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        if (parse(bytes_of_string(texts[i]), &client))
            fail_msg("taken: %s", texts[i]);
    assert_false(parse(BYTES("NAME=a\0b"), &client));
}

static void cut_and_changed_texts_are_safe(void **state)
{
    (void)state;
    char text[] = "NAME=[UNAVAILABLE] ADDR=IPV6:2001:db8::1 PORT=65535 PROTO=ESMTP HELO=+41+42 "
                  "LOGIN=x DESTADDR=192.0.2.1 DESTPORT=25";
    struct xclient client;
    for (size_t len = 0; len < sizeof(text); len++)
        (void)parse(bytes_make(text, len), &client);
    for (size_t at = 0; at < sizeof(text) - 1; at++) {
        char before = text[at];
        for (int octet = 0; octet < 256; octet++) {
            text[at] = (char)octet;
            (void)parse(bytes_make(text, sizeof(text) - 1), &client);
        }
        text[at] = before;
    }
}

int main(void)
{
    guard = guard_make(4096);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(attributes_are_taken), cmocka_unit_test(what_is_not_known),
        cmocka_unit_test(xtext_is_decoded),     cmocka_unit_test(values_have_limits),
        cmocka_unit_test(others_are_refused),   cmocka_unit_test(cut_and_changed_texts_are_safe),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    guard_free(&guard);
    return failed;
}
