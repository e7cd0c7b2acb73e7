/* tls/tls after the handshake: what it makes of every kind of record, of which foreign peers make
 * some and the harness, with the right keys, the rest; and what it says in the end. The octets of
 * records themselves are in record_test.c. */
#include "tls/inside.h"

#include "tests/support/forge.h"
#include "tests/support/pki.h"
#include "tests/support/talk.h"

#include <setjmp.h> /* before cmocka.h, which wants it */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { RUN_MAX = 32, WARNINGS_MAX = 4 };

static struct tls_context *context;
static size_t variant; /* which of its cases a test is to try */

static struct talk *connected(const struct peer_library *library, uint16_t version)
{
    struct talk *talk = malloc(sizeof(*talk));
    assert_non_null(talk);
    talk_new(
        talk, tls_server(context),
        &(struct peer_options){.library = library, .version_min = version, .version_max = version});
    assert_int_equal(talk_handshake(talk), TLS_READY);
    return talk;
}

static void end(struct talk *talk)
{
    talk_free(talk);
    free(talk);
}

/* Runs `test` with each library and each version. */
static void each_peer(void (*test)(struct talk *talk))
{
    const struct peer_library *libraries[] = {peer_boringssl(), peer_openssl()};
    for (size_t i = 0; i < 2 && libraries[i] != NULL; i++) {
        for (uint16_t version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
            struct talk *talk = connected(libraries[i], version);
            test(talk);
            end(talk);
        }
    }
}

static void each_variant(size_t count, void (*test)(struct talk *talk))
{
    for (variant = 0; variant < count; variant++)
        each_peer(test);
}

/* give hands a record to tls_open, in memory of its own size. */
static enum tls_opened give(struct talk *talk, const uint8_t *data, size_t len)
{
    uint8_t *record = malloc(len), *text;
    size_t text_len;
    assert_non_null(record);
    memcpy(record, data, len);
    enum tls_opened opened = tls_open(talk->tls, record, len, &text, &text_len);
    free(record);
    return opened;
}

/* forged gives the record that would come next, with this type and text inside. */
static enum tls_opened forged(struct talk *talk, uint8_t type, const void *text, size_t len)
{
    static uint8_t inner[TLS_RECORD_MAX], record[FORGE_ROOM];
    bool modern = talk->tls->read.modern;
    memcpy(inner, text, len);
    inner[len] = type;
    size_t record_len = forge_record(&talk->tls->read, modern ? RECORD_DATA : type, inner,
                                     modern ? len + 1 : len, 0, record);
    return give(talk, record, record_len);
}

/* The connection is broken for good, for this reason, and the peer is told: it sees a fatal alert.
 * With `alert` 0, it is not told. */
static void broken(struct talk *talk, enum tls_failure failure, uint8_t alert)
{
    uint8_t out[TLS_ALERT_MAX], got[16];
    size_t got_len;
    assert_int_equal(tls_failure(talk->tls), failure);
    assert_int_not_equal(tls_failure_text(talk->tls)[0], 0);
    assert_int_equal(forged(talk, RECORD_DATA, "more", 4), TLS_BROKEN);
    assert_int_equal(tls_failure(talk->tls), failure);
    assert_int_equal(talk->tls->alert, alert);
    size_t len = tls_alert(talk->tls, out);
    assert_int_equal(len > 0, alert > 0);
    if (len == 0)
        return;
    peer_give(&talk->peer, out, len);
    assert_int_equal(peer_read(&talk->peer, got, sizeof(got), &got_len), PEER_FAILED);
}

/* --- text --- */

static void texts(struct talk *talk)
{
    static uint8_t text[TLS_TEXT_MAX];
    for (size_t i = 0; i < sizeof(text); i++)
        text[i] = (uint8_t)(i * 251 >> 3);
    for (size_t len = 1; len < sizeof(text); len += 1 + len / 4) {
        talk_receive(talk, text, len);
        talk_send(talk, text, len);
    }
    talk_receive(talk, text, sizeof(text));
    talk_send(talk, text, sizeof(text));
}

static void text_of_all_sizes(void **state)
{
    (void)state;
    each_peer(texts);
}

static void empties(struct talk *talk)
{
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < RUN_MAX; i++)
            assert_int_equal(forged(talk, RECORD_DATA, "", 0), TLS_NOTHING);
        assert_int_equal(forged(talk, RECORD_DATA, "x", 1), TLS_TEXT);
    }
    for (int i = 0; i < RUN_MAX; i++)
        assert_int_equal(forged(talk, RECORD_DATA, "", 0), TLS_NOTHING);
    assert_int_equal(forged(talk, RECORD_DATA, "", 0), TLS_BROKEN);
    broken(talk, TLS_FAILURE_PROTOCOL, 10);
}

static void empty_records_are_limited(void **state)
{
    (void)state;
    each_peer(empties);
}

/* --- the end --- */

static void peer_closes(struct talk *talk)
{
    uint8_t record[TLS_RECORD_MAX];
    talk_receive(talk, "QUIT\r\n", 6);
    peer_close(&talk->peer);
    size_t len = talk_next_record(talk, record);
    assert_int_not_equal(len, 0);
    assert_int_equal(give(talk, record, len), TLS_CLOSED);
    assert_int_equal(tls_failure(talk->tls), TLS_FAILURE_NONE);
    uint8_t out[TLS_ALERT_MAX];
    assert_int_not_equal(tls_alert(talk->tls, out), 0); /* ours, in answer */
}

static void we_close(struct talk *talk)
{
    uint8_t out[TLS_ALERT_MAX], got[16];
    size_t got_len;
    talk_send(talk, "221 bye\r\n", 9);
    size_t len = tls_alert(talk->tls, out);
    assert_in_range(len, 20, TLS_ALERT_MAX);
    peer_give(&talk->peer, out, len);
    assert_int_equal(peer_read(&talk->peer, got, sizeof(got), &got_len), PEER_CLOSED);
}

static void close_notify(void **state)
{
    (void)state;
    each_peer(peer_closes);
    each_peer(we_close);
}

/* --- alerts (RFC 8446 6, RFC 5246 7.2) --- */

static void warnings(struct talk *talk)
{
    /* TLS 1.2: anything that calls itself a warning; TLS 1.3: user_canceled only. */
    const uint8_t warning[] = {1, 90}, other[] = {1, 100};
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < WARNINGS_MAX; i++)
            assert_int_equal(forged(talk, RECORD_ALERT, warning, 2), TLS_NOTHING);
        assert_int_equal(forged(talk, RECORD_DATA, "x", 1), TLS_TEXT);
    }
    for (int i = 0; i < WARNINGS_MAX; i++)
        assert_int_equal(forged(talk, RECORD_ALERT, talk->tls->read.modern ? warning : other, 2),
                         TLS_NOTHING);
    assert_int_equal(forged(talk, RECORD_ALERT, warning, 2), TLS_BROKEN);
    broken(talk, TLS_FAILURE_PROTOCOL, 10);
}

static void fatal(struct talk *talk)
{
    const uint8_t alert[] = {2, 40};
    assert_int_equal(forged(talk, RECORD_ALERT, alert, 2), TLS_BROKEN);
    broken(talk, TLS_FAILURE_ALERT, 0);
    assert_non_null(strstr(tls_failure_text(talk->tls), "handshake failure"));
}

/* In TLS 1.3 the level has no meaning: what is called a warning ends the connection. */
static void warning_of_an_error(struct talk *talk)
{
    const uint8_t alert[] = {1, 40};
    bool modern = talk->tls->read.modern;
    assert_int_equal(forged(talk, RECORD_ALERT, alert, 2), modern ? TLS_BROKEN : TLS_NOTHING);
    if (modern)
        broken(talk, TLS_FAILURE_ALERT, 0);
}

static void malformed_alerts(struct talk *talk)
{
    assert_int_equal(forged(talk, RECORD_ALERT, "\2\0\2", variant == 0 ? 1 : 3), TLS_BROKEN);
    broken(talk, TLS_FAILURE_PROTOCOL, 10);
}

static void empty_alert(struct talk *talk)
{
    assert_int_equal(forged(talk, RECORD_ALERT, "", 0), TLS_BROKEN);
    broken(talk, TLS_FAILURE_PROTOCOL, 10);
}

static void alerts(void **state)
{
    (void)state;
    each_peer(warnings);
    each_peer(fatal);
    each_peer(warning_of_an_error);
    each_variant(2, malformed_alerts);
    each_peer(empty_alert);
}

/* --- KeyUpdate (RFC 8446 4.6.3) --- */

static void updates(struct talk *talk)
{
    if (!talk->tls->read.modern)
        return;
    for (int i = 0; i < 40; i++) {
        peer_update(&talk->peer, i % 2 == 0);
        talk_receive(talk, "DATA\r\n", 6);
        assert_int_equal(talk->tls->update_owed, i % 2 == 0);
        if (i % 3 != 0) /* an answer for all that was asked meanwhile */
            talk_send(talk, "354 go ahead\r\n", 14);
        else if (talk->tls->update_owed)
            talk_send(talk, "x", 1);
        assert_false(talk->tls->update_owed);
    }
}

/* Updates without a text between them: so many, and one answer is enough for all. */
static void many_updates(struct talk *talk)
{
    const uint8_t update[] = {24, 0, 0, 1, 1};
    if (!talk->tls->read.modern)
        return;
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < RUN_MAX; i++)
            assert_int_equal(forged(talk, RECORD_HANDSHAKE, update, 5), TLS_NOTHING);
        assert_int_equal(forged(talk, RECORD_DATA, "x", 1), TLS_TEXT);
    }
    talk_send(talk, "250 ok\r\n", 8); /* with the answer before it, which the peer understands */
    for (int i = 0; i < RUN_MAX; i++)
        assert_int_equal(forged(talk, RECORD_HANDSHAKE, update, 5), TLS_NOTHING);
    assert_int_equal(forged(talk, RECORD_HANDSHAKE, update, 5), TLS_BROKEN);
    broken(talk, TLS_FAILURE_PROTOCOL, 10);
}

static void key_updates(void **state)
{
    (void)state;
    each_peer(updates);
    each_peer(many_updates);
}

/* After 2^24 records we change the key ourselves, and say so. */
static void our_own_update(void **state)
{
    (void)state;
    struct talk *talk = connected(NULL, TLS1_3_VERSION);
    struct tls *tls = talk->tls;
    uint8_t out[TLS_PRELUDE_MAX], sealed[64], *text;
    size_t text_len;
    enum record_type type;
    struct record reader;
    assert_int_not_equal(tls_prelude(tls, out), 0); /* the ticket */
    assert_true(record_start_modern(&reader, tls->write.algorithm, tls->write.digest,
                                    tls->write.secret, tls->write.secret_len, 1 << 24));
    tls->write.sequence = (1 << 24) - 1;
    assert_int_equal(tls_prelude(tls, out), 0);
    assert_int_not_equal(tls_seal(tls, sealed, (const uint8_t *)"last", 4), 0);
    size_t len = tls_prelude(tls, out);
    assert_int_equal(record_open(&reader, out, len, &type, &text, &text_len), RECORD_OK);
    assert_int_equal(type, RECORD_HANDSHAKE);
    assert_int_equal(text_len, 5);
    assert_memory_equal(text, "\x18\0\0\1\0", 5);
    assert_true(record_update(&reader));
    len = tls_seal(tls, sealed, (const uint8_t *)"next", 4);
    assert_int_equal(record_open(&reader, sealed, len, &type, &text, &text_len), RECORD_OK);
    assert_int_equal(type, RECORD_DATA);
    assert_memory_equal(text, "next", 4);
    assert_int_equal(tls_prelude(tls, out), 0);
    record_end(&reader);
    end(talk);
}

/* --- what may not come --- */

static void no_handshake(struct talk *talk)
{
    static const struct {
        const char *octets;
        size_t len;
    } messages[] = {
        {"\0\0\0\0",                 4 }, /* HelloRequest */
        {"\1\0\0\1\0",               5 }, /* ClientHello: renegotiation */
        {"\4\0\0\1\0",               5 }, /* a ticket, from a client */
        {"\x18\0\0\1\2",             5 }, /* KeyUpdate with an unknown word */
        {"\x18\0\0\0",               4 }, /* without one */
        {"\x18\0\0\1\0\x18\0\0\1\0", 10}, /* two in one record: keys change at its end (5.1) */
        {"\x18\0\0\1",               4 }, /* in two records: the same */
        {"\x18\0\0\2\0\0",           6 },
        {"\x14\0\0\0",               4 },
        {"",                         0 },
    };
    size_t i = variant;
    bool modern = talk->tls->read.modern;
    assert_int_equal(forged(talk, RECORD_HANDSHAKE, messages[i].octets, messages[i].len),
                     TLS_BROKEN);
    broken(talk, TLS_FAILURE_PROTOCOL, modern ? 10 : 100);
}

static void wrong_types(struct talk *talk)
{
    static const uint8_t types[] = {20, 24, 0x80, 0xff};
    assert_int_equal(forged(talk, types[variant], "\1", 1), TLS_BROKEN);
    broken(talk, TLS_FAILURE_PROTOCOL, 10);
}

static void too_long(struct talk *talk)
{
    static uint8_t text[TLS_TEXT_MAX + 1];
    memset(text, 'x', sizeof(text));
    assert_int_equal(forged(talk, RECORD_DATA, text, TLS_TEXT_MAX), TLS_TEXT);
    assert_int_equal(forged(talk, RECORD_DATA, text, TLS_TEXT_MAX + 1), TLS_BROKEN);
    broken(talk, TLS_FAILURE_PROTOCOL, 22);
}

/* A header that tls_record_len does not understand ends the connection, too. */
static void no_record(struct talk *talk)
{
    static const uint8_t headers[4][TLS_HEADER_LEN] = {
        {23,  3,   3,   0x41, 0x01},
        {23,  2,   3,   0,    20  },
        {'E', 'H', 'L', 'O',  ' ' },
        {23,  3,   3,   0xff, 0xff}
    };
    const uint8_t *header = headers[variant];
    assert_int_equal(tls_record_len(header, TLS_HEADER_LEN), 0);
    assert_int_equal(give(talk, header, TLS_HEADER_LEN), TLS_BROKEN);
    assert_int_not_equal(tls_failure(talk->tls), TLS_FAILURE_NONE);
}

static void not_allowed(void **state)
{
    (void)state;
    each_variant(10, no_handshake);
    each_variant(4, wrong_types);
    each_variant(4, no_record);
    each_peer(too_long);
}

/* --- not authentic --- */

static void damaged(struct talk *talk)
{
    uint8_t record[TLS_RECORD_MAX];
    talk_receive(talk, "one\r\n", 5);
    assert_int_equal(peer_write(&talk->peer, (const uint8_t *)"two\r\n", 5), PEER_DONE);
    size_t len = talk_next_record(talk, record);
    record[len / 2] ^= 1;
    assert_int_equal(give(talk, record, len), TLS_BROKEN);
    broken(talk, TLS_FAILURE_RECORD, 20);
}

static void repeated(struct talk *talk)
{
    uint8_t record[TLS_RECORD_MAX];
    talk_receive(talk, "one\r\n", 5);
    assert_int_equal(peer_write(&talk->peer, (const uint8_t *)"two\r\n", 5), PEER_DONE);
    size_t len = talk_next_record(talk, record);
    assert_int_equal(give(talk, record, len), TLS_TEXT);
    assert_int_equal(give(talk, record, len), TLS_BROKEN);
    broken(talk, TLS_FAILURE_RECORD, 20);
}

static void left_out(struct talk *talk)
{
    uint8_t record[TLS_RECORD_MAX];
    talk_receive(talk, "one\r\n", 5);
    assert_int_equal(peer_write(&talk->peer, (const uint8_t *)"two\r\n", 5), PEER_DONE);
    assert_int_not_equal(talk_next_record(talk, record), 0);
    assert_int_equal(peer_write(&talk->peer, (const uint8_t *)"end\r\n", 5), PEER_DONE);
    assert_int_equal(give(talk, record, talk_next_record(talk, record)), TLS_BROKEN);
    broken(talk, TLS_FAILURE_RECORD, 20);
}

/* After its keys are in force a peer says nothing in clear: not even an alert. */
static void in_clear(struct talk *talk)
{
    static const uint8_t alert[] = {21, 3, 3, 0, 2, 1, 0};
    assert_int_equal(give(talk, alert, sizeof(alert)), TLS_BROKEN);
    bool modern = talk->tls->read.modern;
    broken(talk, modern ? TLS_FAILURE_PROTOCOL : TLS_FAILURE_RECORD, modern ? 10 : 20);
}

static void text_in_clear(struct talk *talk)
{
    static const uint8_t record[] = "\x17\3\3\0\x19MAIL FROM:<a@example.com>";
    assert_int_equal(give(talk, record, sizeof(record) - 1), TLS_BROKEN);
    broken(talk, TLS_FAILURE_RECORD, 20);
}

static void not_authentic(void **state)
{
    (void)state;
    each_peer(damaged);
    each_peer(repeated);
    each_peer(left_out);
    each_peer(in_clear);
    each_peer(text_in_clear);
}

/* --- small things --- */

static void lengths_of_records(void **state)
{
    (void)state;
    uint8_t header[8] = {23, 3, 3, 0, 0};
    for (size_t len = 0; len < 65536; len++) {
        header[3] = (uint8_t)(len >> 8);
        header[4] = (uint8_t)len;
        size_t want = len <= TLS_TEXT_MAX + 256 ? len + TLS_HEADER_LEN : 0;
        assert_int_equal(tls_record_len(header, TLS_HEADER_LEN + len % 4), want);
    }
    header[3] = header[4] = 1;
    for (int major = 0; major < 256; major++) {
        header[1] = (uint8_t)major;
        assert_int_equal(tls_record_len(header, TLS_HEADER_LEN), major == 3 ? 262 : 0);
    }
}

static void no_more_numbers(void **state)
{
    (void)state;
    struct talk *talk = connected(NULL, TLS1_2_VERSION);
    uint8_t out[64];
    talk->tls->write.sequence = (UINT64_C(1) << 48) - 1;
    assert_int_not_equal(tls_seal(talk->tls, out, (const uint8_t *)"x", 1), 0);
    assert_int_equal(tls_seal(talk->tls, out, (const uint8_t *)"x", 1), 0);
    assert_int_equal(tls_alert(talk->tls, out), 0);
    end(talk);
}

static int set_up(void **state)
{
    const struct pki_request request = {
        .chain_path = "ecdsa.pem", .key_path = "ecdsa.key", .names = {"mx.example.org"}};
    char error[512];
    struct ticket_secret secret;
    if (pki_set_up(state) != 0 || !pki_make(&request))
        return -1;
    struct certificate *certificate =
        certificate_load("ecdsa.pem", "ecdsa.key", error, sizeof(error));
    ticket_secret_random(&secret, 3600);
    context = tls_context_server(&(struct tls_server_options){.certificates = &certificate,
                                                              .certificate_count = 1,
                                                              .tickets = &secret},
                                 error, sizeof(error));
    certificate_drop(certificate);
    return context != NULL ? 0 : -1;
}

static int tear_down(void **state)
{
    tls_context_drop(context);
    return pki_tear_down(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_of_all_sizes),  cmocka_unit_test(empty_records_are_limited),
        cmocka_unit_test(close_notify),       cmocka_unit_test(alerts),
        cmocka_unit_test(key_updates),        cmocka_unit_test(our_own_update),
        cmocka_unit_test(not_allowed),        cmocka_unit_test(not_authentic),
        cmocka_unit_test(lengths_of_records), cmocka_unit_test(no_more_numbers),
    };
    return cmocka_run_group_tests_name("tls_records", tests, set_up, tear_down);
}
