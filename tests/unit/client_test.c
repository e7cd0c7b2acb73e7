/* The client of SMTP and LMTP against servers that keep to the rules: what it says, in which
 * flights, and what becomes of the replies. Each runs with what this kernel can do and with what
 * Linux 6.1 can. What goes wrong: client_hostile_test.c; TLS: client_tls_test.c. */
#include "tests/support/stage.h"
#include "tests/support/twice.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define GREET STAGE_GREET
#define BYE   STAGE_BYE

static void lock_step(void **state)
{
    stage_begin(state, SCRIPT(GREET("S 250 HELP"), "C MAIL FROM:<sender@example.com>", "W 20",
                              "S 250 2.1.0 ok", "C RCPT TO:<user0@example.org>", "S 250 ok",
                              "C RCPT TO:<user1@example.org>", "S 550 5.1.1 no such user",
                              "C RCPT TO:<user2@example.org>", "S 450 later", "C DATA", "S 354 go",
                              "T", "S 250 2.0.0 queued as 1", BYE));
    parcel_make(&parcel, stage_letter, strlen(stage_letter), 3);
    stage_end(stage_stuffed);
    assert_false(postman.why_given);
    assert_int_equal(postman.used, 1);
    assert_int_equal(postman.idles, 2);
    stage_expect(&parcel, 0, VERDICT_DELIVERED, 250, "queued as 1");
    stage_expect(&parcel, 1, VERDICT_REFUSED, 550, "no such user");
    stage_expect(&parcel, 2, VERDICT_DEFERRED, 450, "later");
    assert_int_equal(parcel.recipients[1].verdict.status.subject, 1);
    assert_int_equal(parcel.recipients[1].verdict.status.detail, 1);
    assert_int_equal(parcel.recipients[2].verdict.status.class, 4);
    assert_int_equal(parcel.recipients[2].verdict.status.subject, 0);
    assert_false(parcel.data_sent || parcel.delivery.dsn_passed);
    assert_int_equal(parcel.delivery.tls_version, 0);
    assert_memory_equal(parcel.delivery.peer, "[127.0.0.1]:", 12);
}

/* The server answers nothing before it has seen the whole flight. */
static void one_flight_data(void **state)
{
    stage_begin(state, SCRIPT(GREET("S 250-PIPELINING", "S 250 8BITMIME"),
                              "C MAIL FROM:<sender@example.com>", "C RCPT TO:<user0@example.org>",
                              "C RCPT TO:<user1@example.org>", "C DATA", "S 250 ok", "S 250 ok",
                              "S 250 ok", "S 354 go", "T", "S 250 ok", BYE));
    parcel_make(&parcel, stage_letter, strlen(stage_letter), 2);
    stage_end(stage_stuffed);
    stage_expect(&parcel, 1, VERDICT_DELIVERED, 250, "ok");
}

static void one_flight_bdat(void **state)
{
    stage_begin(state,
                SCRIPT(GREET("S 250-PIPELINING", "S 250-SIZE 1000000", "S 250 CHUNKING"),
                       "C MAIL FROM:<sender@example.com> SIZE=42", "C RCPT TO:<user0@example.org>",
                       "C RCPT TO:<user1@example.org>", "C BDAT 42 LAST", "B 42", "S 250 ok",
                       "S 550 no", "S 250 ok", "S 250 2.6.0 got it", "C MAIL FROM:<> SIZE=42",
                       "C RCPT TO:<user0@example.org>", "C BDAT 42 LAST", "B 42", "S 250 ok",
                       "S 250 ok", "S 250 too", BYE));
    parcel_make(&parcel, stage_letter, strlen(stage_letter), 2);
    parcel.piece_max = 10;
    parcel.delivery.head = BYTES("R: 1\r\n");
    parcel.delivery.size += 6;
    second.delivery.reverse_path = BYTES("");
    second.delivery.head = BYTES("R: 2\r\n");
    second.delivery.size += 6;
    postman.parcels[1] = &second;
    char both[200];
    snprintf(both, sizeof(both), "R: 1\r\n%sR: 2\r\n%s", stage_letter, stage_letter);
    assert_int_equal(strlen(stage_letter), 36);
    stage_end(both);
    stage_expect(&parcel, 0, VERDICT_REFUSED, 550, "no");
    stage_expect(&parcel, 1, VERDICT_DELIVERED, 250, "got it");
    stage_expect(&second, 0, VERDICT_DELIVERED, 250, "too");
    assert_int_equal(postman.used, 2);
}

/* CHUNKING without PIPELINING: the text follows its command at once. */
static void lock_step_bdat(void **state)
{
    stage_begin(state, SCRIPT(GREET("S 250 CHUNKING"), "C MAIL FROM:<sender@example.com>",
                              "S 250 ok", "C RCPT TO:<user0@example.org>", "S 250 ok",
                              "C BDAT 36 LAST", "B 36", "S 250 ok", BYE));
    stage_end(stage_letter);
    stage_expect(&parcel, 0, VERDICT_DELIVERED, 250, "ok");
}

/* More than 256 KiB go by DATA, though there is CHUNKING; the end is added where it is missing. */
static void large(void **state)
{
    enum { LEN = 1500000 };
    char *text = malloc(LEN + 10);
    for (int i = 0; i < LEN; i++)
        text[i] = i % 70 == 68 ? '\r' : i % 70 == 69 ? '\n' : 'a';
    text[LEN] = '\0';
    for (int round = 0; round < 3; round++) {
        stage_begin(state,
                    SCRIPT(GREET("S 250-PIPELINING", "S 250 CHUNKING"),
                           "C MAIL FROM:<sender@example.com>", "C RCPT TO:<user0@example.org>",
                           "C DATA", "S 250 ok", "S 250 ok", "S 354 go", "T", "S 250 ok", BYE));
        stage_scene.receive_room = 8192;
        parcel_make(&parcel, text, LEN, 1);
        parcel.piece_max = (size_t[]){0, 131072, 70}[round];
        parcel.text_len = parcel.delivery.size = round == 2 ? 300000 : LEN;
        char *whole = malloc(LEN + 10);
        snprintf(whole, LEN + 10, "%.*s\r\n.\r\n", (int)parcel.text_len, text);
        stage_end(whole);
        stage_expect(&parcel, 0, VERDICT_DELIVERED, 250, "ok");
        free(whole);
    }
    free(text);
}

/* A hundred recipients with long addresses do not fit in one block. */
static void many_recipients(void **state)
{
    static char name[100][240];
    const char *script[320];
    int at = 0;
    static const char *const start[] = {GREET("S 250-PIPELINING", "S 250 DSN"),
                                        "C MAIL FROM:<sender@example.com>"};
    for (size_t i = 0; i < sizeof(start) / sizeof(*start); i++)
        script[at++] = start[i];
    for (int i = 0; i < 100; i++) {
        snprintf(name[i], sizeof(name[i]), "C RCPT TO:<%0200d@example.org>", i);
        script[at++] = name[i];
    }
    script[at++] = "C DATA";
    for (int i = 0; i < 101; i++)
        script[at++] = i % 2 ? "S 450 4.2.1 odd" : "S 250 2.1.5 even";
    static const char *const finish[] = {"S 354 go", "T", "S 250 ok", BYE};
    for (size_t i = 0; i < sizeof(finish) / sizeof(*finish); i++)
        script[at++] = finish[i];
    stage_begin(state, script);
    parcel_make(&parcel, stage_letter, strlen(stage_letter), 100);
    for (int i = 0; i < 100; i++)
        parcel.recipients[i].forward_path = bytes_make(name[i] + 11, 200 + 12);
    stage_end(stage_stuffed);
    for (uint32_t i = 0; i < 100; i++)
        stage_expect(&parcel, i, i % 2 ? VERDICT_DELIVERED : VERDICT_DEFERRED, i % 2 ? 250 : 450,
                     i % 2 ? "ok" : "odd");
    assert_true(parcel.delivery.dsn_passed);
}

/* --- refusals --- */

static void mail_refused(void **state)
{
    stage_begin(state, SCRIPT(GREET("S 250 PIPELINING"), "C MAIL FROM:<sender@example.com>",
                              "C RCPT TO:<user0@example.org>", "C RCPT TO:<user1@example.org>",
                              "C DATA", "S 550 5.7.1 not you", "S 503 mail first",
                              "S 503 mail first", "S 503 rcpt first",
                              "C MAIL FROM:<sender@example.com>", "C RCPT TO:<user0@example.org>",
                              "C DATA", "S 451 4.3.0 not now", "S 503 no", "S 503 no", BYE));
    parcel_make(&parcel, stage_letter, strlen(stage_letter), 2);
    postman.parcels[1] = &second;
    stage_end("");
    stage_expect(&parcel, 0, VERDICT_REFUSED, 550, "not you");
    stage_expect(&parcel, 1, VERDICT_REFUSED, 550, "not you");
    stage_expect(&second, 0, VERDICT_DEFERRED, 451, "not now");
}

static void mail_refused_lock_step(void **state)
{
    stage_begin(state,
                SCRIPT(GREET("S 250 HELP"), "C MAIL FROM:<sender@example.com>", "S 452 full", BYE));
    stage_end("");
    stage_expect(&parcel, 0, VERDICT_DEFERRED, 452, "full");
}

/* Nobody is left: DATA is not said, or refused, or answered all the same; the server is to forget
 * the sender before the next. */
static void nobody_left(void **state)
{
    static const char *const ends[3][4] = {
        {"S 503 no recipients", "C RSET", "S 250 ok"           },
        {"S 354 go",            "T",      "S 554 no recipients"},
        {"S 354 go",            "T",      "S 250 ok"           }
    };
    stage_begin(state,
                SCRIPT(GREET("S 250 HELP"), "C MAIL FROM:<sender@example.com>", "S 250 ok",
                       "C RCPT TO:<user0@example.org>", "S 550 no", "C RSET", "S 250 ok", BYE));
    stage_end("");
    stage_expect(&parcel, 0, VERDICT_REFUSED, 550, "no");
    for (int i = 0; i < 3; i++) {
        const char *const *last = ends[i];
        stage_begin(state, SCRIPT(GREET("S 250 PIPELINING"), "C MAIL FROM:<sender@example.com>",
                                  "C RCPT TO:<user0@example.org>", "C DATA", "S 250 ok", "S 550 no",
                                  last[0], last[1], last[2], BYE));
        stage_end(i == 0 ? "" : ".\r\n");
        stage_expect(&parcel, 0, VERDICT_REFUSED, 550, "no");
        assert_false(postman.why_given);
    }
}

/* The text is under way already: whatever the server says of it, RCPT decides. */
static void nobody_left_bdat(void **state)
{
    static const char *const ends[] = {"S 503 no", "S 250 ok", "S 451 no"};
    for (int i = 0; i < 3; i++) {
        const char *const *reset =
            i == 1 ? SCRIPT("C QUIT", "S 221 bye") : SCRIPT("C RSET", "S 250 ok");
        stage_begin(state,
                    SCRIPT(GREET("S 250-PIPELINING", "S 250 CHUNKING"),
                           "C MAIL FROM:<sender@example.com>", "C RCPT TO:<user0@example.org>",
                           "C BDAT 36 LAST", "B 36", "S 250 ok", "S 550 5.1.1 who", ends[i],
                           reset[0], reset[1], i == 1 ? NULL : "C QUIT", "S 221 bye", NULL));
        stage_end(stage_letter);
        stage_expect(&parcel, 0, VERDICT_REFUSED, 550, "who");
    }
}

static void data_refused(void **state)
{
    stage_begin(state, SCRIPT(GREET("S 250 PIPELINING"), "C MAIL FROM:<sender@example.com>",
                              "C RCPT TO:<user0@example.org>", "C RCPT TO:<user1@example.org>",
                              "C DATA", "S 250 ok", "S 250 ok", "S 550 5.1.1 who",
                              "S 451 4.3.2 later", "C RSET", "S 250 ok", BYE));
    parcel_make(&parcel, stage_letter, strlen(stage_letter), 2);
    stage_end("");
    stage_expect(&parcel, 0, VERDICT_DEFERRED, 451, "later");
    stage_expect(&parcel, 1, VERDICT_REFUSED, 550, "who");
}

static void text_refused(void **state)
{
    stage_begin(state, SCRIPT(GREET("S 250 HELP"), "C MAIL FROM:<sender@example.com>", "S 250 ok",
                              "C RCPT TO:<user0@example.org>", "S 250 ok",
                              "C RCPT TO:<user1@example.org>", "S 250 ok", "C DATA", "S 354 go",
                              "T", "S 554-5.6.0 we do not", "S 554 5.6.0 like it", BYE));
    parcel_make(&parcel, stage_letter, strlen(stage_letter), 2);
    stage_end(stage_stuffed);
    stage_expect(&parcel, 0, VERDICT_REFUSED, 554, "we do not like it");
    stage_expect(&parcel, 1, VERDICT_REFUSED, 554, "we do not like it");
    assert_int_equal(parcel.recipients[0].verdict.status.subject, 6);
}

static void too_many_recipients(void **state)
{
    stage_begin(state, SCRIPT(GREET("S 250 PIPELINING"), "C MAIL FROM:<sender@example.com>",
                              "C RCPT TO:<user0@example.org>", "C RCPT TO:<user1@example.org>",
                              "C RCPT TO:<user2@example.org>", "C DATA", "S 250 ok", "S 250 ok",
                              "S 552 too many", "S 552 5.2.2 mailbox full", "S 354 go", "T",
                              "S 250 ok", BYE));
    parcel_make(&parcel, stage_letter, strlen(stage_letter), 3);
    stage_end(stage_stuffed);
    stage_expect(&parcel, 0, VERDICT_DELIVERED, 250, "ok");
    stage_expect(&parcel, 1, VERDICT_DEFERRED, 552, "too many");
    assert_int_equal(parcel.recipients[1].verdict.status.class, 4);
    assert_int_equal(parcel.recipients[1].verdict.status.detail, 3);
    stage_expect(&parcel, 2, VERDICT_REFUSED, 552, "mailbox full");
}

/* --- LMTP --- */

static void lmtp(void **state)
{
    stage_begin(state, SCRIPT("S 220 lmtp", "C LHLO mx.example.com", "S 250-lmtp",
                              "S 250 PIPELINING", "C MAIL FROM:<sender@example.com>",
                              "C RCPT TO:<user0@example.org>", "C RCPT TO:<user1@example.org>",
                              "C RCPT TO:<user2@example.org>", "C RCPT TO:<user3@example.org>",
                              "C DATA", "S 250 ok", "S 250 ok", "S 550 5.1.1 who", "S 250 ok",
                              "S 250 ok", "S 354 go", "T", "S 250 2.0.0 saved", "S 552 5.2.2 full",
                              "S 451 4.2.0 locked", "C MAIL FROM:<sender@example.com>",
                              "C RCPT TO:<user0@example.org>", "C DATA", "S 250 ok", "S 550 no",
                              "S 503 nobody", "C RSET", "S 250 ok", BYE));
    postman.peer.lmtp = true;
    parcel_make(&parcel, stage_letter, strlen(stage_letter), 4);
    postman.parcels[1] = &second;
    stage_end(stage_stuffed);
    stage_expect(&parcel, 0, VERDICT_DELIVERED, 250, "saved");
    stage_expect(&parcel, 1, VERDICT_REFUSED, 550, "who");
    stage_expect(&parcel, 2, VERDICT_REFUSED, 552, "full");
    stage_expect(&parcel, 3, VERDICT_DEFERRED, 451, "locked");
}

static void lmtp_bdat_unix(void **state)
{
    stage_scene = (struct scene){
        .scripts = {SCRIPT(
            "S 220 lmtp", "C LHLO mx.example.com", "S 250-lmtp", "S 250-CHUNKING",
            "S 250 PIPELINING", "C MAIL FROM:<sender@example.com>", "C RCPT TO:<user0@example.org>",
            "C RCPT TO:<user1@example.org>", "C BDAT 36 LAST", "B 36", "S 250 ok", "S 250 ok",
            "S 250 ok", "S 250 one", "W 50", "S 550 two", "C RSET", "S 250 ok",
            "C MAIL FROM:<sender@example.com>", "C RCPT TO:<user0@example.org>", "C BDAT 36 LAST",
            "B 36", "S 250 ok", "S 550 no", "C QUIT", "S 221 bye", "E", NULL)},
        .path = "/tmp/ringmx-client-test.sock"};
    unlink(stage_scene.path);
    stage_start(state);
    parcel_make(&parcel, stage_letter, strlen(stage_letter), 2);
    postman.parcels[1] = &second;
    postman.peer.lmtp = true;
    char twice[200];
    snprintf(twice, sizeof(twice), "%s%s", stage_letter, stage_letter);
    stage_end(twice);
    stage_expect(&parcel, 0, VERDICT_DELIVERED, 250, "one");
    stage_expect(&parcel, 1, VERDICT_REFUSED, 550, "two");
    stage_expect(&second, 0, VERDICT_REFUSED, 550, "no");
    assert_string_equal(parcel.delivery.peer, "unix:/tmp/ringmx-client-test.sock");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TWICE(lock_step),
        TWICE(one_flight_data),
        TWICE(one_flight_bdat),
        TWICE(lock_step_bdat),
        TWICE(large),
        TWICE(many_recipients),
        TWICE(mail_refused),
        TWICE(mail_refused_lock_step),
        TWICE(nobody_left),
        TWICE(nobody_left_bdat),
        TWICE(data_refused),
        TWICE(text_refused),
        TWICE(too_many_recipients),
        TWICE(lmtp),
        TWICE(lmtp_bdat_unix),
    };
    return cmocka_run_group_tests(tests, twice_set_up, NULL);
}
