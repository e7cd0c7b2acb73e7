/* The client of SMTP: extensions that the server offers or lacks (the table in docs/delivery.md,
 * "The client"), deliveries step by step, and deliveries that are given up. */
#include "gateway/base/clock.h"
#include "gateway/spool/envelope.h"
#include "parser/command.h"
#include "tests/support/stage.h"
#include "tests/support/twice.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define GREET STAGE_GREET
#define BYE   STAGE_BYE

/* --- what a server lacks --- */

/* refused: nothing is said about the message, and the connection stays. */
static void refused(uint16_t code, uint16_t subject, uint16_t detail)
{
    stage_end("");
    const struct verdict *verdict = &parcel.recipients[0].verdict;
    assert_int_equal(verdict->kind, VERDICT_REFUSED);
    assert_int_equal(verdict->code, code);
    assert_int_equal(verdict->status.class, 5);
    assert_int_equal(verdict->status.subject, subject);
    assert_int_equal(verdict->status.detail, detail);
    assert_int_equal(postman.idles, 2);
    assert_false(postman.why_given);
}

static void too_large(void **state)
{
    stage_begin(state, SCRIPT(GREET("S 250 SIZE 35"), BYE));
    refused(552, 3, 4);
    stage_begin(state, SCRIPT(GREET("S 250 SIZE 36"), "C MAIL FROM:<sender@example.com> SIZE=36",
                              "S 550 no", BYE));
    stage_end("");
    stage_begin(state, SCRIPT(GREET("S 250 SIZE"), "C MAIL FROM:<sender@example.com> SIZE=36",
                              "S 550 no", BYE));
    stage_end("");
}

static void no_binary(void **state)
{
    stage_begin(state, SCRIPT(GREET("S 250-BINARYMIME", "S 250 8BITMIME"), BYE));
    parcel.delivery.flags = ENVELOPE_BINARYMIME;
    refused(554, 6, 1);
    stage_begin(state, SCRIPT(GREET("S 250-CHUNKING", "S 250 8BITMIME"), BYE));
    parcel.delivery.flags = ENVELOPE_BINARYMIME;
    refused(554, 6, 1);
}

static void binary(void **state)
{
    static const char text[] = "a\n.\r\n.\nb\0c\r";
    stage_begin(state, SCRIPT(GREET("S 250-BINARYMIME", "S 250-CHUNKING", "S 250 PIPELINING"),
                              "C MAIL FROM:<sender@example.com> BODY=BINARYMIME",
                              "C RCPT TO:<user0@example.org>", "C BDAT 11 LAST", "B 11", "S 250 ok",
                              "S 250 ok", "S 250 ok", BYE));
    parcel.delivery.flags = ENVELOPE_BINARYMIME;
    parcel.text = text;
    parcel.text_len = parcel.delivery.size = sizeof(text) - 1;
    stage_play();
    assert_string_equal(stage_scene.fault, "");
    assert_int_equal(stage_scene.text_len, 11);
    assert_memory_equal(stage_scene.text, text, 11);
    free(stage_scene.text);
    stage_expect(&parcel, 0, VERDICT_DELIVERED, 250, "ok");
}

static void large_binary(void **state)
{
    stage_begin(state, SCRIPT(GREET("S 250-BINARYMIME", "S 250-CHUNKING", "S 250 PIPELINING"),
                              "C MAIL FROM:<sender@example.com> BODY=BINARYMIME",
                              "C RCPT TO:<user0@example.org>", "S 250 ok", "S 250 ok",
                              "C BDAT 300000 LAST", "B 300000", "S 250 ok", BYE));
    char *text = calloc(1, 300001);
    memset(text, '\n', 300000);
    parcel.delivery.flags = ENVELOPE_BINARYMIME;
    parcel.text = text;
    parcel.text_len = parcel.delivery.size = 300000;
    stage_end(text);
    free(text);
    stage_expect(&parcel, 0, VERDICT_DELIVERED, 250, "ok");
}

static void eight_bits(void **state)
{
    for (int offered = 0; offered < 2; offered++) {
        stage_begin(state, SCRIPT(GREET(offered ? "S 250 8BITMIME" : "S 250 HELP"),
                                  offered ? "C MAIL FROM:<sender@example.com> BODY=8BITMIME"
                                          : "C MAIL FROM:<sender@example.com>",
                                  "S 250 ok", "C RCPT TO:<user0@example.org>", "S 250 ok", "C DATA",
                                  "S 354 go", "T", "S 250 ok", BYE));
        parcel.delivery.flags = ENVELOPE_8BITMIME;
        stage_end(stage_stuffed);
    }
}

static void utf8(void **state)
{
    static const char foreign[] = "Subject: gr\xc3\xbc\xc3\x9f\r\n\r\ntext\r\n";
    static const char body[] = "Subject: x\r\n\r\ngr\xc3\xbc\xc3\x9f\r\n";
    const char *const plain = "C MAIL FROM:<sender@example.com>";
    for (int i = 0; i < 6; i++) {
        const char *text = i % 2 ? foreign : body;
        const char *offer = i < 2 ? "S 250 SMTPUTF8" : "S 250 HELP";
        const char *mail = i < 2 ? "C MAIL FROM:<sender@example.com> SMTPUTF8" : plain;
        stage_begin(state, i == 3 || i >= 4 ? SCRIPT(GREET(offer), BYE)
                                            : SCRIPT(GREET(offer), mail, "S 550 seen", BYE));
        parcel.text = text;
        parcel.text_len = parcel.delivery.size = strlen(text);
        parcel.piece_max = 3;
        parcel.delivery.flags = i < 4 ? ENVELOPE_SMTPUTF8 : 0;
        if (i >= 4)
            parcel.delivery.reverse_path = BYTES("j\xc3\xb6rg@example.com");
        if (i == 3 || i >= 4)
            refused(550, 6, 7);
        else
            stage_end("");
    }
}

static void utf8_recipient(void **state)
{
    stage_begin(state, SCRIPT(GREET("S 250-DSN", "S 250 PIPELINING"),
                              "C MAIL FROM:<sender@example.com>", "C RCPT TO:<user1@example.org>",
                              "C DATA", "S 250 ok", "S 250 ok", "S 354 go", "T", "S 250 ok", BYE));
    parcel.delivery.recipient_count = 3;
    parcel.recipients[0].forward_path = BYTES("j\xc3\xb6rg@example.org");
    parcel.recipients[1].orcpt = BYTES("utf-8;j\xc3\xb6rg@example.org");
    parcel.recipients[2].forward_path = BYTES("a@b>\r\nDATA");
    stage_end(stage_stuffed);
    stage_expect(&parcel, 0, VERDICT_REFUSED, 550, "the next hop does not support SMTPUTF8");
    stage_expect(&parcel, 1, VERDICT_DELIVERED, 250, "ok");
    stage_expect(&parcel, 2, VERDICT_REFUSED, 0, "the address can't be said");
}

static void nobody_can_be_said(void **state)
{
    stage_begin(state, SCRIPT(GREET("S 250 HELP"), "C MAIL FROM:<sender@example.com>", "S 250 ok",
                              "C RSET", "S 250 ok", BYE));
    parcel.recipients[0].forward_path = BYTES("a b\n@example.org");
    stage_end("");
    stage_expect(&parcel, 0, VERDICT_REFUSED, 0, "the address can't be said");
    stage_begin(state, SCRIPT(GREET("S 250 HELP"), BYE));
    parcel.delivery.reverse_path = BYTES("a>\r\nRSET\r\n@example.org");
    refused(0, 1, 7);
}

static void dsn(void **state)
{
    static const char all[] =
        "C RCPT TO:<user0@example.org> NOTIFY=SUCCESS,FAILURE,DELAY ORCPT=rfc822;a+40b";
    for (int offered = 0; offered < 2; offered++) {
        stage_begin(state, SCRIPT(GREET(offered ? "S 250-DSN" : "S 250-HELP", "S 250 PIPELINING"),
                                  offered ? "C MAIL FROM:<sender@example.com> RET=HDRS ENVID=e+3D1"
                                          : "C MAIL FROM:<sender@example.com>",
                                  offered ? all : "C RCPT TO:<user0@example.org>",
                                  offered ? "C RCPT TO:<user1@example.org> NOTIFY=NEVER"
                                          : "C RCPT TO:<user1@example.org>",
                                  "C DATA", "S 250 ok", "S 250 ok", "S 250 ok", "S 354 go", "T",
                                  "S 250 ok", BYE));
        parcel.delivery.recipient_count = 2;
        parcel.delivery.flags = ENVELOPE_RET_HDRS;
        parcel.delivery.envid = BYTES("e+3D1");
        parcel.recipients[0].orcpt = BYTES("rfc822;a+40b");
        parcel.recipients[0].notify =
            COMMAND_NOTIFY_SUCCESS | COMMAND_NOTIFY_FAILURE | COMMAND_NOTIFY_DELAY;
        parcel.recipients[1].notify = COMMAND_NOTIFY_NEVER;
        stage_end(stage_stuffed);
        assert_int_equal(parcel.delivery.dsn_passed, offered);
    }
}

static void requiretls_in_clear(void **state)
{
    stage_begin(state, SCRIPT(GREET("S 250 REQUIRETLS"), BYE));
    parcel.delivery.flags = ENVELOPE_REQUIRETLS;
    refused(550, 7, 30);
}

/* DELIVERBY (RFC 2852): what is to be returned goes to nobody who does not know of it, or wants
 * more time; what is told of goes on, and that is told of. Of LMTP it is delivered. */
static void deliver_by(void **state)
{
    const uint32_t now_s = (uint32_t)(clock_wall_us() / 1000000);
    stage_begin(state, SCRIPT(GREET("S 250 SIZE"), BYE));
    parcel.delivery.terms = (struct envelope_terms){.by_s = now_s + 1000, .by_mode = 1};
    refused(550, 3, 3);
    stage_begin(state, SCRIPT(GREET("S 250 DELIVERBY 2000"), BYE));
    parcel.delivery.terms = (struct envelope_terms){.by_s = now_s + 1000, .by_mode = 1};
    refused(0, 4, 7);
    stage_begin(state, SCRIPT(GREET("S 250 DELIVERBY"), BYE));
    parcel.delivery.terms = (struct envelope_terms){.by_s = now_s - 1, .by_mode = 1};
    refused(0, 4, 7);
    stage_begin(state, SCRIPT(GREET("S 250 DELIVERBY"), BYE)); /* never BY=0;R */
    parcel.delivery.terms = (struct envelope_terms){.by_s = now_s, .by_mode = 1};
    refused(0, 4, 7);
    stage_begin(state, SCRIPT(GREET("S 250 DELIVERBY 2000,X-FOO"), BYE)); /* an extension of it */
    parcel.delivery.terms = (struct envelope_terms){.by_s = now_s + 1000, .by_mode = 1};
    refused(0, 4, 7);
    stage_begin(state,
                SCRIPT(GREET("S 250 DELIVERBY"),
                       "C MAIL FROM:<sender@example.com> BY=-999999999;NT", "S 550 no", BYE));
    parcel.delivery.terms = (struct envelope_terms){.by_s = 1, .by_mode = ENVELOPE_BY_TRACE};
    stage_end("");
    assert_true(parcel.delivery.by_relayed);
    stage_begin(state, SCRIPT(GREET("S 250 DELIVERBY"),
                              "C MAIL FROM:<sender@example.com> BY=-999999999;N", "S 550 no", BYE));
    parcel.delivery.terms = (struct envelope_terms){.by_s = 1};
    stage_end("");
    assert_false(parcel.delivery.by_relayed);
    stage_begin(state, SCRIPT(GREET("S 250 SIZE"), "C MAIL FROM:<sender@example.com> SIZE=36",
                              "S 550 no", BYE));
    parcel.delivery.terms = (struct envelope_terms){.by_s = 1};
    stage_end("");
    assert_true(parcel.delivery.by_relayed);
}

/* "N" that goes to a host with DSN, but without DELIVERBY: that one is to tell of a delay. */
static void deliver_by_dsn(void **state)
{
    static const struct {
        uint8_t mode;
        const char *offer;
        const char *first, *second, *third;
    } cases[] = {
        {0,                 "S 250-SIZE",      " NOTIFY=FAILURE,DELAY", " NOTIFY=SUCCESS,DELAY", " NOTIFY=NEVER"},
        {ENVELOPE_BY_TRACE, "S 250-SIZE",      " NOTIFY=FAILURE,DELAY", " NOTIFY=SUCCESS,DELAY",
         " NOTIFY=NEVER"                                                                                        },
        {0,                 "S 250-DELIVERBY", "",                      " NOTIFY=SUCCESS",       " NOTIFY=NEVER"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char mail[80], to[3][80];
        const char *by = cases[i].offer[6] == 'S' ? " SIZE=36" : " BY=-999999999;N";
        snprintf(mail, sizeof mail, "C MAIL FROM:<sender@example.com>%s", by);
        snprintf(to[0], sizeof to[0], "C RCPT TO:<user0@example.org>%s", cases[i].first);
        snprintf(to[1], sizeof to[1], "C RCPT TO:<user1@example.org>%s", cases[i].second);
        snprintf(to[2], sizeof to[2], "C RCPT TO:<user2@example.org>%s", cases[i].third);
        stage_begin(state, SCRIPT(GREET(cases[i].offer, "S 250-PIPELINING", "S 250 DSN"), mail,
                                  to[0], to[1], to[2], "C DATA", "S 250 ok", "S 250 ok", "S 250 ok",
                                  "S 250 ok", "S 354 go", "T", "S 250 ok", BYE));
        parcel.delivery.terms = (struct envelope_terms){.by_s = 1, .by_mode = cases[i].mode};
        parcel.delivery.recipient_count = 3;
        parcel.recipients[1].notify = COMMAND_NOTIFY_SUCCESS;
        parcel.recipients[2].notify = COMMAND_NOTIFY_NEVER;
        stage_end(stage_stuffed);
    }
}

static void priority(void **state)
{
    stage_begin(state, SCRIPT(GREET("S 250 MT-PRIORITY MIXER"),
                              "C MAIL FROM:<sender@example.com> MT-PRIORITY=-4", "S 550 no", BYE));
    parcel.delivery.terms.priority = -4;
    stage_end("");
    stage_begin(state, SCRIPT(GREET("S 250 SIZE"), "C MAIL FROM:<sender@example.com> SIZE=36",
                              "S 550 no", BYE));
    parcel.delivery.terms.priority = 9;
    stage_end("");
}

/* Keywords in any case; unknown ones, and lines that begin like known ones, are nothing. */
static void keywords(void **state)
{
    stage_begin(
        state,
        SCRIPT(GREET("S 250-pipelining ", "S 250-SIZEX 3", "S 250-XCHUNKING", "S 250-CHUNKING-NOT",
                     "S 250-AUTH=LOGIN PLAIN", "S 250-", "S 250 8bitmime"),
               "C MAIL FROM:<sender@example.com> BODY=8BITMIME", "C RCPT TO:<user0@example.org>",
               "C DATA", "S 250 ok", "S 250 ok", "S 354 go", "T", "S 250 ok", BYE));
    parcel.delivery.flags = ENVELOPE_8BITMIME;
    stage_end(stage_stuffed);
}

/* --- step by step --- */

static uint32_t steps;

static void add_one(struct parcel *from, uint32_t index)
{
    struct delivery *delivery = &from->delivery;
    assert_int_equal(index, steps++);
    postman.inside = true;
    if (steps == 2) /* nothing changed */
        client_continue(delivery->client);
    if (steps == 3) {
        delivery->recipient_count = 5;
        client_continue(delivery->client);
    } else if (steps == 5) {
        delivery->text_ready = true;
        client_continue(delivery->client);
    }
    postman.inside = false;
}

static void stepwise(void **state)
{
    for (int pipelined = 0; pipelined < 2; pipelined++) {
        stage_begin(
            state, pipelined
                       ? SCRIPT(GREET("S 250-CHUNKING", "S 250 PIPELINING"),
                                "C MAIL FROM:<sender@example.com>", "C RCPT TO:<user0@example.org>",
                                "C RCPT TO:<user1@example.org>", "C RCPT TO:<user2@example.org>",
                                "S 250 ok", "S 250 one", "S 550 two", "W 20", "S 450 three",
                                "C RCPT TO:<user4@example.org>", "S 250 five", "C BDAT 36 LAST",
                                "B 36", "S 250 done", BYE)
                       : SCRIPT(GREET("S 250 CHUNKING"), "C MAIL FROM:<sender@example.com>",
                                "S 250 ok", "C RCPT TO:<user0@example.org>", "S 250 one",
                                "C RCPT TO:<user1@example.org>", "S 550 two",
                                "C RCPT TO:<user2@example.org>", "S 450 three",
                                "C RCPT TO:<user4@example.org>", "S 250 five", "C BDAT 36 LAST",
                                "B 36", "S 250 done", BYE));
        steps = 0;
        parcel.delivery.recipient_count = 3;
        parcel.recipients[3].forward_path = BYTES("can not\tbe@example.org");
        parcel.delivery.stepwise = true;
        parcel.on_answered = add_one;
        stage_end(stage_letter);
        assert_int_equal(parcel.answer_count, 5);
        stage_expect(&parcel, 0, VERDICT_DELIVERED, 250, "done");
        stage_expect(&parcel, 1, VERDICT_REFUSED, 550, "two");
        stage_expect(&parcel, 2, VERDICT_DEFERRED, 450, "three");
        stage_expect(&parcel, 3, VERDICT_REFUSED, 0, "the address can't be said");
        stage_expect(&parcel, 4, VERDICT_DELIVERED, 250, "done");
    }
}

static void stepwise_mail_refused(void **state)
{
    stage_begin(state, SCRIPT(GREET("S 250 PIPELINING"), "C MAIL FROM:<sender@example.com>",
                              "C RCPT TO:<user0@example.org>", "S 550 no", "S 503 no", BYE));
    parcel.delivery.stepwise = true;
    stage_end("");
    assert_int_equal(parcel.answer_count, 1);
    assert_int_equal(parcel.answers[0], UINT32_MAX);
    stage_expect(&parcel, 0, VERDICT_REFUSED, 550, "no");
}

/* What the owner does from its own turn, once it has been answered. */
static uint32_t acted;
static void (*act)(struct client *client);

static void act_once(struct postman *from)
{
    if (acted++ != 0 || from->client == NULL)
        return;
    from->inside = true;
    act(from->client);
    from->inside = false;
}

static void act_later(struct parcel *from, uint32_t index)
{
    (void)from;
    (void)index;
    acted = 0;
    postman.on_turn = act_once;
}

static void text_is_ready(struct client *client)
{
    parcel.delivery.text_ready = true;
    client_continue(client);
}

static void all_refused_then_ready(void **state)
{
    stage_begin(state,
                SCRIPT(GREET("S 250 HELP"), "C MAIL FROM:<sender@example.com>", "S 250 ok",
                       "C RCPT TO:<user0@example.org>", "S 550 no", "C RSET", "S 250 ok", BYE));
    act = text_is_ready;
    parcel.delivery.stepwise = true;
    parcel.on_answered = act_later;
    stage_end("");
    stage_expect(&parcel, 0, VERDICT_REFUSED, 550, "no");
}

static void size_known_late(struct client *client)
{
    parcel.delivery.size = 36;
    text_is_ready(client);
}

/* Without a size at first; it proves too large for the server in one case. */
static void late_size(void **state)
{
    for (int large = 0; large < 2; large++) {
        stage_begin(state, large
                               ? SCRIPT(GREET("S 250 SIZE 30"), "C MAIL FROM:<sender@example.com>",
                                        "S 250 ok", "C RCPT TO:<user0@example.org>", "S 250 ok",
                                        "C RSET", "S 250 ok", BYE)
                               : SCRIPT(GREET("S 250 SIZE 40"), "C MAIL FROM:<sender@example.com>",
                                        "S 250 ok", "C RCPT TO:<user0@example.org>", "S 250 ok",
                                        "C DATA", "S 354 go", "T", "S 250 ok", BYE));
        act = size_known_late;
        parcel.delivery.stepwise = true;
        parcel.delivery.size = 0;
        parcel.on_answered = act_later;
        stage_end(large ? "" : stage_stuffed);
        assert_int_equal(parcel.recipients[0].verdict.code, large ? 552 : 250);
    }
}

/* --- giving up --- */

static void cancel_before_text(void **state)
{
    stage_begin(state, SCRIPT(GREET("S 250 PIPELINING"), "C MAIL FROM:<sender@example.com>",
                              "C RCPT TO:<user0@example.org>", "S 250 ok", "S 250 ok", "C RSET",
                              "S 250 ok", BYE));
    act = client_cancel;
    parcel.delivery.stepwise = true;
    parcel.on_answered = act_later;
    stage_end("");
    stage_expect(&parcel, 0, VERDICT_DEFERRED, 0, "given up");
    assert_int_equal(postman.idles, 2);
    assert_false(postman.why_given);
}

static void cancel_in_answer(struct parcel *from, uint32_t index)
{
    (void)index;
    postman.inside = true;
    client_cancel(from->delivery.client);
    postman.inside = false;
}

static void cancel_when_answered(void **state)
{
    for (int refused_mail = 0; refused_mail < 2; refused_mail++) {
        stage_begin(state,
                    refused_mail
                        ? SCRIPT(GREET("S 250 PIPELINING"), "C MAIL FROM:<sender@example.com>",
                                 "C RCPT TO:<user0@example.org>", "s 550 no\r\n503 no\r\n", BYE)
                        : SCRIPT(GREET("S 250 PIPELINING"), "C MAIL FROM:<sender@example.com>",
                                 "C RCPT TO:<user0@example.org>", "S 250 ok", "S 250 ok", "C RSET",
                                 "S 250 ok", BYE));
        parcel.delivery.stepwise = true;
        parcel.on_answered = cancel_in_answer;
        stage_end("");
        stage_expect(&parcel, 0, refused_mail ? VERDICT_REFUSED : VERDICT_DEFERRED,
                     refused_mail ? 550 : 0, refused_mail ? "no" : "given up");
    }
}

static void cancel_early(struct postman *from)
{
    if (from->idles == 0 || from->client == NULL || acted++ < 5)
        return;
    client_cancel(from->client);
}

/* A reply is outstanding, or the text is under way: the connection ends at once. */
static void cancel_in_the_midst(void **state)
{
    for (int i = 0; i < 3; i++) {
        stage_begin(state,
                    i == 0
                        ? SCRIPT(GREET("S 250 HELP"), "C MAIL FROM:<sender@example.com>", "E", NULL)
                        : SCRIPT(GREET("S 250 PIPELINING"), "C MAIL FROM:<sender@example.com>",
                                 "C RCPT TO:<user0@example.org>", "C DATA", "S 250 ok", "S 250 ok",
                                 i == 1 ? "E" : "S 354 go", i == 1 ? NULL : "W 500", NULL));
        char *text = malloc(4000000);
        memset(text, 'a', 4000000);
        parcel.text = text;
        parcel.text_len = parcel.delivery.size = 4000000;
        stage_scene.receive_room = 8192;
        acted = 0;
        postman.on_turn = cancel_early;
        stage_end("");
        free(text);
        stage_expect(&parcel, 0, VERDICT_DEFERRED, 0, "given up");
        assert_false(postman.why_given);
        assert_false(parcel.data_sent);
    }
}

static void quit_early(struct postman *from)
{
    if (from->client != NULL && acted++ == 3)
        client_quit(from->client);
}

static void quit_while_connecting(void **state)
{
    stage_begin(state, SCRIPT("W 200", "E", NULL));
    acted = 0;
    postman.on_turn = quit_early;
    stage_end("");
    assert_int_equal(postman.idles, 0);
    assert_false(postman.why_given);
}

/* The source fails in the midst of the text: the server sees no end of it. */
static void source_fails(void **state)
{
    for (int bdat = 0; bdat < 2; bdat++) {
        stage_begin(state,
                    SCRIPT(GREET(bdat ? "S 250-CHUNKING" : "S 250-HELP", "S 250 PIPELINING"),
                           "C MAIL FROM:<sender@example.com>", "C RCPT TO:<user0@example.org>",
                           bdat ? "C BDAT 36 LAST" : "C DATA", bdat ? "B 20" : "S 250 ok",
                           bdat ? "E" : "S 250 ok", bdat ? "E" : "S 354 go", bdat ? "E" : "B 21",
                           "E", NULL));
        parcel.piece_max = 10;
        parcel.fail_at = 30;
        parcel.fail = bdat ? -EIO : -EBADMSG;
        stage_play();
        assert_string_equal(stage_scene.fault, "");
        assert_int_equal(stage_scene.text_len, bdat ? 20 : 21);
        free(stage_scene.text);
        stage_expect(&parcel, 0, VERDICT_DEFERRED, 0, "the message could not be read");
        assert_false(parcel.data_sent);
        assert_true(postman.why_given);
    }
}

/* The source has more or less than was said. */
static void source_lies(void **state)
{
    for (int more = 0; more < 2; more++) {
        stage_begin(state, SCRIPT(GREET("S 250 CHUNKING"), "C MAIL FROM:<sender@example.com>",
                                  "S 250 ok", "C RCPT TO:<user0@example.org>", "S 250 ok",
                                  "c BDAT ", more ? "B 32" : "B 36", "E", NULL));
        parcel.delivery.size += more ? (uint64_t)-3 : 3;
        parcel.piece_max = 8;
        stage_play();
        assert_string_equal(stage_scene.fault, "");
        free(stage_scene.text);
        stage_expect(&parcel, 0, VERDICT_DEFERRED, 0, "the message could not be read");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TWICE(too_large),
        TWICE(no_binary),
        TWICE(binary),
        TWICE(large_binary),
        TWICE(eight_bits),
        TWICE(utf8),
        TWICE(utf8_recipient),
        TWICE(nobody_can_be_said),
        TWICE(dsn),
        TWICE(requiretls_in_clear),
        TWICE(deliver_by),
        TWICE(deliver_by_dsn),
        TWICE(priority),
        TWICE(keywords),
        TWICE(stepwise),
        TWICE(stepwise_mail_refused),
        TWICE(all_refused_then_ready),
        TWICE(late_size),
        TWICE(cancel_before_text),
        TWICE(cancel_when_answered),
        TWICE(cancel_in_the_midst),
        TWICE(quit_while_connecting),
        TWICE(source_fails),
        TWICE(source_lies),
    };
    return cmocka_run_group_tests(tests, twice_set_up, NULL);
}
