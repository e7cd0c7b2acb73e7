/* tls/certificate: what loads and what does not, and why; for which names a certificate is; the one
 * that is made at the first start. */
#include "tls/certificate.h"

#include "tests/support/pki.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include <openssl/pem.h>

static struct pki_request usual = {
    .chain_path = "chain.pem", .key_path = "key.pem", .names = {"mx.example.org"}};

/* Loads and wants success, or ... */
static struct certificate *load(const char *chain, const char *key)
{
    char error[512] = "";
    struct certificate *certificate = certificate_load(chain, key, error, sizeof(error));

    if (!certificate)
        fail_msg("%s", error);
    assert_string_equal(error, "");
    return certificate;
}

/* ... wants a sentence that begins with the file and has a word in it. */
static void refused(const char *chain, const char *key, const char *file, const char *word)
{
    char error[512] = "";
    struct certificate *certificate = certificate_load(chain, key, error, sizeof(error));

    if (certificate || strstr(error, file) != error || error[strlen(file)] != ':' ||
        !strstr(error, word))
        fail_msg("%s, %s: \"%s\", should be \"%s: ...%s...\"", chain, key, error, file, word);
}

static struct certificate *make_and_load(const struct pki_request *request)
{
    assert_true(pki_make(request));
    return load(request->chain_path, request->key_path);
}

static void write_text(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");

    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

/* Appends `count` octets of a file (SIZE_MAX: all) to another. */
static void append(const char *to, const char *from, size_t count)
{
    FILE *in = fopen(from, "r"), *out = fopen(to, "a");
    int c;

    assert_true(in && out);
    while (count-- > 0 && (c = fgetc(in)) != EOF)
        fputc(c, out);
    assert_int_equal(fclose(in), 0);
    assert_int_equal(fclose(out), 0);
}

/* --- what loads --- */

static void three_kinds_of_keys_load(void **state)
{
    (void)state;
    static const enum pki_kind kinds[] = {PKI_ECDSA_P256, PKI_ECDSA_P384, PKI_RSA_2048};

    for (size_t i = 0; i < 3; i++) {
        struct pki_request request = usual;
        request.kind = kinds[i];
        struct certificate *certificate = make_and_load(&request);
        assert_int_equal(certificate_is_rsa(certificate), kinds[i] == PKI_RSA_2048);
        assert_true(certificate_is_self_signed(certificate));
        assert_string_equal(certificate_path(certificate), "chain.pem");
        int64_t left = certificate_expires(certificate) - time(NULL);
        assert_true(left > 86400 - 60 && left <= 86400);
        certificate_drop(certificate);
    }
}

static void a_chain_is_not_self_signed(void **state)
{
    (void)state;
    struct pki_request root = {
        .chain_path = "root.pem", .key_path = "root.key", .common_name = "root", .is_ca = true};
    struct pki_request middle = {.chain_path = "middle.pem",
                                 .key_path = "middle.key",
                                 .common_name = "middle",
                                 .is_ca = true,
                                 .kind = PKI_RSA_2048,
                                 .issuer = &root};
    struct pki_request leaf = usual;

    leaf.issuer = &middle;
    assert_true(pki_make(&root) && pki_make(&middle));
    struct certificate *certificate = make_and_load(&leaf);
    assert_false(certificate_is_self_signed(certificate));
    assert_false(certificate_is_rsa(certificate));
    certificate_drop(certificate);

    /* Names that look so are not enough. */
    leaf.common_name = "middle";
    certificate = make_and_load(&leaf);
    assert_false(certificate_is_self_signed(certificate));
    certificate_drop(certificate);

    refused("middle.pem", "key.pem", "key.pem", "does not belong to the certificate in middle.pem");
}

/* A key may stand with the chain in one file, have notes around it, and be written in three ways.
 */
static void files_may_look_otherwise(void **state)
{
    (void)state;
    assert_true(pki_make(&usual));
    write_text("both.pem", "Notes, as some tools write them\n");
    append("both.pem", "key.pem", SIZE_MAX);
    append("both.pem", "chain.pem", SIZE_MAX);
    append("both.pem", "chain.pem", SIZE_MAX);
    FILE *file = fopen("both.pem", "a");
    assert_true(file && fputs("\nand the end.\n", file) >= 0 && fclose(file) == 0);
    certificate_drop(load("both.pem", "both.pem"));

    BIO *in = BIO_new_file("key.pem", "r"), *out = BIO_new_file("sec1.pem", "w");
    EVP_PKEY *key = PEM_read_bio_PrivateKey(in, NULL, NULL, NULL);
    assert_true(BIO_puts(out, "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n"
                              "-----END EC PARAMETERS-----\n") > 0);
    assert_true(
        PEM_write_bio_ECPrivateKey(out, EVP_PKEY_get0_EC_KEY(key), NULL, NULL, 0, NULL, NULL));
    EVP_PKEY_free(key);
    BIO_free(in);
    BIO_free(out);
    certificate_drop(load("chain.pem", "sec1.pem"));

    struct pki_request rsa = usual;
    rsa.kind = PKI_RSA_2048;
    assert_true(pki_make(&rsa));
    in = BIO_new_file("key.pem", "r");
    out = BIO_new_file("pkcs1.pem", "w");
    key = PEM_read_bio_PrivateKey(in, NULL, NULL, NULL);
    assert_true(
        PEM_write_bio_RSAPrivateKey(out, EVP_PKEY_get0_RSA(key), NULL, NULL, 0, NULL, NULL));
    EVP_PKEY_free(key);
    BIO_free(in);
    BIO_free(out);
    certificate_drop(load("chain.pem", "pkcs1.pem"));
}

static void counted(void **state)
{
    (void)state;
    struct certificate *certificate = make_and_load(&usual);

    assert_ptr_equal(certificate_keep(certificate), certificate);
    certificate_drop(certificate);
    assert_true(certificate_matches(certificate, "mx.example.org", false));
    certificate_drop(certificate);
    certificate_drop(NULL);
}

/* --- what does not --- */

static void bad_files_are_named(void **state)
{
    (void)state;
    assert_true(pki_make(&usual));
    write_text("empty", "");
    write_text("text", "This is no PEM.\n");
    write_text("damaged", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");

    refused("missing", "key.pem", "missing", "No such file");
    refused("chain.pem", "missing", "missing", "No such file");
    refused("empty", "key.pem", "empty", "no certificate");
    refused("text", "key.pem", "text", "no certificate");
    refused("damaged", "key.pem", "damaged", "no certificate");
    refused("key.pem", "key.pem", "key.pem", "no certificate");
    refused(".", "key.pem", ".", "");
    refused("chain.pem", "empty", "empty", "no private key");
    refused("chain.pem", "text", "text", "no private key");
    refused("chain.pem", "damaged", "damaged", "no private key");
    refused("chain.pem", "chain.pem", "chain.pem", "no private key");
    refused("chain.pem", ".", ".", "");
}

static void a_torn_chain_is_refused(void **state)
{
    (void)state;
    assert_true(pki_make(&usual));
    write_text("torn.pem", "");
    append("torn.pem", "chain.pem", SIZE_MAX);
    append("torn.pem", "chain.pem", 200);
    refused("torn.pem", "key.pem", "torn.pem", "certificate 2 is no certificate");

    write_text("ten.pem", "");
    for (size_t i = 0; i < 10; i++)
        append("ten.pem", "chain.pem", SIZE_MAX);
    refused("ten.pem", "key.pem", "ten.pem", "no chain");
}

static void other_keys_are_refused(void **state)
{
    (void)state;
    struct pki_request other = usual;

    assert_true(pki_make(&usual));
    other.chain_path = "other.pem";
    other.key_path = "other.key";
    assert_true(pki_make(&other));
    refused("chain.pem", "other.key", "other.key", "chain.pem");
    refused("other.pem", "key.pem", "key.pem", "other.pem");
    other.kind = PKI_RSA_2048;
    assert_true(pki_make(&other));
    refused("chain.pem", "other.key", "other.key", "chain.pem");
}

static void weak_and_strange_keys_are_refused(void **state)
{
    (void)state;
    struct pki_request request = usual;

    request.kind = PKI_RSA_1024;
    assert_true(pki_make(&request));
    refused("chain.pem", "key.pem", "key.pem", "1024 bits");
    request.kind = PKI_ECDSA_P521;
    assert_true(pki_make(&request));
    refused("chain.pem", "key.pem", "key.pem", "kind");
    request.kind = PKI_ED25519;
    assert_true(pki_make(&request));
    refused("chain.pem", "key.pem", "key.pem", "kind");
    request.kind = PKI_ECDSA_P256;
    request.key_usage = 0x08; /* keyAgreement */
    assert_true(pki_make(&request));
    refused("chain.pem", "key.pem", "chain.pem", "keyUsage");
    request.key_usage = 0x80;
    assert_true(pki_make(&request));
    certificate_drop(load("chain.pem", "key.pem"));
}

/* With a terminal as standard input BoringSSL still asks nobody: the test would wait. */
static void encrypted_keys_are_refused(void **state)
{
    (void)state;
    struct pki_request request = usual;

    request.passphrase = "secret";
    assert_true(pki_make(&request));
    refused("chain.pem", "key.pem", "key.pem", "encrypted");

    assert_true(pki_make(&usual));
    BIO *in = BIO_new_file("key.pem", "r"), *out = BIO_new_file("old.pem", "w");
    EVP_PKEY *key = PEM_read_bio_PrivateKey(in, NULL, NULL, NULL);
    static uint8_t passphrase[] = "secret";
    assert_true(PEM_write_bio_ECPrivateKey(out, EVP_PKEY_get0_EC_KEY(key), EVP_aes_128_cbc(),
                                           passphrase, 6, NULL, NULL));
    EVP_PKEY_free(key);
    BIO_free(in);
    BIO_free(out);
    refused("chain.pem", "old.pem", "old.pem", "encrypted");
}

static void times_count(void **state)
{
    (void)state;
    struct pki_request request = usual;
    char date[32];
    time_t then = time(NULL) - 86400;

    request.not_before_s = -2 * 86400;
    request.not_after_s = -86400;
    assert_true(pki_make(&request));
    strftime(date, sizeof(date), "expired at %Y-%m-%d", gmtime(&then));
    refused("chain.pem", "key.pem", "chain.pem", date);

    request.not_before_s = 3600;
    request.not_after_s = 86400;
    assert_true(pki_make(&request));
    refused("chain.pem", "key.pem", "chain.pem", "not valid before");

    request.not_before_s = -60;
    request.not_after_s = 60;
    certificate_drop(make_and_load(&request));

    request.not_after_s = INT64_C(100) * 365 * 86400; /* beyond UTCTime, and beyond 2^31 */
    struct certificate *certificate = make_and_load(&request);
    assert_true(certificate_expires(certificate) > time(NULL) + request.not_after_s - 60);
    certificate_drop(certificate);
}

/* --- names --- */

static void names_match(void **state)
{
    (void)state;
    struct pki_request request = {
        .chain_path = "chain.pem",
        .key_path = "key.pem",
        .common_name = "common.example.org",
        .names = {"mx.example.org", "MAIL.Example.NET", "*.example.com", "dot.example.org.",
                  "*.*.example.org", "*foo.example.org", "*"},
    };
    static const struct {
        const char *name;
        bool exact, wildcard;
    } cases[] = {
        {"mx.example.org",     true,  false},
        {"mail.example.net",   true,  false},
        {"dot.example.org",    true,  false},
        {"common.example.org", false, false},
        {"a.example.com",      false, true },
        {"a-b.example.com",    false, true },
        {"a.b.example.com",    false, false},
        {"example.com",        false, false},
        {".example.com",       false, false},
        {"*.example.com",      false, true }, /* nobody asks so */
        {"aexample.com",       false, false},
        {"a.example.comm",     false, false},
        {"a.b.example.org",    false, false},
        {"foo.example.org",    false, false},
        {"afoo.example.org",   false, false},
        {"localhost",          false, false},
        {"mx.example.or",      false, false},
        {"mx.example.org.",    false, false},
        {"",                   false, false},
    };
    struct certificate *certificate = make_and_load(&request);

    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
        if (certificate_matches(certificate, cases[i].name, false) != cases[i].exact ||
            certificate_matches(certificate, cases[i].name, true) != cases[i].wildcard)
            fail_msg("\"%s\"", cases[i].name);
    certificate_drop(certificate);
}

static void odd_names_are_passed_over(void **state)
{
    (void)state;
    static char longest[254], longer[255];
    struct pki_request request = usual;
    char names[1024];

    memset(longest, 'a', 253);
    memset(longer, 'b', 254);
    const char *const odd[] = {"",    "two words", "line\nbreak", "gr\xc3\xbc\xc3\x9f.example",
                               "a,b", longer,      longest};
    memcpy(request.names, odd, sizeof(odd));
    request.names[7] = "mx.example.org";
    request.common_name = "mail.example.org";
    struct certificate *certificate = make_and_load(&request);
    assert_int_equal(certificate_names(certificate, names, sizeof(names)), 2);
    assert_int_equal(strlen(names), 253 + 1 + 14);
    assert_true(certificate_matches(certificate, longest, false));
    assert_false(certificate_matches(certificate, "mail.example.org", false));
    certificate_drop(certificate);
}

/* RFC 6125 6.4.4: the common name is for certificates that have no DNS names. */
static void the_common_name_is_the_last_resort(void **state)
{
    (void)state;
    struct pki_request request = usual;
    char names[64] = "x";

    request.names[0] = NULL;
    request.common_name = "MX.Example.org";
    struct certificate *certificate = make_and_load(&request);
    assert_true(certificate_matches(certificate, "mx.example.org", false));
    certificate_drop(certificate);

    request.common_name = "Postmaster of Example";
    certificate = make_and_load(&request);
    assert_int_equal(certificate_names(certificate, names, sizeof(names)), 0);
    assert_string_equal(names, "");
    certificate_drop(certificate);

    request.common_name = "";
    certificate = make_and_load(&request);
    assert_int_equal(certificate_names(certificate, names, sizeof(names)), 0);
    certificate_drop(certificate);
}

static void names_are_cut_where_the_room_ends(void **state)
{
    (void)state;
    struct pki_request request = usual;
    char names[64];

    request.names[1] = "*.example.net";
    struct certificate *certificate = make_and_load(&request);
    assert_int_equal(certificate_names(certificate, names, sizeof(names)), 2);
    assert_string_equal(names, "mx.example.org,*.example.net");
    for (size_t room = 1; room < 32; room++) {
        memset(names, '#', sizeof(names));
        assert_int_equal(certificate_names(certificate, names, room), 2);
        assert_int_equal(strlen(names), room - 1 < 28 ? room - 1 : 28);
        assert_memory_equal(names, "mx.example.org,*.example.net", strlen(names));
        assert_int_equal(names[room], '#');
    }
    assert_int_equal(certificate_names(certificate, NULL, 0), 2);
    certificate_drop(certificate);
}

/* --- made at the first start --- */

static void a_self_signed_one_is_made(void **state)
{
    (void)state;
    char error[512] = "";
    struct stat status;

    unlink("self.pem");
    unlink("self.key");
    if (!certificate_make_self_signed("MX.example.org", "self.pem", "self.key", error,
                                      sizeof(error)))
        fail_msg("%s", error);
    assert_int_equal(stat("self.key", &status), 0);
    assert_int_equal(status.st_mode & 07777, 0600);
    assert_int_equal(stat("self.pem", &status), 0);
    assert_int_equal(status.st_mode & 0077 & ~022, 044);
    struct certificate *certificate = load("self.pem", "self.key");
    assert_true(certificate_is_self_signed(certificate));
    assert_false(certificate_is_rsa(certificate));
    assert_true(certificate_matches(certificate, "mx.example.org", false));
    int64_t days = (certificate_expires(certificate) - time(NULL)) / 86400;
    assert_in_range(days, 3650, 3653);
    certificate_drop(certificate);

    /* What is there stays as it is. */
    assert_false(certificate_make_self_signed("mx", "self.pem", "new.key", error, sizeof(error)));
    assert_ptr_equal(strstr(error, "self.pem: File exists"), error);
    assert_int_not_equal(access("new.key", F_OK), 0);
    assert_false(certificate_make_self_signed("mx", "new.pem", "self.key", error, sizeof(error)));
    assert_ptr_equal(strstr(error, "self.key: File exists"), error);
    assert_int_not_equal(access("new.pem", F_OK), 0);
    certificate_drop(load("self.pem", "self.key"));
}

static void self_signed_ones_have_good_names(void **state)
{
    (void)state;
    char error[512], longest[255] = "";
    static const char *const bad[] = {"", "two words", "m\xc3\xbc", "a\nb", "a\"b"};

    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        error[0] = 0;
        assert_false(
            certificate_make_self_signed(bad[i], "bad.pem", "bad.key", error, sizeof(error)));
        assert_ptr_equal(strstr(error, "bad.pem: "), error);
        assert_int_not_equal(access("bad.pem", F_OK), 0);
        assert_int_not_equal(access("bad.key", F_OK), 0);
    }
    for (size_t i = 0; i < 253; i++)
        longest[i] = i % 60 == 59 ? '.' : 'a';
    if (!certificate_make_self_signed(longest, "long.pem", "long.key", error, sizeof(error)))
        fail_msg("%s", error);
    struct certificate *certificate = load("long.pem", "long.key");
    assert_true(certificate_matches(certificate, longest, false));
    certificate_drop(certificate);

    longest[253] = 'a';
    assert_false(certificate_make_self_signed(longest, "bad.pem", "bad.key", error, sizeof(error)));
    assert_false(
        certificate_make_self_signed("mx", "no/bad.pem", "no/bad.key", error, sizeof(error)));
    assert_ptr_equal(strstr(error, "no/bad.key: No such file"), error);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(three_kinds_of_keys_load),
        cmocka_unit_test(a_chain_is_not_self_signed),
        cmocka_unit_test(files_may_look_otherwise),
        cmocka_unit_test(counted),
        cmocka_unit_test(bad_files_are_named),
        cmocka_unit_test(a_torn_chain_is_refused),
        cmocka_unit_test(other_keys_are_refused),
        cmocka_unit_test(weak_and_strange_keys_are_refused),
        cmocka_unit_test(encrypted_keys_are_refused),
        cmocka_unit_test(times_count),
        cmocka_unit_test(names_match),
        cmocka_unit_test(odd_names_are_passed_over),
        cmocka_unit_test(the_common_name_is_the_last_resort),
        cmocka_unit_test(names_are_cut_where_the_room_ends),
        cmocka_unit_test(a_self_signed_one_is_made),
        cmocka_unit_test(self_signed_ones_have_good_names),
    };
    return cmocka_run_group_tests_name("certificate", tests, pki_set_up, pki_tear_down);
}
