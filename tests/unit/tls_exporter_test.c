/* tls_exporter: the channel binding is the same at both ends, whoever the other one is (BoringSSL's
 * own SSL, the system's OpenSSL), also in a session that is resumed, and of no other connection; it
 * is there only for who asked for it, and from TLS 1.3 on. */
#include "tls/tls.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/pki.h"
#include "tests/support/talk.h"

static const char label[] = "EXPORTER-Channel-Binding"; /* RFC 9266 2 */

static const struct pki_request request = {
    .chain_path = "mx.pem", .key_path = "mx.key", .names = {"mx.example.org"}};
static struct ticket_secret secret;

static struct tls *server(bool exporter)
{
    char error[512] = "";
    struct certificate *certificate = certificate_load("mx.pem", "mx.key", error, sizeof(error));
    assert_string_equal(error, "");
    struct tls_server_options options = {.certificates = &certificate,
                                         .certificate_count = 1,
                                         .tickets = &secret,
                                         .exporter = exporter};
    struct tls_context *context = tls_context_server(&options, error, sizeof(error));
    assert_string_equal(error, "");
    certificate_drop(certificate);
    struct tls *tls = tls_server(context);
    tls_context_drop(context);
    assert_non_null(tls);
    return tls;
}

static struct tls *client(void)
{
    char error[512] = "";
    struct tls_context *context =
        tls_context_client(&(struct tls_client_options){.version_max = TLS_1_3, .exporter = true},
                           error, sizeof(error));
    assert_string_equal(error, "");
    struct tls *tls = tls_client(context, "mx.example.org", NULL);
    tls_context_drop(context);
    assert_non_null(tls);
    return tls;
}

static struct talk *begin(struct tls *tls, struct peer_options options)
{
    struct talk *talk = malloc(sizeof(*talk));
    assert_non_null(talk);
    talk_new(talk, tls, &options);
    assert_int_equal(talk_handshake(talk), TLS_READY);
    return talk;
}

static void end(struct talk *talk)
{
    talk_free(talk);
    free(talk);
}

static void is_alike(const struct talk *talk)
{
    uint8_t theirs[TLS_EXPORTER_LEN];
    peer_export(&talk->peer, label, theirs, sizeof(theirs));
    assert_non_null(tls_exporter(talk->tls));
    assert_memory_equal(tls_exporter(talk->tls), theirs, sizeof(theirs));
}

static void with_library(const struct peer_library *library)
{
    uint8_t first[TLS_EXPORTER_LEN];
    size_t memory;
    struct talk *talk = begin(server(true), (struct peer_options){.library = library});
    assert_string_equal(tls_info(talk->tls)->version, "TLSv1.3");
    is_alike(talk);
    memory = tls_memory(talk->tls);
    memcpy(first, tls_exporter(talk->tls), sizeof(first));
    talk_send(talk, "220 hello\r\n", 11);
    talk_receive(talk, "QUIT\r\n", 6);
    is_alike(talk); /* it stays when the handshake is long over */
    end(talk);

    talk = begin(server(true), (struct peer_options){.library = library});
    assert_memory_not_equal(tls_exporter(talk->tls), first, sizeof(first));
    end(talk);

    talk = begin(client(),
                 (struct peer_options){
                     .library = library, .server = true, .chain = "mx.pem", .key = "mx.key"});
    is_alike(talk);
    end(talk);

    talk = begin(server(false), (struct peer_options){.library = library});
    assert_null(tls_exporter(talk->tls));
    assert_int_equal(tls_memory(talk->tls) + TLS_EXPORTER_LEN, memory);
    end(talk);

    talk = begin(server(true),
                 (struct peer_options){.library = library, .version_max = TLS1_2_VERSION});
    assert_string_equal(tls_info(talk->tls)->version, "TLSv1.2");
    assert_null(tls_exporter(talk->tls));
    end(talk);
}

static void test_boringssl(void **state)
{
    (void)state;
    with_library(peer_boringssl());
}

static void test_openssl(void **state)
{
    (void)state;
    if (peer_openssl() == NULL) {
        print_message("skipped: libssl.so.3 is not installed\n");
        skip();
    }
    with_library(peer_openssl());
}

static void test_resumed(void **state)
{
    (void)state;
    uint8_t first[TLS_EXPORTER_LEN];
    struct talk *talk = begin(server(true), (struct peer_options){0});
    memcpy(first, tls_exporter(talk->tls), sizeof(first));
    talk_send(talk, "220 hello\r\n", 11);
    assert_non_null(talk->peer.session);
    struct talk *again = begin(server(true), (struct peer_options){.session = talk->peer.session});
    assert_true(tls_info(again->tls)->resumed);
    is_alike(again);
    assert_memory_not_equal(tls_exporter(again->tls), first, sizeof(first));
    end(again);
    end(talk);
}

static int set_up(void **state)
{
    ticket_secret_random(&secret, 3600);
    return pki_set_up(state) != 0 || !pki_make(&request) ? -1 : 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_boringssl),
        cmocka_unit_test(test_openssl),
        cmocka_unit_test(test_resumed),
    };
    return cmocka_run_group_tests_name("tls_exporter", tests, set_up, pki_tear_down);
}
