/* TLS on streams over real sockets: records with the right keys that no client sends, records that
 * are none, farewells and ends of file at any octet. The server answers with what RFC 8446 says,
 * and what came before them counts. */
#include "tests/support/forge.h"
#include "tests/support/secure_help.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static void forge_begin(struct record *record, const struct caller *caller)
{
    const struct peer *peer = &caller->peer;
    assert_int_equal(peer->secret_len, 32);
    assert_true(record_start_modern(record, EVP_aead_aes_128_gcm(), EVP_sha256(),
                                    peer->client_secret, peer->secret_len, 0));
}

static void forge(struct caller *caller, struct record *record, enum record_type type,
                  const void *text, size_t len)
{
    uint8_t inner[64], out[256];
    assert_in_range(len, 0, sizeof(inner) - 1);
    if (len > 0)
        memcpy(inner, text, len);
    inner[len] = (uint8_t)type;
    caller_raw(caller, out, forge_record(record, RECORD_DATA, inner, len + 1, 0, out));
    record->sequence++;
}

/* so_many sends `count` records that bring no text, then some text; `answered`: it is taken. */
static void so_many(struct echo *echo, enum record_type type, int count, bool answered)
{
    static const uint8_t update[] = {24, 0, 0, 1, 1}, canceled[] = {1, 90};
    struct caller caller;
    struct record record;
    meet(&caller, echo, &secure_modern);
    forge_begin(&record, &caller);
    for (int i = 0; i < count; i++) {
        if (type == RECORD_HANDSHAKE)
            forge(&caller, &record, type, update, sizeof(update));
        else
            forge(&caller, &record, type, canceled, type == RECORD_ALERT ? 2 : 0);
        if (type == RECORD_HANDSHAKE)
            assert_true(record_update(&record));
    }
    forge(&caller, &record, RECORD_DATA, "ABC", 3);
    if (answered) {
        expect(&caller, "ABC", 3);
    } else {
        assert_true(caller_until(&caller, CALLER_ENDED, 0));
        assert_true(caller.failed); /* by the alert */
        assert_int_equal(caller.text_len, 0);
    }
    record_end(&record);
    part(&caller);
}

static void runs(void **state)
{
    struct echo *echo = secure_start(state, (struct echo_options){0});
    so_many(echo, RECORD_HANDSHAKE, 32, true);
    so_many(echo, RECORD_HANDSHAKE, 33, false);
    so_many(echo, RECORD_DATA, 32, true);
    so_many(echo, RECORD_DATA, 33, false);
    so_many(echo, RECORD_ALERT, 4, true);
    so_many(echo, RECORD_ALERT, 5, false);
    secure_stop(echo);
}

static void farewells(void **state)
{
    static const uint8_t close_notify[] = {1, 0}, fatal[] = {2, 40};
    for (int i = 0; i < 6; i++) {
        struct echo *echo =
            secure_start(state, (struct echo_options){.buffer_size = i < 3 ? 64 : 4096});
        struct caller caller;
        struct record record;
        meet(&caller, echo, &secure_modern);
        forge_begin(&record, &caller);
        forge(&caller, &record, RECORD_DATA, i % 3 == 2 ? "ABCp" : "ABC", i % 3 == 2 ? 4 : 3);
        forge(&caller, &record, RECORD_ALERT, i % 3 == 1 ? fatal : close_notify, 2);
        if (i % 3 != 1)
            forge(&caller, &record, RECORD_DATA, "DEF", 3); /* too late */
        if (i % 3 == 2) {
            assert_true(caller_until(&caller, CALLER_SENT, 0));
            caller_hush(&caller);
            assert_true(echo_wait(&echo->counts.paused, 1));
            echo_resume(echo);
        }
        assert_true(caller_until(&caller, CALLER_ENDED, 0));
        assert_int_equal(caller.text_len, 3);
        assert_int_equal(caller.farewell, i % 3 != 1); /* a fatal alert has no answer */
        assert_false(caller.failed);
        record_end(&record);
        part(&caller);
        assert_true(echo_wait(&echo->counts.closed, 1));
        assert_int_equal(atomic_load(&echo->counts.insecure), i % 3 == 1);
        secure_stop(echo);
    }
}

/* After the text of a good record comes one that is not: the text counts, the alert is the end. */
static void broken_behind(void **state)
{
    static const uint8_t clear_spec[] = {20, 3, 3, 0, 1, 1}, clear_alert[] = {21, 3, 3, 0, 2, 1, 0},
                         empty[] = {23, 3, 3, 0, 0}, longer[] = {23, 3, 3, 0x41, 0x01, 7},
                         version[] = {23, 2, 0, 0, 20}, text[] = "MAIL FROM:<a@b.example>\r\n",
                         damaged[26] = {23, 3, 3, 0, 21};
    static const struct {
        const void *data;
        size_t len;
    } ends[] = {
        {clear_spec,  sizeof(clear_spec) },
        {clear_alert, sizeof(clear_alert)},
        {empty,       sizeof(empty)      },
        {longer,      sizeof(longer)     },
        {version,     sizeof(version)    },
        {text,        sizeof(text)       },
        {damaged,     sizeof(damaged)    },
    };
    for (size_t i = 0; i < 4 * sizeof(ends) / sizeof(*ends); i++) {
        struct echo *echo =
            secure_start(state, (struct echo_options){.buffer_size = i % 2 ? 64 : 4096});
        struct caller caller;
        meet(&caller, echo, i / 2 % 2 ? &secure_old : &secure_modern);
        caller_write(&caller, "ABC", 3);
        caller_raw(&caller, ends[i / 4].data, ends[i / 4].len);
        assert_true(caller_until(&caller, CALLER_ENDED, 0));
        assert_int_equal(caller.text_len, 3);
        assert_true(caller.failed && !caller.cut);
        assert_int_equal(caller.error, 0);
        part(&caller);
        assert_true(echo_wait(&echo->counts.insecure, 1));
        secure_stop(echo);
    }
}

/* Who breaks the rules and then stays is still a connection: the owner, who limits how many an
 * address may have, hears of its end when the slot is free again. */
static void told_when_gone(void **state)
{
    enum { COUNT = 20 };
    struct echo *echo = secure_start(state, (struct echo_options){.tls_first = true});
    struct caller callers[COUNT];
    for (int i = 0; i < COUNT; i++) {
        caller_new(&callers[i], echo, &secure_modern);
        if (i % 2 == 0)
            assert_true(caller_until(&callers[i], CALLER_READY, 0));
        caller_raw(&callers[i], "QUIT\r\n", 6);
        assert_true(caller_until(&callers[i], CALLER_ENDED, 0)); /* as far as we are told */
    }
    echo_look(echo);
    assert_int_equal(atomic_load(&echo->counts.opened) - atomic_load(&echo->counts.closed),
                     atomic_load(&echo->counts.slots));
    assert_int_equal(atomic_load(&echo->counts.slots), COUNT); /* none has closed its end */
    for (int i = 0; i < COUNT; i++)
        part(&callers[i]);
    assert_true(echo_wait(&echo->counts.insecure, COUNT));
    secure_stop(echo);
}

/* The end of file without close_notify, after a part of a record. What was whole is answered. */
static void truncation(void **state)
{
    for (size_t cut = 0; cut < 30; cut += 3) {
        struct echo *echo = secure_start(state, (struct echo_options){.buffer_size = 64});
        struct caller caller;
        meet(&caller, echo, cut % 2 ? &secure_old : &secure_modern);
        caller_write(&caller, "ABC", 3);
        caller_write(&caller, "DEFGHIJ", 7);
        caller.budget = caller.out_len - cut;
        assert_true(caller_until(&caller, CALLER_SENT, 0));
        caller_hush(&caller);
        expect(&caller, "ABCDEFGHIJ", cut == 0 ? 10 : 3);
        expect_end(&caller);
        part(&caller);
        secure_stop(echo);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TWICE(runs),       TWICE(farewells),      TWICE(broken_behind),
        TWICE(truncation), TWICE(told_when_gone),
    };
    return cmocka_run_group_tests(tests, secure_set_up, secure_tear_down);
}
