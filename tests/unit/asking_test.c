/* A server that asks: what the client hears, what the next hop is asked, and what comes to the
 * spool, whatever either of them does. */
#include "gateway/receive/asking.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/support/front.h"

enum { WAIT_MS = 10000, MEMORY = 1 << 20, BIG = 3 << 20 };

static void test_through(void **state)
{
    (void)state;
    front_start(MEMORY, true);
    int client = front_greet();
    front_accept(client, "alice@through.org");
    front_say(client, "RCPT TO:<bob@through.org>\r\n");
    struct hop_question *question = front_asked(HOP_RECIPIENT);
    assert_ptr_equal(question->passage, &front.passage);
    front_hears_nothing(client);
    front_answer(question, HOP_REFUSED, 550, "no bob\001 h\xc3\xa9re");
    front_hear(client, "550 5.7.9 no bob? h??re\r\n");
    front_say_text(client, 6400);
    question = front_asked(HOP_TEXT);
    assert_int_equal(question->piece_count, 1);
    assert_int_equal(question->pieces[0].len, 6400);
    assert_int_equal(question->size, 6400 + question->head.len);
    assert_int_equal(strncmp((const char *)question->head.data, "Received: from me.example", 25),
                     0);
    front_hears_nothing(client);
    front_answer(question, HOP_ACCEPTED, 250, "queued as XYZ");
    front_hear(client, "250 2.7.9 queued as XYZ\r\n");
    front_say(client, "QUIT\r\n");
    front_hear(client, "221 ");
    close(client);
    front_nothing_spooled();
    assert_int_equal(atomic_load(&front.server.counters.messages), 1);
    front_nobody_asked(); /* a passage whose text was answered is over */
    front_stop();
}

/* What was said about the text is what the client hears; what may not be said is not. */
static void test_replies(void **state)
{
    (void)state;
    static const struct {
        enum hop_answer answer;
        unsigned code;
        const char *text, *line;
    } cases[] = {
        {HOP_REFUSED,  554, "spam",  "554 5.7.9 spam\r\n"                   },
        {HOP_DEFERRED, 451, "later", "451 4.7.9 later\r\n"                  },
        {HOP_DEFERRED, 421, "bye",   "450 4.7.9 bye\r\n"                    },
        {HOP_DEFERRED, 552, "x",     "450 4.0.0 x\r\n"                      },
        {HOP_REFUSED,  0,   "",      "550 5.0.0 Refused by the next hop\r\n"},
        {HOP_ACCEPTED, 299, "",      "250 2.7.9 Ok\r\n"                     },
        {HOP_REFUSED,  590, "odd",   "550 5.7.9 odd\r\n"                    },
    };
    front_start(MEMORY, true);
    int client = front_greet();
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        front_accept(client, "alice@through.org");
        front_say_text(client, 64);
        front_answer(front_asked(HOP_TEXT), cases[i].answer, cases[i].code, cases[i].text);
        front_hear(client, cases[i].line);
        front_say(client, "MAIL FROM:<sender@example.com>\r\n");
        front_hear(client, "250 2.1.0 ");
    }
    front_say(client, "RCPT TO:<alice@through.org>\r\n");
    front_answer(front_asked(HOP_RECIPIENT), HOP_ACCEPTED, 251, "forwards");
    front_hear(client, "251 2.7.9 forwards\r\n");
    front_say(client, "RCPT TO:<bob@through.org>\r\n");
    front_answer(front_asked(HOP_RECIPIENT), HOP_ACCEPTED, 252, "perhaps");
    front_hear(client, "250 2.7.9 perhaps\r\n");
    close(client);
    front_ended();
    front_nothing_spooled();
    front_stop();
}

/* Commands behind a RCPT wait, and are answered in their order. */
static void test_pipelined(void **state)
{
    (void)state;
    front_start(MEMORY, true);
    int client = front_greet();
    front_say(client,
              "RCPT TO:<a@through.org>\r\nRCPT TO:<b@through.org>\r\nNOOP\r\nRCPT TO:<c@thro");
    front_answer(front_asked(HOP_RECIPIENT), HOP_ACCEPTED, 250, "a");
    front_hear(client, "250 2.7.9 a\r\n");
    struct hop_question *question = front_asked(HOP_RECIPIENT);
    front_say(client, "ugh.org>\r\nBDAT 5 LAST\r\na b\r\n");
    front_hears_nothing(client);
    front_answer(question, HOP_DEFERRED, 450, "b");
    front_hear(client, "450 4.7.9 b\r\n");
    front_hear(client, "250 2.0.0 Ok\r\n");
    front_answer(front_asked(HOP_RECIPIENT), HOP_ACCEPTED, 250, "c");
    front_hear(client, "250 2.7.9 c\r\n");
    question = front_asked(HOP_TEXT);
    assert_true(bytes_equal(question->pieces[0], BYTES("a b\r\n")));
    front_answer(question, HOP_ACCEPTED, 250, "text");
    front_hear(client, "250 2.7.9 text\r\n");
    front_say(client, "QUIT\r\n");
    front_hear(client, "221 ");
    close(client);
    front_stop();
}

static void test_spool_takes_over(void **state)
{
    (void)state;
    front_start(MEMORY, true);
    int client = front_greet();
    front_accept(client, "a@through.org");
    front_say(client, "RCPT TO:<b@through.org>\r\nRCPT TO:<c@plain.org>\r\n");
    front_answer(front_asked(HOP_RECIPIENT), HOP_UNREACHABLE, 0, "");
    front_hear(client, "250 2.1.5 ");
    front_hear(client, "250 2.1.5 "); /* from now on all are welcome */
    front_say_text(client, 640);
    front_hear(client, "250 2.0.0 Ok: queued as ");
    front_nobody_asked();
    front_spooled(&(struct front_message){
        {"a@through.org", "b@through.org", "c@plain.org"},
        3, 640
    });

    front_say(client, "MAIL FROM:<sender@example.com>\r\n");
    front_hear(client, "250 2.1.0 ");
    front_accept(client, "a@through.org");
    front_say_text(client, 320);
    front_answer(front_asked(HOP_TEXT), HOP_UNREACHABLE, 0, "");
    front_hear(client, "250 2.0.0 Ok: queued as ");
    front_spooled(&(struct front_message){{"a@through.org"}, 1, 320});
    close(client);
    front_stop();
}

/* LMTP: one has it, one is full. */
static void test_mixed(void **state)
{
    (void)state;
    front_start(MEMORY, true);
    int client = front_greet();
    front_accept(client, "a@through.org");
    front_accept(client, "b@through.org");
    front_say(client, "RCPT TO:<A@Through.org>\r\n"); /* it is there, and gets it once */
    front_hear(client, "250 2.1.5 Recipient ok");
    front_accept(client, "c@through.org");
    front_say_text(client, 640);
    struct hop_question *question = front_asked(HOP_TEXT);
    question->mixed = true;
    question->outcomes[0] = HOP_ACCEPTED;
    question->outcomes[1] = HOP_DEFERRED;
    question->outcomes[2] = HOP_ACCEPTED;
    front_answer(question, HOP_ACCEPTED, 250, "for a");
    front_hear(client, "250 2.0.0 Ok: queued as ");
    front_spooled(&(struct front_message){{"b@through.org"}, 1, 640});
    close(client);
    front_stop();
}

/* A text that is longer than memory is spooled; so is one that follows others. */
static void test_memory(void **state)
{
    (void)state;
    front_start(MEMORY, true);
    int first = front_greet(), second = front_greet();
    front_accept(first, "a@through.org");
    front_say_text(first, BIG);
    front_ended();
    front_hear(first, "250 2.0.0 Ok: queued as ");
    front_spooled(&(struct front_message){{"a@through.org"}, 1, BIG});
    front_say(first, "MAIL FROM:<sender@example.com>\r\n");
    front_hear(first, "250 2.1.0 ");
    front_accept(first, "a@through.org"); /* the memory is free again */
    front_say_text(first, MEMORY - (256 << 10));
    struct hop_question *question = front_asked(HOP_TEXT);
    assert_int_equal(question->piece_count, 12);
    front_accept(second, "b@through.org");
    front_say_text(second, 512 << 10);
    front_ended();
    front_hear(second, "250 2.0.0 Ok: queued as ");
    front_spooled(&(struct front_message){{"b@through.org"}, 1, 512 << 10});
    front_answer(question, HOP_UNREACHABLE, 0, "");
    front_hear(first, "250 2.0.0 Ok: queued as ");
    front_spooled(&(struct front_message){{"a@through.org"}, 1, MEMORY - (256 << 10)});
    close(first);
    close(second);
    front_stop();
}

static void test_announced_too_big(void **state)
{
    (void)state;
    front_start(16 << 20, true);
    int client = front_call();
    front_hear(client, "220 ");
    front_say(client, "EHLO me.example\r\n");
    while (front_hear(client, "250")[3] == '-')
        ;
    front_say(client, "MAIL FROM:<sender@example.com> SIZE=9000000\r\n");
    front_hear(client, "250 2.1.0 ");
    front_say(client, "RCPT TO:<a@through.org>\r\n");
    struct hop_question *question = front_asked(HOP_RECIPIENT);
    assert_in_range(question->size, 9000000 + 100, 9000000 + STAMP_LEN_MAX); /* with our stamp */
    front_answer(question, HOP_ACCEPTED, 250, "ok");
    front_hear(client, "250 2.7.9 ok");
    front_say_text(client, 64); /* it need not be true */
    front_ended();
    front_hear(client, "250 2.0.0 Ok: queued as ");
    front_spooled(&(struct front_message){{"a@through.org"}, 1, 64});
    close(client);
    front_stop();
}

static void test_no_memory_at_all(void **state)
{
    (void)state;
    front_start(0, true);
    int client = front_greet();
    front_accept(client, "a@through.org");
    front_say_text(client, 64);
    front_ended();
    front_hear(client, "250 2.0.0 Ok: queued as ");
    front_spooled(&(struct front_message){{"a@through.org"}, 1, 64});
    close(client);
    front_stop();
}

static void test_one_destination(void **state)
{
    (void)state;
    front_start(MEMORY, true);
    int client = front_greet();
    front_say(client, "RCPT TO:<no@through.org>\r\n");
    front_answer(front_asked(HOP_RECIPIENT), HOP_REFUSED, 550, "no");
    front_hear(client, "550 5.7.9 no");
    front_accept(client, "a@through.org"); /* nothing was decided */
    front_say(client,
              "RCPT TO:<p@plain.org>\r\nRCPT TO:<c@ahead.org>\r\nRCPT TO:<alias@through.org>\r\n");
    front_hear(client, "452 4.5.3 ");
    front_hear(client, "452 4.5.3 ");
    front_hear(client, "452 4.5.3 ");
    front_nobody_asked();
    front_say(client, "RSET\r\n");
    front_hear(client, "250 ");
    front_ended();
    front_say(client, "MAIL FROM:<sender@example.com>\r\nRCPT TO:<p@plain.org>\r\n"
                      "RCPT TO:<a@through.org>\r\nRCPT TO:<alias@through.org>\r\n");
    front_hear(client, "250 2.1.0 ");
    front_hear(client, "250 2.1.5 ");
    front_hear(client, "452 4.5.3 ");
    front_hear(client, "250 2.1.5 ");
    front_nobody_asked();
    front_say_text(client, 64);
    front_hear(client, "250 2.0.0 Ok: queued as ");
    front_spooled(&(struct front_message){
        {"p@plain.org", "bob@through.org"},
        2, 64
    });
    close(client);
    front_stop();
}

static void test_too_many(void **state)
{
    (void)state;
    front_start(MEMORY, true);
    int client = front_greet();
    char mailbox[] = "0@through.org";
    for (; mailbox[0] < '5'; mailbox[0]++)
        front_accept(client, mailbox);
    front_say(client, "RCPT TO:<5@through.org>\r\n");
    front_hear(client, "452 4.5.3 Too many recipients");
    front_nobody_asked();
    close(client);
    front_ended();
    front_stop();
}

/* Who wants to hear of a success must be told by somebody. */
static void test_success_wanted(void **state)
{
    (void)state;
    front_start(MEMORY, true);
    for (int dsn = 0; dsn < 2; dsn++) {
        int client = front_greet();
        front_say(client, "RCPT TO:<a@through.org> NOTIFY=SUCCESS ORCPT=rfc822;x@y\r\n");
        struct hop_question *question = front_asked(HOP_RECIPIENT);
        assert_int_equal(question->notify, COMMAND_NOTIFY_SUCCESS);
        assert_true(bytes_equal(question->orcpt, BYTES("rfc822;x@y")));
        question->dsn = dsn;
        front_answer(question, HOP_ACCEPTED, 250, "ok");
        front_hear(client, "250 2.7.9 ok");
        if (!dsn)
            front_ended();
        front_say_text(client, 64);
        if (dsn)
            front_answer(front_asked(HOP_TEXT), HOP_ACCEPTED, 250, "passed");
        front_hear(client, dsn ? "250 2.7.9 passed" : "250 2.0.0 Ok: queued as ");
        close(client);
    }
    front_spooled(&(struct front_message){{"a@through.org"}, 1, 64});
    front_nothing_spooled();
    front_stop();
}

static void test_callahead(void **state)
{
    (void)state;
    front_start(MEMORY, true);
    int client = front_greet();
    static const struct {
        enum hop_answer answer;
        unsigned code;
        const char *line;
    } cases[] = {
        {HOP_REFUSED,     553, "550 5.7.9 said\r\n"        },
        {HOP_ACCEPTED,    250, "250 2.1.5 Recipient ok\r\n"},
        {HOP_DEFERRED,    450, "250 2.1.5 Recipient ok\r\n"},
        {HOP_UNREACHABLE, 0,   "250 2.1.5 Recipient ok\r\n"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char line[64];
        snprintf(line, sizeof(line), "RCPT TO:<%zu@ahead.org>\r\n", i);
        front_say(client, line);
        struct hop_question *question = front_asked(HOP_CALLAHEAD);
        assert_null(question->passage);
        front_answer(question, cases[i].answer, cases[i].code, "said");
        front_hear(client, cases[i].line);
    }
    /* Who has let us wait once is not asked again; nor about somebody who is there. */
    front_say(client, "RCPT TO:<p@plain.org>\r\nRCPT TO:<a@through.org>\r\n"
                      "RCPT TO:<1@ahead.org>\r\nRCPT TO:<4@ahead.org>\r\n");
    front_hear(client, "250 2.1.5 ");
    front_hear(client, "452 4.5.3 ");
    front_hear(client, "250 2.1.5 ");
    front_hear(client, "250 2.1.5 ");
    front_nobody_asked();
    front_say_text(client, 64);
    front_hear(client, "250 2.0.0 Ok: queued as ");
    front_spooled(&(struct front_message){
        {"1@ahead.org", "3@ahead.org", "p@plain.org"},
        5, 64
    });
    close(client);
    front_stop();
}

static void wait_until(const _Atomic bool *flag)
{
    for (int i = 0; i < WAIT_MS && !atomic_load(flag); i++)
        usleep(1000);
    assert_true(atomic_load(flag));
}

/* cut ends a connection with a reset. */
static void cut(int client)
{
    struct linger at_once = {.l_onoff = 1};
    setsockopt(client, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
    close(client);
}

/* The client leaves while its question is out; everything is let go of when it has come back. */
static void test_client_leaves(void **state)
{
    (void)state;
    front_start(MEMORY, true);
    int client = front_greet();
    front_say(client, "RCPT TO:<a@through.org>\r\n");
    struct hop_question *question = front_asked(HOP_RECIPIENT);
    cut(client);
    usleep(20000);
    front_answer(question, HOP_ACCEPTED, 250, "too late");
    front_ended();

    client = front_greet();
    front_accept(client, "a@through.org");
    front_say_text(client, 640);
    question = front_asked(HOP_TEXT);
    cut(client);
    usleep(20000);
    front_answer(question, HOP_ACCEPTED, 250, "too late");

    client = front_greet();
    front_accept(client, "a@through.org");
    front_say_text(client, 640);
    question = front_asked(HOP_TEXT);
    cut(client);
    usleep(20000);
    front_answer(question, HOP_UNREACHABLE, 0, "");

    client = front_greet();
    front_say(client, "RCPT TO:<a@ahead.org>\r\n");
    question = front_asked(HOP_CALLAHEAD);
    cut(client);
    usleep(20000);
    front_answer(question, HOP_REFUSED, 550, "too late");
    front_stop();
    front_nobody_asked();
}

/* Cut off by us: the questions are told to hurry, and the worker waits for them. */
static void test_abort(void **state)
{
    (void)state;
    front_start(MEMORY, true);
    int first = front_greet(), second = front_greet(), third = front_greet();
    front_say(first, "RCPT TO:<a@through.org>\r\n");
    struct hop_question *recipient = front_asked(HOP_RECIPIENT);
    front_accept(second, "a@through.org");
    front_say_text(second, 640);
    struct hop_question *text = front_asked(HOP_TEXT);
    front_accept(third, "a@through.org");
    worker_note(&front.worker, SERVER_NOTE_DRAIN | SERVER_NOTE_ABORT);
    wait_until(&recipient->abandoned);
    wait_until(&text->abandoned);
    front_ended(); /* the third one's */
    front_answer(text, HOP_UNREACHABLE, 0, "");
    front_answer(recipient, HOP_DEFERRED, 450, "");
    front_ended();
    front_gone();
    close(first);
    close(second);
    close(third);
}

/* A drain waits for what has been asked. */
static void test_drain(void **state)
{
    (void)state;
    front_start(MEMORY, true);
    int first = front_greet(), second = front_greet();
    front_say(first, "RCPT TO:<a@through.org>\r\n");
    struct hop_question *recipient = front_asked(HOP_RECIPIENT);
    front_accept(second, "a@through.org");
    front_say_text(second, 640);
    struct hop_question *text = front_asked(HOP_TEXT);
    worker_note(&front.worker, SERVER_NOTE_DRAIN);
    front_hears_nothing(first);
    front_hears_nothing(second);
    front_answer(recipient, HOP_ACCEPTED, 250, "ok");
    front_hear(first, "250 2.7.9 ok");
    front_hears_nothing(first); /* its transaction may still end */
    front_say(first, "QUIT\r\n");
    front_hear(first, "221 ");
    front_ended();
    front_answer(text, HOP_UNREACHABLE, 0, "");
    front_hear(second, "250 2.0.0 Ok: queued as ");
    front_hear(second, "421 ");
    front_spooled(&(struct front_message){{"a@through.org"}, 1, 640});
    close(first);
    close(second);
    front_gone();
}

/* Texts that we refuse ourselves go nowhere. */
static void test_text_refused_here(void **state)
{
    (void)state;
    front_start(MEMORY, true);
    int client = front_greet();
    front_accept(client, "a@through.org");
    front_say(client, "DATA\r\n");
    front_hear(client, "354 ");
    front_say(client, "bare\nnewline\r\n.\r\n");
    front_hear(client, "550 5.6.11 ");
    front_ended();
    front_say(client, "MAIL FROM:<sender@example.com>\r\n");
    front_hear(client, "250 2.1.0 ");
    front_accept(client, "a@through.org");
    front_say(client, "BDAT 3\r\nabcRSET\r\n");
    front_hear(client, "250 ");
    front_hear(client, "250 2.0.0 Reset");
    front_ended();
    close(client);
    front_nothing_spooled();
    front_stop();
}

/* Without somebody to ask, the flags mean nothing. */
static void test_nobody_to_ask(void **state)
{
    (void)state;
    front_start(MEMORY, false);
    int client = front_greet();
    front_say(client, "RCPT TO:<a@through.org>\r\nRCPT TO:<b@ahead.org>\r\n");
    front_hear(client, "250 2.1.5 ");
    front_hear(client, "250 2.1.5 ");
    front_say_text(client, 64);
    front_hear(client, "250 2.0.0 Ok: queued as ");
    front_spooled(&(struct front_message){
        {"a@through.org", "b@ahead.org"},
        2, 64
    });
    close(client);
    front_stop();
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, front_set_up, front_tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_through),
        TEST(test_replies),
        TEST(test_pipelined),
        TEST(test_spool_takes_over),
        TEST(test_mixed),
        TEST(test_memory),
        TEST(test_announced_too_big),
        TEST(test_no_memory_at_all),
        TEST(test_one_destination),
        TEST(test_too_many),
        TEST(test_success_wanted),
        TEST(test_callahead),
        TEST(test_client_leaves),
        TEST(test_abort),
        TEST(test_drain),
        TEST(test_text_refused_here),
        TEST(test_nobody_to_ask),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
