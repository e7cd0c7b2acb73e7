/* Records of ours against those of other implementations: a BoringSSL SSL makes a handshake with a
 * peer (BoringSSL's own SSL, or OpenSSL), then its keys are given to tls/record, which must get on
 * with the peer in every cipher and in both directions. Then what is not authentic. */
#include "tls/record.h"

#include "tests/support/forge.h"
#include "tests/support/peer.h"
#include "tests/support/pki.h"

#include <setjmp.h> /* before cmocka.h, which wants it */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { TEXT_MAX = 16384, RECORD_ROOM = TEXT_MAX + 512, HEADER_LEN = FORGE_HEADER_LEN };

/* --- the ciphers, and a connection with one of them --- */

static const struct suite {
    const char *name; /* TLS 1.3: IANA's name; TLS 1.2: what the libraries call it */
    bool modern, rsa;
    const EVP_AEAD *(*algorithm)(void);
    const EVP_MD *(*digest)(void);
} suites[] = {
    {"TLS_AES_128_GCM_SHA256",        true,  false, EVP_aead_aes_128_gcm,       EVP_sha256},
    {"TLS_AES_256_GCM_SHA384",        true,  false, EVP_aead_aes_256_gcm,       EVP_sha384},
    {"TLS_CHACHA20_POLY1305_SHA256",  true,  false, EVP_aead_chacha20_poly1305, EVP_sha256},
    {"ECDHE-ECDSA-AES128-GCM-SHA256", false, false, EVP_aead_aes_128_gcm,       EVP_sha256},
    {"ECDHE-ECDSA-AES256-GCM-SHA384", false, false, EVP_aead_aes_256_gcm,       EVP_sha384},
    {"ECDHE-ECDSA-CHACHA20-POLY1305", false, false, EVP_aead_chacha20_poly1305, EVP_sha256},
    {"ECDHE-RSA-AES128-GCM-SHA256",   false, true,  EVP_aead_aes_128_gcm,       EVP_sha256},
    {"ECDHE-RSA-AES256-GCM-SHA384",   false, true,  EVP_aead_aes_256_gcm,       EVP_sha384},
    {"ECDHE-RSA-CHACHA20-POLY1305",   false, true,  EVP_aead_chacha20_poly1305, EVP_sha256},
};
enum { SUITES = sizeof(suites) / sizeof(suites[0]) };

/* A peer, and our records with the keys of the one that it made the handshake with. */
struct line {
    struct peer peer;
    struct record read, write;
    uint8_t in[4 * RECORD_ROOM]; /* records from the peer that were not opened yet */
    size_t in_len;
};

static void take_modern_keys(struct line *line, const struct suite *suite, const struct peer *other,
                             bool server)
{
    const uint8_t *theirs = server ? other->client_secret : other->server_secret;
    const uint8_t *ours = server ? other->server_secret : other->client_secret;
    assert_true(record_start_modern(&line->read, suite->algorithm(), suite->digest(), theirs,
                                    other->secret_len, SSL_get_read_sequence(other->ssl)));
    assert_true(record_start_modern(&line->write, suite->algorithm(), suite->digest(), ours,
                                    other->secret_len, SSL_get_write_sequence(other->ssl)));
}

/* RFC 5246 6.3: the client's key, the server's, then their nonces. */
static void take_old_keys(struct line *line, const struct suite *suite, const struct peer *other,
                          bool server)
{
    uint8_t block[128];
    size_t block_len = SSL_get_key_block_len(other->ssl);
    assert_in_range(block_len, 1, sizeof(block));
    assert_int_equal(SSL_generate_key_block(other->ssl, block, block_len), 1);
    const EVP_AEAD *algorithm = suite->algorithm();
    size_t key_len = EVP_AEAD_key_length(algorithm);
    size_t iv_len = strstr(suite->name, "CHACHA20") != NULL ? 12 : 4;
    assert_int_equal(block_len, 2 * (key_len + iv_len));
    const uint8_t *client_key = block, *server_key = block + key_len;
    const uint8_t *client_iv = block + 2 * key_len, *server_iv = client_iv + iv_len;
    assert_true(record_start(&line->read, algorithm, server ? client_key : server_key,
                             server ? client_iv : server_iv, iv_len,
                             SSL_get_read_sequence(other->ssl)));
    assert_true(record_start(&line->write, algorithm, server ? server_key : client_key,
                             server ? server_iv : client_iv, iv_len,
                             SSL_get_write_sequence(other->ssl)));
}

/* line_new: `server` tells what we are. */
static struct line *line_new(const struct peer_library *library, const struct suite *suite,
                             bool server)
{
    struct line *line = calloc(1, sizeof(*line));
    struct peer other;
    uint16_t version = suite->modern ? TLS1_3_VERSION : TLS1_2_VERSION;
    struct peer_options options = {
        .version_min = version,
        .version_max = version,
        .cipher = suite->modern ? NULL : suite->name,
        .modern_cipher = suite->modern ? suite->name : NULL,
    };
    assert_non_null(line);
    struct peer_options peers = options;
    peers.library = library;
    peers.server = !server;
    options.server = server;
    struct peer_options *of_server = server ? &options : &peers;
    of_server->chain = suite->rsa ? "rsa.pem" : "ecdsa.pem";
    of_server->key = suite->rsa ? "rsa.key" : "ecdsa.key";
    peer_new(&line->peer, &peers);
    peer_new(&other, &options);
    peer_connect(server ? &line->peer : &other, server ? &other : &line->peer);
    const SSL_CIPHER *cipher = SSL_get_current_cipher(other.ssl);
    assert_string_equal(suite->modern ? SSL_CIPHER_standard_name(cipher)
                                      : SSL_CIPHER_get_name(cipher),
                        suite->name);
    if (suite->modern)
        take_modern_keys(line, suite, &other, server);
    else
        take_old_keys(line, suite, &other, server);
    peer_free(&other);
    return line;
}

static void line_free(struct line *line)
{
    record_end(&line->read);
    record_end(&line->write);
    peer_free(&line->peer);
    free(line);
}

/* --- one record from the peer, one to it --- */

/* next_record cuts the next record that the peer has sent; 0: there is none. */
static size_t next_record(struct line *line, uint8_t *record)
{
    line->in_len +=
        peer_take(&line->peer, line->in + line->in_len, sizeof(line->in) - line->in_len);
    if (line->in_len == 0)
        return 0;
    size_t len = forge_length(line->in);
    assert_in_range(len, HEADER_LEN, line->in_len);
    memcpy(record, line->in, len);
    memmove(line->in, line->in + len, line->in_len - len);
    line->in_len -= len;
    return len;
}

/* next_text opens the peer's records until one with text comes; tickets go by, and a KeyUpdate
 * (RFC 8446 4.6.3) renews the keys. */
static size_t next_text(struct line *line, uint8_t *record, uint8_t **text)
{
    for (int i = 0; i < 8; i++) {
        size_t len = next_record(line, record), text_len = 0;
        enum record_type type = 0;
        assert_int_not_equal(len, 0);
        assert_int_equal(record_open(&line->read, record, len, &type, text, &text_len), RECORD_OK);
        assert_in_range((uintptr_t)*text, (uintptr_t)record, (uintptr_t)record + len - text_len);
        if (type == RECORD_DATA)
            return text_len;
        assert_int_equal(type, RECORD_HANDSHAKE);
        if ((*text)[0] == 24)
            assert_true(record_update(&line->read));
        else
            assert_int_equal((*text)[0], 4); /* a ticket */
    }
    fail_msg("no text came");
    return 0;
}

static uint8_t octet_at(size_t len, size_t i)
{
    return (uint8_t)(len * 31 + i * 7 + (i >> 8));
}

static void check_octets(const uint8_t *text, size_t text_len, size_t len)
{
    assert_int_equal(text_len, len);
    for (size_t i = 0; i < len; i++)
        if (text[i] != octet_at(len, i))
            fail_msg("octet %zu of %zu is wrong", i, len);
}

static void from_peer(struct line *line, size_t len)
{
    static uint8_t text[TEXT_MAX], record[RECORD_ROOM];
    for (size_t i = 0; i < len; i++)
        text[i] = octet_at(len, i);
    assert_int_equal(peer_write(&line->peer, text, len), PEER_DONE);
    uint8_t *got;
    size_t got_len = next_text(line, record, &got);
    check_octets(got, got_len, len);
}

/* The text of a record stands where it will be sent from, or elsewhere; what is behind the record
 * is not touched. */
static void to_peer(struct line *line, size_t len, bool in_place)
{
    static uint8_t elsewhere[TEXT_MAX], record[RECORD_ROOM], got[TEXT_MAX];
    size_t front = record_front(&line->write), got_len;
    uint8_t *text = in_place ? record + front : elsewhere;
    memset(record, 0xee, sizeof(record));
    for (size_t i = 0; i < len; i++)
        text[i] = octet_at(len, i);
    size_t record_len = record_seal(&line->write, RECORD_DATA, record, text, len);
    assert_int_equal(record_len, forge_length(record));
    assert_int_equal(record_len, front + len + RECORD_TAG_LEN + (line->write.modern ? 1 : 0));
    assert_int_equal(record[record_len], 0xee);
    peer_give(&line->peer, record, record_len);
    assert_int_equal(peer_read(&line->peer, got, sizeof(got), &got_len), PEER_DONE);
    check_octets(got, got_len, len);
}

/* --- every cipher --- */

/* Runs `test` for every cipher that the library can be made to speak, from both ends. */
static void each_suite(const struct peer_library *library, void (*test)(struct line *line))
{
    int count = 0;
    for (size_t i = 0; i < 2 * SUITES; i++) {
        const struct suite *suite = &suites[i / 2];
        if (suite->modern && !peer_offers(library, suite->name))
            continue;
        struct line *line = line_new(library, suite, i % 2 == 0);
        test(line);
        line_free(line);
        count++;
    }
    assert_int_equal(count, library == peer_boringssl() ? 14 : 18);
}

static void each_suite_of_openssl(void (*test)(struct line *line))
{
    if (peer_openssl() == NULL)
        skip();
    each_suite(peer_openssl(), test);
}

static void all_sizes(struct line *line)
{
    for (size_t len = 1; len <= TEXT_MAX; len = len < 40 ? len + 1 : len + len / 5) {
        from_peer(line, len);
        to_peer(line, len, len % 2 == 0);
    }
    from_peer(line, TEXT_MAX);
    to_peer(line, TEXT_MAX, true);
    to_peer(line, TEXT_MAX, false);
}

static void test_sizes_boringssl(void **state)
{
    (void)state;
    each_suite(peer_boringssl(), all_sizes);
}

static void test_sizes_openssl(void **state)
{
    (void)state;
    each_suite_of_openssl(all_sizes);
}

/* Many records: the sequence number is one of more than an octet, and the same on both sides. */
static void many_records(struct line *line)
{
    for (int i = 0; i < 300; i++) {
        from_peer(line, 3);
        to_peer(line, 3, true);
    }
    if (line->peer.library == peer_boringssl()) {
        assert_int_equal(line->write.sequence, SSL_get_read_sequence(line->peer.ssl));
        assert_int_equal(line->read.sequence, SSL_get_write_sequence(line->peer.ssl));
    }
}

static void test_sequence_boringssl(void **state)
{
    (void)state;
    each_suite(peer_boringssl(), many_records);
}

static void test_sequence_openssl(void **state)
{
    (void)state;
    each_suite_of_openssl(many_records);
}

/* --- KeyUpdate (RFC 8446 4.6.3, 7.2) --- */

static void send_update(struct line *line, bool request)
{
    const uint8_t message[] = {24, 0, 0, 1, request};
    uint8_t record[64];
    size_t len = record_seal(&line->write, RECORD_HANDSHAKE, record, message, sizeof(message));
    peer_give(&line->peer, record, len);
    assert_true(record_update(&line->write));
    assert_int_equal(line->write.sequence, 0);
}

static void updates(struct line *line)
{
    if (!line->read.modern)
        return;
    for (int i = 0; i < 12; i++) {
        if (i % 3 != 0)
            peer_update(&line->peer, i % 3 == 2); /* `request`: asks for an answer, which we give */
        from_peer(line, 100);
        if (i % 3 == 2)
            send_update(line, false);
        if (i % 4 == 1)
            send_update(line, true); /* and the peer answers before its next text */
        to_peer(line, 100, true);
    }
    from_peer(line, TEXT_MAX);
    to_peer(line, TEXT_MAX, false);
}

static void test_update_boringssl(void **state)
{
    (void)state;
    each_suite(peer_boringssl(), updates);
}

static void test_update_openssl(void **state)
{
    (void)state;
    each_suite_of_openssl(updates);
}

/* --- what is not authentic --- */

static enum record_result open_result(struct line *line, const uint8_t *record, size_t len)
{
    uint8_t *copy = malloc(len); /* of its own size, for the address sanitizer */
    enum record_type type;
    uint8_t *text;
    size_t text_len;
    assert_non_null(copy);
    memcpy(copy, record, len);
    enum record_result result = record_open(&line->read, copy, len, &type, &text, &text_len);
    free(copy);
    return result;
}

/* Every octet of a record, and every bit of the first ones. The length in the header is another
 * matter: who hands over the record has read it. */
static void tampered(struct line *line)
{
    uint8_t record[RECORD_ROOM], bad[RECORD_ROOM];
    uint8_t *text;
    from_peer(line, 1); /* past the tickets */
    assert_int_equal(peer_write(&line->peer, (const uint8_t *)"authentic", 9), PEER_DONE);
    size_t len = next_record(line, record);
    for (size_t i = 0; i < len * 8; i++) {
        memcpy(bad, record, len);
        bad[i / 8] ^= (uint8_t)(1U << i % 8);
        if (i / 8 == 3 || i / 8 == 4)
            continue;
        enum record_type type;
        size_t text_len;
        uint64_t sequence = line->read.sequence;
        enum record_result result = record_open(&line->read, bad, len, &type, &text, &text_len);
        bool outer = i / 8 == 1 || i / 8 == 2 || (i / 8 == 0 && line->read.modern);
        assert_int_equal(result, outer ? RECORD_UNEXPECTED : RECORD_BAD_MAC);
        assert_int_equal(line->read.sequence, sequence);
    }
    assert_int_equal(open_result(line, record, len), RECORD_OK);
    assert_int_equal(open_result(line, record, len), RECORD_BAD_MAC); /* twice */
}

/* Shorter and longer than it was, with a header that says so. */
static void cut(struct line *line)
{
    uint8_t record[RECORD_ROOM], bad[RECORD_ROOM] = {0};
    from_peer(line, 1);
    assert_int_equal(peer_write(&line->peer, (const uint8_t *)"authentic", 9), PEER_DONE);
    size_t len = next_record(line, record);
    for (size_t other = HEADER_LEN; other < len + 40; other++) {
        if (other == len)
            continue;
        memcpy(bad, record, len);
        forge_set_length(bad, other);
        assert_int_equal(open_result(line, bad, other), RECORD_BAD_MAC);
    }
    assert_int_equal(open_result(line, record, len), RECORD_OK);
}

/* Left out, put in another order, sent back to its sender. */
static void reordered(struct line *line)
{
    uint8_t first[RECORD_ROOM], second[RECORD_ROOM], ours[64], got[64];
    size_t got_len;
    from_peer(line, 1);
    assert_int_equal(peer_write(&line->peer, (const uint8_t *)"first", 5), PEER_DONE);
    size_t first_len = next_record(line, first);
    assert_int_equal(peer_write(&line->peer, (const uint8_t *)"other", 5), PEER_DONE);
    size_t second_len = next_record(line, second);
    size_t ours_len = record_seal(&line->write, RECORD_DATA, ours, (const uint8_t *)"ours", 4);
    assert_int_equal(open_result(line, ours, ours_len), RECORD_BAD_MAC);
    /* GCM of TLS 1.2 takes its nonce from the record, but the number is authentic, too. */
    assert_int_equal(open_result(line, second, second_len), RECORD_BAD_MAC);
    assert_int_equal(open_result(line, first, first_len), RECORD_OK);
    assert_int_equal(open_result(line, first, first_len), RECORD_BAD_MAC);
    assert_int_equal(open_result(line, second, second_len), RECORD_OK);
    assert_int_equal(open_result(line, first, first_len), RECORD_BAD_MAC);
    /* The peer thinks the same of ours. */
    ours[ours_len - 1] ^= 1;
    peer_give(&line->peer, ours, ours_len);
    assert_int_equal(peer_read(&line->peer, got, sizeof(got), &got_len), PEER_FAILED);
}

static void test_tampered(void **state)
{
    (void)state;
    each_suite(peer_boringssl(), tampered);
    each_suite(peer_boringssl(), cut);
}

static void test_reordered(void **state)
{
    (void)state;
    each_suite(peer_boringssl(), reordered);
}

static void test_tampered_openssl(void **state)
{
    (void)state;
    each_suite_of_openssl(tampered);
    each_suite_of_openssl(cut);
    each_suite_of_openssl(reordered);
}

/* --- */

static int set_up(void **state)
{
    const struct pki_request ecdsa = {.chain_path = "ecdsa.pem",
                                      .key_path = "ecdsa.key",
                                      .names = {"mx.example.org"},
                                      .kind = PKI_ECDSA_P256};
    const struct pki_request rsa = {.chain_path = "rsa.pem",
                                    .key_path = "rsa.key",
                                    .names = {"mx.example.org"},
                                    .kind = PKI_RSA_2048};
    return pki_set_up(state) == 0 && pki_make(&ecdsa) && pki_make(&rsa) ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes_boringssl),    cmocka_unit_test(test_sizes_openssl),
        cmocka_unit_test(test_sequence_boringssl), cmocka_unit_test(test_sequence_openssl),
        cmocka_unit_test(test_update_boringssl),   cmocka_unit_test(test_update_openssl),
        cmocka_unit_test(test_tampered),           cmocka_unit_test(test_reordered),
        cmocka_unit_test(test_tampered_openssl),
    };
    return cmocka_run_group_tests_name("record", tests, set_up, pki_tear_down);
}
