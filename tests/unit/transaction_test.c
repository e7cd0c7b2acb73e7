/* Transactions on a real staging ring, with the test as the writer at its other end: what is stored
 * must be what a naive reader of RFC 5321 4.5.2 makes of the same octets, however they are cut. */
#include "gateway/receive/transaction.h"

#include "gateway/base/limits.h"
#include "tests/support/model.h"
#include "tests/support/tape.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { BLOCKS = 256, RING = 1 << 20, TEXT_MAX = 3 << 20 };

/* One worker's worth of surroundings. */
static struct blocks blocks;
static struct bell bell;
static struct tape tape;
static struct transaction_context context;
static uint64_t id_last;
static uint32_t random_state = 1;

static uint32_t random_below(uint32_t limit)
{
    random_state = random_state * 1664525 + 1013904223;
    return (uint32_t)((uint64_t)random_state * limit >> 32);
}

static int set_up(void **state)
{
    (void)state;
    if (!blocks_init(&blocks, BLOCKS))
        return -1;
    tape = (struct tape){.staging = staging_new(RING, &bell, NULL, NULL)};
    context = (struct transaction_context){
        .blocks = &blocks,
        .staging = tape.staging,
        .scratch = calloc(100, sizeof(struct envelope_recipient)),
        .hostname = BYTES("mx.example.org"),
        .message_size_max = TEXT_MAX,
        .recipients_max = 100,
    };
    return tape.staging == NULL || context.scratch == NULL ? -1 : 0;
}

static int tear_down(void **state)
{
    (void)state;
    tape_free(&tape);
    staging_free(tape.staging);
    free(context.scratch);
    blocks_cleanup(&blocks);
    return 0;
}

static void settle(enum staging_outcome outcome)
{
    staging_publish(tape.staging, true);
    tape_read(&tape, outcome);
    staging_acknowledge(tape.staging, staging_settled(tape.staging));
}

/* all_well ends every test: nothing is left over anywhere. */
static void all_well(void)
{
    settle(STAGING_DURABLE);
    assert_string_equal(tape.fault, "");
    assert_int_equal(tape_open_count(&tape), 0);
    assert_int_equal(blocks.used, 0);
}

static struct command parsed(const char *line)
{
    struct command command;
    assert_int_equal(command_parse(bytes_of_string(line), true, true, &command), COMMAND_OK);
    return command;
}

static struct transaction *begin(const char *mail, const char *rcpt)
{
    struct command command = parsed(mail);
    struct transaction *transaction = transaction_new(&context, &command, ++id_last);
    assert_non_null(transaction);
    if (rcpt != NULL) {
        command = parsed(rcpt);
        assert_int_equal(transaction_recipient_add(&context, transaction, &command),
                         REPLY_RECIPIENT_OK);
    }
    return transaction;
}

static void end(struct transaction *transaction)
{
    while (!transaction_free(&context, transaction))
        settle(STAGING_DURABLE);
}

static enum transaction_commit commit(struct transaction *transaction)
{
    static union address_any peer;
    assert_true(listener_parse("192.0.2.1:1", &peer));
    struct stamp stamp = {
        .helo = BYTES("client.example"), .peer = &peer, .extended = true, .wall_us = 1000000};
    enum transaction_commit result;
    while ((result = transaction_commit(&context, transaction, &stamp)) == TRANSACTION_NO_ROOM)
        settle(STAGING_DURABLE);
    return result;
}

/* --- DATA --- */

/* feed_data gives `in` in random pieces and returns how many octets the transaction took. */
static size_t feed_data(struct transaction *transaction, struct bytes in, uint32_t piece_max)
{
    size_t taken = 0;
    bool ended = false;
    while (!ended && taken < in.len) {
        size_t len = 1 + random_below(piece_max);
        len = len < in.len - taken ? len : in.len - taken;
        uint8_t *piece = malloc(len); /* of its own size, for the address sanitizer */
        memcpy(piece, in.data + taken, len);
        size_t used = 0;
        while (used < len && !ended) {
            size_t now = transaction_data(&context, transaction,
                                          bytes_make(piece + used, len - used), &ended);
            used += now;
            if (now == 0)
                settle(STAGING_DURABLE); /* the ring is full */
        }
        taken += used;
        free(piece);
        if (random_below(20) == 0)
            staging_publish(tape.staging, false);
    }
    assert_true(ended);
    return taken;
}

static void check_data(uint8_t *data, size_t len, uint8_t *model, uint32_t piece_max)
{
    size_t model_len;
    size_t end_wanted = model_data(bytes_make(data, len), model, &model_len);
    struct transaction *transaction = begin("MAIL FROM:<a@example.com>", "RCPT TO:<b@example.org>");
    assert_int_equal(feed_data(transaction, bytes_make(data, len), piece_max), end_wanted);
    bool bare = model_has_bare(model, model_len);
    uint32_t commits = tape.commits;
    assert_int_equal(commit(transaction), bare ? TRANSACTION_REFUSED : TRANSACTION_COMMITTED);
    assert_int_equal(transaction->refusal, bare ? REPLY_BARE_NEWLINE : REPLY_NONE);
    assert_int_equal(transaction->octets, model_len);
    uint64_t position = transaction->commit_position;
    settle(STAGING_DURABLE);
    if (!bare) {
        assert_int_equal(tape.commits, commits + 1);
        assert_int_equal(staging_outcome(tape.staging, position), STAGING_DURABLE);
        assert_int_equal(tape.last.id, id_last);
        assert_int_equal(tape.last.len, model_len);
        if (model_len > 0)
            assert_memory_equal(tape.last.text, model, model_len);
    } else {
        assert_int_equal(tape.commits, commits);
    }
    end(transaction);
}

static void data_like_the_model(void **state)
{
    (void)state;
    enum { LEN_MAX = 60000, ROOM = LEN_MAX + 6000 };
    uint8_t *data = malloc(ROOM);
    uint8_t *model = malloc(ROOM);
    for (int round = 0; round < 600; round++) {
        size_t len =
            model_random_data(&random_state, data, round % 10 == 0 ? LEN_MAX : 300, round % 3 == 0);
        static const uint32_t pieces[] = {1, 3, 100, 5000, 100000};
        check_data(data, len, model, pieces[round % 5]);
    }
    all_well();
    assert_true(tape.commits > 100 && tape.aborts > 0);
    free(data);
    free(model);
}

static void data_edges(void **state)
{
    (void)state;
    static const char *const cases[] = {
        ".\r\n",
        "\r\n.\r\n",
        "..\r\n.\r\n",
        "...\r\n.\r\n",
        ".\r\r\n.\r\n",
        "a\n.\n\r\n.\r\n",
        "a\r.\r\r\n.\r\n",
        ".\n\r\n.\r\n",
        ".a\r\n.b\r\n..\r\n.\r\n",
        "a\r\n.\rb\r\n.\r\n",
        "\r\r\n.\r\n",
        "\n\r\n.\r\n",
    };
    uint8_t model[64];
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        for (uint32_t piece = 1; piece <= 4; piece++) {
            char data[64];
            int len = snprintf(data, sizeof(data), "%s", cases[i]);
            check_data((uint8_t *)data, (size_t)len, model, piece);
        }
    all_well();
}

/* A message several times the size of the ring: it must wait for room, and goes on. */
static void larger_than_the_ring(void **state)
{
    (void)state;
    enum { LINES = 30000, LINE = 82 };
    uint8_t *data = malloc(LINES * LINE + 3);
    uint8_t *model = malloc(LINES * LINE + 3);
    for (size_t i = 0; i < LINES; i++) {
        memset(data + i * LINE, 'a' + (int)(i % 26), LINE - 2);
        memcpy(data + (i + 1) * LINE - 2, "\r\n", 2);
    }
    memcpy(data + LINES * LINE, ".\r\n", 3);
    check_data(data, LINES * LINE + 3, model, 16384);
    check_data(data, LINES * LINE + 3, model, 1 << 20);
    all_well();
    free(data);
    free(model);
}

/* --- BDAT --- */

static void feed_chunk(struct transaction *transaction, struct bytes in, bool last)
{
    do {
        size_t len = in.len == 0 ? 0 : 1 + random_below((uint32_t)in.len);
        uint8_t *piece = malloc(len);
        if (len > 0)
            memcpy(piece, in.data, len);
        size_t used = 0;
        do {
            size_t now;
            if (transaction_chunk(&context, transaction, bytes_make(piece + used, len - used),
                                  last && len == in.len, &now))
                used += now;
            else
                settle(STAGING_DURABLE);
        } while (used < len);
        free(piece);
        in = bytes_skip(in, len);
    } while (in.len > 0);
}

static void chunks_like_the_model(void **state)
{
    (void)state;
    enum { LEN_MAX = 400000 };
    uint8_t *text = malloc(LEN_MAX);
    for (int round = 0; round < 300; round++) {
        bool binary = round % 3 == 0;
        size_t len = random_below(round % 20 == 0 ? LEN_MAX : 6000);
        for (size_t i = 0; i < len; i++)
            text[i] = binary || random_below(2000) == 0 ? (uint8_t)random_below(256) : 'x';
        if (!binary) /* canonical, mostly: the dots are no danger here */
            for (size_t i = 0; i + 5 < len; i += 5 + random_below(100))
                memcpy(text + i, "\r\n.\r\n", 5);
        struct transaction *transaction = begin(
            binary ? "MAIL FROM:<> BODY=BINARYMIME" : "MAIL FROM:<>", "RCPT TO:<b@c.example>");
        size_t at = 0;
        while (at < len && random_below(4) > 0) {
            size_t chunk = random_below((uint32_t)(len - at) + 1);
            feed_chunk(transaction, bytes_make(text + at, chunk), false);
            at += chunk;
        }
        feed_chunk(transaction, bytes_make(text + at, len - at), true);
        bool bare = !binary && model_has_bare(text, len);
        assert_int_equal(commit(transaction), bare ? TRANSACTION_REFUSED : TRANSACTION_COMMITTED);
        assert_int_equal(transaction->octets, len);
        settle(STAGING_DURABLE);
        if (!bare) {
            assert_int_equal(tape.last.id, id_last);
            assert_int_equal(tape.last.len, len);
            if (len > 0)
                assert_memory_equal(tape.last.text, text, len);
        }
        end(transaction);
    }
    all_well();
    free(text);
}

static void empty_message_by_chunks(void **state)
{
    (void)state;
    struct transaction *transaction = begin("MAIL FROM:<>", "RCPT TO:<b@c.example>");
    feed_chunk(transaction, bytes_make(NULL, 0), false);
    feed_chunk(transaction, bytes_make(NULL, 0), true);
    assert_int_equal(commit(transaction), TRANSACTION_COMMITTED);
    settle(STAGING_DURABLE);
    assert_int_equal(tape.last.id, id_last);
    assert_int_equal(tape.last.len, 0);
    assert_int_equal(tape.last.parts, 0);
    end(transaction);
    /* A CR at the very end is bare. */
    transaction = begin("MAIL FROM:<>", "RCPT TO:<b@c.example>");
    feed_chunk(transaction, BYTES("text\r"), false);
    feed_chunk(transaction, bytes_make(NULL, 0), true);
    assert_int_equal(commit(transaction), TRANSACTION_REFUSED);
    assert_int_equal(transaction->refusal, REPLY_BARE_NEWLINE);
    end(transaction);
    all_well();
}

/* --- refusals --- */

static void too_big(void **state)
{
    (void)state;
    uint8_t *data = malloc(50003);
    memset(data, 'x', 50000);
    memcpy(data + 49998, "\r\n.\r\n", 5);
    for (uint64_t max = 1; max <= 60000; max = max * 5 + 49999 % max) {
        context.message_size_max = max;
        struct transaction *transaction = begin("MAIL FROM:<>", "RCPT TO:<b@c.example>");
        assert_int_equal(feed_data(transaction, bytes_make(data, 50003), 4000), 50003);
        bool big = max < 50000;
        assert_int_equal(commit(transaction), big ? TRANSACTION_REFUSED : TRANSACTION_COMMITTED);
        assert_int_equal(transaction->refusal, big ? REPLY_MESSAGE_TOO_BIG : REPLY_NONE);
        end(transaction);
    }
    for (uint64_t max = 49999; max <= 50001; max++) { /* to the octet */
        context.message_size_max = max;
        struct transaction *transaction = begin("MAIL FROM:<>", "RCPT TO:<b@c.example>");
        feed_data(transaction, bytes_make(data, 50003), 4000);
        assert_int_equal(commit(transaction) == TRANSACTION_REFUSED, max < 50000);
        end(transaction);
    }
    context.message_size_max = TEXT_MAX;
    free(data);
    all_well();
}

static void loops(void **state)
{
    (void)state;
    for (int count = LIMIT_RECEIVED - 1; count <= LIMIT_RECEIVED + 1; count++)
        for (uint32_t piece = 1; piece < 5000; piece = piece * 7 + 1) {
            char data[4096];
            size_t len = 0;
            for (int i = 0; i < count; i++)
                len += (size_t)snprintf(data + len, sizeof(data) - len, "%s from a\r\n\tby b\r\n",
                                        i % 2 > 0 ? "Received:" : "RECEIVED :");
            len += (size_t)snprintf(data + len, sizeof(data) - len,
                                    "\r\nReceived: in the body\r\n.\r\n");
            struct transaction *transaction = begin("MAIL FROM:<>", "RCPT TO:<b@c.example>");
            feed_data(transaction, bytes_make(data, len), piece);
            bool loop = count > LIMIT_RECEIVED;
            assert_int_equal(commit(transaction),
                             loop ? TRANSACTION_REFUSED : TRANSACTION_COMMITTED);
            assert_int_equal(transaction->refusal, loop ? REPLY_LOOP : REPLY_NONE);
            end(transaction);
        }
    all_well();
}

/* --- envelope --- */

static void envelope_is_kept(void **state)
{
    (void)state;
    static const char *const rcpts[] = {
        "RCPT TO:<one@example.org> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;One@example.org",
        "RCPT TO:<\"two words\"@example.org>", "RCPT TO:<@relay.example:three@example.org>"};
    struct transaction *transaction = begin("MAIL FROM:<me@example.com> SIZE=5 BODY=8BITMIME "
                                            "RET=HDRS ENVID=QQ314159 SMTPUTF8 REQUIRETLS",
                                            NULL);
    for (int i = 0; i < 3; i++) {
        struct command command = parsed(rcpts[i]);
        assert_int_equal(transaction_recipient_add(&context, transaction, &command),
                         REPLY_RECIPIENT_OK);
    }
    feed_data(transaction, BYTES("x\r\n.\r\n"), 10);
    assert_int_equal(commit(transaction), TRANSACTION_COMMITTED);
    settle(STAGING_DURABLE);
    const struct envelope *envelope = &tape.envelope;
    assert_true(bytes_equal(envelope->reverse_path, BYTES("me@example.com")));
    assert_true(bytes_equal(envelope->envid, BYTES("QQ314159")));
    assert_int_equal(envelope->flags, ENVELOPE_8BITMIME | ENVELOPE_RET_HDRS | ENVELOPE_SMTPUTF8 |
                                          ENVELOPE_REQUIRETLS);
    assert_int_equal(envelope->arrival_us, 1000000);
    assert_int_equal(envelope->recipient_count, 3);
    static const char *const paths[] = {"one@example.org", "\"two words\"@example.org",
                                        "three@example.org"};
    size_t cursor = 0;
    for (int i = 0; i < 3; i++) {
        struct envelope_recipient recipient =
            envelope_recipient_next(bytes_make(tape.commit, tape.commit_len), &cursor);
        assert_true(bytes_equal(recipient.forward_path, bytes_of_string(paths[i])));
        assert_int_equal(recipient.notify,
                         i == 0 ? COMMAND_NOTIFY_SUCCESS | COMMAND_NOTIFY_DELAY : 0);
        assert_int_equal(recipient.orcpt.len, i == 0 ? strlen("rfc822;One@example.org") : 0);
    }
    /* With more than one recipient none is named in Received (RFC 5321 7.2). */
    struct bytes added = envelope->added;
    assert_memory_equal(added.data, "Received: from client.example (", 31);
    assert_null(memmem(added.data, added.len, "for <", 5));
    assert_non_null(memmem(added.data, added.len, "UTF8SMTP", 8));
    end(transaction);
    transaction = begin("MAIL FROM:<>", "RCPT TO:<one@example.org>");
    feed_data(transaction, BYTES(".\r\n"), 10);
    assert_int_equal(commit(transaction), TRANSACTION_COMMITTED);
    settle(STAGING_DURABLE);
    added = tape.envelope.added;
    assert_non_null(memmem(added.data, added.len, "for <one@example.org>;", 22));
    assert_int_equal(tape.envelope.reverse_path.len, 0);
    end(transaction);
    all_well();
}

static void too_many_recipients(void **state)
{
    (void)state;
    struct transaction *transaction = begin("MAIL FROM:<>", NULL);
    char line[64];
    for (int i = 0; i < 101; i++) {
        snprintf(line, sizeof(line), "RCPT TO:<b%d@c.example>", i);
        struct command command = parsed(line);
        assert_int_equal(transaction_recipient_add(&context, transaction, &command),
                         i < 100 ? REPLY_RECIPIENT_OK : REPLY_TOO_MANY_RECIPIENTS);
    }
    struct command again = parsed("RCPT TO:<b7@c.example>");
    assert_int_equal(transaction_recipient_add(&context, transaction, &again), REPLY_RECIPIENT_OK);
    feed_data(transaction, BYTES("x\r\n.\r\n"), 10);
    assert_int_equal(commit(transaction), TRANSACTION_COMMITTED);
    settle(STAGING_DURABLE);
    assert_int_equal(tape.envelope.recipient_count, 100);
    end(transaction);
    all_well();
}

/* --- want of room --- */

/* fill leaves no room in the ring; the records are of a message of their own. forgive makes room
 * again, and ends that message. */
static uint64_t filler;

static void fill(void)
{
    uint32_t part = 0;
    filler = ++id_last;
    for (size_t len = 60000; len > 0;) {
        uint8_t *out = staging_reserve(tape.staging, len);
        if (out == NULL) {
            len /= 2;
            continue;
        }
        memset(out, 'f', len);
        staging_append(tape.staging, RECORD_BODY, filler, part++, len);
    }
}

static void forgive(void)
{
    settle(STAGING_DURABLE);
    assert_non_null(staging_reserve(tape.staging, 0));
    staging_append(tape.staging, RECORD_ABORT, filler, 0, 0);
    settle(STAGING_DURABLE);
}

static void abort_waits_for_room(void **state)
{
    (void)state;
    struct transaction *transaction = begin("MAIL FROM:<>", "RCPT TO:<b@c.example>");
    uint64_t id = id_last;
    char text[3000];
    memset(text, 'x', sizeof(text));
    bool ended = false;
    assert_int_equal(
        transaction_data(&context, transaction, bytes_make(text, sizeof(text)), &ended),
        sizeof(text));
    assert_false(ended);
    settle(STAGING_DURABLE);
    assert_int_equal(tape_open_count(&tape), 1);
    fill();
    uint32_t used = blocks.used;
    assert_false(transaction_free(&context, transaction));
    assert_false(transaction_free(&context, transaction));
    assert_int_equal(blocks.used, used);
    assert_int_equal(transaction->envelope.message_id, id); /* it is still there */
    forgive();
    uint32_t aborts = tape.aborts;
    assert_true(transaction_free(&context, transaction));
    settle(STAGING_DURABLE);
    assert_int_equal(tape.aborts, aborts + 1);
    all_well();
}

static void text_and_commit_wait_for_room(void **state)
{
    (void)state;
    static union address_any peer;
    struct stamp stamp = {.helo = BYTES("c.example"), .peer = &peer};
    struct transaction *transaction = begin("MAIL FROM:<>", "RCPT TO:<b@c.example>");
    bool ended = false;
    size_t taken;
    peer.any.sa_family = AF_INET;
    fill();
    assert_int_equal(transaction_data(&context, transaction, BYTES("x\r\n.\r\n"), &ended), 0);
    assert_false(transaction_chunk(&context, transaction, BYTES("x\r\n"), false, &taken));
    assert_int_equal(taken, 0);
    assert_int_equal(transaction->octets, 0);
    forgive();
    assert_int_equal(transaction_data(&context, transaction, BYTES("x\r\n.\r\n"), &ended), 6);
    assert_true(ended);
    fill();
    assert_int_equal(transaction_commit(&context, transaction, &stamp), TRANSACTION_NO_ROOM);
    assert_int_equal(transaction_commit(&context, transaction, &stamp), TRANSACTION_NO_ROOM);
    assert_false(transaction->committed);
    forgive();
    assert_int_equal(transaction_commit(&context, transaction, &stamp), TRANSACTION_COMMITTED);
    settle(STAGING_DURABLE);
    assert_int_equal(tape.last.len, 3);
    end(transaction);
    all_well();
}

static void no_blocks(void **state)
{
    (void)state;
    void *taken[BLOCKS + 1];
    struct command mail = parsed("MAIL FROM:<>");
    size_t count = 0;
    while ((taken[count] = blocks_take(&blocks)) != NULL)
        count++;
    assert_null(transaction_new(&context, &mail, ++id_last));
    blocks_give(&blocks, taken[--count]);
    struct transaction *transaction = begin("MAIL FROM:<>", NULL); /* has the only block */
    enum reply reply;
    uint32_t recipients = 0;
    do {
        char line[80];
        snprintf(line, sizeof(line), "RCPT TO:<b%u@c.example> ORCPT=rfc822;b@c.example",
                 recipients);
        struct command rcpt = parsed(line);
        reply = transaction_recipient_add(&context, transaction, &rcpt);
        recipients += reply == REPLY_RECIPIENT_OK;
    } while (reply == REPLY_RECIPIENT_OK);
    assert_int_equal(reply, REPLY_NO_MEMORY);
    assert_in_range(recipients, 1, 100);
    /* Nowhere to put a short text aside: each piece is a record. */
    feed_data(transaction, BYTES("a\r\nb\r\nc\r\n.\r\n"), 2);
    assert_int_equal(commit(transaction), TRANSACTION_COMMITTED);
    settle(STAGING_DURABLE);
    assert_int_equal(tape.envelope.recipient_count, recipients);
    assert_int_equal(tape.last.len, 9);
    assert_true(tape.last.parts > 1);
    end(transaction);
    while (count > 0)
        blocks_give(&blocks, taken[--count]);
    all_well();
}

/* A message given up before it had a record leaves nothing for the writer. */
static void nothing_staged_nothing_aborted(void **state)
{
    (void)state;
    uint32_t aborts = tape.aborts;
    struct transaction *transaction = begin("MAIL FROM:<>", "RCPT TO:<b@c.example>");
    bool ended;
    assert_int_equal(transaction_data(&context, transaction, BYTES("short"), &ended), 5);
    end(transaction);
    all_well();
    assert_int_equal(tape.aborts, aborts);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(data_like_the_model),
        cmocka_unit_test(data_edges),
        cmocka_unit_test(larger_than_the_ring),
        cmocka_unit_test(chunks_like_the_model),
        cmocka_unit_test(empty_message_by_chunks),
        cmocka_unit_test(too_big),
        cmocka_unit_test(loops),
        cmocka_unit_test(envelope_is_kept),
        cmocka_unit_test(too_many_recipients),
        cmocka_unit_test(abort_waits_for_room),
        cmocka_unit_test(text_and_commit_wait_for_room),
        cmocka_unit_test(no_blocks),
        cmocka_unit_test(nothing_staged_nothing_aborted),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
