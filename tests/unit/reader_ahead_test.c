/* Reading ahead: what was read before is used, whatever was read too early is never believed, and a
 * quiet reader may read what others release meanwhile. */
#include "tests/support/spool_help.h"

#include "gateway/base/check.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SMALL = 600, MANY = 200 };

struct pile {
    struct help help;
    struct spool_message *messages; /* to be read from disk */
    size_t count;
    struct spool_reader reader;
    struct spool_ahead ahead;
};

static void pile_begin(struct pile *pile)
{
    *pile = (struct pile){0};
    help_new(&pile->help);
    help_open(&pile->help);
    spool_read_ahead(&pile->reader, &pile->ahead);
}

static void pile_end(struct pile *pile)
{
    spool_read_close(&pile->reader);
    spool_ahead_free(&pile->ahead);
    spool_ahead_free(&pile->ahead);
    free(pile->messages);
    help_free(&pile->help);
}

/* Adds messages, which are durable then. */
static void pile_add(struct pile *pile, size_t count, size_t text_len, uint32_t recipients)
{
    uint64_t end = 0;
    for (size_t i = 0; i < count; i++)
        end = help_message(&pile->help, pile->help.ring, pile->count + 1 + i, text_len, 100000,
                           recipients);
    assert_int_equal(help_wait(&pile->help, pile->help.ring, end), STAGING_DURABLE);
    struct spool_message *arrived = help_arrivals(&pile->help, count);
    pile->messages = realloc(pile->messages, (pile->count + count) * sizeof *arrived);
    assert_non_null(pile->messages);
    memcpy(pile->messages + pile->count, arrived, count * sizeof *arrived);
    for (size_t i = 0; i < count; i++)
        pile->messages[pile->count + i].port = SPOOL_PORT_NONE;
    pile->count += count;
    free(arrived);
}

struct comparison {
    uint64_t message_id;
    size_t at;
};

static int compare(void *user, struct bytes text)
{
    struct comparison *comparison = user;
    uint8_t *expected = malloc(text.len);
    CHECK(expected != NULL);
    help_text(comparison->message_id, comparison->at, expected, text.len);
    bool equal = memcmp(expected, text.data, text.len) == 0;
    free(expected);
    comparison->at += text.len;
    return equal ? 0 : 1;
}

/* Reads a message: 0, or what spool_read says. What is given must be right; a wrong text is 1. */
static int look(struct spool *spool, struct spool_reader *reader,
                const struct spool_message *message)
{
    struct comparison comparison = {.message_id = message->message_id};
    struct envelope envelope;
    int error = spool_read(spool, message, reader, &envelope);
    if (error != 0)
        return error;
    if (envelope.message_id != message->message_id ||
        !bytes_equal(envelope.reverse_path, BYTES("bob@example.com")))
        return 1;
    error = spool_read_text(reader, compare, &comparison);
    return error == 0 && comparison.at != message->text_len ? 1 : error;
}

static int pile_look(struct pile *pile, size_t index)
{
    return look(pile->help.spool, &pile->reader, &pile->messages[index]);
}

/* What lies in the file may be broken by now: what was read before it was is taken. */
static void one_read_for_many(void **state)
{
    struct pile pile;
    pile_begin(&pile);
    pile_add(&pile, 20, SMALL, 1);
    assert_int_equal(pile_look(&pile, 0), 0);
    assert_int_equal(pile.ahead.generation, 0); /* one alone is nothing to go by */
    assert_int_equal(pile_look(&pile, 1), 0);
    assert_int_equal(pile.ahead.generation, pile.messages[1].generation);

    char name[256];
    int descriptor = help_file(&pile.help, ".segment", name, sizeof name);
    char zeros[16] = {0};
    assert_int_equal(pwrite(descriptor, zeros, sizeof zeros, pile.messages[5].offset + 80), 16);
    assert_int_equal(fsync(descriptor), 0);
    close(descriptor);
    assert_int_equal(pile_look(&pile, 5), 0);
    assert_int_equal(help_check(&pile.help, &pile.messages[5]), -EBADMSG); /* without */
    /* One who comes with nothing hears of it, and so do we when what was read ahead is gone. */
    assert_int_equal(pile_look(&pile, 6), 0);
    pile.ahead.generation = 0;
    assert_int_equal(pile_look(&pile, 5), -EBADMSG);
    assert_int_equal(pile_look(&pile, 4), 0);
    assert_int_equal(pile_look(&pile, 5), -EBADMSG);
    pile_end(&pile);
    (void)state;
}

/* The end of the log was read before more was written there. */
static void what_came_later(void **state)
{
    struct pile pile;
    pile_begin(&pile);
    pile_add(&pile, 3, SMALL, 1);
    for (size_t round = 0; round < 60; round++) {
        for (size_t i = pile.count - 3; i < pile.count; i++)
            assert_int_equal(pile_look(&pile, i), 0);
        pile_add(&pile, 3, round % 7 == 3 ? 70000 : SMALL, round % 5 == 0 ? 400 : 1);
    }
    pile_end(&pile);
    (void)state;
}

/* Whatever of a message was read ahead and is wrong: the file is asked. */
static void nothing_wrong_is_believed(void **state)
{
    struct pile pile;
    pile_begin(&pile);
    pile_add(&pile, 10, SMALL, 1);
    uint64_t from = pile.messages[5].first_offset, to = pile.messages[5].offset + 300;
    unsigned again = 0;
    for (uint64_t at = from; at < to; at += 3) {
        assert_int_equal(pile_look(&pile, 3), 0);
        assert_int_equal(pile_look(&pile, 4), 0);
        struct spool_ahead *ahead = &pile.ahead;
        assert_int_equal(ahead->generation, pile.messages[5].generation);
        assert_in_range(at, ahead->offset, ahead->offset + ahead->len - 1);
        uint8_t right = ahead->blocks[at - ahead->offset];
        ahead->blocks[at - ahead->offset] ^= 0x10;
        assert_int_equal(pile_look(&pile, 5), 0);
        again += ahead->blocks[at - ahead->offset] == right;
        ahead->generation = 0;
    }
    assert_in_range(again, 100, (to - from) / 3); /* it was noticed, not only looked over */
    pile_end(&pile);
    (void)state;
}

/* Two readers share what is read ahead; the one goes in order, the other anywhere. */
static void any_order(void **state)
{
    struct pile pile;
    struct spool_reader other = {0};
    pile_begin(&pile);
    spool_read_ahead(&other, &pile.ahead);
    for (size_t i = 0; i < MANY; i++)
        pile_add(&pile, 1, i % 17 == 5 ? 250000 : i % 5 == 0 ? 9000 : i, i % 7 == 0 ? 1000 : 1);
    uint32_t random = 1;
    for (size_t i = 0; i < 2 * MANY; i++) {
        random = random * 1664525 + 1013904223;
        assert_int_equal(pile_look(&pile, i % MANY), 0);
        if (i % 3 == 0)
            assert_int_equal(look(pile.help.spool, &other, &pile.messages[(random >> 8) % MANY]),
                             0);
    }
    spool_read_close(&other);
    pile_end(&pile);
    (void)state;
}

struct stranger {
    struct pile *pile;
    size_t count;
    _Atomic bool stop;
    _Atomic unsigned found, gone, wrong;
};

static void *read_all(void *argument)
{
    struct stranger *stranger = argument;
    struct pile *pile = stranger->pile;
    do {
        for (size_t i = 0; i < stranger->count; i++) {
            int error = pile_look(pile, i);
            stranger->found += error == 0;
            stranger->gone += error == -EBADMSG;
            stranger->wrong += error != 0 && error != -EBADMSG;
        }
    } while (!stranger->stop);
    return NULL;
}

/* The messages of a quiet reader are released, and their segments go, while it reads. */
static void read_while_released(void **state)
{
    struct pile pile;
    pthread_t thread;
    pile_begin(&pile);
    spool_read_quietly(&pile.reader, true);
    pile_add(&pile, 60, 60000, 1); /* some segments of 1 MiB */
    struct stranger stranger = {.pile = &pile, .count = pile.count};
    assert_int_equal(pthread_create(&thread, NULL, read_all, &stranger), 0);
    while (stranger.found < 60)
        usleep(1000);
    struct spool_message *mine = malloc(pile.count * sizeof *mine);
    assert_non_null(mine);
    memcpy(mine, pile.messages, pile.count * sizeof *mine);
    for (size_t i = 0; i < pile.count; i++) {
        spool_release(pile.help.spool, &mine[i]);
        usleep(2000);
    }
    for (uint64_t id = 1000; id < 1060; id++) {
        uint64_t end = help_message(&pile.help, pile.help.ring, id, 60000, 60000, 1);
        assert_int_equal(help_wait(&pile.help, pile.help.ring, end), STAGING_DURABLE);
        struct spool_message *arrived = help_arrivals(&pile.help, 1);
        spool_release(pile.help.spool, arrived);
        free(arrived);
    }
    stranger.stop = true;
    pthread_join(thread, NULL);
    assert_int_equal(stranger.wrong, 0);
    assert_true(stranger.gone > 0);
    free(mine);
    spool_read_close(&pile.reader);
    help_close(&pile.help);
    assert_int_equal(help_logged(&pile.help, "spool.read"), 0);
    pile_end(&pile);
    (void)state;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_read_for_many),         cmocka_unit_test(what_came_later),
        cmocka_unit_test(nothing_wrong_is_believed), cmocka_unit_test(any_order),
        cmocka_unit_test(read_while_released),
    };
    return cmocka_run_group_tests_name("reader_ahead", tests, NULL, NULL);
}
