/* Passages that rest or stall: what the next hop has said holds, and connections are given back. */
#include "tests/unit/passage_scene.h"

/* LMTP stalls between its replies: what it has said holds, the rest is the spool's. */
static void test_lmtp_stalls(void **state)
{
    (void)state;
    struct hop_question question;
    struct delivery *delivery = begin(&question, "a@example.net");
    another(&question, "b@example.net");
    next_hop_answer(delivery, 1, 250, "ok");
    send_text(&question, two_pieces, 2);
    delivery->data_sent = true;
    delivery->recipients[0].verdict = next_hop_verdict(VERDICT_DELIVERED, 250, "a has it");
    passages_turn(passages, now_us + 5 * SECOND);
    assert_int_equal(next_hop.cancelled_count, 1);
    next_hop_break(delivery);
    heard(3, HOP_ACCEPTED);
    assert_true(question.mixed);
    assert_true(question.passed);
    assert_int_equal(question.outcomes[0], HOP_ACCEPTED);
    assert_int_equal(question.outcomes[1], HOP_UNREACHABLE);
    assert_int_equal(passages_counters(passages)->delivered, 1);
    assert_int_equal(passages_counters(passages)->passed, 1);
}

/* 5xx that are between us and the next hop: the spool takes over. */
static void test_not_about_the_mailbox(void **state)
{
    (void)state;
    static const unsigned ours[] = {500, 501, 503, 521, 530, 555}, theirs[] = {550, 551, 554, 556};
    for (uint32_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++) {
        struct hop_question question = question_for("alice@example.org");
        ask(&question);
        struct delivery *delivery = next_hop.given[i];
        next_hop_connect(delivery);
        next_hop_answer(delivery, 0, ours[i], "what do you want");
        heard(i + 1, HOP_UNREACHABLE);
        assert_null(question.passage);
        assert_int_equal(next_hop.cancelled_count, i + 1);
        next_hop_break(delivery);
    }
    struct hop_question question;
    struct delivery *delivery = begin(&question, "alice@example.org");
    for (uint32_t i = 0; i < sizeof(theirs) / sizeof(theirs[0]); i++) {
        another(&question, "bob@example.org");
        next_hop_answer(delivery, i + 1, theirs[i], "no bob");
        heard(next_hop.returned_count, HOP_REFUSED);
    }
    end(&question);
    next_hop_break(delivery);
}

/* Where others wait for a connection, resting is short; and not all rest in vain. */
static void test_crowded(void **state)
{
    (void)state;
    struct hop_question first, second, third;
    struct delivery *one = begin(&first, "alice@example.org");
    struct delivery *two = begin(&second, "bob@example.org");
    struct delivery *other = begin(&third, "carol@example.net");
    next_hop.crowded = 1;
    now_us += PASSAGE_CROWDED_S * SECOND - 1;
    passages_turn(passages, now_us);
    assert_int_equal(next_hop.cancelled_count, 0);
    now_us = passages_next_us(passages);
    passages_turn(passages, now_us);
    assert_int_equal(next_hop.cancelled_count, 1);
    assert_ptr_equal(next_hop.cancelled[0], one);
    next_hop_break(one);
    next_hop.crowded = 0; /* that was enough */
    now_us = passages_next_us(passages);
    passages_turn(passages, now_us);
    assert_int_equal(next_hop.cancelled_count, 1);
    next_hop.crowded = 1;
    now_us = passages_next_us(passages);
    passages_turn(passages, now_us);
    assert_int_equal(next_hop.cancelled_count, 2);
    assert_ptr_equal(next_hop.cancelled[1], two);
    next_hop_break(two);
    send_text(&second, two_pieces, 2);
    heard(4, HOP_UNREACHABLE);
    end(&first);
    end(&third);
    next_hop_break(other);
}

/* A client that does nothing gives the connection back. */
static void test_idle(void **state)
{
    (void)state;
    struct hop_question question;
    struct delivery *delivery = begin(&question, "alice@example.org");
    now_us += (PASSAGE_IDLE_S - 1) * SECOND;
    passages_turn(passages, now_us);
    assert_int_equal(next_hop.cancelled_count, 0);
    for (int i = 0; i < 4 && next_hop.cancelled_count == 0; i++) {
        assert_in_range(passages_next_us(passages), now_us + 1, now_us + SECOND);
        now_us = passages_next_us(passages);
        passages_turn(passages, now_us);
    }
    assert_int_equal(next_hop.cancelled_count, 1);
    assert_int_equal(next_hop.returned_count, 1);
    assert_int_equal(passages_next_us(passages), UINT64_MAX);
    send_text(&question, two_pieces, 2); /* even before it is `delivered` */
    heard(2, HOP_UNREACHABLE);
    assert_int_equal(next_hop.cancelled_count, 1);
    next_hop_break(delivery);

    delivery = begin(&question, "alice@example.org");
    now_us += PASSAGE_IDLE_S * SECOND;
    passages_turn(passages, now_us);
    next_hop_break(delivery);
    end(&question);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_lmtp_stalls),
        TEST(test_not_about_the_mailbox),
        TEST(test_crowded),
        TEST(test_idle),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
