/* tls/context: who is known again (tickets) and who is believed (certificates of clients and of
 * servers). Handshakes in memory. */
#include "tls/context.h"

#include "tests/support/pair.h"
#include "tests/support/pki.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include <openssl/x509.h>

enum { EPOCH_S = 43200 };

static const enum tls_version versions[] = {TLS_1_2, TLS_1_3};

static const struct pki_request root = {
    .chain_path = "root.pem", .key_path = "root.key", .common_name = "Our root", .is_ca = true};
static const struct pki_request other_root = {
    .chain_path = "other.pem", .key_path = "other.key", .common_name = "Their root", .is_ca = true};
static const struct pki_request middle = {.chain_path = "middle.pem",
                                          .key_path = "middle.key",
                                          .common_name = "Our middle",
                                          .is_ca = true,
                                          .issuer = &root};
static struct certificate *own; /* for mx.example.org and *.example.net, from our root */

static struct certificate *load(const struct pki_request *request)
{
    char error[512] = "";
    struct certificate *certificate =
        certificate_load(request->chain_path, request->key_path, error, sizeof(error));

    if (!certificate)
        fprintf(stderr, "%s\n", error);
    return certificate;
}

static int set_up(void **state)
{
    static const struct pki_request leaf = {
        .chain_path = "own.pem",
        .key_path = "own.key",
        .names = {"mx.example.org", "*.example.net"},
        .issuer = &middle
    };

    if (pki_set_up(state) != 0 || !pki_make(&root) || !pki_make(&other_root) ||
        !pki_make(&middle) || !pki_make(&leaf))
        return -1;
    own = load(&leaf);
    return own ? 0 : -1;
}

static int tear_down(void **state)
{
    certificate_drop(own);
    return pki_tear_down(state);
}

static struct tls_context *server_of(const struct ticket_secret *tickets, const char *client_ca)
{
    char error[512] = "";
    struct tls_context *context =
        tls_context_server(&(struct tls_server_options){.certificates = &own,
                                                        .certificate_count = 1,
                                                        .tickets = tickets,
                                                        .client_ca = client_ca},
                           error, sizeof(error));

    if (!context)
        fail_msg("%s", error);
    return context;
}

static struct tls_context *client_of(enum tls_version version, const char *ca,
                                     struct certificate *certificate)
{
    char error[512] = "";
    struct tls_context *context = tls_context_client(
        &(struct tls_client_options){
            .version_min = version, .version_max = version, .ca = ca, .certificate = certificate},
        error, sizeof(error));

    if (!context)
        fail_msg("%s", error);
    return context;
}

/* --- tickets --- */

/* Makes a handshake that must succeed, and returns the ticket (owned; NULL: none came). */
static struct tls_session *visit(struct tls_context *server, struct tls_context *client,
                                 const struct tls_session *resume, bool want_resumed)
{
    SSL *ssl = pair_client(client, "mx.example.org");
    struct pair pair;

    assert_true(!resume || SSL_set_session(ssl, resume->session));
    pair_run(&pair, server, ssl);
    assert_true(pair.done);
    assert_int_equal(SSL_session_reused(pair.server.tls.ssl), want_resumed);
    assert_int_equal(SSL_session_reused(pair.client.tls.ssl), want_resumed);
    struct tls_session *session = pair.client.handshake.session;
    pair.client.handshake.session = NULL;
    pair_end(&pair);
    return session;
}

static void tickets_resume(void **state)
{
    (void)state;
    struct ticket_secret secret, other;

    ticket_secret_random(&secret, EPOCH_S);
    ticket_secret_random(&other, EPOCH_S);
    for (size_t v = 0; v < 2; v++) {
        struct tls_context *client = client_of(versions[v], NULL, NULL);
        struct tls_context *one = server_of(&secret, NULL), *two = server_of(&secret, NULL);
        struct tls_context *stranger = server_of(&other, NULL);
        struct tls_session *first = visit(one, client, NULL, false);
        assert_non_null(first);
        assert_int_equal(versions[v] == TLS_1_3
                             ? SSL_SESSION_get_timeout(first->session)
                             : SSL_SESSION_get_ticket_lifetime_hint(first->session),
                         EPOCH_S);
        tls_session_free(visit(one, client, first, true));
        struct tls_session *second = visit(two, client, first, true);
        tls_session_free(visit(stranger, client, first, false));
        if (second) /* in TLS 1.2 the first one stays good */
            tls_session_free(visit(one, client, second, true));
        assert_int_equal(second != NULL, versions[v] == TLS_1_3);
        tls_session_free(first);
        tls_session_free(second);
        tls_context_drop(client);
        tls_context_drop(one);
        tls_context_drop(two);
        tls_context_drop(stranger);
    }
}

/* Another process has the same file and comes up in the next epoch. */
static void tickets_resume_in_the_next_epoch(void **state)
{
    (void)state;
    enum { SHORT_S = 4 };
    FILE *file = fopen("secret", "w");
    struct ticket_secret here, there;
    char error[256] = "";

    assert_true(file && fputs("0123456789abcdef0123456789abcdef", file) >= 0);
    assert_int_equal(fclose(file), 0);
    assert_true(ticket_secret_load(&here, "secret", SHORT_S, error, sizeof(error)));
    assert_true(ticket_secret_load(&there, "secret", SHORT_S, error, sizeof(error)));
    struct tls_context *one = server_of(&here, NULL), *two = server_of(&there, NULL);
    struct tls_context *old = client_of(TLS_1_2, NULL, NULL);
    struct tls_context *modern = client_of(TLS_1_3, NULL, NULL);

    while (time(NULL) % SHORT_S != SHORT_S - 2) /* two seconds for what follows */
        usleep(10000);
    struct tls_session *from_old = visit(one, old, NULL, false);
    struct tls_session *from_modern = visit(one, modern, NULL, false);
    uint64_t epoch = one->tickets.epoch;
    while (time(NULL) % SHORT_S >= SHORT_S - 2)
        usleep(10000);
    tls_session_free(visit(two, old, from_old, true));
    tls_session_free(visit(two, modern, from_modern, true));
    assert_true(two->tickets.epoch == epoch + 1);
    tls_session_free(from_old);
    tls_session_free(from_modern);
    tls_context_drop(one);
    tls_context_drop(two);
    tls_context_drop(old);
    tls_context_drop(modern);
}

static unsigned sessions_seen;

static int count_session(SSL *ssl, SSL_SESSION *session)
{
    (void)ssl;
    sessions_seen += SSL_SESSION_is_resumable(session) != 0;
    return 0;
}

static void one_ticket_or_none(void **state)
{
    (void)state;
    struct ticket_secret secret;

    ticket_secret_random(&secret, EPOCH_S);
    for (size_t v = 0; v < 2; v++) {
        struct tls_context *client = client_of(versions[v], NULL, NULL);
        SSL_CTX_sess_set_new_cb(client->ssl, count_session);
        struct tls_context *servers[] = {server_of(&secret, NULL), server_of(NULL, NULL),
                                         server_of(&secret, "root.pem")};
        for (size_t i = 0; i < 3; i++) {
            sessions_seen = 0;
            assert_null(visit(servers[i], client, NULL, false));
            assert_int_equal(sessions_seen, i == 0);
            assert_int_equal(servers[i]->resumable, i == 0);
            tls_context_drop(servers[i]);
        }
        tls_context_drop(client);
    }
}

/* A ticket that was changed on the way is a full handshake, and no error stays behind. */
static void foreign_tickets_do_no_harm(void **state)
{
    (void)state;
    struct ticket_secret secret;

    ticket_secret_random(&secret, EPOCH_S);
    struct tls_context *server = server_of(&secret, NULL);
    for (size_t v = 0; v < 2; v++) {
        struct tls_context *client = client_of(versions[v], NULL, NULL);
        struct tls_session *session = visit(server, client, NULL, false);
        const uint8_t *ticket;
        uint8_t damaged[2048];
        size_t len;
        SSL_SESSION_get0_ticket(session->session, &ticket, &len);
        assert_true(len > TICKET_OVERHEAD && len <= sizeof(damaged));
        memcpy(damaged, ticket, len);
        damaged[len - 1] ^= 1;
        assert_true(SSL_SESSION_set_ticket(session->session, damaged, len));
        tls_session_free(visit(server, client, session, false));
        assert_true(SSL_SESSION_set_ticket(session->session, damaged, TICKET_OVERHEAD - 1));
        tls_session_free(visit(server, client, session, false));
        tls_session_free(session);
        tls_context_drop(client);
    }
    tls_context_drop(server);
}

/* --- certificates of clients --- */

/* What the server makes of a client with this certificate; reason 0: it is welcome. */
struct verdict {
    int reason; /* of the server's refusal */
    char name[256];
};

static struct verdict meet(struct tls_context *server, enum tls_version version,
                           struct certificate *certificate)
{
    struct tls_context *client = client_of(version, NULL, certificate);
    struct verdict verdict = {0};
    struct pair pair;

    pair_run(&pair, server, pair_client(client, NULL));
    assert_int_equal(pair.server.result == 0, pair.server.reason == 0);
    assert_int_equal(pair.client.reason == 0, pair.server.reason == 0);
    verdict.reason = pair.server.reason;
    if (pair.done) {
        size_t len = certificate_peer_name(pair.server.tls.ssl, verdict.name, sizeof(verdict.name));
        assert_int_equal(len, strlen(verdict.name));
    }
    pair_end(&pair);
    tls_context_drop(client);
    return verdict;
}

static struct verdict meet_made(struct tls_context *server, enum tls_version version,
                                const struct pki_request *request)
{
    assert_true(pki_make(request));
    struct certificate *certificate = load(request);
    assert_non_null(certificate);
    struct verdict verdict = meet(server, version, certificate);
    certificate_drop(certificate);
    return verdict;
}

static const struct pki_request usual_client = {
    .chain_path = "client.pem",
    .key_path = "client.key",
    .names = {"Client.example.com", "second"},
    .issuer = &middle
};

static void clients_are_verified(void **state)
{
    (void)state;
    struct tls_context *server = server_of(NULL, "root.pem");

    for (size_t v = 0; v < 2; v++) {
        struct pki_request request = usual_client;
        struct verdict verdict = meet_made(server, versions[v], &request);
        assert_int_equal(verdict.reason, 0);
        assert_string_equal(verdict.name, "Client.example.com");
        request.kind = PKI_RSA_2048;
        assert_int_equal(meet_made(server, versions[v], &request).reason, 0);
        verdict = meet(server, versions[v], NULL);
        assert_int_equal(verdict.reason, 0);
        assert_string_equal(verdict.name, "");

        request = usual_client;
        request.issuer = &other_root;
        verdict = meet_made(server, versions[v], &request);
        assert_int_equal(verdict.reason, SSL_R_CERTIFICATE_VERIFY_FAILED);
        request.issuer = NULL;
        verdict = meet_made(server, versions[v], &request);
        assert_int_equal(verdict.reason, SSL_R_CERTIFICATE_VERIFY_FAILED);
    }
    tls_context_drop(server);
}

static void expired_clients_are_refused(void **state)
{
    (void)state;
    struct tls_context *server = server_of(NULL, "root.pem");
    struct pki_request request = usual_client;
    struct pair pair;

    request.issuer = &root;
    request.not_before_s = -7200;
    for (request.not_after_s = -3600; request.not_after_s < 7200; request.not_after_s += 7200) {
        SSL *client = pair_stranger(TLS1_3_VERSION, NULL);
        bool expired = request.not_after_s < 0;
        assert_true(pki_make(&request));
        assert_true(SSL_use_certificate_file(client, "client.pem", SSL_FILETYPE_PEM));
        assert_true(SSL_use_PrivateKey_file(client, "client.key", SSL_FILETYPE_PEM));
        pair_run(&pair, server, client);
        assert_int_equal(pair.server.reason, expired ? SSL_R_CERTIFICATE_VERIFY_FAILED : 0);
        assert_int_equal(pair.client.reason, expired ? SSL_R_SSLV3_ALERT_CERTIFICATE_EXPIRED : 0);
        pair_end(&pair);
    }
    tls_context_drop(server);
}

/* What stands in a header field and in the log cannot end them, whatever a certificate says. */
static void odd_names_of_clients_are_made_plain(void **state)
{
    (void)state;
    static const struct {
        const char *alternative, *common, *name;
    } cases[] = {
        {NULL,           "Mail Relay 7",                "Mail Relay 7"           },
        {NULL,           "relay@example.com",           "relay@example.com"      },
        {NULL,           "a) by mx (b\\\"<c>;\r\nX: y", "a? by mx ?b???c????X: y"},
        {NULL,           "Gr\xc3\xbc\xc3\x9f",          "Gr????"                 },
        {"a\nb.example", "common",                      "a?b.example"            },
        {NULL,           "",                            ""                       },
    };
    struct tls_context *server = server_of(NULL, "root.pem");

    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct pki_request request = usual_client;
        request.names[0] = cases[i].alternative;
        request.names[1] = NULL;
        request.common_name = cases[i].common;
        struct verdict verdict = meet_made(server, TLS_1_3, &request);
        assert_int_equal(verdict.reason, 0);
        assert_string_equal(verdict.name, cases[i].name);
    }
    tls_context_drop(server);
}

static void long_names_are_none(void **state)
{
    (void)state;
    char longer[301] = "", out[256];
    struct tls_context *server = server_of(NULL, "root.pem");
    struct pki_request request = usual_client;
    struct pair pair;

    memset(longer, 'a', 300);
    request.names[0] = longer;
    request.common_name = "short";
    assert_string_equal(meet_made(server, TLS_1_3, &request).name, "");

    assert_true(pki_make(&usual_client));
    struct certificate *certificate = load(&usual_client);
    struct tls_context *client = client_of(TLS_1_3, NULL, certificate);
    pair_run(&pair, server, pair_client(client, NULL));
    assert_true(pair.done);
    assert_int_equal(certificate_peer_name(pair.server.tls.ssl, out, 19), 18);
    assert_int_equal(certificate_peer_name(pair.server.tls.ssl, out, 18), 0);
    assert_string_equal(out, "");
    assert_int_equal(certificate_peer_name(pair.server.tls.ssl, out, 0), 0);
    pair_end(&pair);
    tls_context_drop(client);
    certificate_drop(certificate);
    tls_context_drop(server);
}

/* What the CertificateRequest says can only be seen while it is answered. */
struct question {
    size_t count; /* of CAs */
    char first[64];
};

static int look_at_question(SSL *ssl, void *argument)
{
    struct question *question = argument;
    const STACK_OF(X509_NAME) *names = SSL_get_client_CA_list(ssl);

    question->count = names ? sk_X509_NAME_num(names) : 0;
    if (question->count > 0)
        X509_NAME_get_text_by_NID(sk_X509_NAME_value(names, 0), NID_commonName, question->first,
                                  sizeof(question->first));
    return 1;
}

static struct question asked_by(struct tls_context *server, uint16_t version)
{
    struct question question = {0};
    struct pair pair;
    SSL *client = pair_stranger(version, NULL);

    SSL_set_cert_cb(client, look_at_question, &question);
    pair_run(&pair, server, client);
    assert_true(pair.done);
    pair_end(&pair);
    return question;
}

static void only_listeners_with_a_ca_ask(void **state)
{
    (void)state;
    struct tls_context *asks = server_of(NULL, "root.pem"), *open = server_of(NULL, NULL);

    for (uint16_t version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
        struct question question = asked_by(asks, version);
        assert_int_equal(question.count, 1);
        assert_string_equal(question.first, "Our root");
        assert_int_equal(asked_by(open, version).count, 0);
    }

    struct pki_request stranger = usual_client;
    stranger.issuer = NULL;
    struct verdict verdict = meet_made(open, TLS_1_3, &stranger);
    assert_int_equal(verdict.reason, 0);
    assert_string_equal(verdict.name, "");
    tls_context_drop(asks);
    tls_context_drop(open);
}

/* --- certificates of servers --- */

static bool believes(const char *ca, enum tls_version version, const char *name)
{
    struct tls_context *server = server_of(NULL, NULL), *client = client_of(version, ca, NULL);
    SSL *ssl = pair_client(client, name);
    struct pair pair;
    char seen[256];

    assert_int_equal(client->verify, ca != NULL);
    assert_true(!client->verify || SSL_set1_host(ssl, name));
    pair_run(&pair, server, ssl);
    bool good = pair.done;
    if (!good)
        assert_int_equal(pair.client.reason, SSL_R_CERTIFICATE_VERIFY_FAILED);
    if (good && client->verify) {
        assert_int_equal(certificate_peer_name(pair.client.tls.ssl, seen, sizeof(seen)), 14);
        assert_string_equal(seen, "mx.example.org");
    }
    pair_end(&pair);
    tls_context_drop(client);
    tls_context_drop(server);
    return good;
}

static void servers_are_verified(void **state)
{
    (void)state;
    for (size_t v = 0; v < 2; v++) {
        assert_true(believes("root.pem", versions[v], "mx.example.org"));
        assert_true(believes("root.pem", versions[v], "a.example.net"));
        assert_false(believes("root.pem", versions[v], "mx.example.com"));
        assert_false(believes("root.pem", versions[v], "a.b.example.net"));
        assert_false(believes("other.pem", versions[v], "mx.example.org"));
        assert_true(believes(NULL, versions[v], "mx.example.com"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tickets_resume),
        cmocka_unit_test(tickets_resume_in_the_next_epoch),
        cmocka_unit_test(one_ticket_or_none),
        cmocka_unit_test(foreign_tickets_do_no_harm),
        cmocka_unit_test(clients_are_verified),
        cmocka_unit_test(expired_clients_are_refused),
        cmocka_unit_test(odd_names_of_clients_are_made_plain),
        cmocka_unit_test(long_names_are_none),
        cmocka_unit_test(only_listeners_with_a_ca_ask),
        cmocka_unit_test(servers_are_verified),
    };
    return cmocka_run_group_tests_name("context_trust", tests, set_up, tear_down);
}
