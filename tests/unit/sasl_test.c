/* The messages of SASL mechanisms: examples of RFC 4616, 5802, 7628 and of Google for XOAUTH2, and
 * what is none. */
#include "parser/sasl.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#define IS(bytes, text) assert_true(bytes_equal(bytes, BYTES(text)))

static void test_names(void **state)
{
    (void)state;
    assert_int_equal(sasl_mechanism_find(BYTES("plain")), SASL_PLAIN);
    assert_int_equal(sasl_mechanism_find(BYTES("Scram-SHA-256")), SASL_SCRAM_SHA_256);
    assert_int_equal(sasl_mechanism_find(BYTES("SCRAM-SHA-256-PLUS")), SASL_SCRAM_SHA_256_PLUS);
    assert_int_equal(sasl_mechanism_find(BYTES("SCRAM-SHA-1")), SASL_UNKNOWN);
    assert_int_equal(sasl_mechanism_find(BYTES("")), SASL_UNKNOWN);
    for (int i = 1; i < SASL_MECHANISM_COUNT; i++)
        assert_int_equal(
            sasl_mechanism_find(bytes_of_string(sasl_mechanism_name((enum sasl_mechanism)i))), i);
    char text[SASL_NAME_MAX + 1];
    memset(text, 'a', sizeof(text));
    assert_true(sasl_name_valid(bytes_make(text, SASL_NAME_MAX)));
    assert_false(sasl_name_valid(bytes_make(text, SASL_NAME_MAX + 1)));
    assert_true(sasl_name_valid(BYTES("j\xc3\xbcrgen@example.org")));
    assert_true(sasl_name_valid(BYTES("a b")));
    assert_false(sasl_name_valid(BYTES("")));
    assert_false(sasl_name_valid(BYTES("a\tb")));
    assert_false(sasl_name_valid(BYTES("a\x7f")));
    assert_false(sasl_name_valid(BYTES("a\xc2\x85"))); /* C1 */
    assert_false(sasl_name_valid(BYTES("a\xff")));
    assert_false(sasl_name_valid(BYTES("a\xc3")));
}

static void test_plain(void **state)
{
    (void)state;
    struct sasl_plain plain;
    assert_true(sasl_plain_parse(BYTES("\0tim\0tanstaaftanstaaf"), &plain));
    assert_int_equal(plain.authorization.len, 0);
    IS(plain.user, "tim");
    IS(plain.password, "tanstaaftanstaaf");
    assert_true(sasl_plain_parse(BYTES("Ursel\0Kurt\0xipj3plmq"), &plain));
    IS(plain.authorization, "Ursel");
    IS(plain.user, "Kurt");
    IS(plain.password, "xipj3plmq");
    assert_true(sasl_plain_parse(BYTES("\0tim\0p:\xff \t"), &plain)); /* any octets */
    assert_false(sasl_plain_parse(BYTES(""), &plain));
    assert_false(sasl_plain_parse(BYTES("\0tim"), &plain));
    assert_false(sasl_plain_parse(BYTES("tim\0pass"), &plain));
    assert_false(sasl_plain_parse(BYTES("\0\0pass"), &plain));
    assert_false(sasl_plain_parse(BYTES("\0tim\0"), &plain));
    assert_false(sasl_plain_parse(BYTES("\0tim\0a\0b"), &plain));
    assert_false(sasl_plain_parse(BYTES("\n\0tim\0a"), &plain));
    assert_false(sasl_plain_parse(BYTES("\0ti\rm\0a"), &plain));
    char text[5 + SASL_PASSWORD_MAX + 1] = "\0tim";
    memset(text + 5, 'x', SASL_PASSWORD_MAX + 1);
    assert_true(sasl_plain_parse(bytes_make(text, 5 + SASL_PASSWORD_MAX), &plain));
    assert_false(sasl_plain_parse(bytes_make(text, 5 + SASL_PASSWORD_MAX + 1), &plain));
}

static void test_scram_first(void **state)
{
    (void)state;
    struct sasl_scram_first first;
    assert_true(sasl_scram_first_parse(BYTES("n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL"), &first));
    assert_int_equal(first.binding, 'n');
    IS(first.gs2_header, "n,,");
    IS(first.user, "user");
    IS(first.nonce, "fyko+d2lbbFgONRv9qkxdawL");
    IS(first.bare, "n=user,r=fyko+d2lbbFgONRv9qkxdawL");
    assert_true(sasl_scram_first_parse(BYTES("p=tls-exporter,a=b=2Cc,n=u=3Dv,r=x,x=ext"), &first));
    assert_int_equal(first.binding, 'p');
    IS(first.binding_name, "tls-exporter");
    IS(first.gs2_header, "p=tls-exporter,a=b=2Cc,");
    IS(first.authorization, "b=2Cc");
    IS(first.user, "u=3Dv");
    IS(first.bare, "n=u=3Dv,r=x,x=ext");
    assert_true(sasl_scram_first_parse(BYTES("y,,n=user,r=x"), &first));
    static const char *const bad[] = {
        "",
        "n",
        "n,",
        "n,,",
        "n,,n=user",
        "n,,n=,r=x",
        "n,,r=x",
        "n,,n=u,r=",
        "z,,n=u,r=x",
        "nn,,n=u,r=x",
        ",,n=u,r=x",
        "p=,,n=u,r=x",
        "p,,n=u,r=x",
        "n,b,n=u,r=x",
        "n,a=,n=u,r=x",
        "n,,m=1,n=u,r=x",
        "n,,n=u,r=x,m=1",
        "n,,n=u,r=x,",
        "n,,n=u,r=x,1=a",
        "n,,n=u,r=a b",
        "n,,n=u,r=a\x7f",
        "p=t\tls,,n=u,r=x",
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
        if (sasl_scram_first_parse(bytes_of_string(bad[i]), &first))
            fail_msg("%s was taken", bad[i]);
    char text[16 + SASL_NONCE_MAX] = "n,,n=u,r=";
    memset(text + 9, 'x', SASL_NONCE_MAX + 1);
    assert_true(sasl_scram_first_parse(bytes_make(text, 9 + SASL_NONCE_MAX), &first));
    assert_false(sasl_scram_first_parse(bytes_make(text, 9 + SASL_NONCE_MAX + 1), &first));
}

static void test_scram_final(void **state)
{
    (void)state;
    struct sasl_scram_final final;
    assert_true(sasl_scram_final_parse(BYTES("c=biws,r=abc,x=1,p=AAAA"), &final));
    IS(final.binding, "biws");
    IS(final.nonce, "abc");
    IS(final.proof, "AAAA");
    IS(final.without_proof, "c=biws,r=abc,x=1");
    static const char *const bad[] = {
        "",
        "c=biws",
        "c=biws,r=abc",
        "c=biws,r=abc,",
        "r=abc,p=AAAA",
        "c=,r=a,p=A",
        "c=biws,p=AAAA",
        "c=biws,r=abc,p=",
        "c=biws,r=abc,p=A,x=1",
        "c=biws,r=abc,m=1,p=A",
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
        if (sasl_scram_final_parse(bytes_of_string(bad[i]), &final))
            fail_msg("%s was taken", bad[i]);
}

static void test_scram_name(void **state)
{
    (void)state;
    uint8_t out[SASL_NAME_MAX];
    char text[SASL_NAME_MAX + 1];
    size_t len = sasl_scram_name(BYTES("a=2Cb=3Dc"), out);
    assert_true(bytes_equal(bytes_make(out, len), BYTES("a,b=c")));
    assert_int_equal(sasl_scram_name(BYTES(""), out), 0);
    assert_int_equal(sasl_scram_name(BYTES("a=2"), out), 0);
    assert_int_equal(sasl_scram_name(BYTES("a="), out), 0);
    assert_int_equal(sasl_scram_name(BYTES("a=41"), out), 0);
    assert_int_equal(sasl_scram_name(BYTES("a,b"), out), 0);
    assert_int_equal(sasl_scram_name(BYTES("a\nb"), out), 0);
    memset(text, 'a', sizeof(text));
    assert_int_equal(sasl_scram_name(bytes_make(text, SASL_NAME_MAX), out), SASL_NAME_MAX);
    assert_int_equal(sasl_scram_name(bytes_make(text, SASL_NAME_MAX + 1), out), 0);
}

static void test_bearer(void **state)
{
    (void)state;
    struct sasl_bearer bearer;
    assert_true(sasl_bearer_parse(
        SASL_OAUTHBEARER,
        BYTES("n,a=user@example.com,\1host=server.example.com\1port=587\1auth=Bearer "
              "vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==\1\1"),
        &bearer));
    IS(bearer.user, "user@example.com");
    IS(bearer.token, "vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==");
    assert_true(sasl_bearer_parse(SASL_OAUTHBEARER, BYTES("n,,\1auth=bearer x\1\1"), &bearer));
    assert_int_equal(bearer.user.len, 0);
    assert_true(sasl_bearer_parse(
        SASL_XOAUTH2, BYTES("user=someuser@example.com\1auth=Bearer ya29.vF9dft4qmTc2\1\1"),
        &bearer));
    IS(bearer.user, "someuser@example.com");
    IS(bearer.token, "ya29.vF9dft4qmTc2");
    static const char *const bad[] = {
        "",
        "\1",
        "n,,\1\1",
        "n,,\1auth=Bearer \1\1",
        "n,,\1auth=Basic x\1\1",
        "n,,\1auth=Bearer x\1",
        "n,,\1auth=Bearer x",
        "n,,auth=Bearer x\1\1",
        "n,,\1auth=Bearer a b\1\1",
        "n,,\1auth=Bearer x\1auth=Bearer y\1\1",
        "n,,\1auth=Bearer x\1\1more",
        "n,a=a\tb,\1auth=Bearer x\1\1",
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
        if (sasl_bearer_parse(SASL_OAUTHBEARER, bytes_of_string(bad[i]), &bearer))
            fail_msg("%zu was taken", i);
    assert_false(sasl_bearer_parse(SASL_XOAUTH2, BYTES("user=\1auth=Bearer x\1\1"), &bearer));
    assert_false(sasl_bearer_parse(SASL_XOAUTH2, BYTES("auth=Bearer x\1\1"), &bearer));
    assert_false(sasl_bearer_parse(SASL_XOAUTH2, BYTES("user=a\1\1"), &bearer));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),       cmocka_unit_test(test_plain),
        cmocka_unit_test(test_scram_first), cmocka_unit_test(test_scram_final),
        cmocka_unit_test(test_scram_name),  cmocka_unit_test(test_bearer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
