/* tls/offload: handshakes of TLS 1.2 and 1.3 in memory whose RSA signatures are made by another
 * thread, with every algorithm that a client may ask for, and connections that end at each stage of
 * a job. The client verifies what was signed. */
#include "tls/offload.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <openssl/ssl.h>
#include <pthread.h>

#include "tests/support/pki.h"
#include "tls/inside.h"

enum { SPAN_MAX = 16384, TURNS_MAX = 20 };

static const struct pki_request rsa = {
    .chain_path = "rsa.pem",
    .key_path = "rsa.key",
    .names = {"mx.example.org"},
    .kind = PKI_RSA_2048,
    .is_ca = true,
};
static const struct pki_request ecdsa = {
    .chain_path = "ecdsa.pem",
    .key_path = "ecdsa.key",
    .names = {"mx.example.org"},
    .kind = PKI_ECDSA_P256,
    .is_ca = true,
};

/* A client and a server, and what is on the way between them. */
struct pair {
    struct tls_context *server_context, *client_context;
    struct tls *server, *client;
    uint8_t to_server[SPAN_MAX], to_client[SPAN_MAX];
    size_t to_server_len, to_client_len;
    enum tls_status server_status, client_status;
};

static struct tls_context *server_context(const struct pki_request *request, bool offload)
{
    char error[256] = "";
    struct certificate *certificate =
        certificate_load(request->chain_path, request->key_path, error, sizeof(error));
    assert_string_equal(error, "");
    struct tls_server_options options = {
        .certificates = &certificate, .certificate_count = 1, .offload = offload};
    struct tls_context *context = tls_context_server(&options, error, sizeof(error));
    assert_string_equal(error, "");
    certificate_drop(certificate);
    return context;
}

static struct tls_context *client_context(const struct pki_request *issuer,
                                          enum tls_version version)
{
    char error[256] = "";
    struct tls_client_options options = {
        .version_min = version, .version_max = version, .ca = issuer->chain_path};
    struct tls_context *context = tls_context_client(&options, error, sizeof(error));
    assert_string_equal(error, "");
    return context;
}

static void pair_begin(struct pair *pair, const struct pki_request *request, bool offload,
                       enum tls_version version)
{
    memset(pair, 0, sizeof(*pair));
    pair->server_context = server_context(request, offload);
    pair->client_context = client_context(request, version);
    pair->server_status = pair->client_status = TLS_INPUT;
}

static void pair_connect(struct pair *pair)
{
    pair->server = tls_server(pair->server_context);
    pair->client = tls_client(pair->client_context, "mx.example.org", NULL);
    assert_true(pair->server != NULL && pair->client != NULL);
}

static void pair_end(struct pair *pair)
{
    tls_free(pair->server);
    tls_free(pair->client);
    tls_context_drop(pair->server_context);
    tls_context_drop(pair->client_context);
}

/* go_on calls tls_handshake of one side with what has come for it. */
static enum tls_status go_on(struct tls *tls, uint8_t *in, size_t *in_len, uint8_t *out,
                             size_t *out_len)
{
    struct tls_io io = {
        .in = in, .in_len = *in_len, .out = out + *out_len, .out_room = SPAN_MAX - *out_len};
    enum tls_status status = tls_handshake(tls, &io);
    *in_len -= io.in_taken;
    memmove(in, in + io.in_taken, *in_len);
    *out_len += io.out_len;
    return status;
}

static enum tls_status go_on_server(struct pair *pair)
{
    return pair->server_status = go_on(pair->server, pair->to_server, &pair->to_server_len,
                                       pair->to_client, &pair->to_client_len);
}

static enum tls_status go_on_client(struct pair *pair)
{
    return pair->client_status = go_on(pair->client, pair->to_client, &pair->to_client_len,
                                       pair->to_server, &pair->to_server_len);
}

/* pair_shake goes on until the server wants its key, or there is nothing left to do. */
static void pair_shake(struct pair *pair)
{
    for (int turn = 0; turn < TURNS_MAX; turn++) {
        if (pair->client_status == TLS_INPUT)
            (void)go_on_client(pair);
        if ((pair->server_status == TLS_INPUT || pair->server_status == TLS_KEY) &&
            go_on_server(pair) == TLS_KEY)
            return;
    }
}

static void *run(void *job)
{
    tls_job_run(job);
    return NULL;
}

static void run_elsewhere(struct tls_job *job)
{
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, run, job), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
}

static void expect_ready(const struct pair *pair)
{
    assert_string_equal(tls_failure_text(pair->server), "");
    assert_string_equal(tls_failure_text(pair->client), "");
    assert_int_equal(pair->server_status, TLS_READY);
    assert_int_equal(pair->client_status, TLS_READY);
}

/* --- what works --- */

static void shake_with_job(enum tls_version version)
{
    struct pair pair;
    pair_begin(&pair, &rsa, true, version);
    pair_connect(&pair);
    pair_shake(&pair);
    assert_int_equal(pair.server_status, TLS_KEY);
    struct tls_job *job = tls_job_take(pair.server);
    assert_non_null(job);
    assert_null(tls_job_take(pair.server)); /* once */
    for (int i = 0; i < 3; i++)
        assert_int_equal(go_on_server(&pair), TLS_KEY); /* more input, say: it still waits */
    assert_null(tls_job_take(pair.server));
    run_elsewhere(job);
    tls_job_done(job, pair.server);
    assert_null(tls_job_take(pair.server));
    pair_shake(&pair); /* it wants no other */
    expect_ready(&pair);
    assert_null(pair.server->job);
    assert_string_equal(tls_info(pair.server)->version, version == TLS_1_3 ? "TLSv1.3" : "TLSv1.2");
    pair_end(&pair);
}

static void both_versions(void **state)
{
    (void)state;
    shake_with_job(TLS_1_2);
    shake_with_job(TLS_1_3);
}

/* Each algorithm alone, so that no other can be taken; and those that must not be. */
static void every_algorithm(void **state)
{
    static const struct {
        uint16_t algorithm;
        bool in_old, in_modern;
    } cases[] = {
        {SSL_SIGN_RSA_PSS_RSAE_SHA256,    true,  true },
        {SSL_SIGN_RSA_PSS_RSAE_SHA384,    true,  true },
        {SSL_SIGN_RSA_PSS_RSAE_SHA512,    true,  true },
        {SSL_SIGN_RSA_PKCS1_SHA256,       true,  false},
        {SSL_SIGN_RSA_PKCS1_SHA384,       true,  false},
        {SSL_SIGN_RSA_PKCS1_SHA512,       true,  false},
        {SSL_SIGN_RSA_PKCS1_SHA1,         false, false},
        {SSL_SIGN_ECDSA_SECP256R1_SHA256, false, false},
    };
    (void)state;
    for (size_t i = 0; i < 2 * sizeof(cases) / sizeof(*cases); i++) {
        struct pair pair;
        bool modern = i % 2 > 0;
        bool wanted = modern ? cases[i / 2].in_modern : cases[i / 2].in_old;
        pair_begin(&pair, &rsa, true, modern ? TLS_1_3 : TLS_1_2);
        assert_int_equal(SSL_CTX_set_verify_algorithm_prefs(pair.client_context->ssl,
                                                            &cases[i / 2].algorithm, 1),
                         1);
        pair_connect(&pair);
        pair_shake(&pair);
        assert_int_equal(pair.server_status, wanted ? TLS_KEY : TLS_FAILED);
        if (wanted) {
            struct tls_job *job = tls_job_take(pair.server);
            tls_job_run(job);
            tls_job_done(job, pair.server);
            pair_shake(&pair);
            expect_ready(&pair);
        }
        assert_null(pair.server->job);
        pair_end(&pair);
    }
}

static void only_rsa_only_when_told(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++) {
        struct pair pair;
        pair_begin(&pair, i < 2 ? &rsa : &ecdsa, i >= 2, i % 2 > 0 ? TLS_1_3 : TLS_1_2);
        pair_connect(&pair);
        pair_shake(&pair);
        expect_ready(&pair);
        assert_null(tls_job_take(pair.server));
        pair_end(&pair);
    }
}

/* --- what ends early or fails --- */

enum stage { STAGE_WANTED, STAGE_OUT, STAGE_RUN, STAGE_DONE, STAGE_COUNT };

static void ends_at_each_stage(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 2 * STAGE_COUNT; i++) {
        enum stage stage = i / 2;
        struct pair pair;
        struct tls_job *job = NULL;
        pair_begin(&pair, &rsa, true, i % 2 > 0 ? TLS_1_3 : TLS_1_2);
        pair_connect(&pair);
        pair_shake(&pair);
        assert_int_equal(pair.server_status, TLS_KEY);
        if (stage >= STAGE_OUT)
            job = tls_job_take(pair.server);
        if (stage >= STAGE_RUN)
            run_elsewhere(job);
        if (stage == STAGE_DONE)
            tls_job_done(job, pair.server);
        pair_end(&pair); /* the context and the certificate go, too: a job has its own key */
        if (stage == STAGE_OUT)
            run_elsewhere(job);
        if (stage == STAGE_OUT || stage == STAGE_RUN)
            tls_job_done(job, NULL);
    }
}

/* ends_meanwhile: the connection goes while the other thread signs. */
static void ends_meanwhile(void **state)
{
    (void)state;
    for (int i = 0; i < 10; i++) {
        struct pair pair;
        pthread_t thread;
        pair_begin(&pair, &rsa, true, TLS_1_3);
        pair_connect(&pair);
        pair_shake(&pair);
        struct tls_job *job = tls_job_take(pair.server);
        assert_non_null(job);
        assert_int_equal(pthread_create(&thread, NULL, run, job), 0);
        pair_end(&pair);
        assert_int_equal(pthread_join(thread, NULL), 0);
        tls_job_done(job, NULL);
    }
}

/* A job that comes back without a signature is a failure of ours, not a wait for ever. */
static void fails_without_signature(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct pair pair;
        pair_begin(&pair, &rsa, true, i > 0 ? TLS_1_3 : TLS_1_2);
        pair_connect(&pair);
        pair_shake(&pair);
        struct tls_job *job = tls_job_take(pair.server);
        tls_job_done(job, pair.server);
        pair_shake(&pair);
        assert_int_equal(pair.server_status, TLS_FAILED);
        assert_int_equal(tls_failure(pair.server), TLS_FAILURE_INTERNAL);
        assert_int_not_equal(pair.client_status, TLS_READY);
        pair_end(&pair);
    }
}

/* A signature that has been damaged is noticed by the client. */
static void client_verifies(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct pair pair, other;
        pair_begin(&pair, &rsa, true, i > 0 ? TLS_1_3 : TLS_1_2);
        pair_begin(&other, &rsa, true, i > 0 ? TLS_1_3 : TLS_1_2);
        pair_connect(&pair);
        pair_connect(&other);
        pair_shake(&pair);
        pair_shake(&other);
        struct tls_job *job = tls_job_take(pair.server);
        struct tls_job *wrong = tls_job_take(other.server);
        tls_job_run(job);
        tls_job_run(wrong);
        pair.server->job = wrong; /* the right key, other octets */
        other.server->job = NULL;
        tls_job_done(job, NULL);
        tls_job_done(wrong, pair.server);
        pair_shake(&pair);
        assert_int_equal(pair.client_status, TLS_FAILED);
        assert_int_not_equal(pair.server_status, TLS_READY);
        pair_end(&pair);
        pair_end(&other);
    }
}

/* --- many at once --- */

enum { MANY = 24, THREADS = 4 };

struct heap {
    struct tls_job *jobs[MANY];
    _Atomic uint32_t next;
};

static void *run_all(void *argument)
{
    struct heap *heap = argument;
    uint32_t i;
    while ((i = atomic_fetch_add(&heap->next, 1)) < MANY)
        tls_job_run(heap->jobs[i]);
    return NULL;
}

/* One key, four threads that sign with it, while this one goes on with handshakes of its own. */
static void many_threads_one_key(void **state)
{
    static struct pair pairs[MANY];
    static struct heap heap;
    pthread_t threads[THREADS];
    struct tls_context *server = server_context(&rsa, true);
    struct tls_context *clients[2] = {client_context(&rsa, TLS_1_2), client_context(&rsa, TLS_1_3)};
    (void)state;
    for (int i = 0; i < MANY; i++) {
        pairs[i].server_context = tls_context_keep(server);
        pairs[i].client_context = tls_context_keep(clients[i % 2]);
        pairs[i].server_status = pairs[i].client_status = TLS_INPUT;
        pair_connect(&pairs[i]);
        pair_shake(&pairs[i]);
        heap.jobs[i] = tls_job_take(pairs[i].server);
        assert_non_null(heap.jobs[i]);
    }
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, run_all, &heap), 0);
    shake_with_job(TLS_1_3);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    for (int i = 0; i < MANY; i++) {
        tls_job_done(heap.jobs[i], pairs[i].server);
        pair_shake(&pairs[i]);
        expect_ready(&pairs[i]);
        pair_end(&pairs[i]);
    }
    tls_context_drop(server);
    tls_context_drop(clients[0]);
    tls_context_drop(clients[1]);
}

static int set_up(void **state)
{
    if (pki_set_up(state) != 0)
        return -1;
    return pki_make(&rsa) && pki_make(&ecdsa) ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_versions),           cmocka_unit_test(every_algorithm),
        cmocka_unit_test(only_rsa_only_when_told), cmocka_unit_test(ends_at_each_stage),
        cmocka_unit_test(ends_meanwhile),          cmocka_unit_test(fails_without_signature),
        cmocka_unit_test(client_verifies),         cmocka_unit_test(many_threads_one_key),
    };
    return cmocka_run_group_tests(tests, set_up, pki_tear_down);
}
