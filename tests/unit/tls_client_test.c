/* tls/tls as a client: with foreign servers and with our own, verified and not, resumed, in pieces
 * of any size; and client certificates, which our server asks for. */
#include "tls/tls.h"

#include "tests/support/pki.h"
#include "tests/support/talk.h"

#include <setjmp.h> /* before cmocka.h, which wants it */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const struct pki_request root = {
    .chain_path = "root.pem", .key_path = "root.key", .common_name = "Test Root", .is_ca = true};
static const struct pki_request requests[] = {
    {.chain_path = "mx.pem",
     .key_path = "mx.key",
     .names = {"mx.example.org", "*.example.net"},
     .issuer = &root},
    {.chain_path = "client.pem",
     .key_path = "client.key",
     .names = {"client.example.com"},
     .issuer = &root},
    {.chain_path = "stranger.pem",        .key_path = "stranger.key",            .names = {"mx.example.org"}},
};

static struct ticket_secret secret;
static const struct tls_client_options plain = {.version_max = TLS_1_3};

static struct tls_context *client_of(struct tls_client_options options)
{
    char error[512] = "";
    struct tls_context *context = tls_context_client(&options, error, sizeof(error));
    if (context == NULL)
        fail_msg("%s", error);
    return context;
}

static struct certificate *load(const char *chain, const char *key)
{
    char error[512] = "";
    struct certificate *certificate = certificate_load(chain, key, error, sizeof(error));
    if (certificate == NULL)
        fail_msg("%s", error);
    return certificate;
}

static struct tls *client(struct tls_client_options options, const char *name,
                          const struct tls_session *session)
{
    struct tls_context *context = client_of(options);
    struct tls *tls = tls_client(context, name, session);
    tls_context_drop(context);
    assert_non_null(tls);
    return tls;
}

static struct tls *server(const char *client_ca)
{
    struct certificate *certificate = load("mx.pem", "mx.key");
    char error[512] = "";
    struct tls_context *context =
        tls_context_server(&(struct tls_server_options){.certificates = &certificate,
                                                        .certificate_count = 1,
                                                        .client_ca = client_ca,
                                                        .tickets = &secret},
                           error, sizeof(error));
    if (context == NULL)
        fail_msg("%s", error);
    certificate_drop(certificate);
    struct tls *tls = tls_server(context);
    tls_context_drop(context);
    assert_non_null(tls);
    return tls;
}

/* --- foreign servers --- */

static struct talk *with_server(struct tls *tls, struct peer_options options)
{
    struct talk *talk = malloc(sizeof(*talk));
    assert_non_null(talk);
    options.server = true;
    options.chain = "mx.pem";
    options.key = "mx.key";
    talk_new(talk, tls, &options);
    return talk;
}

static void end(struct talk *talk)
{
    talk_free(talk);
    free(talk);
}

static void exchange(struct talk *talk)
{
    talk_receive(talk, "220 mx.example.org\r\n", 20);
    talk_send(talk, "EHLO client.example.com\r\n", 25);
    talk_receive(talk, "250 mx.example.org\r\n", 20);
    talk_send(talk, "QUIT\r\n", 6);
}

static void one_server(const struct peer_library *library, uint16_t version, size_t in, size_t out)
{
    struct talk *talk = with_server(
        client(plain, "mx.example.org", NULL),
        (struct peer_options){.library = library, .version_min = version, .version_max = version});
    talk->pace = (struct talk_pace){.in = in, .out = out};
    assert_int_equal(talk_handshake(talk), TLS_READY);
    assert_true(talk->peer_done);
    const struct tls_info *info = tls_info(talk->tls);
    assert_string_equal(info->version, version == TLS1_3_VERSION ? "TLSv1.3" : "TLSv1.2");
    assert_string_equal(info->version, peer_version(&talk->peer));
    assert_string_equal(info->cipher, tls_cipher_names[info->cipher_index]);
    assert_false(info->resumed);
    exchange(talk);
    end(talk);
}

static void foreign_servers(void **state)
{
    (void)state;
    const struct peer_library *libraries[] = {peer_boringssl(), peer_openssl()};
    static const size_t sizes[] = {0, 1, 7, 100};
    for (size_t i = 0; i < 2 && libraries[i] != NULL; i++)
        for (size_t k = 0; k < 16; k++)
            for (uint16_t version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++)
                one_server(libraries[i], version, sizes[k % 4], sizes[k / 4]);
}

static void ciphers_and_groups(void **state)
{
    (void)state;
    struct tls_client_options options = plain;
    options.version_max = TLS_1_2;
    options.ciphers = "ECDHE-ECDSA-CHACHA20-POLY1305";
    options.groups = "P-256";
    struct talk *talk = with_server(client(options, NULL, NULL), (struct peer_options){0});
    assert_int_equal(talk_handshake(talk), TLS_READY);
    assert_string_equal(tls_info(talk->tls)->cipher,
                        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256");
    assert_string_equal(tls_info(talk->tls)->group, "P-256");
    exchange(talk);
    end(talk);
    if (peer_openssl() == NULL)
        return;
    for (uint8_t i = 0; i < 3; i++) {
        talk = with_server(client(plain, NULL, NULL),
                           (struct peer_options){.library = peer_openssl(),
                                                 .modern_cipher = tls_cipher_names[i],
                                                 .version_min = TLS1_3_VERSION});
        assert_int_equal(talk_handshake(talk), TLS_READY);
        assert_int_equal(tls_info(talk->tls)->cipher_index, i);
        exchange(talk);
        end(talk);
    }
}

static void refused_by_the_server(void **state)
{
    (void)state;
    struct tls_client_options options = plain;
    options.version_max = TLS_1_2;
    struct talk *talk = with_server(client(options, NULL, NULL),
                                    (struct peer_options){.version_min = TLS1_3_VERSION});
    assert_int_equal(talk_handshake(talk), TLS_FAILED);
    assert_int_equal(tls_failure(talk->tls), TLS_FAILURE_ALERT);
    end(talk);
}

/* The server's tickets come before its first text; the newest is kept. */
static void foreign_tickets(void **state)
{
    (void)state;
    const struct peer_library *libraries[] = {peer_boringssl(), peer_openssl()};
    for (size_t i = 0; i < 2 && libraries[i] != NULL; i++) {
        struct talk *talk = with_server(
            client(plain, "mx.example.org", NULL),
            (struct peer_options){.library = libraries[i], .version_min = TLS1_3_VERSION});
        assert_int_equal(talk_handshake(talk), TLS_READY);
        exchange(talk);
        struct tls_session *session = tls_session_take(talk->tls);
        assert_non_null(session);
        assert_null(tls_session_take(talk->tls));
        tls_session_free(session);
        end(talk);
    }
    tls_session_free(NULL);
}

/* Not before the first text, but before it is used: the keys change under way. */
static void foreign_updates(void **state)
{
    (void)state;
    const struct peer_library *libraries[] = {peer_boringssl(), peer_openssl()};
    for (size_t i = 0; i < 2 && libraries[i] != NULL; i++) {
        struct talk *talk = with_server(
            client(plain, NULL, NULL),
            (struct peer_options){.library = libraries[i], .version_min = TLS1_3_VERSION});
        assert_int_equal(talk_handshake(talk), TLS_READY);
        exchange(talk);
        for (int k = 0; k < 4; k++) {
            peer_update(&talk->peer, k % 2 == 0);
            exchange(talk);
        }
        end(talk);
    }
}

/* --- verification --- */

static void verified(const char *ca, const char *name, bool good)
{
    const struct peer_library *libraries[] = {peer_boringssl(), peer_openssl()};
    struct tls_client_options options = plain;
    options.ca = ca;
    for (size_t i = 0; i < 2 && libraries[i] != NULL; i++) {
        for (uint16_t version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
            struct talk *talk =
                with_server(client(options, name, NULL),
                            (struct peer_options){.library = libraries[i], .version_max = version});
            assert_int_equal(talk_handshake(talk), good ? TLS_READY : TLS_FAILED);
            if (good) {
                assert_string_equal(tls_info(talk->tls)->peer_name, "mx.example.org");
                exchange(talk);
            } else {
                assert_int_equal(tls_failure(talk->tls), TLS_FAILURE_CERTIFICATE);
                assert_int_not_equal(tls_failure_text(talk->tls)[0], 0);
                assert_false(talk->peer_done);
            }
            end(talk);
        }
    }
}

static void servers_are_verified(void **state)
{
    (void)state;
    verified("root.pem", "mx.example.org", true);
    verified("root.pem", "MX.example.org", true);
    verified("root.pem", "mail.example.net", true);
    verified("root.pem", NULL, true);
    verified("root.pem", "other.example.org", false);
    verified("root.pem", "a.b.example.net", false);
    verified("stranger.pem", "mx.example.org", false);
}

/* --- our client and our server --- */

struct both {
    struct tls *client, *server;
    uint8_t to_server[65536], to_client[65536];
    size_t to_server_len, to_client_len;
    enum tls_status client_status, server_status;
};

/* One call of one side, with so much input and room. */
static void side(struct tls *tls, enum tls_status *status, uint8_t *in, size_t *in_len,
                 uint8_t *out, size_t *out_len, size_t step)
{
    if (*status == TLS_READY || *status == TLS_FAILED)
        return;
    struct tls_io io = {.in = in,
                        .in_len = *in_len < step ? *in_len : step,
                        .out = out + *out_len,
                        .out_room = step < 65536 - *out_len ? step : 65536 - *out_len};
    *status = tls_handshake(tls, &io);
    memmove(in, in + io.in_taken, *in_len - io.in_taken);
    *in_len -= io.in_taken;
    *out_len += io.out_len;
}

static void meet(struct both *both, size_t step)
{
    both->client_status = both->server_status = TLS_INPUT;
    both->to_server_len = both->to_client_len = 0;
    for (int i = 0; i < 20000; i++) {
        side(both->client, &both->client_status, both->to_client, &both->to_client_len,
             both->to_server, &both->to_server_len, step);
        side(both->server, &both->server_status, both->to_server, &both->to_server_len,
             both->to_client, &both->to_client_len, step);
    }
}

static void part(struct both *both)
{
    tls_free(both->client);
    tls_free(both->server);
}

/* Text from one to the other, with what goes before it. */
static void speak(struct tls *from, struct tls *to, const char *said)
{
    static uint8_t wire[TLS_PRELUDE_MAX + TLS_RECORD_MAX];
    size_t len = tls_prelude(from, wire), at = 0, text_len = 0;
    uint8_t *text = NULL;
    enum tls_opened opened = TLS_NOTHING;
    len += tls_seal(from, wire + len, (const uint8_t *)said, strlen(said));
    while (at < len) {
        size_t record_len = tls_record_len(wire + at, len - at);
        assert_int_equal(opened, TLS_NOTHING);
        opened = tls_open(to, wire + at, record_len, &text, &text_len);
        at += record_len;
    }
    assert_int_equal(opened, TLS_TEXT);
    assert_int_equal(text_len, strlen(said));
    assert_memory_equal(text, said, text_len);
}

static void ours_with_ours(void **state)
{
    (void)state;
    static struct both both;
    static const size_t steps[] = {1, 2, 3, 17, 1000, 65536};
    for (size_t i = 0; i < 12; i++) {
        struct tls_client_options options = plain;
        options.version_max = i % 2 == 0 ? TLS_1_2 : TLS_1_3;
        options.ca = "root.pem";
        options.alpn = "smtp";
        both.client = client(options, "mx.example.org", NULL);
        both.server = server(NULL);
        meet(&both, steps[i / 2]);
        assert_int_equal(both.client_status, TLS_READY);
        assert_int_equal(both.server_status, TLS_READY);
        assert_string_equal(tls_info(both.client)->cipher, tls_info(both.server)->cipher);
        assert_string_equal(tls_info(both.client)->group, tls_info(both.server)->group);
        assert_string_equal(tls_info(both.server)->server_name, "mx.example.org");
        for (int k = 0; k < 3; k++) {
            speak(both.server, both.client, "250 mx.example.org\r\n");
            speak(both.client, both.server, "NOOP\r\n");
        }
        part(&both);
    }
}

static void sessions(void **state)
{
    (void)state;
    static struct both both;
    struct tls_client_options options = plain;
    for (enum tls_version version = TLS_1_2; version <= TLS_1_3; version++) {
        options.version_max = version;
        struct tls_session *session = NULL;
        for (int i = 0; i < 4; i++) {
            both.client = client(options, "mx.example.org", session);
            both.server = server(NULL);
            meet(&both, 65536);
            assert_int_equal(both.client_status, TLS_READY);
            assert_int_equal(tls_info(both.client)->resumed, i > 0);
            assert_int_equal(tls_info(both.server)->resumed, i > 0);
            speak(both.server, both.client, "220 mx.example.org\r\n");
            speak(both.client, both.server, "QUIT\r\n");
            struct tls_session *newer = tls_session_take(both.client);
            assert_true(newer != NULL || (version == TLS_1_2 && i > 0));
            if (newer != NULL) {
                tls_session_free(session);
                session = newer;
            }
            part(&both);
        }
        tls_session_free(session);
    }
}

/* --- client certificates --- */

static void shown(const char *chain, const char *key, enum tls_status want, const char *name)
{
    static struct both both;
    for (enum tls_version version = TLS_1_2; version <= TLS_1_3; version++) {
        struct certificate *certificate = chain == NULL ? NULL : load(chain, key);
        struct tls_client_options options = plain;
        options.version_max = version;
        options.certificate = certificate;
        both.client = client(options, "mx.example.org", NULL);
        both.server = server("root.pem");
        certificate_drop(certificate);
        meet(&both, 65536);
        assert_int_equal(both.server_status, want);
        if (want == TLS_READY) {
            assert_string_equal(tls_info(both.server)->peer_name, name);
            speak(both.server, both.client, "220 mx.example.org\r\n");
            speak(both.client, both.server, "QUIT\r\n");
            assert_null(tls_session_take(both.client)); /* no resumption with client_ca */
        } else {
            assert_int_equal(tls_failure(both.server), TLS_FAILURE_CERTIFICATE);
        }
        part(&both);
    }
}

static void client_certificates(void **state)
{
    (void)state;
    shown("client.pem", "client.key", TLS_READY, "client.example.com");
    shown(NULL, NULL, TLS_READY, "");
    shown("stranger.pem", "stranger.key", TLS_FAILED, "");
}

static int set_up(void **state)
{
    if (pki_set_up(state) != 0 || !pki_make(&root))
        return -1;
    for (size_t i = 0; i < sizeof(requests) / sizeof(requests[0]); i++)
        if (!pki_make(&requests[i]))
            return -1;
    ticket_secret_random(&secret, 3600);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(foreign_servers),       cmocka_unit_test(ciphers_and_groups),
        cmocka_unit_test(refused_by_the_server), cmocka_unit_test(foreign_tickets),
        cmocka_unit_test(foreign_updates),       cmocka_unit_test(servers_are_verified),
        cmocka_unit_test(ours_with_ours),        cmocka_unit_test(sessions),
        cmocka_unit_test(client_certificates),
    };
    return cmocka_run_group_tests_name("tls_client", tests, set_up, pki_tear_down);
}
