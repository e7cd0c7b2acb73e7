/* Passages: every question comes back exactly once, with what the next hop said, or in time
 * without; and nobody is left behind, whatever breaks when. */
#include "tests/unit/passage_scene.h"

static void test_goes_through(void **state)
{
    (void)state;
    struct hop_question question = question_for("alice@example.org");
    question.envid = BYTES("e1");
    question.orcpt = BYTES("rfc822;a@x");
    question.notify = 2;
    question.flags = 5;
    question.size = 1000;
    ask(&question);
    assert_int_equal(next_hop.returned_count, 0);
    assert_int_equal(next_hop.destinations[0], 1);
    struct delivery *delivery = next_hop.given[0];
    /* What it needs later it has copied. */
    question.forward_path = question.reverse_path = question.envid = question.orcpt =
        bytes_make(NULL, 0);
    assert_true(delivery->stepwise && !delivery->text_ready);
    assert_true(bytes_equal(delivery->reverse_path, BYTES("sender@example.com")));
    assert_true(bytes_equal(delivery->envid, BYTES("e1")));
    assert_int_equal(delivery->flags, 5);
    assert_int_equal(delivery->size, 1000);
    assert_int_equal(delivery->recipient_count, 1);
    assert_true(bytes_equal(delivery->recipients[0].forward_path, BYTES("alice@example.org")));
    assert_true(bytes_equal(delivery->recipients[0].orcpt, BYTES("rfc822;a@x")));
    assert_int_equal(delivery->recipients[0].notify, 2);

    delivery->dsn_passed = true;
    next_hop_connect(delivery);
    next_hop_answer(delivery, 0, 251, "will forward");
    heard(1, HOP_ACCEPTED);
    assert_int_equal(question.code, 251);
    assert_int_equal(question.status_class, 2);
    assert_int_equal(question.status_subject, 1);
    assert_int_equal(question.status_detail, 5);
    assert_string_equal(question.text, "will forward");
    assert_true(question.dsn);

    another(&question, "bob@example.com"); /* the same destination, though another domain */
    assert_int_equal(next_hop.continued, 1);
    assert_int_equal(delivery->recipient_count, 2);
    next_hop_answer(delivery, 1, 250, "ok");
    heard(2, HOP_ACCEPTED);

    send_text(&question, two_pieces, 2);
    assert_int_equal(next_hop.continued, 2);
    assert_true(delivery->text_ready);
    assert_int_equal(delivery->size, 13 + 9);
    assert_int_equal(passages_counters(passages)->in_doubt, 1);
    struct bytes piece;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(delivery->text.rewind(delivery->text.user), 0);
        assert_int_equal(delivery->text.next(delivery->text.user, &piece), 0);
        assert_true(bytes_equal(piece, BYTES("one ")));
        assert_int_equal(delivery->text.next(delivery->text.user, &piece), 0);
        assert_true(bytes_equal(piece, BYTES("two\r\n")));
        assert_int_equal(delivery->text.next(delivery->text.user, &piece), 0);
        assert_int_equal(piece.len, 0);
    }
    next_hop_end(delivery, next_hop_verdict(VERDICT_DELIVERED, 250, "queued as 9"));
    heard(3, HOP_ACCEPTED);
    assert_string_equal(question.text, "queued as 9");
    assert_false(question.mixed);
    assert_null(question.passage);
    assert_int_equal(passages_counters(passages)->delivered, 2);
    assert_int_equal(passages_counters(passages)->in_doubt, 0);
}

static void test_refusals_pass(void **state)
{
    (void)state;
    struct hop_question question = question_for("nobody@example.org");
    ask(&question);
    struct delivery *delivery = next_hop.given[0];
    next_hop_connect(delivery);
    next_hop_answer(delivery, 0, 550, "no such user");
    heard(1, HOP_REFUSED);
    assert_int_equal(question.code, 550);
    assert_non_null(question.passage); /* another one may follow */
    another(&question, "full@example.org");
    next_hop_answer(delivery, 1, 452, "over quota");
    heard(2, HOP_DEFERRED);
    another(&question, "more@example.org");
    delivery->recipients[2].verdict = next_hop_verdict(VERDICT_DEFERRED, 552, "too many");
    delivery->answered(delivery, 2);
    heard(3, HOP_DEFERRED);
    assert_int_equal(question.code, 452);
    assert_int_equal(question.status_class, 4);
    end(&question);
    assert_int_equal(next_hop.cancelled_count, 1);
    next_hop_break(delivery);
    assert_int_equal(passages_counters(passages)->refused, 1);
    assert_int_equal(passages_counters(passages)->deferred, 2);
}

static void test_mail_refused(void **state)
{
    (void)state;
    struct hop_question question = question_for("alice@example.org");
    ask(&question);
    struct delivery *delivery = next_hop.given[0];
    next_hop_connect(delivery);
    delivery->recipients[0].verdict = next_hop_verdict(VERDICT_REFUSED, 550, "bad sender");
    delivery->answered(delivery, UINT32_MAX);
    heard(1, HOP_REFUSED);
    assert_null(question.passage);
    assert_string_equal(question.text, "bad sender");
    next_hop_break(delivery); /* all have their verdicts already */
    assert_int_equal(next_hop.cancelled_count, 0);
}

/* What can't be asked is not refused: the spool takes it. */
static void test_nobody_to_ask(void **state)
{
    (void)state;
    struct hop_question question = question_for("alice@example.edu");
    ask(&question);
    heard(1, HOP_UNREACHABLE);
    question = question_for("alice@unknown.example");
    ask(&question);
    heard(2, HOP_UNREACHABLE);
    question = question_for("alice@example.org");
    ask(&question); /* dead: no connection was tried */
    next_hop_break(next_hop.given[0]);
    heard(3, HOP_UNREACHABLE);
    assert_int_equal(next_hop.given_count, 1);
    question = question_for("alice@example.org");
    ask(&question); /* the DNS says: never */
    next_hop_end(next_hop.given[1], next_hop_verdict(VERDICT_REFUSED, 556, "null MX"));
    heard(4, HOP_REFUSED);
    assert_null(question.passage);
    question = question_for("alice@example.org");
    ask(&question); /* a greeting of 4xx is not an answer to RCPT */
    next_hop_end(next_hop.given[2], next_hop_verdict(VERDICT_DEFERRED, 450, "busy"));
    heard(5, HOP_UNREACHABLE);
    assert_int_equal(passages_counters(passages)->given_up, 4);
}

/* A connection that was idle may be closed by the server just then: one more try. */
static void test_second_connection(void **state)
{
    (void)state;
    struct hop_question question = question_for("alice@example.org");
    ask(&question);
    struct delivery *delivery = next_hop.given[0];
    next_hop_connect(delivery);
    next_hop_end(delivery, next_hop_verdict(VERDICT_DEFERRED, 421, "time-out"));
    assert_int_equal(next_hop.returned_count, 0);
    assert_int_equal(next_hop.given_count, 2);
    assert_ptr_equal(next_hop.given[1], delivery);
    assert_int_equal(delivery->recipients[0].verdict.kind, VERDICT_OPEN);
    next_hop_connect(delivery);
    next_hop_break(delivery);
    heard(1, HOP_UNREACHABLE);
    assert_int_equal(next_hop.given_count, 2);
    assert_null(question.passage);
}

static void test_patience_at_recipient(void **state)
{
    (void)state;
    struct hop_question question = question_for("alice@example.org");
    ask(&question);
    next_hop_connect(next_hop.given[0]);
    passages_turn(passages, now_us + 5 * SECOND - 1);
    assert_int_equal(next_hop.returned_count, 0);
    passages_turn(passages, now_us + 5 * SECOND);
    heard(1, HOP_UNREACHABLE);
    assert_null(question.passage);
    assert_int_equal(next_hop.cancelled_count, 1);
    assert_false(passages_at_rest(passages));
    /* A reply that comes all the same is nobody's. */
    next_hop_answer(next_hop.given[0], 0, 250, "late");
    next_hop_break(next_hop.given[0]);
    assert_int_equal(next_hop.returned_count, 1);
}

/* The text is lent: its question comes back when nobody reads it any more. */
static void test_patience_at_text(void **state)
{
    (void)state;
    struct hop_question question;
    struct delivery *delivery = begin(&question, "alice@example.org");
    send_text(&question, two_pieces, 2);
    now_us += 5 * SECOND;
    passages_turn(passages, now_us);
    assert_int_equal(next_hop.cancelled_count, 1);
    assert_int_equal(next_hop.returned_count, 1);
    passages_turn(passages, now_us + SECOND);
    assert_int_equal(next_hop.cancelled_count, 1);
    delivery->data_sent = true;
    next_hop_break(delivery);
    heard(2, HOP_UNREACHABLE);
    assert_true(question.passed);
    assert_int_equal(passages_counters(passages)->passed, 1);
    assert_int_equal(passages_counters(passages)->in_doubt, 0);

    delivery = begin(&question, "alice@example.org");
    send_text(&question, two_pieces, 2);
    next_hop_break(delivery); /* in the midst of the text */
    heard(4, HOP_UNREACHABLE);
    assert_false(question.passed);
    assert_int_equal(passages_counters(passages)->passed, 1);
}

static void test_text_refused(void **state)
{
    (void)state;
    static const struct {
        enum verdict_kind kind;
        unsigned code;
        enum hop_answer answer;
    } cases[] = {
        {VERDICT_REFUSED,  554, HOP_REFUSED    },
        {VERDICT_DEFERRED, 451, HOP_DEFERRED   },
        {VERDICT_DEFERRED, 421, HOP_UNREACHABLE},
        {VERDICT_DEFERRED, 0,   HOP_UNREACHABLE}
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct hop_question question;
        struct delivery *delivery = begin(&question, "alice@example.org");
        send_text(&question, two_pieces, 2);
        next_hop_end(delivery, next_hop_verdict(cases[i].kind, cases[i].code, "said"));
        heard(next_hop.returned_count, cases[i].answer);
        assert_int_equal(question.code, cases[i].code);
        assert_null(question.passage);
        assert_false(question.passed || question.mixed);
    }
}

/* LMTP: three recipients, the second of which was refused at RCPT. */
static void lmtp(struct hop_question *question, unsigned first, unsigned third)
{
    enum verdict_kind kinds[] = {
        [0] = VERDICT_DEFERRED, [2] = VERDICT_DELIVERED, [4] = VERDICT_DEFERRED, VERDICT_REFUSED};
    struct delivery *delivery = begin(question, "a@example.net");
    another(question, "b@example.net");
    next_hop_answer(delivery, 1, 550, "no b");
    another(question, "c@example.net");
    next_hop_answer(delivery, 2, 250, "ok");
    send_text(question, two_pieces, 2);
    delivery->recipients[0].verdict = next_hop_verdict(kinds[first / 100], first, "said to a");
    delivery->recipients[2].verdict = next_hop_verdict(kinds[third / 100], third, "said to c");
    next_hop_break(delivery);
}

static void test_lmtp_verdicts(void **state)
{
    (void)state;
    struct hop_question question;
    lmtp(&question, 250, 250);
    heard(next_hop.returned_count, HOP_ACCEPTED);
    assert_false(question.mixed);
    assert_string_equal(question.text, "said to a");
    lmtp(&question, 452, 250);
    heard(next_hop.returned_count, HOP_ACCEPTED);
    assert_true(question.mixed);
    assert_int_equal(question.outcomes[0], HOP_DEFERRED);
    assert_int_equal(question.outcomes[1], HOP_ACCEPTED);
    lmtp(&question, 250, 0); /* broke between the replies */
    assert_true(question.mixed);
    assert_int_equal(question.outcomes[1], HOP_UNREACHABLE);
    lmtp(&question, 550, 452);
    heard(next_hop.returned_count, HOP_DEFERRED);
    assert_string_equal(question.text, "said to c");
    assert_false(question.mixed);
    lmtp(&question, 550, 552);
    heard(next_hop.returned_count, HOP_REFUSED);
    assert_int_equal(question.code, 550);
    lmtp(&question, 550, 0);
    heard(next_hop.returned_count, HOP_UNREACHABLE);
}

static void test_one_destination(void **state)
{
    (void)state;
    struct hop_question question = question_for("nobody@example.org");
    ask(&question);
    struct delivery *first = next_hop.given[0];
    next_hop_answer(first, 0, 550, "no");
    another(&question, "a@example.net"); /* nothing had come of the first: a new passage */
    assert_int_equal(next_hop.cancelled_count, 1);
    assert_int_equal(next_hop.given_count, 2);
    assert_int_equal(next_hop.destinations[1], 2);
    next_hop_break(first);
    struct delivery *second = next_hop.given[1];
    next_hop_connect(second);
    next_hop_answer(second, 0, 250, "ok");
    heard(2, HOP_ACCEPTED);
    struct hop_passage *passage = question.passage;
    another(&question, "alice@example.org");
    heard(3, HOP_DEFERRED);
    assert_int_equal(question.code, 452);
    assert_int_equal(question.status_subject, 5);
    assert_int_equal(question.status_detail, 3);
    assert_ptr_equal(question.passage, passage);
    assert_int_equal(second->recipient_count, 1);
    end(&question);
    next_hop_break(second);
}

static void test_many_recipients(void **state)
{
    (void)state;
    struct hop_question question;
    struct delivery *delivery = begin(&question, "u0@example.org");
    for (uint32_t i = 1; i < HOP_RECIPIENTS_MAX; i++) {
        char mailbox[32];
        snprintf(mailbox, sizeof(mailbox), "u%u@example.org", i);
        another(&question, mailbox);
        memset(mailbox, 'x', sizeof(mailbox));
        next_hop_answer(delivery, i, 250, "ok");
        heard(next_hop.returned_count, HOP_ACCEPTED);
    }
    another(&question, "one.more@example.org");
    heard(next_hop.returned_count, HOP_DEFERRED);
    assert_int_equal(question.code, 452);
    assert_int_equal(delivery->recipient_count, HOP_RECIPIENTS_MAX);
    assert_true(bytes_equal(delivery->recipients[7].forward_path, BYTES("u7@example.org")));
    send_text(&question, two_pieces, 2);
    next_hop_end(delivery, next_hop_verdict(VERDICT_DELIVERED, 250, "ok"));
    heard(next_hop.returned_count, HOP_ACCEPTED);
    assert_int_equal(question.outcomes[HOP_RECIPIENTS_MAX - 1], HOP_ACCEPTED);
}

/* Who guesses names gets tired first. */
static void test_many_refused(void **state)
{
    (void)state;
    struct hop_question question;
    struct delivery *delivery = begin(&question, "x@example.org");
    for (uint32_t i = 1; i < ASKED_MAX; i++) {
        another(&question, "x@example.org");
        next_hop_answer(delivery, i, 550, "no");
        heard(i + 1, HOP_REFUSED);
    }
    another(&question, "x@example.org");
    heard(ASKED_MAX + 1, HOP_DEFERRED);
    end(&question);
    next_hop_break(delivery);
}

static void test_breaks_between_questions(void **state)
{
    (void)state;
    struct hop_question question;
    next_hop_break(begin(&question, "alice@example.org"));
    assert_int_equal(next_hop.returned_count, 1);
    another(&question, "bob@example.org");
    heard(2, HOP_UNREACHABLE);
    assert_null(question.passage);
    next_hop_break(begin(&question, "alice@example.org"));
    send_text(&question, two_pieces, 2);
    heard(4, HOP_UNREACHABLE);
    assert_false(question.passed);
    assert_null(question.passage);
    next_hop_break(begin(&question, "alice@example.org"));
    end(&question);
    assert_int_equal(next_hop.cancelled_count, 0);
}

static void test_abandoned(void **state)
{
    (void)state;
    struct hop_question questions[3];
    for (int i = 0; i < 3; i++) {
        questions[i] = question_for("alice@example.org");
        ask(&questions[i]);
    }
    atomic_store(&questions[1].abandoned, true);
    assert_true(passages_next_us(passages) <= now_us + PATIENCE_LOOK_US);
    now_us += PATIENCE_LOOK_US;
    passages_turn(passages, now_us);
    heard(1, HOP_UNREACHABLE);
    assert_ptr_equal(next_hop.returned[0], &questions[1]);
    passages_turn(passages, now_us + 6 * SECOND);
    assert_int_equal(next_hop.returned_count, 3);
    for (int i = 0; i < 3; i++)
        next_hop_break(next_hop.given[i]);
}

/* A reload that makes patience shorter: who has less is answered first. */
static void test_order_of_patience(void **state)
{
    (void)state;
    struct hop_question questions[3];
    static const uint64_t seconds[] = {5, 1, 3};
    for (int i = 0; i < 3; i++) {
        questions[i] = question_for("alice@example.org");
        questions[i].patience_us = seconds[i] * SECOND;
        ask(&questions[i]);
    }
    for (uint64_t s = 1; s <= 5; s++)
        passages_turn(passages, now_us + s * SECOND);
    assert_int_equal(next_hop.returned_count, 3);
    assert_ptr_equal(next_hop.returned[0], &questions[1]);
    assert_ptr_equal(next_hop.returned[1], &questions[2]);
    for (int i = 0; i < 3; i++)
        next_hop_break(next_hop.given[i]);
}

static void test_stop(void **state)
{
    (void)state;
    struct hop_question asked = question_for("alice@example.org"), resting, texting, late;
    ask(&asked);
    struct delivery *first = next_hop.given[0];
    struct delivery *second = begin(&resting, "alice@example.org");
    struct delivery *third = begin(&texting, "alice@example.org");
    send_text(&texting, two_pieces, 2);
    assert_int_equal(next_hop.returned_count, 2);
    passages_stop(passages);
    assert_int_equal(next_hop.cancelled_count, 3);
    heard(3, HOP_UNREACHABLE);
    late = question_for("alice@example.org");
    ask(&late);
    heard(4, HOP_UNREACHABLE);
    another(&resting, "bob@example.org");
    heard(5, HOP_UNREACHABLE);
    next_hop_connect(first);
    next_hop_break(first);
    next_hop_break(second);
    assert_false(passages_at_rest(passages));
    next_hop_break(third);
    heard(6, HOP_UNREACHABLE);
    assert_ptr_equal(next_hop.returned[5], &texting);
}

/* An SMTPUTF8 message for a server without it: the client would like to see the header at MAIL. */
static void test_no_text_at_mail(void **state)
{
    (void)state;
    struct hop_question question = question_for("alice@example.org");
    struct bytes piece;
    ask(&question);
    struct delivery *delivery = next_hop.given[0];
    assert_int_equal(delivery->text.rewind(delivery->text.user), 0);
    assert_true(delivery->text.next(delivery->text.user, &piece) < 0);
    next_hop_break(delivery);
    heard(1, HOP_UNREACHABLE);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_goes_through),
        TEST(test_refusals_pass),
        TEST(test_mail_refused),
        TEST(test_nobody_to_ask),
        TEST(test_second_connection),
        TEST(test_patience_at_recipient),
        TEST(test_patience_at_text),
        TEST(test_text_refused),
        TEST(test_lmtp_verdicts),
        TEST(test_one_destination),
        TEST(test_many_recipients),
        TEST(test_many_refused),
        TEST(test_breaks_between_questions),
        TEST(test_abandoned),
        TEST(test_order_of_patience),
        TEST(test_stop),
        TEST(test_no_text_at_mail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
