/* tls/tls and tls/handshake as a server: with every cipher and two foreign implementations, in
 * pieces of any size, damaged at every octet, and with clients that it must refuse. Nothing here
 * has sockets. What happens to records afterwards is in tls_records_test.c. */
#include "tls/tls.h"

#include "tests/support/pki.h"
#include "tests/support/talk.h"

#include <setjmp.h> /* before cmocka.h, which wants it */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct certificate *ecdsa, *rsa;
static struct ticket_secret secret;

static struct tls_context *server_of(struct tls_server_options options)
{
    char error[512] = "";
    struct tls_context *context = tls_context_server(&options, error, sizeof(error));
    if (context == NULL)
        fail_msg("%s", error);
    return context;
}

/* A listener with both certificates and tickets. */
static struct tls_context *usual(void)
{
    struct certificate *const both[] = {ecdsa, rsa};
    return server_of((struct tls_server_options){
        .certificates = both, .certificate_count = 2, .tickets = &secret});
}

static struct talk *begin(struct tls_context *context, const struct peer_options *client)
{
    struct talk *talk = malloc(sizeof(*talk));
    assert_non_null(talk);
    talk_new(talk, tls_server(context), client);
    tls_context_drop(context); /* the connection has its own */
    return talk;
}

static void end(struct talk *talk)
{
    talk_free(talk);
    free(talk);
}

static void ready(struct talk *talk)
{
    enum tls_status status = talk_handshake(talk);
    if (status != TLS_READY)
        fail_msg("%s", tls_failure_text(talk->tls));
    assert_true(talk->peer_done);
}

static void exchange(struct talk *talk)
{
    talk_receive(talk, "EHLO client.example\r\n", 21);
    talk_send(talk, "250 mx.example.org\r\n", 20);
    talk_receive(talk, "QUIT\r\n", 6);
    talk_send(talk, "221 2.0.0 bye\r\n", 15);
}

/* --- every cipher --- */

static const char *const old_ciphers[] = {
    "ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES256-GCM-SHA384",   "ECDHE-RSA-CHACHA20-POLY1305"};

static void one_cipher(const struct peer_library *library, uint8_t index)
{
    bool modern = index < 3;
    struct peer_options client = {
        .library = library,
        .version_min = modern ? TLS1_3_VERSION : TLS1_2_VERSION,
        .version_max = modern ? TLS1_3_VERSION : TLS1_2_VERSION,
        .cipher = modern ? NULL : old_ciphers[index - 3],
        .modern_cipher = modern ? tls_cipher_names[index] : NULL,
        .groups = modern ? "X25519" : "X25519:P-256",
        .server_name = "MX.Example.org",
    };
    struct talk *talk = begin(usual(), &client);
    ready(talk);
    const struct tls_info *info = tls_info(talk->tls);
    assert_string_equal(info->cipher, tls_cipher_names[index]);
    assert_int_equal(info->cipher_index, index);
    assert_string_equal(info->version, modern ? "TLSv1.3" : "TLSv1.2");
    assert_int_equal(info->version_index, modern);
    assert_string_equal(info->version, peer_version(&talk->peer));
    assert_string_equal(info->group, "X25519");
    assert_string_equal(info->server_name, "mx.example.org");
    assert_string_equal(info->peer_name, "");
    assert_false(info->resumed);
    assert_int_equal(tls_failure(talk->tls), TLS_FAILURE_NONE);
    assert_string_equal(tls_failure_text(talk->tls), "");
    exchange(talk);
    assert_in_range(tls_memory(talk->tls), 200, 2500);
    end(talk);
}

static void ciphers_of_boringssl(void **state)
{
    (void)state;
    one_cipher(peer_boringssl(), 0);
    for (uint8_t i = 3; i < TLS_CIPHER_COUNT; i++)
        one_cipher(peer_boringssl(), i);
}

static void ciphers_of_openssl(void **state)
{
    (void)state;
    if (peer_openssl() == NULL)
        skip();
    for (uint8_t i = 0; i < TLS_CIPHER_COUNT; i++)
        one_cipher(peer_openssl(), i);
}

/* --- pieces --- */

static void paced(uint16_t version, struct talk_pace pace)
{
    struct talk *talk =
        begin(usual(), &(struct peer_options){.version_min = version, .version_max = version});
    talk->pace = pace;
    ready(talk);
    exchange(talk);
    end(talk);
}

static void small_pieces(void **state)
{
    (void)state;
    static const size_t sizes[] = {1, 2, 3, 5, 7, 64, 500, 0};
    for (size_t i = 0; i < 8; i++) {
        for (size_t k = 0; k < 8; k++) {
            paced(TLS1_2_VERSION, (struct talk_pace){.in = sizes[i], .out = sizes[k]});
            paced(TLS1_3_VERSION, (struct talk_pace){.in = sizes[i], .out = sizes[k]});
        }
    }
}

/* The ClientHello in two parts, cut at every place. */
static void every_split(void **state)
{
    (void)state;
    for (size_t at = 1; at < 2000; at += at < 600 ? 1 : 37) /* 600: without ML-KEM, all of it */
        paced(at % 2 == 0 ? TLS1_2_VERSION : TLS1_3_VERSION, (struct talk_pace){.first_in = at});
}

/* Every amount of room for what we say, so that each octet of it is once the last that fits. */
static void every_room(void **state)
{
    (void)state;
    for (size_t room = 1; room < 1200; room += 1 + room / 100) {
        paced(TLS1_2_VERSION, (struct talk_pace){.out = room});
        paced(TLS1_3_VERSION, (struct talk_pace){.out = room});
    }
}

/* The client's first records came with the end of its handshake: they are left for tls_open. */
static void records_behind(void **state)
{
    (void)state;
    const struct peer_library *libraries[] = {peer_boringssl(), peer_openssl()};
    for (size_t i = 0; i < 2 && libraries[i] != NULL; i++) {
        struct talk *talk = begin(usual(), &(struct peer_options){.library = libraries[i],
                                                                  .version_min = TLS1_3_VERSION});
        uint8_t record[TLS_RECORD_MAX], *text;
        size_t text_len;
        assert_int_equal(talk_turn(talk), TLS_INPUT);
        assert_int_equal(peer_handshake(&talk->peer), PEER_DONE);
        talk->peer_done = true;
        assert_int_equal(peer_write(&talk->peer, (const uint8_t *)"EHLO x\r\n", 8), PEER_DONE);
        assert_int_equal(peer_write(&talk->peer, (const uint8_t *)"MAIL\r\n", 6), PEER_DONE);
        assert_int_equal(talk_turn(talk), TLS_READY);
        assert_int_not_equal(talk->in_len, 0);
        size_t len = talk_next_record(talk, record);
        assert_int_equal(tls_open(talk->tls, record, len, &text, &text_len), TLS_TEXT);
        assert_memory_equal(text, "EHLO x\r\n", 8);
        len = talk_next_record(talk, record);
        assert_int_equal(tls_open(talk->tls, record, len, &text, &text_len), TLS_TEXT);
        assert_memory_equal(text, "MAIL\r\n", 6);
        assert_int_equal(talk_next_record(talk, record), 0);
        end(talk);
    }
}

static void key_operations(void **state)
{
    (void)state;
    for (int offload = 0; offload < 2; offload++) {
        for (uint16_t version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
            struct tls_context *context = server_of((struct tls_server_options){
                .certificates = &rsa, .certificate_count = 1, .offload = offload == 1});
            struct talk *talk = begin(
                context, &(struct peer_options){.version_min = version, .version_max = version});
            talk->pace = (struct talk_pace){.in = 3, .out = 3};
            ready(talk);
            assert_int_equal(talk->keys, offload);
            exchange(talk);
            end(talk);
        }
    }
}

/* --- damage --- */

/* What is said of the version in the header of a record without keys has no meaning. */
static bool is_version(const uint8_t *heard, size_t at, size_t end)
{
    for (size_t i = 0; i < end && heard[i] != 23; i += tls_record_len(heard + i, end - i))
        if (at == i + 1 || at == i + 2)
            return true;
    return false;
}

/* Whatever octet of what the client says is changed, the handshake is not completed by both. */
static void damaged_at_every_octet(uint16_t version)
{
    size_t total = 1;
    int failed = 0;
    for (size_t at = 0; at <= total; at++) {
        struct talk *talk =
            begin(usual(), &(struct peer_options){.version_min = version, .version_max = version});
        talk->damage_at = at;
        enum tls_status status = talk_handshake(talk);
        if (at == 0) {
            assert_int_equal(status, TLS_READY);
            total = talk->received;
        } else if (status == TLS_READY && talk->peer_done) {
            assert_true(is_version(talk->heard, at - 1, total));
        } else if (status == TLS_FAILED) {
            assert_int_not_equal(tls_failure(talk->tls), TLS_FAILURE_NONE);
            assert_int_not_equal(tls_failure_text(talk->tls)[0], 0);
            failed++;
        }
        end(talk);
    }
    assert_in_range(failed, total / 2, total);
}

static void damage(void **state)
{
    (void)state;
    damaged_at_every_octet(TLS1_2_VERSION);
    damaged_at_every_octet(TLS1_3_VERSION);
}

/* The client's Finished (TLS 1.3: the first record with keys) is not authentic. */
static void damaged_finished(void **state)
{
    (void)state;
    struct talk *talk = begin(usual(), &(struct peer_options){.version_min = TLS1_3_VERSION});
    assert_int_equal(talk_turn(talk), TLS_INPUT);
    talk->damage_at = talk->received + 6 + 5 + 1; /* behind a ChangeCipherSpec and the header */
    assert_int_equal(talk_handshake(talk), TLS_FAILED);
    assert_int_equal(tls_failure(talk->tls), TLS_FAILURE_RECORD);
    end(talk);
}

/* --- who is refused --- */

static void refused(struct tls_context *context, struct peer_options client,
                    enum tls_failure failure, int alert)
{
    static const size_t rooms[] = {0, 1, 6};
    for (size_t i = 0; i < 3; i++) {
        struct talk *talk = begin(tls_context_keep(context), &client);
        talk->pace.out = rooms[i];
        assert_int_equal(talk_handshake(talk), TLS_FAILED);
        assert_int_equal(tls_failure(talk->tls), failure);
        assert_int_not_equal(tls_failure_text(talk->tls)[0], 0);
        if (i == 0)
            assert_int_equal(talk_alert(talk), alert);
        assert_false(talk->peer_done && alert >= 0);
        uint8_t out[TLS_ALERT_MAX];
        assert_int_equal(tls_alert(talk->tls, out), 0); /* it was said in the handshake */
        struct tls_io io = {.out = out, .out_room = sizeof(out)};
        assert_int_equal(tls_handshake(talk->tls, &io), TLS_FAILED);
        end(talk);
    }
    tls_context_drop(context);
}

static void refused_clients(void **state)
{
    (void)state;
    struct certificate *const only[] = {ecdsa};
    const struct tls_server_options modern = {
        .certificates = only, .certificate_count = 1, .version_min = TLS_1_3};
    const struct tls_server_options plain = {.certificates = only, .certificate_count = 1};
    refused(server_of(modern), (struct peer_options){.version_max = TLS1_2_VERSION},
            TLS_FAILURE_VERSION, 70);
    refused(usual(),
            (struct peer_options){.version_min = TLS1_VERSION, .version_max = TLS1_1_VERSION},
            TLS_FAILURE_VERSION, 70);
    refused(server_of(plain),
            (struct peer_options){.version_max = TLS1_2_VERSION,
                                  .cipher = "ECDHE-RSA-AES128-GCM-SHA256"},
            TLS_FAILURE_CIPHER, 40);
    refused(usual(), (struct peer_options){.version_max = TLS1_2_VERSION, .cipher = "AES128-SHA"},
            TLS_FAILURE_CIPHER, 40);
    refused(usual(), (struct peer_options){.groups = "P-384"}, TLS_FAILURE_CIPHER, 40);
    refused(usual(), (struct peer_options){.alpn = "http/1.1"}, TLS_FAILURE_ALPN, 120);
    refused(usual(), (struct peer_options){.alpn = "http/1.1", .version_max = TLS1_2_VERSION},
            TLS_FAILURE_ALPN, 120);
    refused(usual(), (struct peer_options){.alpn = "smtpx"}, TLS_FAILURE_ALPN, 120);
}

/* Our certificate does not please the client: it says so, and it is not answered. */
static void refused_by_the_client(void **state)
{
    (void)state;
    const struct peer_library *libraries[] = {peer_boringssl(), peer_openssl()};
    for (size_t i = 0; i < 2 && libraries[i] != NULL; i++) {
        for (uint16_t version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++)
            refused(usual(),
                    (struct peer_options){.library = libraries[i],
                                          .version_min = version,
                                          .version_max = version,
                                          .ca = "other.pem"},
                    TLS_FAILURE_ALERT, -1);
    }
}

static void first_octets(const char *octets, size_t len, enum tls_failure failure)
{
    struct tls_context *context = usual();
    struct tls *tls = tls_server(context);
    uint8_t out[512];
    struct tls_io io = {
        .in = (const uint8_t *)octets, .in_len = len, .out = out, .out_room = sizeof(out)};
    assert_int_equal(tls_handshake(tls, &io), TLS_FAILED);
    assert_int_equal(tls_failure(tls), failure);
    assert_int_not_equal(tls_failure_text(tls)[0], 0);
    tls_free(tls);
    tls_context_drop(context);
}

static void not_tls(void **state)
{
    (void)state;
    first_octets("EHLO client.example\r\n", 21, TLS_FAILURE_NOT_TLS);
    first_octets("QUIT\r\n", 6, TLS_FAILURE_NOT_TLS);
    first_octets("GET / HTTP/1.1\r\n\r\n", 18, TLS_FAILURE_NOT_TLS);
    first_octets("\r\n\r\n\r\n", 6, TLS_FAILURE_NOT_TLS);
    first_octets("\0\0\0\0\0\0\0\0", 8, TLS_FAILURE_NOT_TLS);
    /* An alert, a record of data, and a handshake message that is no ClientHello. */
    first_octets("\x15\x03\x01\x00\x02\x02\x28", 7, TLS_FAILURE_ALERT);
    first_octets("\x17\x03\x03\x00\x01x", 6, TLS_FAILURE_PROTOCOL);
    first_octets("\x16\x03\x01\x00\x04\x02\x00\x00\x00", 9, TLS_FAILURE_PROTOCOL);
    first_octets("\x16\x03\x01\x00\x04\x01\x00\x00\x00", 9, TLS_FAILURE_PROTOCOL);
    first_octets("\x16\x03\x01\xff\xff", 5, TLS_FAILURE_PROTOCOL);
    first_octets("\x16\x03\x01\x00\x04\x01\xff\xff\xff", 9, TLS_FAILURE_PROTOCOL);
}

/* --- resumption --- */

static struct talk *resuming(const struct peer_library *library, uint16_t version,
                             SSL_SESSION *session, bool tickets)
{
    struct certificate *const both[] = {ecdsa, rsa};
    struct tls_context *context = server_of((struct tls_server_options){
        .certificates = both, .certificate_count = 2, .tickets = tickets ? &secret : NULL});
    struct talk *talk = begin(context, &(struct peer_options){.library = library,
                                                              .version_min = version,
                                                              .version_max = version,
                                                              .session = session});
    ready(talk);
    return talk;
}

static void resumption_of(const struct peer_library *library, uint16_t version)
{
    struct talk *first = resuming(library, version, NULL, true);
    assert_false(tls_info(first->tls)->resumed);
    /* TLS 1.3: the ticket waits for our first reply, and comes before it, once. */
    assert_int_equal(first->peer.session != NULL, version == TLS1_2_VERSION);
    talk_send(first, "220 mx\r\n", 8);
    assert_non_null(first->peer.session);
    uint8_t out[TLS_PRELUDE_MAX];
    assert_int_equal(tls_prelude(first->tls, out), 0);
    exchange(first);

    struct talk *again = resuming(library, version, first->peer.session, true);
    assert_true(tls_info(again->tls)->resumed);
    assert_true(peer_resumed(&again->peer));
    exchange(again);
    end(again);

    again = resuming(library, version, first->peer.session, false);
    assert_false(tls_info(again->tls)->resumed);
    assert_null(again->peer.session);
    exchange(again);
    end(again);
    end(first);
}

static void resumption(void **state)
{
    (void)state;
    const struct peer_library *libraries[] = {peer_boringssl(), peer_openssl()};
    for (size_t i = 0; i < 2 && libraries[i] != NULL; i++) {
        resumption_of(libraries[i], TLS1_2_VERSION);
        resumption_of(libraries[i], TLS1_3_VERSION);
    }
}

/* --- small things --- */

static void names_of_failures(void **state)
{
    (void)state;
    for (enum tls_failure i = 0; i < TLS_FAILURE_COUNT; i++) {
        const char *name = tls_failure_name(i);
        assert_non_null(name);
        assert_in_range(strlen(name), 3, 20);
        for (enum tls_failure k = 0; k < i; k++)
            assert_string_not_equal(name, tls_failure_name(k));
    }
    assert_string_equal(tls_failure_name(TLS_FAILURE_COUNT), "?");
}

static void given_up(void **state)
{
    (void)state;
    tls_free(NULL);
    for (int turns = 0; turns < 2; turns++) { /* before the first octet, and in the middle */
        struct talk *talk = begin(usual(), &(struct peer_options){.version_min = TLS1_3_VERSION});
        for (int i = 0; i < turns; i++)
            assert_int_equal(talk_turn(talk), TLS_INPUT);
        end(talk);
    }
}

static int set_up(void **state)
{
    static const struct pki_request requests[] = {
        {.chain_path = "ecdsa.pem", .key_path = "ecdsa.key", .names = {"mx.example.org"}},
        {.chain_path = "rsa.pem",
         .key_path = "rsa.key",
         .names = {"mx.example.org"},
         .kind = PKI_RSA_2048},
        {.chain_path = "other.pem",                         .key_path = "other.key",                        .names = {"other.example.org"}   },
    };
    char error[512];
    if (pki_set_up(state) != 0)
        return -1;
    for (size_t i = 0; i < 3; i++)
        if (!pki_make(&requests[i]))
            return -1;
    ecdsa = certificate_load("ecdsa.pem", "ecdsa.key", error, sizeof(error));
    rsa = certificate_load("rsa.pem", "rsa.key", error, sizeof(error));
    ticket_secret_random(&secret, 3600);
    return ecdsa != NULL && rsa != NULL ? 0 : -1;
}

static int tear_down(void **state)
{
    certificate_drop(ecdsa);
    certificate_drop(rsa);
    return pki_tear_down(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ciphers_of_boringssl),
        cmocka_unit_test(ciphers_of_openssl),
        cmocka_unit_test(small_pieces),
        cmocka_unit_test(every_split),
        cmocka_unit_test(every_room),
        cmocka_unit_test(records_behind),
        cmocka_unit_test(key_operations),
        cmocka_unit_test(damage),
        cmocka_unit_test(damaged_finished),
        cmocka_unit_test(refused_clients),
        cmocka_unit_test(refused_by_the_client),
        cmocka_unit_test(not_tls),
        cmocka_unit_test(resumption),
        cmocka_unit_test(names_of_failures),
        cmocka_unit_test(given_up),
    };
    return cmocka_run_group_tests_name("tls", tests, set_up, tear_down);
}
