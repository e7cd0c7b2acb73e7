/* The client of Dovecot: what a good one hears and what becomes of its answers; and that a bad one
 * can do no more than be given up, in time. Each runs with what this kernel can do and with what
 * Linux 6.1 can. */
#include "gateway/io/dovecot.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "gateway/base/clock.h"
#include "tests/support/fake_dovecot.h"
#include "tests/support/twice.h"

static void test_passed(void **state)
{
    fake_dovecot_start(
        state,
        SCRIPT("D", HELLO, ANNOUNCE, REST,
               "L AUTH\t" FIRST "\tPLAIN\tservice=smtp\tnologin\tno-penalty\tsecured"
               "\tlip=127.0.0.1\tlport=587\trip=2001:db8::7\trport=40000\tresp=AGEAYg==",
               "L AUTH\t" SECOND "\tPLAIN\tservice=smtp\tnologin\tno-penalty\tresp=",
               "l AUTH\t4098\tSCRAM-SHA-256\tservice=smtp\tnologin\tno-penalty",
               "s OK\t" SECOND "\tnologin\tuser=b\1t\0011\1n\1r\1x\toriginal_user=B\n",
               "s NEWS\tof a later version\nOK\t" FIRST "\tuser=anna@example.org\tresp=dj1h\n",
               "s CONT\t4098\t\n", "E"),
        NULL);
    union address_any local = {
        .v4 = {.sin_family = AF_INET, .sin_port = htons(587)}
    };
    union address_any peer = {
        .v6 = {.sin6_family = AF_INET6, .sin6_port = htons(40000)}
    };
    local.v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(inet_pton(AF_INET6, "2001:db8::7", &peer.v6.sin6_addr), 1);
    const struct dovecot_request request = {
        .mechanism = "PLAIN",
        .secured = true,
        .peer = &peer,
        .local = &local,
        .response = "AGEAYg==",
        .response_len = 8,
    };
    fake_dovecot_begin();
    assert_string_equal(dovecot_why(fake_dovecot.dovecot), "");
    assert_true(dovecot_mechanism(fake_dovecot.dovecot, "PLAIN"));
    assert_true(dovecot_mechanism(fake_dovecot.dovecot, "SCRAM-SHA-256"));
    assert_false(dovecot_mechanism(fake_dovecot.dovecot, "SCRAM-SHA-25"));
    struct dovecot_note *first = fake_dovecot_ask_with(&request),
                        *second = fake_dovecot_ask("PLAIN", "");
    struct dovecot_note *third = fake_dovecot_ask("SCRAM-SHA-256", NULL);
    fake_dovecot_wait_for(third);
    assert_int_equal(third->status, DOVECOT_CONTINUE);
    assert_true(third->has_text);
    assert_string_equal(third->text, "");
    assert_int_equal(first->times, 1);
    assert_int_equal(first->status, DOVECOT_OK);
    assert_string_equal(first->user, "anna@example.org");
    assert_string_equal(first->text, "dj1h");
    assert_int_equal(second->status, DOVECOT_OK);
    assert_false(second->has_text);
    assert_int_equal(second->user_len, 7);
    assert_memory_equal(second->user, "b\t\1\n\r\1x", 7);
    struct dovecot_snapshot counts = fake_dovecot_snapshot();
    assert_int_equal(counts.asked, 3);
    assert_int_equal(counts.passed, 2);
    assert_int_equal(counts.connects, 1);
    assert_int_equal(counts.failures + counts.away + counts.refused, 0);
    fake_dovecot_stop_well();
}

static void test_refused(void **state)
{
    static const struct {
        const char *says, *user;
        enum dovecot_status status;
    } cases[] = {
        {"s FAIL\t" FIRST "\tuser=anna\n",                            "anna",   DOVECOT_FAIL     },
        {"s FAIL\t" FIRST "\n",                                       "",       DOVECOT_FAIL     },
        {"s FAIL\t" FIRST "\tuser=anna\ttemp\n",                      "anna",   DOVECOT_TEMPORARY},
        {"s FAIL\t" FIRST "\tcode=temp_fail\tuser=anna\n",            "anna",   DOVECOT_TEMPORARY},
        {"s FAIL\t" FIRST "\tuser=anna\tauthz\n",                     "anna",   DOVECOT_FAIL     },
        {"s FAIL\t" FIRST "\tuser=anna\tuser_disabled\n",             "anna",   DOVECOT_FAIL     },
        {"s FAIL\t" FIRST "\treason=it is temp\tpass_expired\n",      "",       DOVECOT_FAIL     },
        {"s FAIL\t" FIRST "\tuser=tem\1tp\tresp=dj1h\tnotemp=temp\n", "tem\tp", DOVECOT_FAIL     },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        fake_dovecot_start(state, SCRIPT(GREET, "l AUTH\t" FIRST, cases[i].says, "E"), NULL);
        fake_dovecot_begin();
        struct dovecot_note *note = fake_dovecot_ask("PLAIN", "AGEAYg==");
        fake_dovecot_wait_for(note);
        assert_int_equal(note->status, cases[i].status);
        assert_string_equal(note->user, cases[i].user);
        assert_false(note->has_text);
        assert_int_equal(fake_dovecot_snapshot().refused, cases[i].status == DOVECOT_FAIL);
        fake_dovecot_stop_well();
    }
}

static void test_dialogue(void **state)
{
    fake_dovecot_start(state,
                       SCRIPT(GREET, "l AUTH\t" FIRST, "s CONT\t" FIRST "\tcj1hYmM=\n",
                              "L CONT\t" FIRST "\tYz1iaXdz", "s CONT\t" FIRST "\tdj0x\n",
                              "L CONT\t" FIRST "\t", "s OK\t" FIRST "\tuser=anna\n",
                              "l AUTH\t" AGAIN, "s CONT\t" AGAIN "\tcj1h\n",
                              "L CONT\t" AGAIN "\tcmVzcG9uc2U=", "s FAIL\t" AGAIN "\n", "E"),
                       NULL);
    fake_dovecot_begin();
    struct dovecot_note *note = fake_dovecot_ask("SCRAM-SHA-256", "biwsbj1h");
    fake_dovecot_wait_for(note);
    assert_string_equal(note->text, "cj1hYmM=");
    fake_dovecot_run(FAKE_DOVECOT_TIMEOUT_MS + 100); /* the client thinks: Dovecot is not late */
    assert_true(dovecot_continue(fake_dovecot.dovecot, note->number, "Yz1iaXdz", 8));
    fake_dovecot_wait_for(note);
    assert_string_equal(note->text, "dj0x");
    assert_true(dovecot_continue(fake_dovecot.dovecot, note->number, "", 0));
    fake_dovecot_wait_for(note);
    assert_int_equal(note->status, DOVECOT_OK);
    assert_false(dovecot_continue(fake_dovecot.dovecot, note->number, "", 0)); /* it is over */
    dovecot_cancel(fake_dovecot.dovecot, note->number);
    note = fake_dovecot_ask("SCRAM-SHA-256", "biwsbj1h");
    note->goes_on = fake_dovecot.dovecot; /* answers at once */
    while (note->times < 2)
        fake_dovecot_run(1);
    assert_int_equal(note->status, DOVECOT_FAIL);
    fake_dovecot_stop_well();
}

/* A cancelled one is told to Dovecot, and what it answers all the same is for nobody: least of all
 * for the next one in its place. */
static void test_cancel(void **state)
{
    fake_dovecot_start(state,
                       SCRIPT(GREET, "l AUTH\t" FIRST, "L CANCEL\t" FIRST, "l AUTH\t" AGAIN,
                              "s OK\t" FIRST "\tuser=anna\n", "W 50",
                              "s FAIL\t" AGAIN "\tuser=bert\n", "E"),
                       NULL);
    fake_dovecot_begin();
    struct dovecot_note *note = fake_dovecot_ask("PLAIN", "AGEAYg==");
    dovecot_cancel(fake_dovecot.dovecot, note->number);
    struct dovecot_note *other = fake_dovecot_ask("PLAIN", "AGEAYg==");
    fake_dovecot_wait_for(other);
    assert_int_equal(other->status, DOVECOT_FAIL);
    assert_string_equal(other->user, "bert");
    assert_int_equal(note->times, 0);
    fake_dovecot_stop_well();
}

/* Dovecot's own patience with a client ends. */
static void test_dovecot_tires(void **state)
{
    fake_dovecot_start(state,
                       SCRIPT(GREET, "l AUTH\t" FIRST, "s CONT\t" FIRST "\tcj1h\n",
                              "s FAIL\t" FIRST "\treason=Authentication request timed out\n", "E"),
                       NULL);
    fake_dovecot_begin();
    struct dovecot_note *note = fake_dovecot_ask("SCRAM-SHA-256", "biwsbj1h");
    fake_dovecot_wait_for(note);
    fake_dovecot_run(100);
    assert_int_equal(note->times, 0);
    assert_false(dovecot_continue(fake_dovecot.dovecot, note->number, "Yz1i", 4));
    assert_true(dovecot_is_connected(fake_dovecot.dovecot));
    fake_dovecot_stop_well();
}

/* What is refused before Dovecot could hang up for it. */
static void test_not_sent(void **state)
{
    static char octets[16 * 1024];
    memset(octets, 'A', sizeof(octets) - 1);
    fake_dovecot_start(
        state,
        SCRIPT(GREET, "l AUTH\t" FIRST, "s CONT\t" FIRST "\tcj1h\n", "L CANCEL\t" FIRST, "E"),
        NULL);
    fake_dovecot_begin();
    assert_int_equal(fake_dovecot_ask("CRAM-MD5", "AAAA")->number, 0);
    assert_int_equal(fake_dovecot_ask("PLAIN", octets)->number, 0);
    assert_int_equal(fake_dovecot_ask("PLAIN", "AA\tA")->number, 0);
    assert_int_equal(fake_dovecot_ask("PLAIN", "AAA\nAUTH")->number, 0);
    struct dovecot_note *note = fake_dovecot_ask("SCRAM-SHA-256", "biwsbj1h");
    fake_dovecot_wait_for(note);
    assert_false(dovecot_continue(fake_dovecot.dovecot, note->number, "AA\nA", 4));
    assert_false(dovecot_continue(fake_dovecot.dovecot, note->number, "AAAA", 4));
    fake_dovecot_run(30);
    assert_int_equal(fake_dovecot_snapshot().away, 4);
    fake_dovecot_stop_well();
}

static void test_unix_socket(void **state)
{
    char path[64];
    snprintf(path, sizeof(path), "/tmp/ringmx-dovecot-%d", getpid());
    unlink(path);
    const char *const *script =
        SCRIPT(GREET, "l AUTH\t" FIRST, "s OK\t" FIRST "\tuser=anna\n", "E");
    fake_dovecot_start_on(state, path, script, NULL);
    fake_dovecot_begin();
    struct dovecot_note *note = fake_dovecot_ask("PLAIN", "AGEAYg==");
    fake_dovecot_wait_for(note);
    assert_string_equal(note->user, "anna");
    fake_dovecot_stop_well();
    unlink(path);
}

static void test_nobody_there(void **state)
{
    fake_dovecot_start(state, SCRIPT("E"), NULL);
    scene_stop(&fake_dovecot.scene);
    fake_dovecot_until("connecting: Connection refused");
    fake_dovecot_away_at_once();
    fake_dovecot_run(1000);
    assert_in_range(fake_dovecot_snapshot().failures, 3, 5); /* after 0, 100, 300, 700 ms */
    dovecot_free(fake_dovecot.dovecot);
    turner_free(fake_dovecot.turner);
    free(fake_dovecot.scene.text);
}

/* A process that is stopped: the kernel takes the connection, and nobody ever speaks. */
static void test_silent_from_the_start(void **state)
{
    fake_dovecot_start(state, SCRIPT(HELLO, "E"), SCRIPT(HELLO, ANNOUNCE, "E"));
    fake_dovecot_run(FAKE_DOVECOT_TIMEOUT_MS / 2);
    assert_false(dovecot_is_connected(fake_dovecot.dovecot));
    fake_dovecot_away_at_once();
    fake_dovecot_until("no answer in time");
    fake_dovecot_run(FAKE_DOVECOT_TIMEOUT_MS + 250); /* with half of a greeting it is the same */
    assert_false(dovecot_is_connected(fake_dovecot.dovecot));
    assert_int_equal(fake_dovecot_snapshot().failures, 2);
    fake_dovecot_stop();
}

static void test_silent_later(void **state)
{
    fake_dovecot_start(
        state, SCRIPT(GREET, "l AUTH", "l AUTH", "s CONT\t" FIRST "\tcj1h\n", "l AUTH", "W 900"),
        SCRIPT(GREET, "E"));
    fake_dovecot_begin();
    struct dovecot_note *thinks = fake_dovecot_ask("SCRAM-SHA-256", "biwsbj1h");
    struct dovecot_note *second = fake_dovecot_ask("PLAIN", "AGEAYg==");
    fake_dovecot_wait_for(thinks);
    fake_dovecot_run(5);
    struct dovecot_note *first = fake_dovecot_ask("PLAIN", "AGEAYg==");
    uint64_t begin_us = clock_monotonic_us();
    fake_dovecot_wait_for(first);
    assert_int_equal(first->status, DOVECOT_AWAY);
    assert_int_equal(second->status, DOVECOT_AWAY);
    assert_in_range((first->at_us - begin_us) / 1000, FAKE_DOVECOT_TIMEOUT_MS - 30,
                    FAKE_DOVECOT_TIMEOUT_MS + 400);
    assert_string_equal(dovecot_why(fake_dovecot.dovecot), "no answer in time");
    assert_false(dovecot_continue(fake_dovecot.dovecot, thinks->number, "Yz1i", 4));
    assert_int_equal(thinks->times, 0);
    fake_dovecot_away_at_once();                                   /* the time-out is paid once */
    assert_true(dovecot_mechanism(fake_dovecot.dovecot, "PLAIN")); /* what it was */
    fake_dovecot_begin();
    fake_dovecot_stop();
}

/* One question hangs, others do not: they are not given up with it. */
static void test_one_is_late(void **state)
{
    fake_dovecot_start(state,
                       SCRIPT(GREET, "l AUTH\t" FIRST, "l AUTH\t" SECOND,
                              "s OK\t" SECOND "\tuser=b\n", "L CANCEL\t" FIRST,
                              "s OK\t" FIRST "\tuser=a\n", "E"),
                       NULL);
    fake_dovecot_begin();
    struct dovecot_note *late = fake_dovecot_ask("PLAIN", "AGEAYg==");
    fake_dovecot_run(50);
    fake_dovecot_wait_for(fake_dovecot_ask("PLAIN", "AGEAYg=="));
    fake_dovecot_wait_for(late);
    assert_int_equal(late->status, DOVECOT_AWAY);
    fake_dovecot_run(50);
    assert_int_equal(late->times, 0);
    assert_true(dovecot_is_connected(fake_dovecot.dovecot));
    fake_dovecot_stop_well();
}

/* A connection is replaced after a while, and nobody notices: what is under way on the old one ends
 * there, what begins meanwhile goes there, and what begins later goes to the new one. */
static void test_renewed(void **state)
{
    fake_dovecot_start(
        state,
        SCRIPT(GREET, "l AUTH\t" FIRST, "l AUTH\t" SECOND, "s CONT\t" FIRST "\tcj1h\n",
               "s OK\t" SECOND "\tuser=b\n", "L CONT\t" FIRST "\tYz1i",
               "s OK\t" FIRST "\tuser=a\n"),
        SCRIPT(GREET, "l AUTH\t", "s OK\t" AGAIN "\tuser=c\nOK\t8193\tuser=d\n", "W 20"));
    fake_dovecot.options.renew_ms = 200;
    fake_dovecot_begin();
    struct dovecot_note *thinks = fake_dovecot_ask("SCRAM-SHA-256", "biwsbj1h"),
                        *other = fake_dovecot_ask("PLAIN", "AGEAYg==");
    fake_dovecot_wait_for(other);
    fake_dovecot_run(
        250); /* the server has but one thread: the next connection waits for its greeting */
    assert_true(dovecot_is_connected(fake_dovecot.dovecot));
    assert_int_equal(fake_dovecot_snapshot().connects, 1);
    assert_true(dovecot_continue(fake_dovecot.dovecot, thinks->number, "Yz1i", 4));
    thinks->times = 0;
    fake_dovecot_wait_for(thinks);
    assert_int_equal(thinks->status, DOVECOT_OK);
    while (fake_dovecot_snapshot().connects < 2)
        fake_dovecot_run(5);
    struct dovecot_note *later = fake_dovecot_ask("PLAIN", "AGEAYg==");
    fake_dovecot_wait_for(later);
    assert_int_equal(later->status, DOVECOT_OK);
    assert_true(later->user[0] == 'c' || later->user[0] == 'd');
    assert_in_range(fake_dovecot_snapshot().failures, 0,
                    1); /* the old one was ended by the server */
    fake_dovecot_stop();
}

/* The next one does not greet, three times: the one that works goes on. */
static void test_next_fails(void **state)
{
    fake_dovecot_start(state,
                       SCRIPT(GREET, "l AUTH\t" FIRST, "s OK\t" FIRST "\tuser=a\n",
                              "l AUTH\t" AGAIN, "s OK\t" AGAIN "\tuser=b\n", "E"),
                       NULL);
    fake_dovecot.options.renew_ms = 20;
    fake_dovecot_begin();
    struct dovecot_note *before = fake_dovecot_ask("PLAIN", "AGEAYg==");
    fake_dovecot_wait_for(before);
    assert_int_equal(before->status, DOVECOT_OK);
    fake_dovecot_run(3 * FAKE_DOVECOT_TIMEOUT_MS + 400);
    assert_true(dovecot_is_connected(fake_dovecot.dovecot));
    assert_in_range(fake_dovecot_snapshot().failures, 2, 3); /* with pauses between */
    assert_int_equal(fake_dovecot_snapshot().connects, 1);
    struct dovecot_note *later = fake_dovecot_ask("PLAIN", "AGEAYg==");
    fake_dovecot_wait_for(later);
    assert_int_equal(later->status, DOVECOT_OK);
    assert_string_equal(later->user, "b");
    fake_dovecot_stop();
}

/* An old connection is not kept for a client that takes its time: renewed twice, it is over. */
static void test_renewed_twice(void **state)
{
    fake_dovecot_start(state, SCRIPT(GREET, "l AUTH\t" FIRST, "s CONT\t" FIRST "\tcj1h\n"),
                       SCRIPT("E"));
    const char *const *late = SCRIPT(GREET, "W 100");
    fake_dovecot.scene.scripts[1] = late;
    fake_dovecot.options.renew_ms = 100;
    fake_dovecot_begin();
    struct dovecot_note *thinks = fake_dovecot_ask("SCRAM-SHA-256", "biwsbj1h");
    fake_dovecot_wait_for(thinks);
    fake_dovecot_run(400);
    assert_false(dovecot_continue(fake_dovecot.dovecot, thinks->number, "Yz1i", 4));
    assert_int_equal(thinks->times, 0);
    fake_dovecot_stop();
}

/* What a server says that is none, instead of a greeting or of an answer, and what it is told. */
static void test_nonsense(void **state)
{
    static const char none[] = "it does not speak Dovecot's protocol";
    static const char greeting[] = "greeting";
    static const struct {
        const char *at, *says, *why;
    } cases[] = {
        {greeting, "S 220 mail.example.org ESMTP",     none                       },
        {greeting, "s \n",                             none                       },
        {greeting, "s DONE\n",                         none                       },
        {greeting, "s OK\t4096\tuser=root\n",          none                       },
        {greeting, "s VERSION\n",                      none                       },
        {greeting, "s VERSION\tone\t1\n",              none                       },
        {greeting, "s VERSION\t1\t1\nVERSION\t1\t1\n", none                       },
        {greeting, "s VERSION\t2\t1\n",                "it speaks another version"},
        {greeting, "Z 100000",                         "a line is too long"       },
        {NULL,     "s OK\t4096\n",                     none                       },
        {NULL,     "s OK\t4096\tuser\n",               none                       },
        {NULL,     "s OK\n",                           none                       },
        {NULL,     "s OK\t4096x\tuser=a\n",            none                       },
        {NULL,     "s FAIL\t\t\n",                     none                       },
        {NULL,     "s FAIL\t99999999999\n",            none                       },
        {NULL,     "s CONT\t4096\n",                   none                       },
        {NULL,     "s OK\t4294967296\tuser=a\n",       none                       },
        {NULL,     "Z 100000",                         "a line is too long"       },
        {NULL,     "W 1",                              "it closed the connection" },
        {NULL,     "R",                                "Connection reset by peer" },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const char *const *meets = SCRIPT(HELLO, cases[i].says, "W 20");
        const char *const *knows = SCRIPT(GREET, "l AUTH", cases[i].says, "W 20");
        fake_dovecot_start(state, cases[i].at == greeting ? meets : knows, SCRIPT("W 1"));
        if (cases[i].at != greeting) {
            fake_dovecot_begin();
            struct dovecot_note *note = fake_dovecot_ask("PLAIN", "AGEAYg==");
            fake_dovecot_wait_for(note);
            assert_int_equal(note->status, DOVECOT_AWAY);
        }
        fake_dovecot_until(cases[i].why);
        fake_dovecot_away_at_once();
        fake_dovecot_stop();
    }
}

/* It speaks, but not of what was asked. */
static void test_beside(void **state)
{
    static const char *const cases[] = {"s OK\t8192\tuser=a\nOK\t4097\tuser=a\nFAIL\t0\n",
                                        "s OK\t4096\tuser=a", "s OK,4096\tuser=a\n"};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        fake_dovecot_start(state, SCRIPT(GREET, "l AUTH", cases[i], "L CANCEL\t" FIRST, "E"), NULL);
        fake_dovecot_begin();
        fake_dovecot_run(20);
        struct dovecot_note *note = fake_dovecot_ask("PLAIN", "AGEAYg==");
        fake_dovecot_wait_for(note);
        assert_int_equal(note->status, DOVECOT_AWAY);
        assert_true(dovecot_is_connected(fake_dovecot.dovecot));
        fake_dovecot_run(20);
        fake_dovecot_stop_well();
    }
}

static void test_nul(void **state)
{
    fake_dovecot_start(state, SCRIPT(GREET, "l AUTH", "s OK\t4096\tuser=a\0010b\n", "E"), NULL);
    fake_dovecot_begin();
    struct dovecot_note *note = fake_dovecot_ask("PLAIN", "AGEAYg==");
    fake_dovecot_wait_for(note);
    assert_int_equal(note->user_len, 3); /* whoever reads it must not stop at the NUL */
    assert_memory_equal(note->user, "a\0b", 3);
    fake_dovecot_stop_well();
}

static void test_too_many(void **state)
{
    fake_dovecot_start(state, SCRIPT(GREET, "E"), NULL);
    fake_dovecot_begin();
    for (uint32_t i = 0; i < fake_dovecot.options.pending_max; i++)
        assert_int_not_equal(fake_dovecot_ask("PLAIN", "AGEAYg==")->number, 0);
    fake_dovecot_away_at_once();
    assert_true(dovecot_is_connected(fake_dovecot.dovecot)); /* Dovecot is not to blame */
    dovecot_cancel(fake_dovecot.dovecot, fake_dovecot.notes[3].number);
    assert_int_not_equal(fake_dovecot_ask("PLAIN", "AGEAYg==")->number, 0);
    fake_dovecot_stop();
}

/* It does not read: what does not fit is away at once, the rest in time. */
static void test_does_not_read(void **state)
{
    static char octets[12 * 1024 + 1];
    memset(octets, 'A', sizeof(octets) - 1);
    fake_dovecot_start(state, SCRIPT(GREET, "W 1500"), NULL);
    fake_dovecot.options.pending_max = 4000;
    fake_dovecot.scene.receive_room = 4096;
    fake_dovecot_begin();
    uint32_t asked = 0, refused = 0;
    struct dovecot_note note = {.times = 0};
    const struct dovecot_request request = {
        .mechanism = "PLAIN", .response = octets, .response_len = sizeof(octets) - 1};
    for (int i = 0; i < 1500; i++) {
        bool took = dovecot_ask(fake_dovecot.dovecot, &request, fake_dovecot_answered, &note) != 0;
        asked += took;
        refused += !took;
        if (i % 10 == 0)
            fake_dovecot_run(0);
    }
    assert_true(asked > 20 && refused > 100);
    fake_dovecot_run(FAKE_DOVECOT_TIMEOUT_MS + 100);
    assert_int_equal(note.times, asked);
    assert_int_equal(note.status, DOVECOT_AWAY);
    fake_dovecot_stop();
}

/* Freed with questions out: nobody hears of them. */
static void test_freed(void **state)
{
    fake_dovecot_start(state, SCRIPT(GREET, "W 20"), NULL);
    fake_dovecot_begin();
    (void)fake_dovecot_ask("PLAIN", "AGEAYg==");
    fake_dovecot_stop();
    assert_int_equal(fake_dovecot.notes[0].times, 0);
    fake_dovecot_start(state, SCRIPT("W 20"), NULL);
    fake_dovecot_run(0); /* connecting */
    fake_dovecot_stop();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TWICE(test_passed),        TWICE(test_refused),       TWICE(test_dialogue),
        TWICE(test_cancel),        TWICE(test_dovecot_tires), TWICE(test_not_sent),
        TWICE(test_unix_socket),   TWICE(test_nobody_there),  TWICE(test_silent_from_the_start),
        TWICE(test_silent_later),  TWICE(test_one_is_late),   TWICE(test_renewed),
        TWICE(test_renewed_twice), TWICE(test_next_fails),    TWICE(test_nonsense),
        TWICE(test_nul),           TWICE(test_beside),        TWICE(test_too_many),
        TWICE(test_does_not_read), TWICE(test_freed),
    };
    return cmocka_run_group_tests(tests, twice_set_up, NULL);
}
