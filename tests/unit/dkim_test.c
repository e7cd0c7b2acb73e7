/* DKIM: the examples of RFC 8463 come out as printed there; and what our own fields say, which
 * fields they cover, in which order, and that they verify, by a reader of h= that the signer shares
 * nothing with but the canonical form. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <openssl/curve25519.h>
#include <openssl/evp.h>
#include <openssl/nid.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/policy/dkim.h"
#include "parser/base64.h"
#include "parser/header.h"
#include "tests/support/dkim_examples.h"

enum { NOW_S = 1700000000 };

static const uint8_t body_hash[CRYPTO_SHA256_LEN] = {1, 2, 3};

static struct signature_key *read_key(const char *pem)
{
    char error[256];
    struct signature_key *key = signature_key_read(pem, strlen(pem), error, sizeof(error));
    assert_non_null(key);
    return key;
}

static void hash_take(void *user, struct bytes piece)
{
    crypto_hash_add(user, piece.data, piece.len);
}

static void decode(const char *text, uint8_t *out, size_t *len)
{
    assert_true(base64_decode(bytes_of_string(text), out, len));
}

/* --- RFC 8463 --- */

static void hash_field(struct crypto_hash *hash, const char *name)
{
    struct bytes header = BYTES(EXAMPLE_HEADER);
    struct header_field field;
    size_t used;
    for (; header_next(header, &field, &used) == HEADER_FIELD; header = bytes_skip(header, used))
        if (header_is(&field, bytes_of_string(name)))
            canon_field(field.name, field.value, true, hash_take, hash);
}

static void check_example(const char *pem, const char *value, const char *signature)
{
    static const char *const names[] = {"from", "to", "subject", "date", "message-id"};
    uint8_t digest[CRYPTO_SHA256_LEN], made[SIGNATURE_LEN_MAX], wanted[SIGNATURE_LEN_MAX];
    size_t wanted_len;
    struct crypto_hash hash;
    crypto_hash_begin(&hash);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        hash_field(&hash, names[i]); /* those that stand there twice have no second field */
    canon_field(BYTES("DKIM-Signature"), bytes_of_string(value), false, hash_take, &hash);
    crypto_hash_end(&hash, digest);
    struct signature_key *key = read_key(pem);
    size_t len = signature_make(key, digest, made);
    decode(signature, wanted, &wanted_len);
    assert_int_equal(len, wanted_len);
    assert_memory_equal(made, wanted, len);
    signature_key_free(key);
}

static void signatures_of_rfc_8463_come_out(void **state)
{
    (void)state;
    uint8_t digest[CRYPTO_SHA256_LEN], wanted[CRYPTO_SHA256_LEN + 1];
    size_t len;
    struct canon_body body = {0};
    struct crypto_hash hash;
    crypto_hash_begin(&hash);
    canon_body_text(&body, BYTES(EXAMPLE_BODY), hash_take, &hash);
    canon_body_end(&body, hash_take, &hash);
    crypto_hash_end(&hash, digest);
    decode(EXAMPLE_BODY_HASH, wanted, &len);
    assert_memory_equal(digest, wanted, sizeof(digest));
    check_example(example_ed25519_pem, EXAMPLE_ED25519_VALUE, EXAMPLE_ED25519_SIGNATURE);
    check_example(example_rsa_pem, EXAMPLE_RSA_VALUE, EXAMPLE_RSA_SIGNATURE);
}

/* --- our own --- */

struct scene {
    struct dkim_keys *keys;
    char out[DKIM_KEYS_MAX][DKIM_FIELD_MAX];
    size_t lens[DKIM_KEYS_MAX];
};

static int set_up(void **state)
{
    const char *error;
    struct scene *scene = calloc(1, sizeof(*scene));
    scene->keys = dkim_keys_new();
    assert_true(dkim_keys_add(scene->keys, BYTES("Example.ORG"), BYTES("Rsa"),
                              read_key(example_rsa_pem), &error));
    assert_true(dkim_keys_add(scene->keys, BYTES("example.org"), BYTES("20260101"),
                              read_key(example_ed25519_pem), &error));
    *state = scene;
    return 0;
}

static int tear_down(void **state)
{
    struct scene *scene = *state;
    dkim_keys_free(scene->keys);
    free(scene);
    return 0;
}

static void sign(struct scene *scene, const char *header)
{
    char *out[DKIM_KEYS_MAX];
    struct dkim_header signed_header;
    for (int i = 0; i < DKIM_KEYS_MAX; i++)
        out[i] = scene->out[i];
    const struct dkim_domain *domain = dkim_keys_find(scene->keys, BYTES("EXAMPLE.org"));
    assert_non_null(domain);
    /* Of its own size, for the address sanitizer. */
    size_t len = strlen(header);
    char *copy = malloc(len + 1);
    memcpy(copy, header, len);
    dkim_header_begin(&signed_header, bytes_make(copy, len));
    memset(copy, 0, len); /* nobody looks at it any more */
    assert_true(dkim_sign(domain, &signed_header, body_hash, NOW_S, out, scene->lens));
    free(copy);
}

/* A tag's value, white space taken out. */
static void tag(const char *field, size_t len, const char *name, char *out, size_t size)
{
    size_t at = 0, out_len = 0, name_len = strlen(name);
    while (at + name_len < len &&
           !((field[at - (at > 0)] == ' ' || field[at - (at > 0)] == '\t') &&
             memcmp(field + at, name, name_len) == 0 && field[at + name_len] == '='))
        at++;
    assert_true(at + name_len < len);
    for (at += name_len + 1; at < len && field[at] != ';'; at++)
        if (strchr(" \t\r\n", field[at]) == NULL) {
            assert_true(out_len + 1 < size);
            out[out_len++] = field[at];
        }
    out[out_len] = '\0';
}

/* The `number`th field of a name from the bottom up (0: the last) goes to the hash, if it is there.
 */
static void hash_from_bottom(struct crypto_hash *hash, const char *header, struct bytes name,
                             int number)
{
    struct header_field field, chosen = {0};
    size_t used;
    int count = 0, seen = 0;
    struct bytes in = bytes_of_string(header);
    for (; header_next(in, &field, &used) == HEADER_FIELD; in = bytes_skip(in, used))
        count += header_is(&field, name);
    in = bytes_of_string(header);
    for (; header_next(in, &field, &used) == HEADER_FIELD; in = bytes_skip(in, used))
        if (header_is(&field, name) && ++seen == count - number)
            chosen = field;
    if (number < count)
        canon_field(chosen.name, chosen.value, true, hash_take, hash);
}

static bool verifies(const struct signature_key *key, const uint8_t *digest,
                     const uint8_t *signature, size_t len)
{
    uint8_t public[SIGNATURE_PUBLIC_MAX];
    size_t public_len = signature_key_public(key, public);
    if (signature_key_kind(key) == SIGNATURE_ED25519)
        return len == 64 && ED25519_verify(digest, 32, signature, public) == 1;
    const uint8_t *at = public;
    EVP_PKEY *read = d2i_PUBKEY(NULL, &at, (long)public_len);
    bool good = RSA_verify(NID_sha256, digest, 32, signature, len, EVP_PKEY_get0_RSA(read)) == 1;
    EVP_PKEY_free(read);
    return good;
}

static bool field_verifies(const char *pem, const char *header, const char *field, size_t len)
{
    char names[1024], text[1024];
    uint8_t digest[CRYPTO_SHA256_LEN], signature[SIGNATURE_LEN_MAX + 2];
    struct crypto_hash hash;
    struct header_field own;
    size_t used, signature_len, begins = 0;
    crypto_hash_begin(&hash);
    tag(field, len, "h", names, sizeof(names));
    for (char *at = names, *end; at != NULL; at = end == NULL ? NULL : end + 1) {
        end = strchr(at, ':');
        struct bytes name = bytes_make(at, end == NULL ? strlen(at) : (size_t)(end - at));
        int number = 0; /* how often the name has stood before this */
        for (char *before = names; before < at; before = strchr(before, ':') + 1)
            number += bytes_equal(name, bytes_make(before, strcspn(before, ":")));
        hash_from_bottom(&hash, header, name, number);
    }
    assert_int_equal(header_next(bytes_make(field, len), &own, &used), HEADER_FIELD);
    assert_int_equal(used, len);
    while (begins + 2 < own.value.len && memcmp(own.value.data + begins, "\tb=", 3) != 0)
        begins++;
    canon_field(own.name, bytes_slice(own.value, 0, begins + 3), false, hash_take, &hash);
    crypto_hash_end(&hash, digest);
    tag(field, len, "b", text, sizeof(text));
    decode(text, signature, &signature_len);
    struct signature_key *key = read_key(pem);
    bool good = verifies(key, digest, signature, signature_len);
    signature_key_free(key);
    return good;
}

static bool both_verify(const struct scene *scene, const char *header)
{
    bool rsa = field_verifies(example_rsa_pem, header, scene->out[0], scene->lens[0]);
    bool ed25519 = field_verifies(example_ed25519_pem, header, scene->out[1], scene->lens[1]);
    assert_int_equal(rsa, ed25519);
    return rsa;
}

static void assert_tag(const struct scene *scene, int number, const char *name, const char *wanted)
{
    char text[1024];
    tag(scene->out[number], scene->lens[number], name, text, sizeof(text));
    assert_string_equal(text, wanted);
}

#define ALWAYS                                                                                     \
    "from:from:to:to:subject:subject:date:date:cc:reply-to:message-id:message-id:mime-version:"    \
    "content-type:content-transfer-encoding"

static void fields_say_what_they_should(void **state)
{
    struct scene *scene = *state;
    sign(scene, EXAMPLE_HEADER);
    assert_true(both_verify(scene, EXAMPLE_HEADER));
    assert_memory_equal(scene->out[0], "DKIM-Signature: v=1; ", 21);
    assert_tag(scene, 0, "a", "rsa-sha256");
    assert_tag(scene, 1, "a", "ed25519-sha256");
    for (int i = 0; i < 2; i++) {
        assert_tag(scene, i, "c", "relaxed/relaxed");
        assert_tag(scene, i, "d", "example.org");
        assert_tag(scene, i, "t", "1700000000");
        assert_tag(scene, i, "h", ALWAYS);
        assert_tag(scene, i, "bh", "AQIDAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=");
    }
    assert_tag(scene, 0, "s", "rsa");
    assert_tag(scene, 1, "s", "20260101");
}

static void lines_are_short_and_end_in_cr_lf(void **state)
{
    struct scene *scene = *state;
    sign(scene, EXAMPLE_HEADER "Cc: a\r\nReferences: b\r\nList-Unsubscribe: <https://x>\r\n"
                               "List-Unsubscribe-Post: y\r\nSender: z\r\nResent-From: q\r\n");
    for (int i = 0; i < 2; i++) {
        struct bytes rest = bytes_make(scene->out[i], scene->lens[i]);
        while (rest.len > 0) {
            size_t newline = bytes_find(rest, '\n');
            assert_true(newline < rest.len && newline <= 78 && rest.data[newline - 1] == '\r');
            rest = bytes_skip(rest, newline + 1);
        }
        assert_memory_equal(scene->out[i] + scene->lens[i] - 2, "\r\n", 2);
    }
}

/* What may happen to a signed header, and whether the signature outlives it. */
static const struct {
    const char *before, *after;
    bool good;
} changes[] = {
    {"X-Other: 1\r\n",                        "",                            true },
    {"Received: by somebody\r\n",             "",                            true },
    {"List-Id: <list>\r\n",                   "",                            true },
    {"List-Post: <list>\r\n",                 "",                            true },
    {"Sender: somebody\r\n",                  "",                            true },
    {"Resent-From: b\r\nResent-To: c\r\n",    "",                            true },
    {"References: <x>\r\n",                   "",                            true },
    {"From: b\r\n",                           "",                            false},
    {"",                                      "from : b\r\n",                false},
    {"To: b\r\n",                             "",                            false},
    {"",                                      "To: b\r\n",                   false},
    {"Subject: b\r\n",                        "",                            false},
    {"Date: b\r\n",                           "",                            false},
    {"Cc: b\r\n",                             "",                            false},
    {"Reply-To: b\r\n",                       "",                            false},
    {"",                                      "Message-ID: b\r\n",           false},
    {"MIME-Version: 1.0\r\n",                 "",                            false},
    {"",                                      "Content-Type: text/html\r\n", false},
    {"Content-Transfer-Encoding: base64\r\n", "",                            false},
};

static void what_is_added_breaks_the_signature_or_does_not(void **state)
{
    struct scene *scene = *state;
    char header[2048];
    sign(scene, EXAMPLE_HEADER);
    for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
        snprintf(header, sizeof(header), "%s%s%s", changes[i].before, EXAMPLE_HEADER,
                 changes[i].after);
        if (both_verify(scene, header) != changes[i].good)
            fail_msg("\"%s\" \"%s\"", changes[i].before, changes[i].after);
    }
}

static void repeated_fields_are_signed_from_the_bottom_up(void **state)
{
    struct scene *scene = *state;
    const char *header = "Resent-From: first\r\nCc: a\r\nFrom: x\r\nResent-From: second\r\n"
                         "CC:\r\n\t b \r\nResent-From :third\r\nReferences: <\xc3\xa9>\r\n";
    sign(scene, header);
    assert_tag(scene, 0, "h",
               "from:from:to:subject:date:cc:cc:cc:reply-to:message-id:mime-version:content-type:"
               "content-transfer-encoding:references:references:resent-from:resent-from:"
               "resent-from");
    assert_true(both_verify(scene, header));
    /* One more at the top is somebody else's; one more at the bottom is in the signed ones' place.
     */
    char more[512];
    snprintf(more, sizeof(more), "Resent-From: zero\r\n%s", header);
    assert_true(both_verify(scene, more));
    snprintf(more, sizeof(more), "%sResent-From: fourth\r\n", header);
    assert_false(both_verify(scene, more));
}

static void thousands_of_fields_make_no_long_signature(void **state)
{
    struct scene *scene = *state;
    char *header = calloc(1, 200000);
    for (int i = 0; i < 3000; i++)
        snprintf(header + strlen(header), 64, "Content-Transfer-Encoding: %d\r\n", i);
    for (int i = 0; i < 300; i++)
        snprintf(header + strlen(header), 64, "List-Unsubscribe-Post: %d\r\nSender: %d\r\n", i, i);
    sign(scene, header);
    assert_true(both_verify(scene, header));
    free(header);
}

static void an_empty_header_can_be_signed(void **state)
{
    struct scene *scene = *state;
    sign(scene, "");
    assert_true(both_verify(scene, ""));
    assert_tag(scene, 0, "h",
               "from:to:subject:date:cc:reply-to:message-id:mime-version:content-type:"
               "content-transfer-encoding");
}

/* --- keys --- */

static void check_refused(struct dkim_keys *keys, const char *domain, const char *selector,
                          const char *wanted)
{
    const char *error = NULL;
    struct signature_key *key = read_key(example_ed25519_pem);
    assert_false(
        dkim_keys_add(keys, bytes_of_string(domain), bytes_of_string(selector), key, &error));
    assert_non_null(strstr(error, wanted));
    signature_key_free(key);
}

static void keys_that_make_no_sense_are_refused(void **state)
{
    struct scene *scene = *state;
    const char *error;
    char long_name[240];
    memset(long_name, 'a', sizeof(long_name));
    for (size_t i = 50; i < sizeof(long_name); i += 50)
        long_name[i] = '.';
    long_name[sizeof(long_name) - 1] = '\0';
    check_refused(scene->keys, "example.org", "RSA", "another key with this selector");
    check_refused(scene->keys, "example.org", "a b", "selector");
    check_refused(scene->keys, "example.org", "", "selector");
    check_refused(scene->keys, "example..org", "s", "domain name");
    check_refused(scene->keys, "[192.0.2.1]", "s", "domain name");
    check_refused(scene->keys, long_name, "selector", "too long");
    assert_true(dkim_keys_add(scene->keys, BYTES("example.org"), BYTES("a.b"),
                              read_key(example_ed25519_pem), &error));
    assert_true(dkim_keys_add(scene->keys, BYTES("example.org"), BYTES("c"),
                              read_key(example_ed25519_pem), &error));
    check_refused(scene->keys, "example.org", "d", "4 keys");
    assert_int_equal(dkim_domain_count(dkim_keys_find(scene->keys, BYTES("example.org"))), 4);
}

static void domains_are_found_as_they_are(void **state)
{
    struct scene *scene = *state;
    const char *error;
    assert_null(dkim_keys_find(scene->keys, BYTES("sub.example.org")));
    assert_null(dkim_keys_find(scene->keys, BYTES("xample.org")));
    assert_null(dkim_keys_find(scene->keys, BYTES("")));
    assert_true(dkim_domain_slow(dkim_keys_find(scene->keys, BYTES("example.ORG"))));
    for (int i = 0; i < 100; i++) {
        char name[32];
        snprintf(name, sizeof(name), "domain%d.example", i);
        assert_true(dkim_keys_add(scene->keys, bytes_of_string(name), BYTES("s"),
                                  read_key(example_ed25519_pem), &error));
    }
    assert_false(dkim_domain_slow(dkim_keys_find(scene->keys, BYTES("domain7.example"))));
    assert_null(dkim_keys_find(scene->keys, BYTES("domain100.example")));
}

/* A reload frees the keys while one is still to sign. */
static void kept_keys_outlive_their_configuration(void **state)
{
    struct scene *scene = *state;
    char *out[DKIM_KEYS_MAX] = {scene->out[0], scene->out[1]};
    const struct dkim_domain *domain = dkim_keys_find(scene->keys, BYTES("example.org"));
    dkim_domain_keep(domain);
    dkim_keys_free(scene->keys);
    scene->keys = NULL;
    struct dkim_header signed_header;
    dkim_header_begin(&signed_header, BYTES(EXAMPLE_HEADER));
    assert_true(dkim_sign(domain, &signed_header, body_hash, NOW_S, out, scene->lens));
    assert_true(both_verify(scene, EXAMPLE_HEADER));
    dkim_domain_drop(domain);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(signatures_of_rfc_8463_come_out),
        cmocka_unit_test_setup_teardown(fields_say_what_they_should, set_up, tear_down),
        cmocka_unit_test_setup_teardown(lines_are_short_and_end_in_cr_lf, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_added_breaks_the_signature_or_does_not, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(repeated_fields_are_signed_from_the_bottom_up, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(thousands_of_fields_make_no_long_signature, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(an_empty_header_can_be_signed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(keys_that_make_no_sense_are_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(domains_are_found_as_they_are, set_up, tear_down),
        cmocka_unit_test_setup_teardown(kept_keys_outlive_their_configuration, set_up, tear_down),
    };
    return cmocka_run_group_tests_name("dkim", tests, NULL, NULL);
}
