/* What TLS costs by itself, in memory, on the server's side: handshakes, records and what a
 * connection holds; BoringSSL alone beside our tls/. Both are measured in turns, a batch each, with
 * the thread's CPU clock running only while the server works; each figure is the median of the
 * batches.
 *
 *   ringmx-bench-tls [--json] [--milliseconds N]
 *   ringmx-bench-tls --sign      an RSA-2048 signature by itself, as JSON */
#include "bench/tls_clock.h"
#include "bench/tls_keys.h"
#include "bench/tls_side.h"
#include "bench/tls_sign.h"

#include "tls/crypto.h"

#include <openssl/aead.h>

#include <getopt.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    BATCH = 16, /* handshakes that take turns, as in a server with some to do */
    BATCHES_MAX = 512,
    RECORDS = 32, /* records in a batch: half a megabyte, as much as a fast sender leaves */
    RECORD_TEXT = 16384,
    IDLE = 64, /* connections that are held to be weighed */
    KINDS = 2,
    PASSES = 5, /* over all handshakes, so that a slow moment is not one kind's alone */
};

static const struct server_kind *const kinds[KINDS] = {&server_raw, &server_ours};
static const char reply_text[] = "250 mx.bench.example\r\n";

static const struct handshake handshakes[] = {
#ifdef SSL_GROUP_X25519_MLKEM768
    {"tls13_ecdsa_mlkem", "TLS 1.3 full, ECDSA P-256, X25519MLKEM768", TLS1_3_VERSION, false, false,
                                    "X25519MLKEM768",                                                                                               NULL                           },
#endif
    {"tls13_ecdsa",       "TLS 1.3 full, ECDSA P-256, X25519",         TLS1_3_VERSION, false, false, "X25519",
                                    NULL                                                                                                                                           },
    {"tls13_ecdsa_p256",  "TLS 1.3 full, ECDSA P-256, P-256",          TLS1_3_VERSION, false, false, "P-256",
                                    NULL                                                                                                                                           },
    {"tls13_rsa",         "TLS 1.3 full, RSA-2048, X25519",            TLS1_3_VERSION, true,  false, "X25519",       NULL                           },
    {"tls13_resumed",     "TLS 1.3 resumed (PSK with X25519)",         TLS1_3_VERSION, false, true,  "X25519",
                                    NULL                                                                                                                                           },
    {"tls12_ecdsa",       "TLS 1.2 full, ECDSA P-256, X25519",         TLS1_2_VERSION, false, false,
                                    "X25519:P-256",                                                                                                 "ECDHE-ECDSA-AES128-GCM-SHA256"},
    {"tls12_resumed",     "TLS 1.2 resumed",                           TLS1_2_VERSION, false, true,  "X25519:P-256",
                                    "ECDHE-ECDSA-AES128-GCM-SHA256"                                                                                                                },
};
enum { HANDSHAKES = sizeof(handshakes) / sizeof(handshakes[0]) };

/* Records can be measured with the ciphers that a client can insist on. */
static const struct bulk {
    const char *name, *title;
    const EVP_AEAD *(*algorithm)(void);
    struct handshake handshake;
} bulks[] = {
    {"aes128gcm",
     "AES-128-GCM (TLS 1.2)",       EVP_aead_aes_128_gcm,
     {NULL, NULL, TLS1_2_VERSION, false, false, "X25519:P-256", "ECDHE-ECDSA-AES128-GCM-SHA256"}},
    {"aes128gcm_tls13",
     "AES-128-GCM (TLS 1.3)",       EVP_aead_aes_128_gcm,
     {NULL, NULL, TLS1_3_VERSION, false, false, "X25519", NULL}                                 },
    {"aes256gcm",
     "AES-256-GCM (TLS 1.2)",       EVP_aead_aes_256_gcm,
     {NULL, NULL, TLS1_2_VERSION, false, false, "X25519:P-256", "ECDHE-ECDSA-AES256-GCM-SHA384"}},
    {"chacha20",
     "ChaCha20-Poly1305 (TLS 1.2)", EVP_aead_chacha20_poly1305,
     {NULL, NULL, TLS1_2_VERSION, false, false, "X25519:P-256", "ECDHE-ECDSA-CHACHA20-POLY1305"}},
};
enum { BULKS = sizeof(bulks) / sizeof(bulks[0]) };

/* A row of results: what was measured of each kind, and of EVP_AEAD alone. */
struct handshake_row {
    double times[KINDS][BATCHES_MAX]; /* of one handshake, in seconds */
    size_t count;                     /* of batches */
    double microseconds[KINDS];
};
struct bulk_row {
    double open[KINDS + 1], seal[KINDS + 1]; /* GB/s */
};
struct memory_row {
    double handshake, idle, own; /* octets of a connection; by its own account */
};

struct results {
    struct handshake_row handshakes[HANDSHAKES];
    struct bulk_row bulks[BULKS];
    struct memory_row memory[KINDS];
};

/* --- a client and a server --- */

struct pair {
    struct client client;
    void *server;
    bool client_ready, server_ready;
    struct pipe to_server, to_client;
};

static struct pair pairs[BATCH > IDLE ? BATCH : IDLE];

static void pair_begin(struct pair *pair, SSL_CTX *context, SSL_SESSION *session)
{
    client_new(&pair->client, context, session);
    pair->client_ready = pair->server_ready = false;
    pair->to_client.len = pair->to_server.len = 0;
}

/* A turn of the client; its time is its own. True: the two are not through. */
static bool client_turn(struct pair *pair)
{
    if (!pair->client_ready)
        pair->client_ready = client_step(&pair->client, &pair->to_client, &pair->to_server);
    return !pair->client_ready || !pair->server_ready;
}

static void server_turn(const struct server_kind *kind, struct pair *pair)
{
    if (!pair->server_ready)
        pair->server_ready = kind->step(pair->server, &pair->to_server, &pair->to_client);
}

static bool clients_turn(size_t count)
{
    bool left = false;
    for (size_t i = 0; i < count; i++)
        left = client_turn(&pairs[i]) || left;
    return left;
}

static void servers_turn(const struct server_kind *kind, size_t count)
{
    for (size_t i = 0; i < count; i++)
        server_turn(kind, &pairs[i]);
}

static void clients_begin(SSL_CTX *context, SSL_SESSION *session, size_t count)
{
    for (size_t i = 0; i < count; i++)
        pair_begin(&pairs[i], context, session);
}

/* The clients read the first reply, in which a ticket may be, and go. */
static void clients_end(size_t count, bool resumed)
{
    for (size_t i = 0; i < count; i++) {
        struct pair *pair = &pairs[i];
        must(client_read(&pair->client, &pair->to_client) == sizeof(reply_text) - 1,
             "the reply is lost");
        must((SSL_session_reused(pair->client.ssl) == 1) == resumed, "resumed, or not");
        client_free(&pair->client);
    }
}

/* batch makes BATCH handshakes, each with the first reply behind it, and returns the server's CPU
 * seconds for one. */
static double batch(const struct server_kind *kind, void *server_context, SSL_CTX *client_context,
                    SSL_SESSION *session)
{
    clients_begin(client_context, session, BATCH);
    double spent = -clock_cpu_now();
    for (size_t i = 0; i < BATCH; i++)
        pairs[i].server = kind->server_new(server_context);
    spent += clock_cpu_now();
    while (clients_turn(BATCH)) {
        spent -= clock_cpu_now();
        servers_turn(kind, BATCH);
        spent += clock_cpu_now();
    }
    spent -= clock_cpu_now();
    for (size_t i = 0; i < BATCH; i++) {
        kind->reply(pairs[i].server, (const uint8_t *)reply_text, sizeof(reply_text) - 1,
                    &pairs[i].to_client);
        kind->server_free(pairs[i].server);
    }
    spent += clock_cpu_now();
    clients_end(BATCH, session != NULL);
    return spent / BATCH;
}

/* --- handshakes --- */

/* measure_handshake adds batches to the row. */
static void measure_handshake(const struct handshake *handshake, const struct tls_keys *keys,
                              double seconds, struct handshake_row *row)
{
    void *contexts[KINDS];
    SSL_SESSION *sessions[KINDS] = {NULL};
    SSL_CTX *client_context = client_context_new(handshake);
    for (size_t k = 0; k < KINDS; k++) { /* warms up, too */
        contexts[k] = kinds[k]->context_new(keys, handshake->rsa);
        batch(kinds[k], contexts[k], client_context, NULL);
        sessions[k] = client_session();
        must(sessions[k] != NULL, "no ticket came");
    }
    size_t least = row->count + 2;
    for (double spent = 0; (spent < seconds || row->count < least) && row->count < BATCHES_MAX;
         row->count++) {
        for (size_t k = 0; k < KINDS; k++) {
            row->times[k][row->count] = batch(kinds[k], contexts[k], client_context,
                                              handshake->resumed ? sessions[k] : NULL);
            spent += row->times[k][row->count] * BATCH;
        }
    }
    for (size_t k = 0; k < KINDS; k++) {
        kinds[k]->context_free(contexts[k]);
        SSL_SESSION_free(sessions[k]);
    }
    SSL_SESSION_free(client_session());
    SSL_CTX_free(client_context);
}

/* --- records --- */

static uint8_t text[RECORD_TEXT];
static uint8_t wire[RECORDS * (RECORD_TEXT + 512)];

/* connect makes the pair a connection that is ready for records. */
static void connect_pair(struct pair *pair, const struct server_kind *kind, void *server_context,
                         SSL_CTX *client_context)
{
    pair_begin(pair, client_context, NULL);
    pair->server = kind->server_new(server_context);
    while (client_turn(pair))
        server_turn(kind, pair);
    kind->reply(pair->server, (const uint8_t *)reply_text, sizeof(reply_text) - 1,
                &pair->to_client);
    must(client_read(&pair->client, &pair->to_client) == sizeof(reply_text) - 1,
         "the reply is lost");
}

static double speed(double start)
{
    return (double)sizeof(text) * RECORDS / (clock_cpu_now() - start) / 1e9;
}

static double open_batch(const struct server_kind *kind, struct pair *pair)
{
    size_t len = 0;
    for (size_t i = 0; i < RECORDS; i++)
        len += client_write(&pair->client, text, RECORD_TEXT, wire + len);
    double start = clock_cpu_now();
    size_t got = kind->open(pair->server, wire, len);
    double result = speed(start);
    must(got == sizeof(text) * RECORDS, "text is lost");
    return result;
}

static double seal_batch(const struct server_kind *kind, struct pair *pair)
{
    double start = clock_cpu_now();
    size_t len = 0;
    for (size_t i = 0; i < RECORDS; i++)
        len += kind->seal(pair->server, text, RECORD_TEXT, wire + i * (RECORD_TEXT + 64));
    double result = speed(start);
    must(len > sizeof(text) * RECORDS, "text is lost");
    return result;
}

static double aead_seal_batch(const EVP_AEAD_CTX *aead)
{
    uint8_t nonce[12] = {0}, header[5] = {23, 3, 3, 64, 16};
    double start = clock_cpu_now();
    for (size_t i = 0; i < RECORDS; i++) {
        uint8_t *out = wire + i * (RECORD_TEXT + 64);
        size_t tag_len;
        nonce[0] = (uint8_t)i;
        must(EVP_AEAD_CTX_seal_scatter(aead, out, out + RECORD_TEXT, &tag_len, 16, nonce, 12, text,
                                       RECORD_TEXT, NULL, 0, header, 5) == 1,
             "cannot seal:");
    }
    return speed(start);
}

static double aead_open_batch(const EVP_AEAD_CTX *aead)
{
    uint8_t nonce[12] = {0};
    const uint8_t header[5] = {23, 3, 3, 64, 16};
    aead_seal_batch(aead);
    double start = clock_cpu_now();
    for (size_t i = 0; i < RECORDS; i++) {
        uint8_t *data = wire + i * (RECORD_TEXT + 64);
        size_t len;
        nonce[0] = (uint8_t)i;
        must(EVP_AEAD_CTX_open(aead, data, &len, RECORD_TEXT, nonce, 12, data, RECORD_TEXT + 16,
                               header, 5) == 1,
             "cannot open:");
    }
    return speed(start);
}

static void measure_bulk(const struct bulk *bulk, const struct tls_keys *keys, double seconds,
                         struct bulk_row *row)
{
    static double opens[KINDS + 1][BATCHES_MAX], seals[KINDS + 1][BATCHES_MAX];
    static const uint8_t key[EVP_AEAD_MAX_KEY_LENGTH] = {1};
    const EVP_AEAD *algorithm = bulk->algorithm();
    EVP_AEAD_CTX *aead = EVP_AEAD_CTX_new(algorithm, key, EVP_AEAD_key_length(algorithm), 16);
    SSL_CTX *client_context = client_context_new(&bulk->handshake);
    void *contexts[KINDS];
    must(aead != NULL, "no memory");
    for (size_t k = 0; k < KINDS; k++) {
        contexts[k] = kinds[k]->context_new(keys, false);
        connect_pair(&pairs[k], kinds[k], contexts[k], client_context);
    }
    size_t count = 0;
    double end = clock_cpu_now() + seconds;
    for (; (clock_cpu_now() < end || count < 3) && count < BATCHES_MAX; count++) {
        opens[KINDS][count] = aead_open_batch(aead);
        seals[KINDS][count] = aead_seal_batch(aead);
        for (size_t k = 0; k < KINDS; k++) {
            opens[k][count] = open_batch(kinds[k], &pairs[k]);
            seals[k][count] = seal_batch(kinds[k], &pairs[k]);
        }
    }
    for (size_t k = 0; k <= KINDS; k++) {
        row->open[k] = clock_median(opens[k], count);
        row->seal[k] = clock_median(seals[k], count);
    }
    for (size_t k = 0; k < KINDS; k++) {
        kinds[k]->server_free(pairs[k].server);
        client_free(&pairs[k].client);
        kinds[k]->context_free(contexts[k]);
    }
    SSL_SESSION_free(client_session());
    SSL_CTX_free(client_context);
    EVP_AEAD_CTX_free(aead);
}

/* --- memory --- */

int mallctl(const char *name, void *old, size_t *old_len, void *new, size_t new_len)
    __attribute__((weak)); /* jemalloc's, where it is linked */

/* heap_octets tells how much this thread holds on the heap, what is lost to rounding included. */
static double heap_octets(void)
{
    if (mallctl == NULL)
        return (double)mallinfo2().uordblks;
    uint64_t taken = 0, given_back = 0;
    size_t len = sizeof(taken);
    must(mallctl("thread.allocated", &taken, &len, NULL, 0) == 0 &&
             mallctl("thread.deallocated", &given_back, &len, NULL, 0) == 0,
         "jemalloc does not tell");
    return (double)taken - (double)given_back;
}

/* Only the server's steps are weighed: at its heaviest, and when the connection waits. */
static void measure_memory(const struct server_kind *kind, const struct tls_keys *keys,
                           struct memory_row *row)
{
    void *server_context = kind->context_new(keys, false);
    SSL_CTX *client_context = client_context_new(&bulks[1].handshake);
    connect_pair(&pairs[0], kind, server_context,
                 client_context); /* what the first one makes for all */
    kind->server_free(pairs[0].server);
    client_free(&pairs[0].client);

    clients_begin(client_context, NULL, IDLE);
    double held = -heap_octets(), most = 0;
    for (size_t i = 0; i < IDLE; i++)
        pairs[i].server = kind->server_new(server_context);
    held += heap_octets();
    while (clients_turn(IDLE)) {
        held -= heap_octets();
        servers_turn(kind, IDLE);
        held += heap_octets();
        most = held > most ? held : most;
    }
    held -= heap_octets();
    for (size_t i = 0; i < IDLE; i++)
        kind->reply(pairs[i].server, (const uint8_t *)reply_text, sizeof(reply_text) - 1,
                    &pairs[i].to_client);
    held += heap_octets();
    row->handshake = most / IDLE;
    row->idle = held / IDLE;
    row->own = (double)kind->memory(pairs[0].server);
    for (size_t i = 0; i < IDLE; i++)
        kind->server_free(pairs[i].server);
    clients_end(IDLE, false);
    SSL_SESSION_free(client_session());
    SSL_CTX_free(client_context);
    kind->context_free(server_context);
}

/* --- results --- */

static void print_people(const struct results *results)
{
    printf("%s\n\nHandshakes: microseconds of the server's CPU time, with the first reply\n",
           crypto_library());
    printf("  %-46s %10s %10s %7s\n", "", kinds[0]->name, kinds[1]->name, "ratio");
    for (size_t i = 0; i < HANDSHAKES; i++) {
        const double *time = results->handshakes[i].microseconds;
        printf("  %-46s %10.1f %10.1f %7.2f\n", handshakes[i].title, time[0], time[1],
               time[0] > 0 ? time[1] / time[0] : 0);
    }
    printf("\nRecords of 16 KiB, GB/s\n  %-30s %10s %10s %10s\n", "", "EVP_AEAD", kinds[0]->name,
           kinds[1]->name);
    for (size_t i = 0; i < BULKS; i++) {
        const struct bulk_row *row = &results->bulks[i];
        printf("  %-25s open %10.2f %10.2f %10.2f\n", bulks[i].title, row->open[KINDS],
               row->open[0], row->open[1]);
        printf("  %-25s seal %10.2f %10.2f %10.2f\n", "", row->seal[KINDS], row->seal[0],
               row->seal[1]);
    }
    printf("\nMemory of a connection on the heap, octets\n  %-30s %10s %10s\n", "", kinds[0]->name,
           kinds[1]->name);
    printf("  %-30s %10.0f %10.0f\n", "in the handshake, at most", results->memory[0].handshake,
           results->memory[1].handshake);
    printf("  %-30s %10.0f %10.0f\n", "waiting", results->memory[0].idle, results->memory[1].idle);
    printf("  %-30s %10s %10.0f\n", "by its own account", "", results->memory[1].own);
}

static void print_json(const struct results *results)
{
    printf("{\n \"library\": \"%s\",\n \"handshake_us\": {", crypto_library());
    for (size_t i = 0; i < HANDSHAKES; i++)
        printf("%s\n  \"%s\": {\"%s\": %.3f, \"%s\": %.3f}", i > 0 ? "," : "", handshakes[i].name,
               kinds[0]->name, results->handshakes[i].microseconds[0], kinds[1]->name,
               results->handshakes[i].microseconds[1]);
    printf("\n },\n \"gigabytes_per_second\": {");
    for (size_t i = 0; i < BULKS; i++) {
        const struct bulk_row *row = &results->bulks[i];
        printf("%s\n  \"%s\": {", i > 0 ? "," : "", bulks[i].name);
        printf("\"open\": {\"aead\": %.4f, \"%s\": %.4f, \"%s\": %.4f}, ", row->open[KINDS],
               kinds[0]->name, row->open[0], kinds[1]->name, row->open[1]);
        printf("\"seal\": {\"aead\": %.4f, \"%s\": %.4f, \"%s\": %.4f}}", row->seal[KINDS],
               kinds[0]->name, row->seal[0], kinds[1]->name, row->seal[1]);
    }
    printf("\n },\n \"memory_octets\": {");
    for (size_t k = 0; k < KINDS; k++)
        printf("%s\n  \"%s\": {\"handshake\": %.0f, \"idle\": %.0f, \"own\": %.0f}",
               k > 0 ? "," : "", kinds[k]->name, results->memory[k].handshake,
               results->memory[k].idle, results->memory[k].own);
    printf("\n }\n}\n");
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"json",         no_argument,       NULL, 'j'},
        {"milliseconds", required_argument, NULL, 'm'},
        {"sign",         no_argument,       NULL, 's'},
        {NULL,           0,                 NULL, 0  }
    };
    bool json = false, sign = false;
    double seconds = 0.5;
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (option == 'j')
            json = true;
        else if (option == 's')
            sign = true;
        else if (option == 'm')
            seconds = strtod(optarg, NULL) / 1000;
        else
            return 2;
    }
    if (sign) {
        printf("{\"library\": \"%s\", \"rsa2048_sign_us\": %.3f}\n", crypto_library(),
               tls_sign_seconds(seconds) * 1e6);
        return 0;
    }
    static struct results results;
    struct tls_keys keys;
    tls_keys_make(&keys);
    memset(text, 'e', sizeof(text));
    for (int pass = 0; pass < PASSES; pass++)
        for (size_t i = 0; i < HANDSHAKES; i++)
            measure_handshake(&handshakes[i], &keys, seconds / PASSES, &results.handshakes[i]);
    for (size_t i = 0; i < HANDSHAKES; i++)
        for (size_t k = 0; k < KINDS; k++)
            results.handshakes[i].microseconds[k] =
                clock_median(results.handshakes[i].times[k], results.handshakes[i].count) * 1e6;
    for (size_t i = 0; i < BULKS; i++)
        measure_bulk(&bulks[i], &keys, seconds, &results.bulks[i]);
    for (size_t k = 0; k < KINDS; k++)
        measure_memory(kinds[k], &keys, &results.memory[k]);
    tls_keys_remove(&keys);
    if (json)
        print_json(&results);
    else
        print_people(&results);
    return 0;
}
