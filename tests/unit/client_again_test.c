/* Connections that the server ends before their second delivery: 421, or no word. When the server
 * can't have taken the delivery it is `stale`, and there is no why; else it is as if the connection
 * had broken in any other delivery. Each runs as on Linux 6.1, too. */
#include "tests/support/stage.h"
#include "tests/support/twice.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define GREET STAGE_GREET
#define BYE   STAGE_BYE

#define MAIL "C MAIL FROM:<sender@example.com>"
#define RCPT "C RCPT TO:<user0@example.org>"

/* One delivery by DATA in a flight; the same with CHUNKING. */
#define FIRST       MAIL, RCPT, "C DATA", "S 250 ok", "S 250 ok", "S 354 go", "T", "S 250 got it"
#define FIRST_CHUNK MAIL, RCPT, "C BDAT 36 LAST", "B 36", "S 250 ok", "S 250 ok", "S 250 got it"

static bool stale[2];
static uint64_t rest_us; /* before the second */
static uint64_t idle_us;

static void (*usual)(struct delivery *delivery);

static void delivered(struct delivery *delivery)
{
    stale[delivery == &second.delivery] = client_stale(delivery->client);
    usual(delivery);
}

static void give_later(struct postman *man)
{
    if (man->client == NULL || man->next != 1 || client_state(man->client) != CLIENT_IDLE ||
        man->worker.now_us < idle_us + rest_us)
        return;
    man->next++;
    man->inside = true;
    client_deliver(man->client, &second.delivery);
    man->inside = false;
}

static void on_idle(struct postman *man)
{
    idle_us = man->worker.now_us;
    if (man->next == 1 && rest_us > 0)
        return;
    struct parcel *next = man->parcels[man->next];
    man->inside = true;
    if (next == NULL) {
        client_quit(man->client);
    } else {
        man->next++;
        client_deliver(man->client, &next->delivery);
    }
    man->inside = false;
}

static void begin(void **state, const char *const *script)
{
    stage_begin(state, script);
    usual = parcel.delivery.delivered;
    parcel.delivery.delivered = second.delivery.delivered = delivered;
    postman.parcels[1] = &second;
    postman.on_idle = on_idle;
    postman.on_turn = give_later;
    stale[0] = stale[1] = false;
    rest_us = 0;
}

/* The first was delivered; the second was not, and is stale or not. */
static void expect(bool is_stale)
{
    stage_expect(&parcel, 0, VERDICT_DELIVERED, 250, "got it");
    assert_int_equal(second.recipients[0].verdict.kind, VERDICT_DEFERRED);
    assert_false(stale[0]);
    assert_int_equal(stale[1], is_stale);
    assert_int_equal(postman.why_given, !is_stale);
    assert_int_equal(postman.used, 2);
    if (is_stale)
        assert_false(second.data_sent);
    free(stage_scene.text);
}

static void enough(void **state)
{
    begin(state, SCRIPT(GREET("S 250 PIPELINING"), FIRST, MAIL, "S 421 4.7.0 too many", NULL));
    stage_play();
    expect(true);
    stage_expect(&second, 0, VERDICT_DEFERRED, 421, "too many");
    begin(state,
          SCRIPT(GREET("S 250 HELP"), MAIL, "S 250 ok", RCPT, "S 250 ok", "C DATA", "S 354 go", "T",
                 "S 250 got it", MAIL, "S 421-4.7.0 too", "S 421 many", "E", NULL));
    stage_play();
    assert_string_equal(stage_scene.fault, "");
    expect(true);
}

/* The text has left with MAIL; but who says 421 to MAIL has not taken it. */
static void enough_of_chunks(void **state)
{
    begin(state, SCRIPT(GREET("S 250-PIPELINING", "S 250 CHUNKING"), FIRST_CHUNK, MAIL, RCPT,
                        "C BDAT 36 LAST", "B 36", "S 421 4.7.0 too many", "E", NULL));
    stage_play();
    assert_string_equal(stage_scene.fault, "");
    expect(true);
}

/* 421 to RCPT is no such thing, nor 421 to the first MAIL. */
static void something_else(void **state)
{
    begin(state, SCRIPT(GREET("S 250 PIPELINING"), FIRST, MAIL, RCPT, "C DATA", "S 250 ok",
                        "S 421 4.3.2 going down", "E", NULL));
    stage_play();
    expect(false);
    begin(state,
          SCRIPT(GREET("S 250 PIPELINING"), MAIL, RCPT, "C DATA", "S 421 4.3.2 no", "E", NULL));
    stage_play();
    stage_expect(&parcel, 0, VERDICT_DEFERRED, 421, "no");
    assert_true(postman.why_given && !stale[0]);
    assert_int_equal(postman.next, 1);
    free(stage_scene.text);
    begin(state, SCRIPT(GREET("S 250 PIPELINING"), FIRST, MAIL, RCPT, "C DATA", "S 451 later",
                        "S 503 no", "S 503 no", BYE));
    stage_play();
    stage_expect(&second, 0, VERDICT_DEFERRED, 451, "later");
    assert_false(stale[1]);
    free(stage_scene.text);
}

/* No word at all: the connection closes, or is reset, before the text was asked for. */
static void without_a_word(void **state)
{
    begin(state, SCRIPT(GREET("S 250 PIPELINING"), FIRST, MAIL, RCPT, "C DATA", NULL));
    stage_play();
    expect(true);
    begin(state, SCRIPT(GREET("S 250 PIPELINING"), FIRST, MAIL, "R", NULL));
    stage_play();
    expect(true);
    begin(state, SCRIPT(GREET("S 250 PIPELINING"), FIRST, MAIL, RCPT, "C DATA", "s 25", NULL));
    stage_play();
    expect(false);
    begin(state, SCRIPT(GREET("S 250 PIPELINING"), FIRST, MAIL, RCPT, "C DATA", "S 250 ok", NULL));
    stage_play();
    expect(false);
    begin(state, SCRIPT(GREET("S 250 PIPELINING"), MAIL, RCPT, "C DATA", NULL));
    stage_play();
    assert_true(postman.why_given && !stale[0]);
    free(stage_scene.text);
}

/* The text has left, and no reply came: nobody knows. */
static void with_the_text(void **state)
{
    begin(state, SCRIPT(GREET("S 250-PIPELINING", "S 250 CHUNKING"), FIRST_CHUNK, MAIL, RCPT,
                        "C BDAT 36 LAST", "B 36", NULL));
    stage_play();
    expect(false);
    assert_true(second.data_sent);
}

/* After a rest the text waits for the reply to MAIL. (The server would hear BDAT, or have octets
 * that nobody has taken.) */
static void after_a_rest(void **state)
{
    begin(state, SCRIPT(GREET("S 250-PIPELINING", "S 250 CHUNKING"), FIRST_CHUNK, MAIL, RCPT,
                        "W 50", NULL));
    rest_us = 150000;
    stage_play();
    expect(true);
    begin(state, SCRIPT(GREET("S 250-PIPELINING", "S 250 CHUNKING"), FIRST_CHUNK, MAIL, RCPT,
                        "S 250 ok", "C BDAT 36 LAST", "B 36", "S 250 ok", "S 250 got it", BYE));
    rest_us = 150000;
    stage_play();
    assert_string_equal(stage_scene.fault, "");
    stage_expect(&second, 0, VERDICT_DELIVERED, 250, "got it");
    assert_int_equal(stage_scene.text_len, 72);
    assert_false(stale[1]);
    free(stage_scene.text);
}

/* The owner of a stepwise delivery has heard of a recipient already. */
static void stepwise(void **state)
{
    for (int told = 0; told < 2; told++) {
        begin(state, SCRIPT(GREET("S 250 PIPELINING"), FIRST, MAIL, "W 50", "S 421 enough", NULL));
        second.delivery.stepwise = true;
        second.delivery.recipient_count = 2;
        if (told)
            second.recipients[0].forward_path = BYTES("j\xc3\xb6rg@example.org");
        stage_play();
        assert_int_equal(second.answer_count, told);
        assert_int_equal(second.recipients[1].verdict.kind, VERDICT_DEFERRED);
        assert_int_equal(stale[1], !told);
        free(stage_scene.text);
    }
}

/* --- a look before it is used again --- */

static bool was_alive;

static void look(struct postman *man)
{
    if (man->next == 0) {
        man->next++;
        client_deliver(man->client, &parcel.delivery);
        return;
    }
    usleep(150000); /* the worker is elsewhere, and hears of nothing */
    man->inside = true;
    was_alive = client_alive(man->client);
    assert_int_equal(client_state(man->client), was_alive ? CLIENT_IDLE : CLIENT_ENDING);
    assert_int_equal(client_alive(man->client), was_alive);
    if (was_alive)
        client_quit(man->client);
    man->inside = false;
}

static void alive_or_not(void **state)
{
    const char *const *const scripts[] = {
        SCRIPT(GREET("S 250 PIPELINING"), FIRST, BYE),
        SCRIPT(GREET("S 250 PIPELINING"), FIRST, NULL),
        SCRIPT(GREET("S 250 PIPELINING"), FIRST, "W 20", "S 421 bye", "E", NULL),
        SCRIPT(GREET("S 250 PIPELINING"), FIRST, "W 20", "R", NULL),
    };
    for (size_t i = 0; i < sizeof(scripts) / sizeof(*scripts); i++) {
        begin(state, scripts[i]);
        postman.on_idle = look;
        postman.on_turn = NULL;
        stage_play();
        assert_int_equal(was_alive, i == 0);
        assert_false(postman.why_given);
        stage_expect(&parcel, 0, VERDICT_DELIVERED, 250, "got it");
        free(stage_scene.text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TWICE(enough),        TWICE(enough_of_chunks), TWICE(something_else), TWICE(without_a_word),
        TWICE(with_the_text), TWICE(after_a_rest),     TWICE(stepwise),       TWICE(alive_or_not),
    };
    return cmocka_run_group_tests(tests, twice_set_up, NULL);
}
