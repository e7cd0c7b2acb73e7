/* The greylist in a session: who hears 451, what waits meanwhile, and that whoever leaves while
 * other gateways are asked leaves nothing behind. */
#include "gateway/receive/greylisting.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "gateway/base/clock.h"
#include "tests/support/fake_redis.h"
#include "tests/support/front.h"

enum { MEMORY = 1 << 20 };

#define UNKNOWN    "s $-1\r\n+OK\r\n$-1\r\n"
#define KNOWN      "s $1\r\n1\r\n+OK\r\n$-1\r\n"
#define GREYLISTED "451 4.7.1 Greylisted, try again later\r\n"

static struct scene scene;
static struct shared_options sharing;

/* start: `script` NULL: nobody is asked. */
static void start(const char *const *script, uint32_t timeout_ms)
{
    static const char *const closes[] = {NULL};
    front.greylist = greylist_new(1024);
    front.rules = (struct greylist_rules){.delay_s = 300, .window_s = 7200, .keep_s = 86400};
    if (script != NULL) {
        memset(&scene, 0, sizeof(scene));
        for (int i = 0; i < SCENES_MAX; i++)
            scene.scripts[i] = i == 0 ? script : closes;
        scene_start(&scene);
        sharing = (struct shared_options){
            .redis = {.timeout_ms = timeout_ms, .pending_max = 64},
            .prefix = "p",
            .greylist = front.greylist,
        };
        memcpy(&sharing.redis.address, &scene.address, sizeof(sharing.redis.address));
        front.sharing = &sharing;
    }
    front_start(MEMORY, true);
    struct redis_snapshot redis = {.connected = script == NULL};
    for (int i = 0; i < 5000 && !redis.connected; i++) {
        redis_snapshot(shared_redis(front.server.shared), &redis);
        usleep(1000);
    }
    assert_true(redis.connected);
}

static void gone(bool shared)
{
    front_gone();
    greylist_free(front.greylist);
    if (!shared)
        return;
    scene_stop(&scene);
    free(scene.text);
    assert_string_equal(scene.fault, "");
}

static void stop(bool shared)
{
    worker_note(&front.worker, SERVER_NOTE_DRAIN);
    gone(shared);
}

/* let_pass: this machine's network has come again. */
static void let_pass(void)
{
    union address_any peer = front.address;
    (void)greylist_learn(front.greylist, &front.rules, 1, greylist_network_key(0, &peer), 0,
                         clock_wall_us() / 1000000);
}

/* Neither is a next hop asked about a recipient that is not taken, nor does it wait for one. */
static void test_order(void **state)
{
    (void)state;
    start(NULL, 0);
    int client = front_greet();
    front_say(client, "RCPT TO:<alice@through.org>\r\nRCPT TO:<bob@ahead.org>\r\n"
                      "RCPT TO:<carol@plain.org>\r\nRCPT TO:<alias@through.org>\r\n"
                      "RCPT TO:<dave@elsewhere.org>\r\nDATA\r\n");
    for (int i = 0; i < 4; i++)
        front_hear(client, GREYLISTED);
    front_hear(client, "550 5.7.1 ");
    front_hear(client, "554 5.5.1 ");
    front_nobody_asked();
    front_say(client, "RCPT TO:<Postmaster>\r\n");
    front_hear(client, "250 ");
    front_say(client, "RCPT TO:<\"post\\master\"@plain.org>\r\n"); /* who is he? the same */
    front_hear(client, "250 ");
    front_say(client, "RSET\r\nMAIL FROM:<>\r\nRCPT TO:<carol@plain.org>\r\n");
    front_hear(client, "250 2.0.0");
    front_hear(client, "250 2.1.0");
    front_hear(client, "250 2.1.5");
    let_pass();
    front_say(client, "RSET\r\nMAIL FROM:<sender@example.com>\r\n");
    front_hear(client, "250 2.0.0");
    front_hear(client, "250 2.1.0");
    front_accept(client, "alice@through.org");
    close(client);
    front_ended();
    assert_int_equal(atomic_load(&front.server.counters.replies[REPLY_GREYLISTED]), 4);
    stop(false);
}

/* The session waits twice: for other gateways, then for the next hop, which hears all that RCPT
 * said. */
static void test_both(void **state)
{
    (void)state;
    start(SCRIPT(GREET, HEAR_QUESTION, "W 100", UNKNOWN, HEAR_QUESTION, KNOWN, "E"), 2000);
    int client = front_greet();
    front_say(client, "RCPT TO:<alice@through.org>\r\nRCPT TO:<Bob@Through.org> "
                      "NOTIFY=FAILURE,DELAY ORCPT=rfc822;bob+40x\r\nRCPT TO:<c@plain");
    front_hears_nothing(client);
    front_hear(client, GREYLISTED);
    struct hop_question *question = front_asked(HOP_RECIPIENT);
    assert_true(bytes_equal(question->forward_path, BYTES("Bob@Through.org")));
    assert_true(bytes_equal(question->orcpt, BYTES("rfc822;bob+40x")));
    assert_int_equal(question->notify, COMMAND_NOTIFY_FAILURE | COMMAND_NOTIFY_DELAY);
    front_say(client, ".org>\r\n");
    front_hears_nothing(client);
    front_answer(question, HOP_ACCEPTED, 250, "bob");
    front_hear(client, "250 2.7.9 bob\r\n");
    front_hear(client, "452 4.5.3 "); /* known now: only the way is another */
    front_say_text(client, 640);
    front_answer(front_asked(HOP_TEXT), HOP_ACCEPTED, 250, "text");
    front_hear(client, "250 2.7.9 text");
    close(client);
    stop(true);
}

/* What other gateways let pass is kept as any other. */
static void test_spooled(void **state)
{
    (void)state;
    start(SCRIPT(GREET, HEAR_QUESTION, KNOWN, "E"), 2000);
    int client = front_greet();
    front_say(client, "RCPT TO:<\"a b\"@plain.org>\r\nRCPT TO:<bob@plain.org>\r\n");
    front_hear(client, "250 2.1.5 ");
    front_hear(client, "250 2.1.5 ");
    front_say_text(client, 640);
    front_hear(client, "250 2.0.0 Ok: queued as ");
    front_spooled(&(struct front_message){
        {"\"a b\"@plain.org", "bob@plain.org"},
        2, 640
    });
    close(client);
    stop(true);
}

/* No answer in time: what this gateway knows counts. */
static void test_silence(void **state)
{
    (void)state;
    start(SCRIPT(GREET, HEAR_QUESTION, "E"), 150);
    int client = front_greet();
    uint64_t begin_us = clock_monotonic_us();
    front_say(client, "RCPT TO:<a@plain.org>\r\nRCPT TO:<b@plain.org>\r\nNOOP\r\n");
    front_hear(client, GREYLISTED);
    front_hear(client, GREYLISTED);
    front_hear(client, "250 2.0.0");
    assert_in_range((clock_monotonic_us() - begin_us) / 1000, 100, 600);
    close(client);
    stop(true);
}

/* The client goes while the answer is out; and what comes then finds nobody. */
static void test_leaves(void **state)
{
    (void)state;
    start(SCRIPT(GREET, HEAR_QUESTION, "W 80", KNOWN, HEAR_QUESTION, "W 50", UNKNOWN, "E"), 2000);
    int client = front_greet();
    front_say(client, "RCPT TO:<a@plain.org>\r\n");
    usleep(30000);
    struct linger hard = {.l_onoff = 1, .l_linger = 0};
    setsockopt(client, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
    close(client);
    usleep(100000);
    client = front_greet();
    front_say(client, "RCPT TO:<a@plain.org>\r\n");
    front_hear(client, GREYLISTED); /* the answer to the first one has taught nothing */
    close(client);
    stop(true);
}

/* A drain waits for the answer; an abort does not. */
static void test_ends(void **state)
{
    (void)state;
    start(SCRIPT(GREET, HEAR_QUESTION, "W 100", UNKNOWN, "E"), 2000);
    int client = front_greet();
    front_say(client, "RCPT TO:<a@plain.org>\r\n");
    usleep(30000);
    worker_note(&front.worker, SERVER_NOTE_DRAIN);
    front_hear(client, GREYLISTED);
    front_say(client, "QUIT\r\n");
    front_hear(client, "221 ");
    close(client);
    gone(true);
}

static void test_aborted(void **state)
{
    (void)state;
    start(SCRIPT(GREET, HEAR_QUESTION, "E"), 5000);
    int client = front_greet();
    front_say(client, "RCPT TO:<a@plain.org>\r\n");
    usleep(30000);
    worker_note(&front.worker, SERVER_NOTE_DRAIN | SERVER_NOTE_ABORT);
    char octet;
    assert_true(recv(client, &octet, 1, 0) <= 0);
    close(client);
    gone(true);
}

/* Told to hurry: 421 in place of the answer, which comes later and finds a session that ends. */
static void test_hurried(void **state)
{
    (void)state;
    start(SCRIPT(GREET, HEAR_QUESTION, "W 100", KNOWN, "E"), 2000);
    int client = front_greet();
    front_say(client, "RCPT TO:<a@plain.org>\r\n");
    usleep(30000);
    worker_note(&front.worker, SERVER_NOTE_DRAIN | SERVER_NOTE_HURRY);
    front_hear(client, "421 4.3.2 ");
    usleep(150000);
    close(client);
    gone(true);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, front_set_up, front_tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_order),  TEST(test_both), TEST(test_spooled), TEST(test_silence),
        TEST(test_leaves), TEST(test_ends), TEST(test_aborted), TEST(test_hurried),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
