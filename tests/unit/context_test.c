/* tls/context and tls/choose: which certificate, version, cipher and protocol a client gets, and
 * which clients get none. Handshakes in memory; resumption and client certificates are in
 * context_trust_test.c. */
#include "tls/context.h"

#include "tests/support/pair.h"
#include "tests/support/pki.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <openssl/mem.h>

static const uint16_t versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};

/* The certificates of the listener; the order matters. */
enum { DEFAULT = 0, DEFAULT_RSA, EXACT, WILDCARD, LARGE, CERTIFICATE_COUNT };

static const struct {
    const char *chain, *key, *name, *second;
    enum pki_kind kind;
} requests[CERTIFICATE_COUNT] = {
    {"default.pem",  "default.key",  "mx.example.org",    "mail.example.org", PKI_ECDSA_P256},
    {"rsa.pem",      "rsa.key",      "mail.example.org",  NULL,               PKI_RSA_2048  },
    {"exact.pem",    "exact.key",    "mail.example.net",  NULL,               PKI_ECDSA_P256},
    {"wildcard.pem", "wildcard.key", "*.example.net",     NULL,               PKI_ECDSA_P256},
    {"large.pem",    "large.key",    "large.example.com", NULL,               PKI_ECDSA_P384},
};
static struct certificate *certificates[CERTIFICATE_COUNT];

static int set_up(void **state)
{
    char error[512];

    if (pki_set_up(state) != 0)
        return -1;
    for (size_t i = 0; i < CERTIFICATE_COUNT; i++) {
        struct pki_request request = {
            .chain_path = requests[i].chain,
            .key_path = requests[i].key,
            .names = {requests[i].name, requests[i].second},
            .kind = requests[i].kind
        };
        if (pki_make(&request))
            certificates[i] =
                certificate_load(request.chain_path, request.key_path, error, sizeof(error));
        if (!certificates[i])
            return -1;
    }
    return 0;
}

static int tear_down(void **state)
{
    for (size_t i = 0; i < CERTIFICATE_COUNT; i++)
        certificate_drop(certificates[i]);
    return pki_tear_down(state);
}

static struct tls_context *server_of(const struct tls_server_options *options)
{
    char error[512] = "";
    struct tls_context *context = tls_context_server(options, error, sizeof(error));

    if (!context)
        fail_msg("%s", error);
    return context;
}

static struct tls_context *usual_server(void)
{
    return server_of(&(struct tls_server_options){.certificates = certificates,
                                                  .certificate_count = CERTIFICATE_COUNT});
}

/* Makes the handshake and tells which certificate was sent; -1: it failed. */
static int certificate_for(struct tls_context *context, SSL *client)
{
    struct pair pair;
    int found = -1;

    pair_run(&pair, context, client);
    for (int i = 0; pair.done && i < CERTIFICATE_COUNT; i++) {
        if (!pair_sent(&pair, requests[i].chain))
            continue;
        assert_int_equal(found, -1);
        assert_ptr_equal(pair.server.handshake.certificate, certificates[i]);
        found = i;
    }
    pair_end(&pair);
    return found;
}

/* --- the certificate --- */

static void the_name_decides(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        int certificate;
    } cases[] = {
        {NULL,                  DEFAULT },
        {"mx.example.org",      DEFAULT },
        {"MX.Example.ORG",      DEFAULT },
        {"mail.example.net",    EXACT   },
        {"mail.example.net.",   EXACT   },
        {"MAIL.EXAMPLE.NET",    EXACT   },
        {"other.example.net",   WILDCARD},
        {"a.b.example.net",     DEFAULT },
        {"example.net",         DEFAULT },
        {"large.example.com",   LARGE   },
        {"unknown.example.com", DEFAULT },
        {"localhost",           DEFAULT },
    };
    struct tls_context *context = usual_server();

    for (size_t v = 0; v < 2; v++)
        for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
            if (certificate_for(context, pair_stranger(versions[v], cases[i].name)) !=
                cases[i].certificate)
                fail_msg("%s, version %x", cases[i].name, versions[v]);
    tls_context_drop(context);
}

/* A client of one version that verifies only these signatures. */
static SSL *verifier(uint16_t version, const char *name, const uint16_t *schemes, size_t count)
{
    SSL *ssl = pair_stranger(version, name);

    assert_true(SSL_set_verify_algorithm_prefs(ssl, schemes, count));
    return ssl;
}

static void signatures_decide(void **state)
{
    (void)state;
    static const uint16_t rsa[] = {SSL_SIGN_RSA_PSS_RSAE_SHA256, SSL_SIGN_RSA_PKCS1_SHA256};
    static const uint16_t ecdsa[] = {SSL_SIGN_ECDSA_SECP256R1_SHA256};
    static const uint16_t both[] = {SSL_SIGN_RSA_PSS_RSAE_SHA384, SSL_SIGN_ECDSA_SECP256R1_SHA256};
    static const uint16_t large[] = {SSL_SIGN_ECDSA_SECP384R1_SHA384, SSL_SIGN_RSA_PSS_RSAE_SHA256};
    struct tls_context *context = usual_server();

    for (size_t v = 0; v < 2; v++) {
        uint16_t version = versions[v];
        bool modern = version == TLS1_3_VERSION;
        assert_int_equal(certificate_for(context, verifier(version, NULL, rsa, 2)), DEFAULT_RSA);
        assert_int_equal(certificate_for(context, verifier(version, NULL, ecdsa, 1)), DEFAULT);
        assert_int_equal(certificate_for(context, verifier(version, NULL, both, 2)), DEFAULT);
        /* Only in TLS 1.3 does a scheme mean a curve. */
        assert_int_equal(certificate_for(context, verifier(version, NULL, large, 2)),
                         modern ? DEFAULT_RSA : DEFAULT);
        assert_int_equal(certificate_for(context, verifier(version, "large.example.com", large, 2)),
                         LARGE);
        /* A name that it cannot verify is worth less than a handshake. */
        assert_int_equal(certificate_for(context, verifier(version, "mail.example.net", rsa, 2)),
                         DEFAULT_RSA);
        /* The RSA certificate is not for this name, but belongs to the default. */
        assert_int_equal(certificate_for(context, verifier(version, "mx.example.org", rsa, 2)),
                         DEFAULT_RSA);
    }
    tls_context_drop(context);
}

static SSL *old_client(const char *ciphers, const char *groups)
{
    SSL *ssl = pair_stranger(TLS1_2_VERSION, NULL);

    assert_true(SSL_set_strict_cipher_list(ssl, ciphers));
    assert_true(SSL_set1_curves_list(ssl, groups));
    return ssl;
}

static void ciphers_and_curves_decide_in_tls_1_2(void **state)
{
    (void)state;
    static const char ecdsa[] = "ECDHE-ECDSA-AES128-GCM-SHA256";
    static const char rsa[] = "ECDHE-RSA-CHACHA20-POLY1305";
    static const char both[] = "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305";
    struct tls_context *context = usual_server();

    assert_int_equal(certificate_for(context, old_client(ecdsa, "X25519:P-256")), DEFAULT);
    assert_int_equal(certificate_for(context, old_client(rsa, "X25519:P-256")), DEFAULT_RSA);
    assert_int_equal(certificate_for(context, old_client(both, "X25519:P-256")), DEFAULT);
    assert_int_equal(certificate_for(context, old_client(both, "P-256")), DEFAULT);
    assert_int_equal(certificate_for(context, old_client(both, "X25519")), DEFAULT_RSA);
    assert_int_equal(certificate_for(context, old_client(ecdsa, "X25519")), -1);
    tls_context_drop(context);
}

/* The first is RSA; ECDSA that goes with it is still what most clients get. Offloaded or not. */
static void the_order_of_kinds_does_not_matter(void **state)
{
    (void)state;
    static const uint16_t rsa[] = {SSL_SIGN_RSA_PSS_RSAE_SHA256, SSL_SIGN_RSA_PKCS1_SHA256};
    struct certificate *turned[] = {certificates[DEFAULT_RSA], certificates[EXACT],
                                    certificates[DEFAULT]};

    for (int offload = 0; offload < 2; offload++) {
        struct tls_context *context = server_of(&(struct tls_server_options){
            .certificates = turned, .certificate_count = 3, .offload = offload});
        struct tls_context *alone = server_of(&(struct tls_server_options){
            .certificates = turned, .certificate_count = 1, .offload = offload});
        for (size_t v = 0; v < 2; v++) {
            SSL *client = pair_stranger(versions[v], NULL);
            assert_int_equal(certificate_for(context, client), DEFAULT);
            assert_int_equal(certificate_for(context, verifier(versions[v], NULL, rsa, 2)),
                             DEFAULT_RSA);
            assert_int_equal(
                certificate_for(context, pair_stranger(versions[v], "mail.example.net")), EXACT);
            assert_int_equal(certificate_for(alone, pair_stranger(versions[v], "x")), DEFAULT_RSA);
        }
        tls_context_drop(context);
        tls_context_drop(alone);
    }
}

/* --- the protocol --- */

static void alpn_is_smtp_or_nothing(void **state)
{
    (void)state;
    static const struct {
        const char *offer;
        bool good, agreed;
    } cases[] = {
        {"",                      true,  false},
        {"\4smtp",                true,  true },
        {"\2h2\10http/1.1\4smtp", true,  true },
        {"\2h2\10http/1.1",       false, false},
        {"\5smtps",               false, false},
        {"\4SMTP",                false, false},
        {"\3smt",                 false, false},
    };
    struct tls_context *context = usual_server();

    for (size_t i = 0; i < 2 * sizeof(cases) / sizeof(*cases); i++) {
        struct pair pair;
        SSL *client = pair_stranger(versions[i % 2], NULL);
        const char *offer = cases[i / 2].offer;
        const uint8_t *protocol;
        unsigned len;
        assert_int_equal(
            SSL_set_alpn_protos(client, (const uint8_t *)offer, (unsigned)strlen(offer)), 0);
        pair_run(&pair, context, client);
        SSL_get0_alpn_selected(client, &protocol, &len);
        assert_int_equal(pair.done, cases[i / 2].good);
        assert_int_equal(pair.server.handshake.alpn_refused, !cases[i / 2].good);
        assert_int_equal(len, cases[i / 2].agreed ? 4 : 0);
        assert_true(len == 0 || memcmp(protocol, "smtp", 4) == 0);
        if (!cases[i / 2].good)
            assert_int_equal(pair.client.reason, SSL_R_TLSV1_ALERT_NO_APPLICATION_PROTOCOL);
        pair_end(&pair);
    }
    tls_context_drop(context);
}

static void old_versions_are_refused(void **state)
{
    (void)state;
    struct tls_context *any = usual_server();
    struct tls_context *modern =
        server_of(&(struct tls_server_options){.certificates = certificates,
                                               .certificate_count = CERTIFICATE_COUNT,
                                               .version_min = TLS_1_3});
    struct pair pair;

    pair_run(&pair, any, pair_stranger(TLS1_1_VERSION, NULL));
    assert_false(pair.done);
    assert_int_equal(pair.client.reason, SSL_R_TLSV1_ALERT_PROTOCOL_VERSION);
    pair_end(&pair);
    pair_run(&pair, modern, pair_stranger(TLS1_2_VERSION, NULL));
    assert_false(pair.done);
    assert_int_equal(pair.client.reason, SSL_R_TLSV1_ALERT_PROTOCOL_VERSION);
    pair_end(&pair);
    assert_int_equal(certificate_for(modern, pair_stranger(TLS1_3_VERSION, NULL)), DEFAULT);
    tls_context_drop(any);
    tls_context_drop(modern);
}

static uint16_t cipher_for(struct tls_context *context, const char *offered)
{
    struct pair pair;

    pair_run(&pair, context, old_client(offered, "X25519:P-256"));
    uint16_t cipher = 0;
    if (pair.done)
        cipher = SSL_CIPHER_get_protocol_id(SSL_get_current_cipher(pair.client.tls.ssl));
    pair_end(&pair);
    return cipher;
}

/* Only forward secrecy with AEAD; among those what the client likes best. */
static void ciphers_are_chosen(void **state)
{
    (void)state;
    struct tls_context *context = usual_server();

    assert_int_equal(cipher_for(context, "ECDHE-ECDSA-AES128-SHA"), 0);
    assert_int_equal(cipher_for(context, "ECDHE-RSA-AES128-SHA"), 0);
    assert_int_equal(cipher_for(context, "AES128-GCM-SHA256"), 0);
    assert_int_equal(cipher_for(context, "AES128-SHA:ECDHE-RSA-AES128-GCM-SHA256"), 0xc02f);
    assert_int_equal(cipher_for(context, "ECDHE-RSA-AES128-GCM-SHA256:"
                                         "ECDHE-ECDSA-AES256-GCM-SHA384"),
                     0xc02c);
    if (EVP_has_aes_hardware()) {
        assert_int_equal(cipher_for(context, "ECDHE-ECDSA-AES256-GCM-SHA384:"
                                             "ECDHE-ECDSA-CHACHA20-POLY1305:"
                                             "ECDHE-ECDSA-AES128-GCM-SHA256"),
                         0xc02c);
        assert_int_equal(cipher_for(context, "ECDHE-RSA-CHACHA20-POLY1305:"
                                             "ECDHE-RSA-AES128-GCM-SHA256"),
                         0xcca8);
    }
    tls_context_drop(context);
}

static const char *group_for(struct tls_context *context, struct tls_context *client)
{
    struct pair pair;

    pair_run(&pair, context, pair_client(client, NULL));
    const char *group = "";
    if (pair.done)
        group = SSL_get_curve_name(SSL_get_curve_id(pair.client.tls.ssl));
    pair_end(&pair);
    return group;
}

static struct tls_context *client_of(const struct tls_client_options *options)
{
    char error[512] = "";
    struct tls_context *context = tls_context_client(options, error, sizeof(error));

    if (!context)
        fail_msg("%s", error);
    return context;
}

#ifdef SSL_GROUP_X25519_MLKEM768
static const char best_group[] = "X25519MLKEM768";
#else
static const char best_group[] = "X25519";
#endif

static void groups_are_chosen(void **state)
{
    (void)state;
    static const struct {
        const char *offer, *group;
    } cases[] = {
        {NULL,           best_group},
        {"X25519",       "X25519"  },
        {"P-256",        "P-256"   },
        {"P-256:X25519", "X25519"  },
        {"P-384:P-256",  "P-256"   },
        {"P-384",        ""        },
    };
    struct tls_context *context = usual_server();

    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct tls_context *client = client_of(
            &(struct tls_client_options){.version_max = TLS_1_3, .groups = cases[i].offer});
        assert_string_equal(group_for(context, client), cases[i].group);
        tls_context_drop(client);
    }
    tls_context_drop(context);
}

/* --- the secrets of TLS 1.3 --- */

/* Opens the client's first record with the secret that the server's side has. */
static void opens_record(struct pair *pair, const EVP_AEAD *algorithm, const EVP_MD *digest)
{
    const struct tls_handshake *server = &pair->server.handshake, *client = &pair->client.handshake;
    struct record record = {0};
    enum record_type type;
    uint8_t wire[256], *text;
    size_t text_len;

    assert_int_equal(server->secret_len, EVP_MD_size(digest));
    assert_int_equal(client->secret_len, server->secret_len);
    assert_memory_equal(client->client_secret, server->client_secret, server->secret_len);
    assert_memory_equal(client->server_secret, server->server_secret, server->secret_len);
    assert_true(record_start_modern(&record, algorithm, digest, server->client_secret,
                                    server->secret_len, 0));
    assert_int_equal(SSL_write(pair->client.tls.ssl, "QUIT", 4), 4);
    int len = BIO_read(SSL_get_rbio(pair->server.tls.ssl), wire, sizeof(wire));
    assert_true(len > 0);
    assert_int_equal(record_open(&record, wire, (size_t)len, &type, &text, &text_len), RECORD_OK);
    assert_int_equal(type, RECORD_DATA);
    assert_int_equal(text_len, 4);
    assert_memory_equal(text, "QUIT", 4);
    record_end(&record);
}

static void secrets_are_taken(void **state)
{
    (void)state;
    struct tls_context *context = usual_server();
    struct tls_context *client = client_of(&(struct tls_client_options){.version_max = TLS_1_3});
    struct pair pair;

    pair_run(&pair, context, pair_client(client, NULL));
    assert_true(pair.done);
    assert_int_equal(SSL_CIPHER_get_protocol_id(SSL_get_current_cipher(pair.client.tls.ssl)),
                     EVP_has_aes_hardware() ? 0x1301 : 0x1303);
    opens_record(&pair,
                 EVP_has_aes_hardware() ? EVP_aead_aes_128_gcm() : EVP_aead_chacha20_poly1305(),
                 EVP_sha256());
    pair_end(&pair);
    tls_context_drop(client);

    client = client_of(&(struct tls_client_options){.version_max = TLS_1_2});
    pair_run(&pair, context, pair_client(client, NULL));
    assert_true(pair.done);
    assert_int_equal(pair.server.handshake.secret_len, 0);
    pair_end(&pair);
    tls_context_drop(client);
    tls_context_drop(context);
}

/* --- options --- */

static void client_refused(const struct tls_client_options *options, const char *word)
{
    char error[512] = "";

    assert_null(tls_context_client(options, error, sizeof(error)));
    if (!strstr(error, word))
        fail_msg("\"%s\" without \"%s\"", error, word);
}

static void server_refused(const struct tls_server_options *options, const char *word)
{
    char error[512] = "";

    assert_null(tls_context_server(options, error, sizeof(error)));
    if (!strstr(error, word))
        fail_msg("\"%s\" without \"%s\"", error, word);
}

static void bad_options_are_explained(void **state)
{
    (void)state;
    static const char missing[] = "not-there: No such file";
    static const char no_ca[] = "default.key: no certificates";
    struct tls_client_options client = {.version_max = TLS_1_3};

    client_refused(&(struct tls_client_options){.version_min = TLS_1_3}, "versions");
    client.groups = "X25519:P-257";
    client_refused(&client, "P-257");
    client.groups = NULL;
    client.ciphers = "NO-SUCH-CIPHER";
    client_refused(&client, "NO-SUCH-CIPHER");
    client.ciphers = NULL;
    client.alpn = "";
    client_refused(&client, "protocol");
    client.alpn = NULL;
    client.ca = "not-there";
    client_refused(&client, missing);
    client.ca = "default.key";
    client_refused(&client, no_ca);

    struct tls_server_options server = {.certificates = certificates};
    server_refused(&server, "certificate");
    server.certificate_count = 1;
    server.client_ca = "not-there";
    server_refused(&server, missing);
    server.client_ca = "default.key";
    server_refused(&server, no_ca);
}

/* A reload drops the context; a handshake that began with it ends with it. */
static void a_handshake_outlives_its_context(void **state)
{
    (void)state;
    struct tls_context *context = usual_server();
    struct pair pair;

    assert_ptr_equal(tls_context_keep(context), context);
    tls_context_drop(context);
    pair_run(&pair, context, pair_stranger(TLS1_3_VERSION, "mail.example.net"));
    tls_context_drop(context);
    assert_true(pair.done);
    assert_true(certificate_matches(pair.server.handshake.certificate, "mail.example.net", false));
    pair_end(&pair);
    tls_context_drop(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_name_decides),
        cmocka_unit_test(signatures_decide),
        cmocka_unit_test(ciphers_and_curves_decide_in_tls_1_2),
        cmocka_unit_test(the_order_of_kinds_does_not_matter),
        cmocka_unit_test(alpn_is_smtp_or_nothing),
        cmocka_unit_test(old_versions_are_refused),
        cmocka_unit_test(ciphers_are_chosen),
        cmocka_unit_test(groups_are_chosen),
        cmocka_unit_test(secrets_are_taken),
        cmocka_unit_test(bad_options_are_explained),
        cmocka_unit_test(a_handshake_outlives_its_context),
    };
    return cmocka_run_group_tests_name("context", tests, set_up, tear_down);
}
