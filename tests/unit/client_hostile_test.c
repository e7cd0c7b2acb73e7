/* The client of SMTP and LMTP against servers that err, lie, stall and leave: nothing of theirs may
 * hurt more than the one connection, and no verdict may be better than what was said. */
#include "tests/support/stage.h"
#include "tests/support/twice.h"

#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define GREET STAGE_GREET
#define MAIL  "C MAIL FROM:<sender@example.com>", "C RCPT TO:<user0@example.org>"
#define EARLY "the server spoke before it was asked"

/* --- before it is IDLE --- */

/* fails: the client never becomes IDLE. */
static void fails(void **state, const char *const *script, enum verdict_kind kind, uint16_t code,
                  const char *text)
{
    stage_begin(state, script);
    stage_play();
    free(stage_scene.text);
    assert_true(postman.why_given);
    assert_string_equal(postman.why.text, text);
    assert_int_equal(postman.why.kind, kind);
    assert_int_equal(postman.why.code, code);
    assert_int_equal(postman.idles, 0);
    assert_false(postman.tls_failed);
}

static void greetings(void **state)
{
    fails(state, SCRIPT("S 554 5.3.2 go away", "C QUIT", "E", NULL), VERDICT_REFUSED, 554,
          "go away");
    assert_string_equal(stage_scene.fault, "");
    fails(state, SCRIPT("S 421-too", "S 421 busy", "E", NULL), VERDICT_DEFERRED, 421, "too busy");
    fails(state, SCRIPT("S 450 later", "C QUIT", "S 221 bye", NULL), VERDICT_DEFERRED, 450,
          "later");
    fails(state, SCRIPT("S 354 what", "C QUIT", NULL), VERDICT_DEFERRED, 354, "what");
    fails(state, SCRIPT("S HTTP/1.1 400 Bad Request", "E", NULL), VERDICT_DEFERRED, 0,
          "the server does not speak SMTP");
    fails(state, SCRIPT("S 220-a", "S 421 b", "E", NULL), VERDICT_DEFERRED, 0,
          "the server does not speak SMTP");
    fails(state, SCRIPT("S 199 a", "E", NULL), VERDICT_DEFERRED, 0,
          "the server does not speak SMTP");
    fails(state, SCRIPT(NULL), VERDICT_DEFERRED, 0, "the server closed the connection");
    fails(state, SCRIPT("s 220 half a li", NULL), VERDICT_DEFERRED, 0,
          "the server closed the connection");
    fails(state, SCRIPT("s 220 hi\r\n250 you\r\n", "E", NULL), VERDICT_DEFERRED, 0, EARLY);
    fails(state, SCRIPT("S 220 hi", "c EHLO", "R", NULL), VERDICT_DEFERRED, 0,
          "the connection broke: Connection reset by peer");
}

static void hellos(void **state)
{
    fails(state, SCRIPT("S 220 hi", "c EHLO", "S 450 later", "C QUIT", "E", NULL), VERDICT_DEFERRED,
          450, "later");
    fails(state, SCRIPT("S 220 hi", "c EHLO", "S 421 later", "E", NULL), VERDICT_DEFERRED, 421,
          "later");
    fails(state,
          SCRIPT("S 220 hi", "c EHLO", "S 502 what", "C HELO mx.example.com", "S 550 no", "C QUIT",
                 "E", NULL),
          VERDICT_REFUSED, 550, "no");
    assert_string_equal(stage_scene.fault, "");
    fails(state, SCRIPT("S 220 hi", "c EHLO", "S 250-a", "s 250 b\r\n250 c\r\n", "E", NULL),
          VERDICT_DEFERRED, 0, EARLY);
    fails(state, SCRIPT("S 220 hi", "c EHLO", "S 250-a", NULL), VERDICT_DEFERRED, 0,
          "the server closed the connection");
}

static void helo(void **state)
{
    stage_begin(state, SCRIPT("S 220 hi", "c EHLO", "S 500-PIPELINING", "S 500 CHUNKING",
                              "C HELO mx.example.com", "S 250-hello", "S 250 PIPELINING",
                              "C MAIL FROM:<sender@example.com>", "S 250 ok",
                              "C RCPT TO:<user0@example.org>", "S 250 ok", "C DATA", "S 354 go",
                              "T", "S 250 ok", STAGE_BYE));
    stage_end(stage_stuffed);
    stage_expect(&parcel, 0, VERDICT_DELIVERED, 250, "ok");
}

static void endless_replies(void **state)
{
    const char *many[140];
    for (int line_len = 0; line_len < 3; line_len++) {
        int at = 0;
        many[at++] = "S 220 hi";
        many[at++] = "c EHLO";
        if (line_len == 0) { /* lines without end */
            for (int i = 0; i < 130; i++)
                many[at++] = "S 250-PIPELINING";
        } else if (line_len == 1) { /* a line without end */
            many[at++] = "s 250 ";
            many[at++] = "Z 1000000";
        } else {
            many[at++] = "Z 1000000";
        }
        many[at++] = "E";
        many[at] = NULL;
        fails(state, many, VERDICT_DEFERRED, 0, "the server does not speak SMTP");
    }
}

/* 128 lines are allowed, and 2 KiB in one. */
static void long_replies(void **state)
{
    const char *script[200];
    static char line[2000];
    int at = 0;
    memset(line, 'x', sizeof(line) - 1);
    memcpy(line, "S 250-", 6);
    script[at++] = "S 220 hi";
    script[at++] = "c EHLO";
    for (int i = 0; i < 127; i++)
        script[at++] = line;
    script[at++] = "S 250 PIPELINING";
    const char *const *rest =
        SCRIPT("C MAIL FROM:<sender@example.com>", "C RCPT TO:<user0@example.org>", "C DATA",
               "S 250 ok", "S 250 ok", "S 354 go", "T", "S 250 ok", STAGE_BYE);
    do
        script[at++] = *rest;
    while (*rest++ != NULL);
    stage_begin(state, script);
    stage_end(stage_stuffed);
    stage_expect(&parcel, 0, VERDICT_DELIVERED, 250, "ok");
}

static void nobody_there(void **state)
{
    stage_begin(state, SCRIPT(NULL));
    scene_stop(&stage_scene);
    free(stage_scene.text);
    postman_run(&postman);
    postman_free(&postman);
    assert_int_equal(postman.why.kind, VERDICT_DEFERRED);
    assert_string_equal(postman.why.text, "connect: Connection refused");
    assert_int_equal(postman.why.status.subject, 4);
    assert_int_equal(postman.why.status.detail, 1);
}

static void no_socket(void **state)
{
    postman_init(&postman, state, NULL);
    static const char path[] = "/nonexistent/socket";
    postman.peer.address.ss_family = AF_UNIX;
    memcpy((char *)&postman.peer.address + sizeof(sa_family_t), path, sizeof(path));
    postman.peer.address_len = sizeof(sa_family_t) + sizeof(path);
    postman_run(&postman);
    postman_free(&postman);
    assert_string_equal(postman.why.text, "connect: No such file or directory");
}

/* A unix socket whose queue is full: the kernel waits for us, without a thread that spins. */
static void full_queue(void **state)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "/tmp/ringmx-full-queue"};
    int fillers[4], listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    (void)unlink(address.sun_path);
    assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(listener, 0), 0);
    for (int i = 0; i < 4; i++) {
        fillers[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        (void)connect(fillers[i], (struct sockaddr *)&address, sizeof(address));
    }
    postman_init(&postman, state, NULL);
    memcpy(&postman.peer.address, &address, sizeof(address));
    postman.peer.address_len = sizeof(address);
    postman.setup.timeouts.connect_s = 1;
    clock_t start = clock();
    postman_run(&postman);
    assert_in_range(clock() - start, 0, CLOCKS_PER_SEC / 2);
    postman_free(&postman);
    assert_string_equal(postman.why.text, "connect: timed out");
    for (int i = 0; i < 4; i++)
        close(fillers[i]);
    close(listener);
    unlink(address.sun_path);
}

/* --- in a delivery --- */

/* defers: the message is tried again, and the connection is over. */
static void defers(void **state, const char *const *script, uint16_t code, const char *text)
{
    stage_begin(state, script);
    stage_play();
    free(stage_scene.text);
    assert_string_equal(parcel.recipients[0].verdict.text, text);
    assert_int_equal(parcel.recipients[0].verdict.kind, VERDICT_DEFERRED);
    assert_int_equal(parcel.recipients[0].verdict.code, code);
    assert_true(postman.why_given);
    assert_int_equal(postman.why.kind, VERDICT_DEFERRED);
    assert_int_equal(postman.idles, 1);
}

#define PIPELINED GREET("S 250 PIPELINING"), MAIL, "C DATA"

static void closing_at_each_step(void **state)
{
    static const char closed[] = "the server closed the connection";
    defers(state, SCRIPT(GREET("S 250 HELP"), "c MAIL", NULL), 0, closed);
    assert_false(parcel.data_sent);
    defers(state, SCRIPT(PIPELINED, "S 250 ok", NULL), 0, closed);
    defers(state, SCRIPT(PIPELINED, "S 250 ok", "S 250 ok", NULL), 0, closed);
    assert_false(parcel.data_sent);
    defers(state, SCRIPT(PIPELINED, "S 250 ok", "S 250 ok", "S 354 go", "T", NULL), 0, closed);
    assert_true(parcel.data_sent); /* RFC 1047 */
    defers(state, SCRIPT(PIPELINED, "S 250 ok", "S 250 ok", "S 354 go", "T", "s 250 2.0.0 o", NULL),
           0, closed);
    assert_true(parcel.data_sent);
    defers(state, SCRIPT(PIPELINED, "S 250 ok", "S 250 ok", "S 354 go", "T", "R", NULL), 0,
           "the connection broke: Connection reset by peer");
}

static void says_421(void **state)
{
    defers(state, SCRIPT(GREET("S 250 HELP"), "c MAIL", "S 421 4.3.2 bye", "E", NULL), 421, "bye");
    defers(state, SCRIPT(PIPELINED, "S 250 ok", "S 421 bye", "E", NULL), 421, "bye");
    defers(state, SCRIPT(PIPELINED, "S 250 ok", "S 250 ok", "S 421 bye", "E", NULL), 421, "bye");
    defers(state,
           SCRIPT(PIPELINED, "S 250 ok", "S 250 ok", "S 354 go", "T", "S 421 bye", "E", NULL), 421,
           "bye");
    assert_false(parcel.data_sent);
}

/* What a recipient was told before stays. */
static void says_421_late(void **state)
{
    stage_begin(state, SCRIPT(GREET("S 250 PIPELINING"), MAIL, "C RCPT TO:<user1@example.org>",
                              "C RCPT TO:<user2@example.org>", "C DATA", "S 250 ok", "S 250 ok",
                              "S 550 no", "S 421 bye", "E", NULL));
    parcel.delivery.recipient_count = 3;
    stage_end("");
    stage_expect(&parcel, 0, VERDICT_DEFERRED, 421, "bye");
    stage_expect(&parcel, 1, VERDICT_REFUSED, 550, "no");
    stage_expect(&parcel, 2, VERDICT_DEFERRED, 421, "bye");
}

static void wait_at_rest(struct postman *from)
{
    assert_int_equal(client_state(from->client), CLIENT_IDLE);
    assert_true(client_idle_us(from->client) > 0);
}

/* In no turn_end the owner finds one that can't be used any more. */
static void is_at_rest(struct postman *from)
{
    if (from->client != NULL && from->idles > 0)
        assert_int_equal(client_state(from->client), CLIENT_IDLE);
}

/* 421 where nobody asked: between two messages that is an orderly end. */
static void idle_421(void **state)
{
    stage_begin(state,
                SCRIPT(GREET("S 250 PIPELINING"), "W 100", "S 421 idle for too long", "E", NULL));
    postman.on_idle = wait_at_rest;
    postman.on_turn = is_at_rest;
    stage_end("");
    assert_false(postman.why_given);
    assert_int_equal(postman.idles, 1);
}

static void wrong_codes(void **state)
{
    defers(state, SCRIPT(GREET("S 250 HELP"), "c MAIL", "S 354 go", "E", NULL), 0,
           "an answer that fits no question: 354 go");
    defers(state, SCRIPT(PIPELINED, "S 250 ok", "S 354 go", "E", NULL), 0,
           "an answer that fits no question: 354 go");
    defers(state, SCRIPT(PIPELINED, "S 250 ok", "S 250 ok", "S 250 thanks", "E", NULL), 0,
           "DATA was answered 250 thanks");
    defers(state,
           SCRIPT(PIPELINED, "S 250 ok", "S 250 ok", "S 354 go", "T", "S 354 more", "E", NULL), 0,
           "an answer that fits no question: 354 more");
    defers(state, SCRIPT(GREET("S 250 HELP"), "c MAIL", "s 250 ok\n\r\n", "E", NULL), 0,
           "the server does not speak SMTP");
    defers(state, SCRIPT(GREET("S 250 HELP"), "c MAIL", "s 25", "W 50", "s x\r\n", "E", NULL), 0,
           "the server does not speak SMTP");
}

/* More replies than questions: the message is refused or delivered by those that had one, and the
 * connection is not used again. */
static void too_many_replies(void **state)
{
    stage_begin(state, SCRIPT(PIPELINED, "S 250 ok", "S 250 ok", "S 354 go", "T",
                              "s 250 one\r\n250 two\r\n", "E", NULL));
    postman.parcels[1] = &second;
    stage_end(stage_stuffed);
    stage_expect(&parcel, 0, VERDICT_DELIVERED, 250, "one");
    assert_int_equal(second.delivered, 0);
    defers(state, SCRIPT(GREET("S 250 HELP"), "c MAIL", "s 250 one\r\n250 two\r\n", "E", NULL), 0,
           EARLY ": 250 two");
}

static void text_too_early(void **state)
{
    static const char *const offers[] = {"S 250-CHUNKING", "S 250-HELP"};
    for (int i = 0; i < 2; i++) {
        char *text = calloc(1, 4000001);
        memset(text, 'a', 4000000);
        for (int round = 0; round < 3; round++) {
            /* The text can't all be in the kernel's buffers yet. */
            const char *say = round == 0 ? "S 552 5.3.4 too big" : "S 250 ok";
            stage_scene = (struct scene){
                .receive_room = 8192,
                .scripts = {
                    i == 0
                        ? SCRIPT(GREET("S 250-BINARYMIME", offers[i], "S 250 PIPELINING"), "c MAIL",
                                 "c RCPT", "S 250 ok", round == 2 ? "S 550 no" : "S 250 ok",
                                 round == 2 ? "C RSET" : "c BDAT", round == 2 ? "S 250 ok" : say,
                                 "W 100", NULL)
                        : SCRIPT(GREET(offers[i], "S 250 PIPELINING"), "c MAIL", "c RCPT", "C DATA",
                                 "S 250 ok", "S 250 ok", "S 354 go", "B 10", say, "W 100", NULL)}};
            stage_start(state);
            parcel.text = text;
            parcel.text_len = parcel.delivery.size = 4000000;
            parcel.delivery.flags = i == 0 ? 2 : 0; /* ENVELOPE_BINARYMIME */
            stage_play();
            free(stage_scene.text);
            const struct verdict *verdict = &parcel.recipients[0].verdict;
            if (round == 2 && i == 0) {
                assert_int_equal(verdict->kind, VERDICT_REFUSED);
                continue;
            }
            assert_int_equal(verdict->kind, round == 0 ? VERDICT_REFUSED : VERDICT_DEFERRED);
            assert_int_equal(verdict->code, round == 0 ? 552 : 0);
            assert_false(parcel.data_sent);
            assert_int_equal(postman.why_given, round != 0);
        }
        free(text);
    }
}

/* The server leaves while the kernel sends from the text. */
static void leaves_in_the_text(void **state)
{
    char *text = malloc(4000000);
    memset(text, 'a', 4000000);
    for (int i = 0; i < 4; i++) {
        stage_scene =
            (struct scene){.receive_room = 8192,
                           .scripts = {SCRIPT(PIPELINED, "S 250 ok", "S 250 ok", "S 354 go",
                                              "B 10000", i % 2 ? "R" : "W 50", NULL)}};
        stage_start(state);
        parcel.text = text;
        parcel.text_len = parcel.delivery.size = 4000000;
        parcel.piece_max = i < 2 ? 0 : 100000;
        stage_play();
        free(stage_scene.text);
        assert_int_equal(parcel.recipients[0].verdict.kind, VERDICT_DEFERRED);
        assert_int_equal(parcel.recipients[0].verdict.code, 0);
        assert_true(postman.why_given);
    }
    free(text);
}

static void one_octet_at_a_time(void **state)
{
    stage_begin(state,
                SCRIPT("D", GREET("S 250-PIPELINING", "S 250 SIZE 100"),
                       "C MAIL FROM:<sender@example.com> SIZE=36", "C RCPT TO:<user0@example.org>",
                       "C DATA", "S 250-2.1.0 o", "S 250 2.1.0 k", "s 250 ok\n", "S 354 go", "T",
                       "S 250 2.0.0 \xc3\xbc \xff \x01 ok", STAGE_BYE));
    stage_end(stage_stuffed);
    stage_expect(&parcel, 0, VERDICT_DELIVERED, 250, "\xc3\xbc ? ? ok");
}

/* LMTP: 354 although there is nobody; one reply too few. */
static void lmtp_nobody(void **state)
{
    stage_begin(state, SCRIPT("S 220 l", "c LHLO", "S 250-l", "S 250 PIPELINING", MAIL, "C DATA",
                              "S 250 ok", "S 550 no", "S 354 go", "E", NULL));
    postman.peer.lmtp = true;
    stage_end("");
    stage_expect(&parcel, 0, VERDICT_REFUSED, 550, "no");
    assert_false(postman.why_given);
    stage_begin(state, SCRIPT("S 220 l", "c LHLO", "S 250-l", "S 250 PIPELINING", MAIL,
                              "C RCPT TO:<user1@example.org>", "C DATA", "S 250 ok", "S 250 ok",
                              "S 250 ok", "S 354 go", "T", "S 250 one", NULL));
    postman.peer.lmtp = true;
    parcel.delivery.recipient_count = 2;
    stage_end(stage_stuffed);
    stage_expect(&parcel, 0, VERDICT_DELIVERED, 250, "one");
    stage_expect(&parcel, 1, VERDICT_DEFERRED, 0, "the server closed the connection");
    assert_true(parcel.data_sent);
    stage_begin(state, SCRIPT("S 220 l", "c LHLO", "S 500 EHLO only", "C QUIT", "E", NULL));
    postman.peer.lmtp = true;
    stage_end("");
    assert_int_equal(postman.why.kind, VERDICT_REFUSED);
}

/* The worker has few blocks left: with one all goes, slowly; with none the message waits. */
static void few_blocks(void **state)
{
    static char dots[30000];
    for (size_t i = 0; i + 3 <= sizeof(dots); i += 3)
        memcpy(dots + i, ".\r\n", 3);
    for (uint32_t left = 0; left < 4; left++) {
        stage_begin(state, left == 0 ? SCRIPT("W 100", NULL)
                                     : SCRIPT(GREET("S 250 PIPELINING"), MAIL, "c RCPT", "C DATA",
                                              "S 250 ok", "S 250 ok", "S 250 ok", "S 354 go", "T",
                                              "S 250 ok", STAGE_BYE));
        struct blocks *blocks = &postman.worker.blocks;
        void *taken[64];
        uint32_t count = 0;
        parcel.delivery.recipient_count = 2;
        parcel.text = dots;
        parcel.text_len = parcel.delivery.size = sizeof(dots);
        while (blocks->used < blocks->count - left)
            taken[count++] = blocks_take(blocks);
        if (left == 0) {
            assert_null(client_open(&postman.setup, &postman.peer, &postman));
            assert_int_equal(errno, ENOBUFS);
        } else {
            postman_run(&postman);
            stage_expect(&parcel, 1, VERDICT_DELIVERED, 250, "ok");
        }
        while (count > 0)
            blocks_give(blocks, taken[--count]);
        scene_stop(&stage_scene);
        postman_free(&postman);
        assert_string_equal(stage_scene.fault, "");
        free(stage_scene.text);
    }
}

/* --- time --- */

static void is_silent(void **state, const char *const *script, const char *text, bool data_sent)
{
    stage_begin(state, script);
    postman.setup.timeouts = (struct client_timeouts){1, 1, 1, 1, 1, 1, 1, 0};
    stage_play();
    free(stage_scene.text);
    assert_string_equal(postman.why.text, text);
    assert_int_equal(postman.why.status.subject, 4);
    assert_int_equal(parcel.data_sent, data_sent);
    if (postman.idles > 0)
        stage_expect(&parcel, 0, VERDICT_DEFERRED, 0, text);
}

static void silence(void **state)
{
    is_silent(state, SCRIPT("E", NULL), "timed out: no greeting", false);
    is_silent(state, SCRIPT("S 220 hi", "c EHLO", "s 250-a\r\n250", "E", NULL),
              "timed out: no reply to EHLO", false);
    is_silent(state, SCRIPT(GREET("S 250 HELP"), "c MAIL", "E", NULL),
              "timed out: no reply to MAIL", false);
    is_silent(state, SCRIPT(PIPELINED, "S 250 ok", "E", NULL), "timed out: no reply to RCPT",
              false);
    is_silent(state, SCRIPT(PIPELINED, "S 250 ok", "S 250 ok", "E", NULL),
              "timed out: no reply to DATA", false);
    is_silent(state, SCRIPT(PIPELINED, "S 250 ok", "S 250 ok", "S 354 go", "T", "E", NULL),
              "timed out: no reply to the end of the text", true);
}

/* A reader that takes nothing is given up; a slow one, whose kernel takes something within each
 * time-out, is not. */
static void slow_reader(void **state)
{
    enum { STUCK_LEN = 16 << 20 };
    char *text = calloc(1, STUCK_LEN);
    memset(text, 'a', STUCK_LEN);
    for (int slow = 0; slow < 2; slow++) {
        const char *script[40] = {PIPELINED, "S 250 ok", "S 250 ok", "S 354 go", NULL};
        int at = 0;
        while (script[at] != NULL)
            at++;
        for (int i = 0; i < 6 && slow; i++) {
            script[at++] = "W 500";
            script[at++] = "B 100000";
        }
        script[at++] = slow ? "T" : "W 4000";
        script[at++] = slow ? "S 250 ok" : NULL;
        script[at] = NULL;
        stage_scene = (struct scene){.receive_room = 8192, .scripts = {script}};
        stage_start(state);
        postman.setup.timeouts.block_s = postman.setup.timeouts.end_s = 1;
        parcel.text = text;
        parcel.text_len = parcel.delivery.size = slow ? 2000000 : STUCK_LEN;
        stage_play();
        free(stage_scene.text);
        if (slow)
            stage_expect(&parcel, 0, VERDICT_DELIVERED, 250, "ok");
        else
            stage_expect(&parcel, 0, VERDICT_DEFERRED, 0,
                         "timed out: the server takes no more of the text");
    }
    free(text);
}

/* One that does a little before each time-out is given up all the same. */
static void too_long(void **state)
{
    stage_begin(state, SCRIPT(PIPELINED, "W 800", "S 250 ok", "W 800", "S 250 ok", "W 800",
                              "S 354 go", "E", NULL));
    postman.setup.timeouts = (struct client_timeouts){1, 1, 1, 1, 1, 1, 1, 2};
    stage_play();
    free(stage_scene.text);
    stage_expect(&parcel, 0, VERDICT_DEFERRED, 0, "timed out: the delivery takes too long");
    assert_int_equal(parcel.recipients[0].verdict.status.class, 4);
}

static void no_reply_to_quit(void **state)
{
    stage_begin(state, SCRIPT(GREET("S 250 HELP"), "C QUIT", "E", NULL));
    postman.parcels[0] = NULL;
    postman.setup.timeouts.quit_s = 1;
    stage_end("");
    assert_false(postman.why_given);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TWICE(greetings),
        TWICE(hellos),
        TWICE(helo),
        TWICE(endless_replies),
        TWICE(long_replies),
        TWICE(nobody_there),
        TWICE(no_socket),
        TWICE(full_queue),
        TWICE(closing_at_each_step),
        TWICE(says_421),
        TWICE(says_421_late),
        TWICE(idle_421),
        TWICE(wrong_codes),
        TWICE(too_many_replies),
        TWICE(text_too_early),
        TWICE(leaves_in_the_text),
        TWICE(one_octet_at_a_time),
        TWICE(lmtp_nobody),
        TWICE(few_blocks),
        cmocka_unit_test(silence),
        cmocka_unit_test(slow_reader),
        cmocka_unit_test(too_long),
        TWICE(no_reply_to_quit),
    };
    return cmocka_run_group_tests(tests, twice_set_up, NULL);
}
