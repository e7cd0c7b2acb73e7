/* Callaheads: asked once, believed for a while, and never in the way when nobody answers. */
#include "tests/unit/next_hop.h"

#include "gateway/deliver/callahead.c"
#include "gateway/deliver/patience.c"

#define SECOND UINT64_C(1000000)

enum { CACHE_S = 600, ENTRIES = 8 };

static struct callaheads *callaheads;
static struct routes *table;
static uint64_t now_us;

static int set_up(void **state)
{
    (void)state;
    memset(&next_hop, 0, sizeof(next_hop));
    now_us = 1000 * SECOND;
    table = next_hop_routes();
    callaheads = callaheads_new(&(struct callaheads_options){
        .routes = table, .log = next_hop_log(), .cache_s = CACHE_S, .entries_max = ENTRIES});
    return callaheads == NULL;
}

static int tear_down(void **state)
{
    (void)state;
    assert_true(callaheads_at_rest(callaheads));
    for (size_t i = 0; i < INQUIRY_BUCKETS; i++)
        assert_null(callaheads->inquiries[i]);
    callaheads_free(callaheads);
    routes_free(table);
    return 0;
}

/* ask returns a question, one of many, that has been asked. */
static struct hop_question *ask(const char *mailbox)
{
    static struct hop_question questions[NEXT_HOP_MAX];
    static size_t used;
    struct hop_question *question = &questions[used++ % NEXT_HOP_MAX];
    *question = (struct hop_question){
        .ask = HOP_CALLAHEAD,
        .forward_path = bytes_of_string(mailbox),
        .reverse_path = BYTES("sender@example.com"),
        .patience_us = 5 * SECOND,
    };
    callaheads_ask(callaheads, question, now_us);
    return question;
}

static void heard(uint32_t returned, enum hop_answer answer)
{
    assert_int_equal(next_hop.returned_count, returned);
    assert_int_equal(next_hop.returned[returned - 1]->answer, answer);
}

/* say lets the last delivery be answered and end. */
static void say(unsigned code, const char *text)
{
    struct delivery *delivery = next_hop.given[next_hop.given_count - 1];
    next_hop_connect(delivery);
    next_hop_answer(delivery, 0, code, text);
    assert_ptr_equal(next_hop.cancelled[next_hop.cancelled_count - 1], delivery);
    next_hop_break(delivery);
}

/* know asks about a mailbox that is not known, and lets it be answered. */
static void know(const char *mailbox, unsigned code)
{
    uint32_t given = next_hop.given_count;
    struct hop_question *question = ask(mailbox);
    assert_int_equal(next_hop.given_count, given + 1);
    say(code, "said");
    assert_int_equal(question->code, code);
    assert_false(question->cached);
}

static void is_cached(const char *mailbox, bool cached)
{
    uint32_t given = next_hop.given_count, returned = next_hop.returned_count;
    struct hop_question *question = ask(mailbox);
    assert_int_equal(next_hop.given_count, cached ? given : given + 1);
    if (cached) {
        assert_int_equal(next_hop.returned_count, returned + 1);
        assert_true(question->cached);
    } else {
        say(450, "not now"); /* leaves nothing behind */
    }
}

static void test_asks(void **state)
{
    (void)state;
    struct hop_question *question = ask("Alice@Example.ORG");
    assert_int_equal(next_hop.given_count, 1);
    assert_int_equal(next_hop.destinations[0], 1);
    const struct delivery *delivery = next_hop.given[0];
    assert_int_equal(delivery->reverse_path.len, 0);
    assert_int_equal(delivery->recipient_count, 1);
    assert_true(bytes_equal(delivery->recipients[0].forward_path, BYTES("Alice@example.org")));
    assert_true(delivery->stepwise && !delivery->text_ready && delivery->size == 0);
    say(250, "fine");
    heard(1, HOP_ACCEPTED);
    assert_int_equal(question->code, 250);
    assert_null(question->passage);
    assert_int_equal(next_hop.cancelled_count, 1); /* RSET */
    assert_true(callaheads_at_rest(callaheads));
}

static void test_believes(void **state)
{
    (void)state;
    know("alice@example.org", 250);
    know("nobody@example.org", 550);
    is_cached("alice@EXAMPLE.org", true);
    struct hop_question *question = ask("nobody@example.org");
    heard(next_hop.returned_count, HOP_REFUSED);
    assert_true(question->cached);
    assert_int_equal(question->code, 550);
    assert_int_equal(question->status_class, 5);
    assert_string_equal(question->text, "said");
    is_cached("Alice@example.org", false); /* local parts are the next hop's business */
    now_us += CACHE_S / 6 * SECOND - 1;
    is_cached("nobody@example.org", true);
    now_us += 1;
    is_cached("nobody@example.org", false);
    is_cached("alice@example.org", true);
    now_us += (CACHE_S - CACHE_S / 6) * SECOND;
    is_cached("alice@example.org", false);
    assert_int_equal(callaheads_counters(callaheads)->entries, 0);
}

static void test_reload_forgets(void **state)
{
    (void)state;
    know("alice@example.org", 250);
    callaheads_configure(callaheads, table, CACHE_S);
    is_cached("alice@example.org", false);
}

/* Guesses of names don't push out those that exist, and the other way round. */
static void test_bounded(void **state)
{
    (void)state;
    char mailbox[2][64][32];
    for (int i = 0; i < 64; i++) {
        snprintf(mailbox[0][i], 32, "no%d@example.org", i);
        snprintf(mailbox[1][i], 32, "yes%d@example.org", i);
    }
    for (int i = 0; i < ENTRIES / 2; i++)
        know(mailbox[1][i], 250);
    for (int i = 0; i < 64; i++)
        know(mailbox[0][i], 550);
    assert_int_equal(callaheads_counters(callaheads)->entries, ENTRIES);
    for (int i = 0; i < ENTRIES / 2; i++)
        is_cached(mailbox[1][i], true);
    is_cached(mailbox[0][63], true);
    is_cached(mailbox[0][59], false);
    is_cached(mailbox[0][60], true); /* the oldest now; and by this the youngest */
    know("another@example.org", 550);
    is_cached(mailbox[0][60], true);
    is_cached(mailbox[0][61], false);
}

static void test_not_kept(void **state)
{
    (void)state;
    struct hop_question *question = ask("alice@example.org");
    say(450, "greylisted");
    heard(1, HOP_DEFERRED);
    assert_int_equal(question->code, 450);
    is_cached("alice@example.org", false);
    ask("alice@example.org"); /* MAIL FROM:<> refused: says nothing about alice */
    struct delivery *delivery = next_hop.given[next_hop.given_count - 1];
    uint32_t cancelled = next_hop.cancelled_count;
    next_hop_connect(delivery);
    delivery->recipients[0].verdict = next_hop_verdict(VERDICT_REFUSED, 550, "no bounces here");
    delivery->answered(delivery, UINT32_MAX);
    heard(next_hop.returned_count, HOP_UNREACHABLE);
    next_hop_break(delivery);
    assert_int_equal(next_hop.cancelled_count, cancelled);
    is_cached("alice@example.org", false);
}

static void test_nobody_to_ask(void **state)
{
    (void)state;
    ask("alice@example.edu"); /* a Maildir */
    heard(1, HOP_UNREACHABLE);
    ask("alice@nowhere.example");
    heard(2, HOP_UNREACHABLE);
    char longest[600];
    memset(longest, 'x', sizeof(longest));
    memcpy(longest + sizeof(longest) - 13, "@example.org", 13);
    ask(longest);
    heard(3, HOP_UNREACHABLE);
    ask("alice@example.org"); /* a dead destination: no connection was tried */
    next_hop_break(next_hop.given[0]);
    heard(4, HOP_UNREACHABLE);
    ask("alice@example.org");
    next_hop_end(next_hop.given[1],
                 next_hop_verdict(VERDICT_DEFERRED, 450, "busy, said the greeting"));
    heard(5, HOP_UNREACHABLE);
    ask("alice@example.org"); /* the DNS says: never */
    next_hop_end(next_hop.given[2], next_hop_verdict(VERDICT_REFUSED, 556, "null MX"));
    heard(6, HOP_REFUSED);
    assert_int_equal(callaheads_counters(callaheads)->entries, 0);
}

static void test_second_connection(void **state)
{
    (void)state;
    ask("alice@example.org");
    next_hop_connect(next_hop.given[0]);
    next_hop_break(next_hop.given[0]);
    assert_int_equal(next_hop.given_count, 2);
    assert_int_equal(next_hop.returned_count, 0);
    next_hop_connect(next_hop.given[1]);
    next_hop_break(next_hop.given[1]);
    heard(1, HOP_UNREACHABLE);
}

static void test_merges(void **state)
{
    (void)state;
    struct hop_question *questions[5];
    for (int i = 0; i < 5; i++)
        questions[i] = ask("alice@example.org");
    assert_int_equal(next_hop.given_count, 1);
    assert_int_equal(callaheads_counters(callaheads)->merged, 4);
    atomic_store(&questions[2]->abandoned, true);
    now_us += PATIENCE_LOOK_US;
    callaheads_turn(callaheads, now_us);
    heard(1, HOP_UNREACHABLE);
    assert_ptr_equal(next_hop.returned[0], questions[2]);
    atomic_store(&questions[4]->abandoned, true); /* the last of the chain */
    now_us += PATIENCE_LOOK_US;
    callaheads_turn(callaheads, now_us);
    struct hop_question *more = ask("alice@example.org");
    assert_int_equal(next_hop.given_count, 1);
    say(250, "fine");
    assert_int_equal(next_hop.returned_count, 6);
    assert_int_equal(questions[0]->answer, HOP_ACCEPTED);
    assert_int_equal(questions[3]->answer, HOP_ACCEPTED);
    assert_int_equal(more->answer, HOP_ACCEPTED);
    is_cached("alice@example.org", true);
}

static void test_patience(void **state)
{
    (void)state;
    ask("alice@example.org");
    now_us += 2 * SECOND;
    ask("alice@example.org");
    assert_true(callaheads_next_us(callaheads) < UINT64_MAX);
    now_us += 3 * SECOND;
    callaheads_turn(callaheads, now_us);
    heard(1, HOP_UNREACHABLE);
    assert_int_equal(next_hop.cancelled_count, 0);
    now_us += 2 * SECOND;
    callaheads_turn(callaheads, now_us);
    heard(2, HOP_UNREACHABLE);
    assert_int_equal(next_hop.cancelled_count, 1);
    assert_int_equal(callaheads_next_us(callaheads), UINT64_MAX);
    assert_false(callaheads_at_rest(callaheads));
    next_hop_connect(next_hop.given[0]);
    next_hop_answer(next_hop.given[0], 0, 250, "late");
    next_hop_break(next_hop.given[0]);
    assert_int_equal(next_hop.returned_count, 2);
}

/* A next hop that lets us wait is not asked for a while; then one question tries it. */
static void test_stalls(void **state)
{
    (void)state;
    know("known@example.org", 550);
    ask("alice@example.org");
    now_us += SECOND;
    ask("alice@example.org");
    now_us += 4 * SECOND;
    callaheads_turn(callaheads, now_us);
    heard(2, HOP_UNREACHABLE);
    ask("alice@example.org"); /* though one still waits for the same */
    heard(3, HOP_UNREACHABLE);
    ask("bob@example.com"); /* another domain, the same next hop */
    heard(4, HOP_UNREACHABLE);
    ask("known@example.org");
    heard(5, HOP_REFUSED);
    assert_int_equal(next_hop.given_count, 2);
    know("carol@example.net", 250); /* another next hop */
    now_us += SECOND;
    callaheads_turn(callaheads, now_us);
    heard(7, HOP_UNREACHABLE);
    next_hop_break(next_hop.given[1]);
    now_us += STALL_US;
    struct hop_question *trial = ask("alice@example.org");
    assert_int_equal(next_hop.given_count, 4);
    ask("bob@example.org"); /* not before that one is answered */
    heard(8, HOP_UNREACHABLE);
    say(250, "well again");
    assert_int_equal(trial->answer, HOP_ACCEPTED);
    know("bob@example.org", 550);
}

/* Who leaves has not waited in vain. */
static void test_leaver_is_no_stall(void **state)
{
    (void)state;
    struct hop_question *question = ask("alice@example.org");
    atomic_store(&question->abandoned, true);
    now_us += PATIENCE_LOOK_US;
    callaheads_turn(callaheads, now_us);
    heard(1, HOP_UNREACHABLE);
    struct hop_question *again = ask("alice@example.org"); /* while that one still ends */
    assert_int_equal(next_hop.given_count, 2);
    next_hop_break(next_hop.given[0]);
    say(550, "no");
    assert_int_equal(again->answer, HOP_REFUSED);
}

/* 5xx that are between us and the next hop. */
static void test_not_about_the_mailbox(void **state)
{
    (void)state;
    static const unsigned codes[] = {500, 503, 530, 555};
    for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
        struct hop_question *question = ask("alice@example.org");
        say(codes[i], "what do you want");
        assert_int_equal(question->answer, HOP_UNREACHABLE);
        is_cached("alice@example.org", false);
    }
    assert_int_equal(callaheads_counters(callaheads)->entries, 0);
}

static void test_stop(void **state)
{
    (void)state;
    ask("alice@example.org");
    ask("alice@example.org");
    ask("bob@example.net");
    callaheads_stop(callaheads);
    heard(3, HOP_UNREACHABLE);
    assert_int_equal(next_hop.cancelled_count, 2);
    ask("carol@example.org");
    heard(4, HOP_UNREACHABLE);
    assert_false(callaheads_at_rest(callaheads));
    next_hop_break(next_hop.given[0]);
    next_hop_break(next_hop.given[1]);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_asks),
        TEST(test_believes),
        TEST(test_reload_forgets),
        TEST(test_bounded),
        TEST(test_not_kept),
        TEST(test_nobody_to_ask),
        TEST(test_second_connection),
        TEST(test_merges),
        TEST(test_patience),
        TEST(test_stalls),
        TEST(test_leaver_is_no_stall),
        TEST(test_not_about_the_mailbox),
        TEST(test_stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
