/* Fuzzes handshakes: a server or a client of ours is fed with octets, cut in pieces. The first
 * octet chooses who we are and with what, the second the pieces, the rest came from the network.
 * Each input is played twice, whole and in pieces: both must come to the same. When the handshake
 * is done, what is left are records, which are sealed here with the right keys (their inside is
 * what the input says), so that they get further than the lock.
 *
 * With BoringSSL in its fuzzer mode (docs/testing.md) handshakes have no encryption and no
 * signature is wrong, so a recorded one can be changed and still goes on; without it, only what is
 * before the first key is reached. RINGMX_FUZZ_SEEDS=DIRECTORY records such handshakes, and ends.
 */
#include "tls/inside.h"

#include "gateway/base/check.h"
#include "tests/support/forge.h"
#include "tests/support/pki.h"
#include "tests/support/talk.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int LLVMFuzzerInitialize(int *count, char ***arguments);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Only in the fuzzer mode: the same random octets for each input. */
void RAND_reset_for_fuzzing(void) __attribute__((weak));

enum {
    OUT_ROOM = 1 << 16,
    CALLS_MAX = 40000,
    SERVERS = 5,
    CLIENTS = 4,
    SESSIONS = 2,
};

static struct tls_context *servers[SERVERS], *clients[CLIENTS];
static struct tls_session *sessions[SESSIONS]; /* by version */

/* What one playing of an input came to. */
struct outcome {
    enum tls_status status;
    enum tls_failure failure;
    size_t taken;           /* octets of the handshake */
    enum tls_opened opened; /* the last record */
    size_t records, text_len;
};

/* --- who we are --- */

/* Always the same, because seeds have it in them: signed by itself, until 2096, and of no worth. */
static const char ecdsa_chain[] =
    "-----BEGIN CERTIFICATE-----\n"
    "MIIBVjCB/qADAgECAghgZJJNDTi4mDAKBggqhkjOPQQDAjAZMRcwFQYDVQQDDA5t\n"
    "eC5leGFtcGxlLm9yZzAgFw0yMDExMjMwMDI2MTZaGA8yMDk2MTEwNDAwMjYxNlow\n"
    "GTEXMBUGA1UEAwwObXguZXhhbXBsZS5vcmcwWTATBgcqhkjOPQIBBggqhkjOPQMB\n"
    "BwNCAAQZeX8j54RE53iyFeagsEeRWEYj3AiNnTVN7W+jHdLwQ19gasZ7Dv1VeHjf\n"
    "eUyR/Syg8Jc2+81U7bd+pHTfvlAmoy4wLDAPBgNVHRMBAf8EBTADAQH/MBkGA1Ud\n"
    "EQQSMBCCDm14LmV4YW1wbGUub3JnMAoGCCqGSM49BAMCA0cAMEQCIFlrKFD47YIL\n"
    "f0W1/m2+RE/RTNECriWNvqGZY7HqiWnZAiANQ4yMAtE1v70a2H18bijE8sWaP8Bt\n"
    "y7VGT5UF0SSs3g==\n"
    "-----END CERTIFICATE-----\n";
static const char ecdsa_key[] = "-----BEGIN PRIVATE KEY-----\n"
                                "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgp+Nd6S+XAhlP8xHc\n"
                                "jV0B64R1/OoxAzi+xVe2nCWCxKWhRANCAAQZeX8j54RE53iyFeagsEeRWEYj3AiN\n"
                                "nTVN7W+jHdLwQ19gasZ7Dv1VeHjfeUyR/Syg8Jc2+81U7bd+pHTfvlAm\n"
                                "-----END PRIVATE KEY-----\n";

static void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "wb");
    CHECK(file != NULL && fputs(text, file) >= 0 && fclose(file) == 0);
}

static struct certificate *load(const char *chain, const char *key)
{
    char error[256];
    struct certificate *certificate = certificate_load(chain, key, error, sizeof(error));
    CHECK(certificate != NULL);
    return certificate;
}

static void make_files(void)
{
    const struct pki_request rsa = {.chain_path = "rsa.pem",
                                    .key_path = "rsa.key",
                                    .names = {"mx.example.org"},
                                    .kind = PKI_RSA_2048};
    CHECK(pki_make(&rsa));
    write_file("ecdsa.pem", ecdsa_chain);
    write_file("ecdsa.key", ecdsa_key);
}

static void add_server(struct tls_server_options options)
{
    static size_t count;
    char error[256];
    servers[count++] = tls_context_server(&options, error, sizeof(error));
    CHECK(servers[count - 1] != NULL && count <= SERVERS);
}

static void add_client(struct tls_client_options options)
{
    static size_t count;
    char error[256];
    clients[count++] = tls_context_client(&options, error, sizeof(error));
    CHECK(clients[count - 1] != NULL && count <= CLIENTS);
}

static void make_contexts(void)
{
    struct certificate *both[2];
    both[0] = load("ecdsa.pem", "ecdsa.key");
    both[1] = load("rsa.pem", "rsa.key");
    const struct ticket_secret secret = {
        .key = {1, 2, 3},
          .epoch_s = UINT32_MAX
    };
    struct tls_server_options server = {.certificates = both, .certificate_count = 2};
    server.tickets = &secret;
    add_server(server); /* 0: tickets, both certificates */
    server.client_ca = "ecdsa.pem";
    add_server(server); /* 1: asks for a certificate */
    server.client_ca = NULL;
    server.certificates = both + 1;
    server.certificate_count = 1;
    server.offload = true;
    add_server(server); /* 2: RSA, with key operations */
    server.version_min = TLS_1_3;
    add_server(server); /* 3: only TLS 1.3 */
    server.certificates = both;
    server.version_min = TLS_1_2;
    add_server(server); /* 4: ECDSA */
    add_client((struct tls_client_options){.version_max = TLS_1_3});
    add_client((struct tls_client_options){.version_max = TLS_1_2});
    add_client((struct tls_client_options){.version_max = TLS_1_3, .ca = "ecdsa.pem"});
    add_client((struct tls_client_options){
        .version_max = TLS_1_3, .certificate = both[0], .alpn = "smtp", .groups = "P-256"});
    certificate_drop(both[0]);
    certificate_drop(both[1]);
}

static struct tls *begin(uint8_t choice)
{
    unsigned number = choice & 63;
    struct tls *tls;
    if (choice < 128)
        tls = tls_server(servers[number % SERVERS]);
    else
        tls = tls_client(clients[number % CLIENTS], "mx.example.org",
                         choice & 64 ? sessions[number / 4 % SESSIONS] : NULL);
    CHECK(tls != NULL);
    return tls;
}

/* --- playing --- */

struct play {
    struct tls *tls;
    const uint8_t *data;
    size_t len;
    uint8_t pace; /* 0: everything at once */
    bool give_up; /* the connection ends while a key operation is under way */
    struct outcome outcome;
};

static size_t step(const struct play *play, size_t call)
{
    return play->pace == 0 ? OUT_ROOM : 1 + (play->pace * (call + 7) * 13 >> 3) % (play->pace + 1U);
}

static void do_job(struct play *play)
{
    struct tls_job *job = tls_job_take(play->tls);
    CHECK(job != NULL);
    tls_job_run(job);
    if (!play->give_up) {
        tls_job_done(job, play->tls);
        return;
    }
    tls_free(play->tls);
    play->tls = NULL;
    tls_job_done(job, NULL);
}

static void play_handshake(struct play *play)
{
    static uint8_t out[OUT_ROOM];
    enum tls_status status = TLS_INPUT;
    for (size_t call = 0; call < CALLS_MAX && play->tls != NULL; call++) {
        size_t left = play->len - play->outcome.taken, most = step(play, call);
        struct tls_io io = {.in = play->data + play->outcome.taken,
                            .in_len = left < most ? left : most,
                            .out = out,
                            .out_room = most};
        status = tls_handshake(play->tls, &io);
        CHECK(io.in_taken <= io.in_len && io.out_len <= io.out_room);
        CHECK(status != TLS_OUTPUT || io.out_len == io.out_room);
        CHECK(status != TLS_INPUT || io.in_taken == io.in_len);
        CHECK((status == TLS_FAILED) == (tls_failure(play->tls) != TLS_FAILURE_NONE));
        play->outcome.taken += io.in_taken;
        if (status == TLS_KEY)
            do_job(play);
        if (status == TLS_READY || status == TLS_FAILED ||
            (status == TLS_INPUT && play->outcome.taken == play->len))
            break;
    }
    play->outcome.status = status;
    if (play->tls != NULL && status == TLS_FAILED) {
        play->outcome.failure = tls_failure(play->tls);
        CHECK(tls_failure_text(play->tls)[0] != '\0');
    }
}

/* The record as it would have come: the input says what is inside. A client that still lets
 * BoringSSL read gets it as it is. */
static size_t make_record(const struct play *play, const uint8_t *data, size_t len, uint8_t *record)
{
    const struct record *with = &play->tls->read;
    if (play->tls->ssl == NULL && with->algorithm != NULL)
        return forge_record(with, data[0], data + TLS_HEADER_LEN, len - TLS_HEADER_LEN, 1, record);
    memcpy(record, data, len);
    return len;
}

static void answer(struct play *play)
{
    uint8_t out[TLS_PRELUDE_MAX], record[64 + TLS_FRONT_MAX + TLS_BACK_MAX];
    CHECK(tls_prelude(play->tls, out) <= sizeof(out));
    CHECK(tls_seal(play->tls, record, (const uint8_t *)"250 2.0.0 ok\r\n", 14) > 14);
}

static void play_records(struct play *play)
{
    static uint8_t record[FORGE_ROOM];
    const uint8_t *data = play->data + play->outcome.taken;
    size_t left = play->len - play->outcome.taken;
    play->outcome.opened = TLS_NOTHING;
    answer(play);
    while (left >= TLS_HEADER_LEN && play->outcome.opened <= TLS_NOTHING) {
        size_t len = tls_record_len(data, left);
        if (len < TLS_HEADER_LEN || len > left || len > TLS_TEXT_MAX + TLS_HEADER_LEN)
            break;
        size_t record_len = make_record(play, data, len, record), text_len = 0;
        uint8_t *exact = malloc(record_len), *text = NULL;
        CHECK(exact != NULL);
        memcpy(exact, record, record_len);
        play->outcome.opened = tls_open(play->tls, exact, record_len, &text, &text_len);
        if (play->outcome.opened == TLS_TEXT) {
            CHECK(text >= exact && text + text_len <= exact + record_len && text_len > 0);
            play->outcome.text_len += text_len;
            answer(play);
        }
        play->outcome.records++;
        free(exact);
        data += len;
        left -= len;
    }
    CHECK((play->outcome.opened == TLS_BROKEN) == (tls_failure(play->tls) != TLS_FAILURE_NONE));
    play->outcome.failure = tls_failure(play->tls);
}

static void check_info(const struct tls *tls)
{
    const struct tls_info *info = tls_info(tls);
    CHECK(strcmp(info->version, info->version_index == 1 ? "TLSv1.3" : "TLSv1.2") == 0);
    CHECK(info->cipher_index < TLS_CIPHER_COUNT);
    CHECK((info->cipher_index < 3) == (info->version_index == 1));
    CHECK(info->cipher == tls_cipher_names[info->cipher_index]);
    CHECK(info->group != NULL && strlen(info->server_name) < 256 && strlen(info->peer_name) < 256);
    CHECK(tls_memory(tls) < 4096);
}

static struct outcome play(const uint8_t *data, size_t size, uint8_t pace)
{
    struct play play = {.data = data + 2, .len = size - 2, .pace = pace, .give_up = data[1] == 255};
    uint8_t alert[TLS_ALERT_MAX];
    play.tls = begin(data[0]);
    if (RAND_reset_for_fuzzing != NULL)
        RAND_reset_for_fuzzing();
    play_handshake(&play);
    if (play.tls == NULL)
        return play.outcome;
    if (play.outcome.status == TLS_READY) {
        check_info(play.tls);
        play_records(&play);
    }
    CHECK(tls_alert(play.tls, alert) <= sizeof(alert));
    tls_free(play.tls);
    return play.outcome;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2 || size > 1 << 15)
        return 0;
    struct outcome whole = play(data, size, 0), pieces = play(data, size, data[1]);
    CHECK(whole.status == pieces.status);
    /* An alert in clear where none may be is only recognised in one piece. */
    CHECK(whole.failure == pieces.failure || whole.failure == TLS_FAILURE_ALERT);
    CHECK(whole.taken == pieces.taken || whole.status == TLS_FAILED);
    CHECK(whole.opened == pieces.opened && whole.records == pieces.records);
    CHECK(whole.text_len == pieces.text_len);
    return 0;
}

/* --- seeds --- */

/* All servers of ours that are peers know each other's tickets. */
static void remember_tickets(struct peer *peer)
{
    static const uint8_t keys[48] = "the keys to the tickets of all servers";
    CHECK(SSL_CTX_set_tlsext_ticket_keys(peer->context, keys, sizeof(keys)) == 1);
}

static void write_seed(const char *name, uint8_t choice, uint8_t pace, const struct talk *talk)
{
    char path[512];
    snprintf(path, sizeof(path), "%s/%s", getenv("RINGMX_FUZZ_SEEDS"), name);
    FILE *file = fopen(path, "wb");
    CHECK(file != NULL && talk->received <= sizeof(talk->heard));
    putc(choice, file);
    putc(pace, file);
    fwrite(talk->heard, 1, talk->received, file);
    fclose(file);
}

/* record_seed makes a handshake between what `choice` says and a peer, who then says a few words.
 */
static void record_seed(const char *name, uint8_t choice, uint8_t pace, struct peer_options peer)
{
    static struct talk talk;
    peer.server = choice >= 128;
    if (peer.server && peer.chain == NULL)
        peer.chain = "ecdsa.pem", peer.key = "ecdsa.key";
    talk_new(&talk, begin(choice), &peer);
    remember_tickets(&talk.peer);
    RAND_reset_for_fuzzing();
    enum tls_status status = talk_handshake(&talk);
    if (talk.peer_done) {
        (void)peer_write(&talk.peer, (const uint8_t *)"EHLO client.example\r\n", 21);
        if (status == TLS_READY && tls_info(talk.tls)->version_index == 1)
            peer_update(&talk.peer, true);
        (void)peer_write(&talk.peer, (const uint8_t *)"QUIT\r\n", 6);
        peer_close(&talk.peer);
        talk.pace.in = 1;
        uint8_t rest[TLS_RECORD_MAX];
        while (talk_next_record(&talk, rest) > 0)
            continue;
    }
    write_seed(name, choice, pace, &talk);
    talk_free(&talk);
}

/* A client that comes back: its ticket is ours. */
static void record_resumed(const char *name, uint16_t version)
{
    static struct talk talk;
    uint8_t prelude[TLS_PRELUDE_MAX], text[16];
    size_t len;
    struct peer_options client = {.version_min = version, .version_max = version};
    talk_new(&talk, begin(0), &client);
    CHECK(talk_handshake(&talk) == TLS_READY);
    peer_give(&talk.peer, prelude, tls_prelude(talk.tls, prelude));
    CHECK(peer_read(&talk.peer, text, sizeof(text), &len) == PEER_WAITS);
    CHECK(talk.peer.session != NULL);
    client.session = talk.peer.session;
    talk.peer.session = NULL;
    talk_free(&talk);
    record_seed(name, 0, 60, client);
    SSL_SESSION_free(client.session);
}

static void record_servers(void)
{
    record_resumed("server-resumed", TLS1_3_VERSION);
    record_resumed("server-resumed-old", TLS1_2_VERSION);
    record_seed(
        "server-modern", 0, 3,
        (struct peer_options){.version_min = TLS1_3_VERSION, .server_name = "mx.example.org"});
    record_seed("server-old", 0, 1, (struct peer_options){.version_max = TLS1_2_VERSION});
    record_seed("server-old-rsa", 2, 9,
                (struct peer_options){.version_max = TLS1_2_VERSION,
                                      .cipher = "ECDHE-RSA-CHACHA20-POLY1305"});
    record_seed("server-rsa", 2, 40, (struct peer_options){.version_min = TLS1_3_VERSION});
    record_seed("server-rsa-gone", 2, 255, (struct peer_options){.version_min = TLS1_3_VERSION});
    record_seed("server-old-aes256", 4, 200,
                (struct peer_options){.version_max = TLS1_2_VERSION,
                                      .cipher = "ECDHE-ECDSA-AES256-GCM-SHA384"});
    record_seed("server-client-certificate", 1, 20,
                (struct peer_options){
                    .version_min = TLS1_3_VERSION, .chain = "ecdsa.pem", .key = "ecdsa.key"});
    record_seed("server-client-certificate-old", 1, 20,
                (struct peer_options){
                    .version_max = TLS1_2_VERSION, .chain = "ecdsa.pem", .key = "ecdsa.key"});
    record_seed(
        "server-stranger", 1, 20,
        (struct peer_options){.version_min = TLS1_3_VERSION, .chain = "rsa.pem", .key = "rsa.key"});
    record_seed("server-retry", 0, 5, (struct peer_options){.groups = "P-384:P-256"});
    record_seed("server-no-group", 0, 5, (struct peer_options){.groups = "P-384"});
    record_seed("server-alpn", 0, 7, (struct peer_options){.alpn = "smtp"});
    record_seed("server-alpn-http", 0, 7, (struct peer_options){.alpn = "http/1.1"});
    record_seed("server-version", 3, 7, (struct peer_options){.version_max = TLS1_2_VERSION});
}

static void record_clients(void)
{
    record_seed("client-modern", 128, 3, (struct peer_options){.version_min = TLS1_3_VERSION});
    record_seed("client-old", 128 + 1, 50, (struct peer_options){.version_max = TLS1_2_VERSION});
    record_seed("client-rsa", 128, 3, (struct peer_options){.chain = "rsa.pem", .key = "rsa.key"});
    record_seed("client-verifies", 128 + 2, 9,
                (struct peer_options){.version_min = TLS1_3_VERSION});
    record_seed("client-verifies-not", 128 + 2, 9,
                (struct peer_options){.chain = "rsa.pem", .key = "rsa.key"});
    record_seed("client-asked", 128 + 3, 9, (struct peer_options){.ca = "ecdsa.pem"});
    record_seed("client-asked-old", 128 + 3, 9,
                (struct peer_options){.ca = "ecdsa.pem", .version_max = TLS1_2_VERSION});
    record_seed("client-resumes", 128 + 64 + 4, 9,
                (struct peer_options){.version_min = TLS1_3_VERSION});
    record_seed("client-resumes-old", 128 + 64, 9,
                (struct peer_options){.version_max = TLS1_2_VERSION});
}

/* --- */

/* make_sessions gets tickets for our clients from a server. */
static void make_sessions(void)
{
    static struct talk talk;
    for (uint16_t i = 0; i < SESSIONS; i++) {
        const struct peer_options server = {.server = true,
                                            .chain = "ecdsa.pem",
                                            .key = "ecdsa.key",
                                            .version_min = (uint16_t)(TLS1_2_VERSION + i),
                                            .version_max = (uint16_t)(TLS1_2_VERSION + i)};
        talk_new(&talk, tls_client(clients[0], "mx.example.org", NULL), &server);
        remember_tickets(&talk.peer);
        CHECK(talk_handshake(&talk) == TLS_READY);
        if (i == TLS_1_3)
            talk_receive(&talk, "220 mx\r\n", 8); /* before which the ticket comes */
        sessions[i] = tls_session_take(talk.tls);
        CHECK(sessions[i] != NULL);
        talk_free(&talk);
    }
}

/* Certificates are files of a directory that is gone again when this returns. */
int LLVMFuzzerInitialize(int *count, char ***arguments)
{
    (void)count, (void)arguments;
    void *directory;
    char *home = getcwd(NULL, 0);
    CHECK(home != NULL && pki_set_up(&directory) == 0);
    make_files();
    make_contexts();
    make_sessions();
    if (getenv("RINGMX_FUZZ_SEEDS") != NULL) {
        CHECK(RAND_reset_for_fuzzing != NULL);
        record_servers();
        record_clients();
    }
    CHECK(pki_tear_down(&directory) == 0 && chdir(home) == 0);
    free(home);
    if (getenv("RINGMX_FUZZ_SEEDS") != NULL)
        exit(0);
    return 0;
}
