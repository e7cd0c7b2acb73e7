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
#include "tests/support/turner.h"
#include "tests/support/twice.h"

enum { WAIT_MS = 8000, TIMEOUT_MS = 400, NOTES = 64 };

/* What an exchange has heard. */
struct note {
    struct dovecot *goes_on; /* at a challenge, at once, with "cmVzcG9uc2U=" */
    uint32_t times, number;
    enum dovecot_status status;
    bool has_text;
    char text[128], user[128];
    size_t user_len;
    uint64_t at_us;
};

static struct fake {
    struct turner *turner;
    struct scene scene;
    struct dovecot_options options;
    struct dovecot *dovecot;
    struct note notes[NOTES];
    uint32_t asked;
} fake;

static const struct note *wanted;
static const char *wanted_why;

static void on_turn(struct turner *turner)
{
    (void)turner;
    if (fake.dovecot != NULL)
        dovecot_turn(fake.dovecot);
}

static uint64_t next_us(struct turner *turner)
{
    (void)turner;
    return fake.dovecot == NULL ? UINT64_MAX : dovecot_next_us(fake.dovecot);
}

static void start_on(void **state, const char *path, const char *const *script,
                     const char *const *later)
{
    static const char *const closes[] = {NULL};
    memset(&fake, 0, sizeof(fake));
    fake.scene.scripts[0] = script;
    fake.scene.path = fake.options.path = path;
    for (int i = 1; i < SCENES_MAX; i++)
        fake.scene.scripts[i] = later == NULL ? closes : later;
    scene_start(&fake.scene);
    if (path == NULL)
        memcpy(&fake.options.address, &fake.scene.address, sizeof(fake.options.address));
    fake.options.timeout_ms = TIMEOUT_MS;
    fake.options.pending_max = 16;
    fake.turner = turner_new(*state != NULL);
    fake.turner->on_turn = on_turn;
    fake.turner->next_us = next_us;
}

static void start(void **state, const char *const *script, const char *const *later)
{
    start_on(state, NULL, script, later);
}

static void stop(void)
{
    dovecot_free(fake.dovecot);
    fake.dovecot = NULL;
    turner_free(fake.turner);
    scene_stop(&fake.scene);
    free(fake.scene.text);
}

/* stop_well: and all was as written. */
static void stop_well(void)
{
    stop();
    assert_string_equal(fake.scene.fault, "");
}

static void make(void)
{
    if (fake.dovecot == NULL)
        fake.dovecot = dovecot_new(&fake.turner->worker, &fake.options);
    assert_non_null(fake.dovecot);
}

static void run(uint32_t ms)
{
    make();
    (void)turner_run(fake.turner, NULL, ms);
}

static bool connected(struct turner *turner)
{
    (void)turner;
    return dovecot_is_connected(fake.dovecot);
}

static void begin(void)
{
    make();
    assert_true(turner_run(fake.turner, connected, WAIT_MS));
}

static bool says_why(struct turner *turner)
{
    (void)turner;
    return strcmp(dovecot_why(fake.dovecot), wanted_why) == 0;
}

static void until(const char *why)
{
    make();
    wanted_why = why;
    if (!turner_run(fake.turner, says_why, WAIT_MS))
        assert_string_equal(dovecot_why(fake.dovecot), why);
    assert_false(dovecot_is_connected(fake.dovecot));
}

static void answered(void *user, uint32_t number, const struct dovecot_answer *answer)
{
    struct note *note = user;
    note->times++;
    note->number = number;
    note->status = answer->status;
    note->has_text = answer->text != NULL;
    note->user_len = answer->user_len;
    note->at_us = clock_monotonic_us();
    assert_true(answer->user_len < sizeof(note->user));
    memcpy(note->user, answer->user == NULL ? "" : answer->user, answer->user_len);
    if (answer->text != NULL)
        snprintf(note->text, sizeof(note->text), "%.*s", (int)answer->text_len, answer->text);
    if (note->goes_on != NULL && answer->status == DOVECOT_CONTINUE)
        assert_true(dovecot_continue(note->goes_on, number, "cmVzcG9uc2U=", 12));
}

static struct note *ask_with(const struct dovecot_request *request)
{
    assert_true(fake.asked < NOTES);
    struct note *note = &fake.notes[fake.asked++];
    note->number = dovecot_ask(fake.dovecot, request, answered, note);
    return note;
}

static struct note *ask(const char *mechanism, const char *response)
{
    const struct dovecot_request request = {
        .mechanism = mechanism,
        .response = response,
        .response_len = response == NULL ? 0 : strlen(response),
    };
    return ask_with(&request);
}

static bool has_come(struct turner *turner)
{
    (void)turner;
    return wanted->times > 0;
}

static void wait_for(struct note *note)
{
    assert_int_not_equal(note->number, 0);
    wanted = note;
    assert_true(turner_run(fake.turner, has_come, WAIT_MS));
    assert_int_equal(note->times, 1);
    note->times = 0; /* for what it hears next */
}

static void away_at_once(void)
{
    struct note *note = ask("PLAIN", "AGEAYg==");
    assert_int_equal(note->number, 0);
    assert_int_equal(note->times, 0);
}

static struct dovecot_snapshot snapshot(void)
{
    struct dovecot_snapshot out;
    dovecot_snapshot(fake.dovecot, &out);
    return out;
}

static void test_passed(void **state)
{
    start(state,
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
    begin();
    assert_string_equal(dovecot_why(fake.dovecot), "");
    assert_true(dovecot_mechanism(fake.dovecot, "PLAIN"));
    assert_true(dovecot_mechanism(fake.dovecot, "SCRAM-SHA-256"));
    assert_false(dovecot_mechanism(fake.dovecot, "SCRAM-SHA-25"));
    struct note *first = ask_with(&request), *second = ask("PLAIN", "");
    struct note *third = ask("SCRAM-SHA-256", NULL);
    wait_for(third);
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
    struct dovecot_snapshot counts = snapshot();
    assert_int_equal(counts.asked, 3);
    assert_int_equal(counts.passed, 2);
    assert_int_equal(counts.connects, 1);
    assert_int_equal(counts.failures + counts.away + counts.refused, 0);
    stop_well();
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
        start(state, SCRIPT(GREET, "l AUTH\t" FIRST, cases[i].says, "E"), NULL);
        begin();
        struct note *note = ask("PLAIN", "AGEAYg==");
        wait_for(note);
        assert_int_equal(note->status, cases[i].status);
        assert_string_equal(note->user, cases[i].user);
        assert_false(note->has_text);
        assert_int_equal(snapshot().refused, cases[i].status == DOVECOT_FAIL);
        stop_well();
    }
}

static void test_dialogue(void **state)
{
    start(state,
          SCRIPT(GREET, "l AUTH\t" FIRST, "s CONT\t" FIRST "\tcj1hYmM=\n",
                 "L CONT\t" FIRST "\tYz1iaXdz", "s CONT\t" FIRST "\tdj0x\n", "L CONT\t" FIRST "\t",
                 "s OK\t" FIRST "\tuser=anna\n", "l AUTH\t" AGAIN, "s CONT\t" AGAIN "\tcj1h\n",
                 "L CONT\t" AGAIN "\tcmVzcG9uc2U=", "s FAIL\t" AGAIN "\n", "E"),
          NULL);
    begin();
    struct note *note = ask("SCRAM-SHA-256", "biwsbj1h");
    wait_for(note);
    assert_string_equal(note->text, "cj1hYmM=");
    run(TIMEOUT_MS + 100); /* the client thinks: Dovecot is not late */
    assert_true(dovecot_continue(fake.dovecot, note->number, "Yz1iaXdz", 8));
    wait_for(note);
    assert_string_equal(note->text, "dj0x");
    assert_true(dovecot_continue(fake.dovecot, note->number, "", 0));
    wait_for(note);
    assert_int_equal(note->status, DOVECOT_OK);
    assert_false(dovecot_continue(fake.dovecot, note->number, "", 0)); /* it is over */
    dovecot_cancel(fake.dovecot, note->number);
    note = ask("SCRAM-SHA-256", "biwsbj1h");
    note->goes_on = fake.dovecot; /* answers at once */
    wanted = note;
    while (note->times < 2)
        run(1);
    assert_int_equal(note->status, DOVECOT_FAIL);
    stop_well();
}

/* A cancelled one is told to Dovecot, and what it answers all the same is for nobody: least of all
 * for the next one in its place. */
static void test_cancel(void **state)
{
    start(state,
          SCRIPT(GREET, "l AUTH\t" FIRST, "L CANCEL\t" FIRST, "l AUTH\t" AGAIN,
                 "s OK\t" FIRST "\tuser=anna\n", "W 50", "s FAIL\t" AGAIN "\tuser=bert\n", "E"),
          NULL);
    begin();
    struct note *note = ask("PLAIN", "AGEAYg==");
    dovecot_cancel(fake.dovecot, note->number);
    struct note *other = ask("PLAIN", "AGEAYg==");
    wait_for(other);
    assert_int_equal(other->status, DOVECOT_FAIL);
    assert_string_equal(other->user, "bert");
    assert_int_equal(note->times, 0);
    stop_well();
}

/* Dovecot's own patience with a client ends. */
static void test_dovecot_tires(void **state)
{
    start(state,
          SCRIPT(GREET, "l AUTH\t" FIRST, "s CONT\t" FIRST "\tcj1h\n",
                 "s FAIL\t" FIRST "\treason=Authentication request timed out\n", "E"),
          NULL);
    begin();
    struct note *note = ask("SCRAM-SHA-256", "biwsbj1h");
    wait_for(note);
    run(100);
    assert_int_equal(note->times, 0);
    assert_false(dovecot_continue(fake.dovecot, note->number, "Yz1i", 4));
    assert_true(dovecot_is_connected(fake.dovecot));
    stop_well();
}

/* What is refused before Dovecot could hang up for it. */
static void test_not_sent(void **state)
{
    static char octets[16 * 1024];
    memset(octets, 'A', sizeof(octets) - 1);
    start(state,
          SCRIPT(GREET, "l AUTH\t" FIRST, "s CONT\t" FIRST "\tcj1h\n", "L CANCEL\t" FIRST, "E"),
          NULL);
    begin();
    assert_int_equal(ask("CRAM-MD5", "AAAA")->number, 0);
    assert_int_equal(ask("PLAIN", octets)->number, 0);
    assert_int_equal(ask("PLAIN", "AA\tA")->number, 0);
    assert_int_equal(ask("PLAIN", "AAA\nAUTH")->number, 0);
    struct note *note = ask("SCRAM-SHA-256", "biwsbj1h");
    wait_for(note);
    assert_false(dovecot_continue(fake.dovecot, note->number, "AA\nA", 4));
    assert_false(dovecot_continue(fake.dovecot, note->number, "AAAA", 4));
    run(30);
    assert_int_equal(snapshot().away, 4);
    stop_well();
}

static void test_unix_socket(void **state)
{
    char path[64];
    snprintf(path, sizeof(path), "/tmp/ringmx-dovecot-%d", getpid());
    unlink(path);
    const char *const *script =
        SCRIPT(GREET, "l AUTH\t" FIRST, "s OK\t" FIRST "\tuser=anna\n", "E");
    start_on(state, path, script, NULL);
    begin();
    struct note *note = ask("PLAIN", "AGEAYg==");
    wait_for(note);
    assert_string_equal(note->user, "anna");
    stop_well();
    unlink(path);
}

static void test_nobody_there(void **state)
{
    start(state, SCRIPT("E"), NULL);
    scene_stop(&fake.scene);
    until("connecting: Connection refused");
    away_at_once();
    run(1000);
    assert_in_range(snapshot().failures, 3, 5); /* after 0, 100, 300, 700 ms */
    dovecot_free(fake.dovecot);
    turner_free(fake.turner);
    free(fake.scene.text);
}

/* A process that is stopped: the kernel takes the connection, and nobody ever speaks. */
static void test_silent_from_the_start(void **state)
{
    start(state, SCRIPT(HELLO, "E"), SCRIPT(HELLO, ANNOUNCE, "E"));
    run(TIMEOUT_MS / 2);
    assert_false(dovecot_is_connected(fake.dovecot));
    away_at_once();
    until("no answer in time");
    run(TIMEOUT_MS + 250); /* with half of a greeting it is the same */
    assert_false(dovecot_is_connected(fake.dovecot));
    assert_int_equal(snapshot().failures, 2);
    stop();
}

static void test_silent_later(void **state)
{
    start(state, SCRIPT(GREET, "l AUTH", "l AUTH", "s CONT\t" FIRST "\tcj1h\n", "l AUTH", "W 900"),
          SCRIPT(GREET, "E"));
    begin();
    struct note *thinks = ask("SCRAM-SHA-256", "biwsbj1h");
    struct note *second = ask("PLAIN", "AGEAYg==");
    wait_for(thinks);
    run(5);
    struct note *first = ask("PLAIN", "AGEAYg==");
    uint64_t begin_us = clock_monotonic_us();
    wait_for(first);
    assert_int_equal(first->status, DOVECOT_AWAY);
    assert_int_equal(second->status, DOVECOT_AWAY);
    assert_in_range((first->at_us - begin_us) / 1000, TIMEOUT_MS - 30, TIMEOUT_MS + 400);
    assert_string_equal(dovecot_why(fake.dovecot), "no answer in time");
    assert_false(dovecot_continue(fake.dovecot, thinks->number, "Yz1i", 4));
    assert_int_equal(thinks->times, 0);
    away_at_once();                                        /* the time-out is paid once */
    assert_true(dovecot_mechanism(fake.dovecot, "PLAIN")); /* what it was */
    begin();
    stop();
}

/* One question hangs, others do not: they are not given up with it. */
static void test_one_is_late(void **state)
{
    start(state,
          SCRIPT(GREET, "l AUTH\t" FIRST, "l AUTH\t" SECOND, "s OK\t" SECOND "\tuser=b\n",
                 "L CANCEL\t" FIRST, "s OK\t" FIRST "\tuser=a\n", "E"),
          NULL);
    begin();
    struct note *late = ask("PLAIN", "AGEAYg==");
    run(50);
    wait_for(ask("PLAIN", "AGEAYg=="));
    wait_for(late);
    assert_int_equal(late->status, DOVECOT_AWAY);
    run(50);
    assert_int_equal(late->times, 0);
    assert_true(dovecot_is_connected(fake.dovecot));
    stop_well();
}

/* A connection is replaced after a while, and nobody notices: what is under way on the old one ends
 * there, what begins meanwhile goes there, and what begins later goes to the new one. */
static void test_renewed(void **state)
{
    start(state,
          SCRIPT(GREET, "l AUTH\t" FIRST, "l AUTH\t" SECOND, "s CONT\t" FIRST "\tcj1h\n",
                 "s OK\t" SECOND "\tuser=b\n", "L CONT\t" FIRST "\tYz1i",
                 "s OK\t" FIRST "\tuser=a\n"),
          SCRIPT(GREET, "l AUTH\t", "s OK\t" AGAIN "\tuser=c\nOK\t8193\tuser=d\n", "W 20"));
    fake.options.renew_ms = 200;
    begin();
    struct note *thinks = ask("SCRAM-SHA-256", "biwsbj1h"), *other = ask("PLAIN", "AGEAYg==");
    wait_for(other);
    run(250); /* the server has but one thread: the next connection waits for its greeting */
    assert_true(dovecot_is_connected(fake.dovecot));
    assert_int_equal(snapshot().connects, 1);
    assert_true(dovecot_continue(fake.dovecot, thinks->number, "Yz1i", 4));
    thinks->times = 0;
    wait_for(thinks);
    assert_int_equal(thinks->status, DOVECOT_OK);
    while (snapshot().connects < 2)
        run(5);
    struct note *later = ask("PLAIN", "AGEAYg==");
    wait_for(later);
    assert_int_equal(later->status, DOVECOT_OK);
    assert_true(later->user[0] == 'c' || later->user[0] == 'd');
    assert_in_range(snapshot().failures, 0, 1); /* the old one was ended by the server */
    stop();
}

/* An old connection is not kept for a client that takes its time: renewed twice, it is over. */
static void test_renewed_twice(void **state)
{
    start(state, SCRIPT(GREET, "l AUTH\t" FIRST, "s CONT\t" FIRST "\tcj1h\n"), SCRIPT("E"));
    const char *const *late = SCRIPT(GREET, "W 100");
    fake.scene.scripts[1] = late;
    fake.options.renew_ms = 100;
    begin();
    struct note *thinks = ask("SCRAM-SHA-256", "biwsbj1h");
    wait_for(thinks);
    run(400);
    assert_false(dovecot_continue(fake.dovecot, thinks->number, "Yz1i", 4));
    assert_int_equal(thinks->times, 0);
    stop();
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
        start(state, cases[i].at == greeting ? meets : knows, SCRIPT("W 1"));
        if (cases[i].at != greeting) {
            begin();
            struct note *note = ask("PLAIN", "AGEAYg==");
            wait_for(note);
            assert_int_equal(note->status, DOVECOT_AWAY);
        }
        until(cases[i].why);
        away_at_once();
        stop();
    }
}

/* It speaks, but not of what was asked. */
static void test_beside(void **state)
{
    static const char *const cases[] = {"s OK\t8192\tuser=a\nOK\t4097\tuser=a\nFAIL\t0\n",
                                        "s OK\t4096\tuser=a", "s OK,4096\tuser=a\n"};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        start(state, SCRIPT(GREET, "l AUTH", cases[i], "L CANCEL\t" FIRST, "E"), NULL);
        begin();
        run(20);
        struct note *note = ask("PLAIN", "AGEAYg==");
        wait_for(note);
        assert_int_equal(note->status, DOVECOT_AWAY);
        assert_true(dovecot_is_connected(fake.dovecot));
        run(20);
        stop_well();
    }
}

static void test_nul(void **state)
{
    start(state, SCRIPT(GREET, "l AUTH", "s OK\t4096\tuser=a\0010b\n", "E"), NULL);
    begin();
    struct note *note = ask("PLAIN", "AGEAYg==");
    wait_for(note);
    assert_int_equal(note->user_len, 3); /* whoever reads it must not stop at the NUL */
    assert_memory_equal(note->user, "a\0b", 3);
    stop_well();
}

static void test_too_many(void **state)
{
    start(state, SCRIPT(GREET, "E"), NULL);
    begin();
    for (uint32_t i = 0; i < fake.options.pending_max; i++)
        assert_int_not_equal(ask("PLAIN", "AGEAYg==")->number, 0);
    away_at_once();
    assert_true(dovecot_is_connected(fake.dovecot)); /* Dovecot is not to blame */
    dovecot_cancel(fake.dovecot, fake.notes[3].number);
    assert_int_not_equal(ask("PLAIN", "AGEAYg==")->number, 0);
    stop();
}

/* It does not read: what does not fit is away at once, the rest in time. */
static void test_does_not_read(void **state)
{
    static char octets[12 * 1024 + 1];
    memset(octets, 'A', sizeof(octets) - 1);
    start(state, SCRIPT(GREET, "W 1500"), NULL);
    fake.options.pending_max = 4000;
    fake.scene.receive_room = 4096;
    begin();
    uint32_t asked = 0, refused = 0;
    struct note note = {.times = 0};
    const struct dovecot_request request = {
        .mechanism = "PLAIN", .response = octets, .response_len = sizeof(octets) - 1};
    for (int i = 0; i < 1500; i++) {
        bool took = dovecot_ask(fake.dovecot, &request, answered, &note) != 0;
        asked += took;
        refused += !took;
        if (i % 10 == 0)
            run(0);
    }
    assert_true(asked > 20 && refused > 100);
    run(TIMEOUT_MS + 100);
    assert_int_equal(note.times, asked);
    assert_int_equal(note.status, DOVECOT_AWAY);
    stop();
}

/* Freed with questions out: nobody hears of them. */
static void test_freed(void **state)
{
    start(state, SCRIPT(GREET, "W 20"), NULL);
    begin();
    (void)ask("PLAIN", "AGEAYg==");
    stop();
    assert_int_equal(fake.notes[0].times, 0);
    start(state, SCRIPT("W 20"), NULL);
    run(0); /* connecting */
    stop();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TWICE(test_passed),        TWICE(test_refused),       TWICE(test_dialogue),
        TWICE(test_cancel),        TWICE(test_dovecot_tires), TWICE(test_not_sent),
        TWICE(test_unix_socket),   TWICE(test_nobody_there),  TWICE(test_silent_from_the_start),
        TWICE(test_silent_later),  TWICE(test_one_is_late),   TWICE(test_renewed),
        TWICE(test_renewed_twice), TWICE(test_nonsense),      TWICE(test_nul),
        TWICE(test_beside),        TWICE(test_too_many),      TWICE(test_does_not_read),
        TWICE(test_freed),
    };
    return cmocka_run_group_tests(tests, twice_set_up, NULL);
}
