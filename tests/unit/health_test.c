/* admin/health and admin/agent: what each state of the gateway is called, and what comes first when
 * there are several; what HAProxy's agent-check is told, over a real socket. */
#include "gateway/admin/agent.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "gateway/base/clock.h"
#include "gateway/io/listener.h"

static enum spool_state state_now; /* the spool of these tests is nothing but its state */

enum spool_state spool_state(const struct spool *spool)
{
    assert_non_null(spool);
    return state_now;
}

static void begin(struct health *health, enum health_phase phase)
{
    static const char somewhere;
    memset(health, 0, sizeof(*health));
    atomic_store(&health->phase, (int)phase);
    atomic_store(&health->spool, (const struct spool *)(const void *)&somewhere);
    state_now = SPOOL_OPEN;
}

static void each_state_has_its_word(void **state)
{
    (void)state;
    struct health health;
    const struct {
        enum health_phase phase;
        enum spool_state spool;
        const char *word;
    } rows[] = {
        {HEALTH_STARTING, SPOOL_OPEN,       "starting"   },
        {HEALTH_STARTING, SPOOL_FULL,       "starting"   },
        {HEALTH_SERVING,  SPOOL_OPEN,       "ready"      },
        {HEALTH_SERVING,  SPOOL_FULL,       "disk_full"  },
        {HEALTH_SERVING,  SPOOL_BROKEN,     "sync_errors"},
        {HEALTH_SERVING,  SPOOL_QUEUE_FULL, "queue_full" },
        {HEALTH_NOTICE,   SPOOL_OPEN,       "draining"   },
        {HEALTH_NOTICE,   SPOOL_BROKEN,     "draining"   },
        {HEALTH_DRAINING, SPOOL_OPEN,       "draining"   },
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        begin(&health, rows[i].phase);
        state_now = rows[i].spool;
        assert_string_equal(health_word(health_trouble(&health)), rows[i].word);
        atomic_store(&health.courier_broken, true);
        assert_string_equal(health_word(health_trouble(&health)), "courier_broken");
    }
}

static void without_a_spool_the_phase_decides(void **state)
{
    (void)state;
    struct health health = {0};
    assert_int_equal(health_trouble(&health), HEALTH_NOT_YET);
    atomic_store(&health.phase, (int)HEALTH_SERVING);
    assert_int_equal(health_trouble(&health), HEALTH_READY);
}

static void each_trouble_has_a_sentence(void **state)
{
    (void)state;
    for (int i = 0; i < HEALTH_TROUBLES; i++) {
        const char *text = health_text((enum health_trouble)i);
        assert_true(strlen(text) > 10 && text[strlen(text) - 1] == '.');
        assert_int_equal(strspn(health_word((enum health_trouble)i), "abcdefghijklmnopqrstuvwxyz_"),
                         strlen(health_word((enum health_trouble)i)));
    }
}

static void assert_line(const struct health *health, const char *wanted)
{
    char line[AGENT_LINE_MAX];
    size_t len = agent_line(health, line);
    assert_int_equal(len, strlen(wanted));
    assert_memory_equal(line, wanted, len);
}

static void the_agent_has_a_line_for_each(void **state)
{
    (void)state;
    struct health health;
    begin(&health, HEALTH_STARTING);
    assert_line(&health, "down #starting\n");
    begin(&health, HEALTH_SERVING);
    assert_line(&health, "ready up\n");
    state_now = SPOOL_FULL;
    assert_line(&health, "down #disk_full\n");
    begin(&health, HEALTH_NOTICE);
    assert_line(&health, "drain\n");
    begin(&health, HEALTH_DRAINING);
    assert_line(&health, "down #draining\n");
    atomic_store(&health.courier_broken, true);
    assert_line(&health, "down #courier_broken\n");
}

/* --- over a socket --- */

struct stall {
    struct agent agent;
    struct health health;
    union address_any address;
};

static void open_stall(struct stall *stall)
{
    begin(&stall->health, HEALTH_SERVING);
    assert_true(listener_parse("127.0.0.1:0", &stall->address));
    int listener = listener_open_alone(&stall->address);
    assert_true(listener >= 0);
    agent_init(&stall->agent, listener, &stall->health);
}

static int call(const struct stall *stall)
{
    int descriptor = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(descriptor, &stall->address.any, sizeof(stall->address.v4)), 0);
    return descriptor;
}

static void turn(struct stall *stall, uint64_t now_us)
{
    struct pollfd polled[AGENT_POLLS];
    agent_prepare(&stall->agent, polled);
    (void)poll(polled, AGENT_POLLS, 10);
    agent_serve(&stall->agent, polled, now_us);
}

static void turns(struct stall *stall)
{
    for (int i = 0; i < 5; i++)
        turn(stall, clock_monotonic_us());
}

static uint32_t held(const struct stall *stall)
{
    uint32_t count = 0;
    for (size_t i = 0; i < AGENT_CLIENTS_MAX; i++)
        count += stall->agent.clients[i].descriptor >= 0;
    return count;
}

static void assert_told(int descriptor)
{
    char text[64];
    assert_int_equal(recv(descriptor, text, sizeof(text), 0), 9);
    assert_memory_equal(text, "ready up\n", 9);
    assert_int_equal(recv(descriptor, text, sizeof(text), 0), 0);
}

static void who_connects_is_told_and_let_go(void **state)
{
    (void)state;
    struct stall stall;
    open_stall(&stall);
    int silent = call(&stall), talker = call(&stall);
    assert_int_equal(send(talker, "hello\n", 6, 0), 6);
    turns(&stall);
    assert_told(silent);
    assert_told(talker);
    close(silent);
    close(talker);
    turns(&stall);
    assert_int_equal(held(&stall), 0);
    agent_close(&stall.agent);
}

static void who_stays_is_hung_up_on(void **state)
{
    (void)state;
    struct stall stall;
    open_stall(&stall);
    int descriptor = call(&stall);
    turns(&stall);
    assert_int_equal(held(&stall), 1);
    turn(&stall, clock_monotonic_us() + 10 * 1000 * 1000);
    assert_int_equal(held(&stall), 0);
    close(descriptor);
    agent_close(&stall.agent);
}

static void the_oldest_makes_room(void **state)
{
    (void)state;
    enum { MANY = 3 * AGENT_CLIENTS_MAX };
    struct stall stall;
    int descriptors[MANY];
    open_stall(&stall);
    for (int i = 0; i < MANY; i++) {
        descriptors[i] = call(&stall);
        turn(&stall, clock_monotonic_us());
    }
    turns(&stall);
    assert_int_equal(held(&stall), AGENT_CLIENTS_MAX);
    for (int i = 0; i < MANY; i++) {
        assert_told(descriptors[i]);
        close(descriptors[i]);
    }
    turns(&stall);
    assert_int_equal(held(&stall), 0);
    agent_close(&stall.agent);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_state_has_its_word),
        cmocka_unit_test(without_a_spool_the_phase_decides),
        cmocka_unit_test(each_trouble_has_a_sentence),
        cmocka_unit_test(the_agent_has_a_line_for_each),
        cmocka_unit_test(who_connects_is_told_and_let_go),
        cmocka_unit_test(who_stays_is_hung_up_on),
        cmocka_unit_test(the_oldest_makes_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
