/* SCRAM: the exchange of RFC 7677 3 to the octet; secrets as Dovecot writes them; channel binding;
 * and what must be refused. */
#include "gateway/policy/scram.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "parser/base64.h"
#include "tests/support/sasl_client.h"

static void test_rfc_7677(void **state)
{
    (void)state;
    static const char nonce[] = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
    struct scram scram = {0};
    struct scram_secret secret;
    char out[SCRAM_MESSAGE_MAX], first[SCRAM_MESSAGE_MAX];
    size_t len;
    uint8_t salt[SCRAM_SALT_MAX];
    assert_true(base64_decode(BYTES("W22ZaJ0SNY7soEsUEjb6gQ=="), salt, &len));
    sasl_client_secret(BYTES("pencil"), bytes_make(salt, len), 4096, &secret);
    assert_true(scram_begin(&scram, BYTES("n,,n=user,r=rOprNGfwEbeRWgbNEkqO"), false, false));
    assert_true(bytes_equal(bytes_make(scram.user, scram.user_len), BYTES("user")));
    scram.secret = secret;
    (void)scram_challenge(&scram);
    /* The nonce of the example in place of ours. */
    memcpy(scram.nonce, nonce, sizeof(nonce) - 1);
    scram.nonce_len = sizeof(nonce) - 1;
    int written = snprintf(first, sizeof(first), "r=%s,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096", nonce);
    memcpy(scram.first, first, (size_t)written);
    scram.first_len = (uint16_t)written;
    assert_true(scram_finish(&scram,
                             BYTES("c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p="
                                   "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="),
                             NULL, out, &len));
    assert_true(
        bytes_equal(bytes_make(out, len), BYTES("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")));
}

static void test_secret(void **state)
{
    (void)state;
    struct scram_secret secret, again;
    char text[512];
    bool failed;
    /* doveadm pw -s SCRAM-SHA-256 -p secret */
    const struct bytes dovecot =
        BYTES("4096,+rcUiN8wov3HXdw4nqOZMw==,PuPXFoYkJkXq7yS4owZ78Kq/e3r7yKvPCDcnH9tWtXo=,"
              "YCEtDxH+xgUj68kxOcJRiMV7dWsxd0FSRjT0KPvn3cQ=");
    assert_true(scram_secret_read(dovecot, &secret));
    assert_true(scram_secret_matches(&secret, BYTES("secret"), &failed));
    assert_false(scram_secret_matches(&secret, BYTES("secreT"), &failed));
    assert_false(failed);
    size_t len = scram_secret_write(&secret, text, sizeof(text));
    assert_true(bytes_equal(bytes_make(text, len), dovecot));
    assert_int_equal(scram_secret_write(&secret, text, dovecot.len), 0);
    assert_true(scram_secret_make(BYTES("pencil"), 4096, &secret));
    len = scram_secret_write(&secret, text, sizeof(text));
    assert_true(scram_secret_read(bytes_make(text, len), &again));
    assert_true(scram_secret_matches(&again, BYTES("pencil"), &failed));
    static const char *const bad[] = {
        "",
        "4096",
        "4095,AAAA,PuPXFoYkJkXq7yS4owZ78Kq/e3r7yKvPCDcnH9tWtXo=,"
        "YCEtDxH+xgUj68kxOcJRiMV7dWsxd0FSRjT0KPvn3cQ=",
        "99999999,AAAA,PuPXFoYkJkXq7yS4owZ78Kq/e3r7yKvPCDcnH9tWtXo=,"
        "YCEtDxH+xgUj68kxOcJRiMV7dWsxd0FSRjT0KPvn3cQ=",
        "4096,,PuPXFoYkJkXq7yS4owZ78Kq/e3r7yKvPCDcnH9tWtXo=,"
        "YCEtDxH+xgUj68kxOcJRiMV7dWsxd0FSRjT0KPvn3cQ=",
        "4096,AAAA,PuPXFoYkJkXq7yS4owZ78Kq/e3r7yKvPCDcnH9tWtXo=,AAAA",
        "4096,AAAA,AAAA,PuPXFoYkJkXq7yS4owZ78Kq/e3r7yKvPCDcnH9tWtXo=",
        "4096,AAAA,PuPXFoYkJkXq7yS4owZ78Kq/e3r7yKvPCDcnH9tWtXo=,"
        "YCEtDxH+xgUj68kxOcJRiMV7dWsxd0FSRjT0KPvn3cQ=,",
        "4096,AA=A,PuPXFoYkJkXq7yS4owZ78Kq/e3r7yKvPCDcnH9tWtXo=,"
        "YCEtDxH+xgUj68kxOcJRiMV7dWsxd0FSRjT0KPvn3cQ=",
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
        if (scram_secret_read(bytes_of_string(bad[i]), &secret))
            fail_msg("%s was taken", bad[i]);
}

/* Names that nobody has show the same salt each time, in any case of letters, and unlike others'.
 */
static void test_stranger(void **state)
{
    (void)state;
    static const uint8_t seed[CRYPTO_SHA256_LEN] = {1}, other[CRYPTO_SHA256_LEN] = {2};
    struct scram_secret a, b, c, d;
    const struct scram_secret like = {.iterations = 5000, .salt_len = 40};
    scram_secret_stranger(seed, BYTES("nobody"), &like, &a);
    scram_secret_stranger(seed, BYTES("NoBody"), &like, &b);
    scram_secret_stranger(seed, BYTES("nobodz"), &like, &c);
    scram_secret_stranger(other, BYTES("nobody"), &like, &d);
    assert_int_equal(a.iterations, 5000);
    assert_int_equal(a.salt_len, 40);
    assert_memory_equal(a.salt, b.salt, 40);
    assert_memory_not_equal(a.salt, c.salt, 16);
    assert_memory_not_equal(a.salt, d.salt, 16);
    assert_memory_not_equal(a.salt, a.salt + 32, 16);
    assert_memory_not_equal(a.stored_key, b.stored_key, CRYPTO_SHA256_LEN);
}

/* exchange runs one; returns whether it ended well. `change` may spoil the client's last message.
 */
static bool exchange(const char *header, bool plus, bool offered, const uint8_t *client_binding,
                     const uint8_t *server_binding, void (*change)(char *text, size_t *len))
{
    struct scram scram = {0};
    struct sasl_client client;
    char out[SCRAM_MESSAGE_MAX];
    size_t len;
    struct bytes first = sasl_client_first(&client, header, "user", "pencil");
    if (!scram_begin(&scram, first, plus, offered))
        return false;
    assert_true(scram_secret_make(BYTES("pencil"), 4096, &scram.secret));
    struct bytes last = sasl_client_last(&client, scram_challenge(&scram), client_binding);
    if (change != NULL)
        change(client.last, &last.len);
    last.data = (const uint8_t *)client.last;
    return scram_finish(&scram, last, server_binding, out, &len) &&
           sasl_client_trusts(&client, bytes_make(out, len));
}

static void spoil_proof(char *text, size_t *len)
{
    text[*len - 5] = text[*len - 5] == 'A' ? 'B' : 'A';
}

static void spoil_nonce(char *text, size_t *len)
{
    (void)len;
    char *at = strstr(text, ",r=");
    at[3] = at[3] == 'A' ? 'B' : 'A';
}

static void cut(char *text, size_t *len)
{
    (void)text;
    *len -= 4;
}

static void test_exchange(void **state)
{
    (void)state;
    static const uint8_t one[SCRAM_BINDING_LEN] = {1}, two[SCRAM_BINDING_LEN] = {2};
    assert_true(exchange("n,,", false, false, NULL, NULL, NULL));
    assert_true(exchange("n,,", false, true, NULL, one, NULL));
    assert_true(exchange("y,,", false, false, NULL, NULL, NULL));
    assert_true(exchange("n,a=user,", false, false, NULL, NULL, NULL));
    assert_true(exchange("n,a=USER,", false, false, NULL, NULL, NULL));
    assert_true(exchange("p=tls-exporter,,", true, true, one, one, NULL));
    /* Somebody has taken PLUS out of what we offered. */
    assert_false(exchange("y,,", false, true, NULL, one, NULL));
    /* Another connection, or none that binds. */
    assert_false(exchange("p=tls-exporter,,", true, true, one, two, NULL));
    assert_false(exchange("p=tls-exporter,,", true, true, one, NULL, NULL));
    assert_false(exchange("p=tls-exporter,,", true, true, NULL, one, NULL));
    assert_false(exchange("p=tls-unique,,", true, true, one, one, NULL));
    assert_false(exchange("p=tls-exporter,,", false, true, one, one, NULL));
    assert_false(exchange("n,,", true, true, NULL, one, NULL));
    assert_false(exchange("y,,", true, true, NULL, one, NULL));
    assert_false(exchange("n,a=other,", false, false, NULL, NULL, NULL));
    assert_false(exchange("n,,", false, false, NULL, NULL, spoil_proof));
    assert_false(exchange("n,,", false, false, NULL, NULL, spoil_nonce));
    assert_false(exchange("n,,", false, false, NULL, NULL, cut));
}

/* The longest that a client may say fits everywhere. */
static void test_longest(void **state)
{
    (void)state;
    struct scram scram = {0};
    char text[2048] = "n,,n=", out[SCRAM_MESSAGE_MAX];
    size_t len = 5;
    for (int i = 0; i < SASL_NAME_MAX; i++, len += 3)
        memcpy(text + len, "=2C", 3);
    memcpy(text + len, ",r=", 3);
    len += 3;
    memset(text + len, 'x', SASL_NONCE_MAX);
    len += SASL_NONCE_MAX;
    assert_true(scram_begin(&scram, bytes_make(text, len), false, false));
    assert_true(scram_secret_make(BYTES("pencil"), 4096, &scram.secret));
    struct bytes challenge = scram_challenge(&scram);
    assert_int_equal(challenge.len, strlen(scram.first));
    memset(text, 'x', sizeof(text));
    assert_false(scram_finish(&scram, bytes_make(text, sizeof(text)), NULL, out, &len));
    /* Extensions up to the room that there is, and one more. */
    struct scram wide = {0};
    size_t head = (size_t)snprintf(text, sizeof(text), "n,,n=u,r=x,x=");
    size_t room = sizeof(wide.bare) + 3;
    memset(text + head, 'x', sizeof(text) - head);
    assert_true(scram_begin(&wide, bytes_make(text, room), false, false));
    assert_false(scram_begin(&wide, bytes_make(text, room + 1), false, false));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rfc_7677), cmocka_unit_test(test_secret),
        cmocka_unit_test(test_stranger), cmocka_unit_test(test_exchange),
        cmocka_unit_test(test_longest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
