/* Watches: told while and only while a descriptor is ready, and never again once they are over,
 * whatever the kernel has on its way. Each runs with what this kernel can do and with what Linux
 * 6.1 can. */
#include "gateway/io/watch.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "gateway/io/uring.h"
#include "tests/support/turner.h"
#include "tests/support/twice.h"

/* One end of a pair of sockets, watched. */
struct gate {
    struct watch watch; /* first: what `ready` is given */
    struct turner *turner;
    int ours, theirs;
    uint32_t calls, events;
    uint32_t leave;     /* so often the octet that is ready is left where it is */
    struct gate *other; /* to be ended when this one is ready */
};

static struct turner *start(void **state)
{
    return turner_new(*state != NULL);
}

static void set(struct gate *gate, uint32_t wanted)
{
    assert_true(watch_set(&gate->turner->worker, &gate->watch, gate->ours, wanted));
}

static void note(struct watch *watch, uint32_t events)
{
    struct gate *gate = (struct gate *)(void *)watch;
    char octet;
    gate->calls++;
    gate->events |= events;
    if (gate->other != NULL)
        set(gate->other, 0);
    if (events & POLLIN && gate->leave > 0)
        gate->leave--;
    else if (events & POLLIN)
        (void)!read(gate->ours, &octet, 1);
}

static struct gate *open_gate(struct turner *turner)
{
    int pair[2];
    struct gate *gate = calloc(1, sizeof(*gate));
    assert_non_null(gate);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
    gate->turner = turner;
    gate->ours = pair[0];
    gate->theirs = pair[1];
    gate->watch.ready = note;
    return gate;
}

static void close_gate(struct gate *gate)
{
    close(gate->ours);
    if (gate->theirs >= 0)
        close(gate->theirs);
    free(gate);
}

static void say(const struct gate *gate)
{
    assert_int_equal(write(gate->theirs, "x", 1), 1);
}

/* wait_ms turns for a while: what is not to happen has its chance. */
static void wait_ms(struct turner *turner, uint32_t ms)
{
    assert_false(turner_run(turner, NULL, ms));
}

static void level_triggered(void **state)
{
    struct turner *turner = start(state);
    struct gate *gate = open_gate(turner);
    set(gate, POLLIN);
    wait_ms(turner, 20);
    assert_int_equal(gate->calls, 0);
    gate->leave = 5;
    say(gate);
    say(gate);
    wait_ms(turner, 50);
    assert_int_equal(gate->calls, 7); /* five times left, twice taken */
    assert_int_equal(gate->events, POLLIN);
    assert_true(turner->sleeps < 40); /* it does not spin when all is quiet */
    say(gate);
    wait_ms(turner, 20);
    assert_int_equal(gate->calls, 8);
    set(gate, 0);
    close_gate(gate);
    turner_free(turner);
}

static void other_wishes(void **state)
{
    struct turner *turner = start(state);
    struct gate *gate = open_gate(turner);
    set(gate, POLLIN);
    set(gate, POLLIN); /* the same */
    wait_ms(turner, 10);
    set(gate, POLLOUT);
    say(gate); /* which is not wanted now */
    wait_ms(turner, 5);
    assert_true(gate->calls > 0);
    assert_int_equal(gate->events, POLLOUT);
    set(gate, POLLIN | POLLOUT);
    gate->events = 0;
    wait_ms(turner, 5);
    assert_int_equal(gate->events, POLLIN | POLLOUT);
    set(gate, POLLIN);
    wait_ms(turner, 5);
    gate->calls = 0;
    wait_ms(turner, 10);
    assert_int_equal(gate->calls, 0);
    set(gate, 0);
    close_gate(gate);
    turner_free(turner);
}

/* The end is told with or without octets before it. */
static void broken(void **state)
{
    struct turner *turner = start(state);
    struct gate *gate = open_gate(turner);
    set(gate, POLLIN);
    wait_ms(turner, 5);
    close(gate->theirs);
    gate->theirs = -1;
    wait_ms(turner, 5);
    assert_true(gate->calls > 0 && gate->events & POLLHUP);
    set(gate, 0);
    struct watch bad = {.ready = note};
    struct gate *no_descriptor = open_gate(turner);
    no_descriptor->watch = bad;
    int ours = no_descriptor->ours;
    close(ours);
    no_descriptor->ours = ours;
    set(no_descriptor, POLLIN);
    wait_ms(turner, 5);
    assert_true(no_descriptor->events & (POLLERR | POLLNVAL));
    set(no_descriptor, 0);
    no_descriptor->ours = open("/dev/null", O_RDONLY | O_CLOEXEC); /* for close_gate */
    close_gate(no_descriptor);
    close_gate(gate);
    turner_free(turner);
}

/* Both are ready in the same turn, and the first one ends the second, whose memory goes at once. */
static struct gate *victim;

static void end_victim(struct watch *watch, uint32_t events)
{
    note(watch, events);
    if (victim == NULL)
        return;
    set(victim, 0);
    close_gate(victim);
    victim = NULL;
}

static void never_told_again(void **state)
{
    struct turner *turner = start(state);
    for (int first = 0; first < 2; first++) {
        struct gate *gates[2] = {open_gate(turner), open_gate(turner)};
        gates[0]->watch.ready = gates[1]->watch.ready = end_victim;
        set(gates[first], POLLIN);
        set(gates[1 - first], POLLIN);
        wait_ms(turner, 5);
        say(gates[0]);
        say(gates[1]);
        victim = NULL;
        gates[0]->other = gates[1]; /* ends it, and it stays */
        gates[1]->other = gates[0];
        wait_ms(turner, 10);
        assert_int_equal(gates[0]->calls + gates[1]->calls, 1);
        set(gates[0], 0);
        set(gates[1], 0);
        gates[0]->other = gates[1]->other = NULL;
        set(gates[0], POLLIN);
        set(gates[1], POLLIN);
        gates[0]->leave = gates[1]->leave = 1;
        say(gates[0]);
        say(gates[1]);
        victim = gates[1]; /* whether it was told before or not: it is gone then */
        gates[1]->watch.ready = note;
        wait_ms(turner, 10);
        assert_null(victim);
        set(gates[0], 0);
        close_gate(gates[0]);
    }
    turner_free(turner);
}

/* A watch ends itself and begins again, elsewhere, from within `ready`. */
static struct gate *next_gate;

static void move_on(struct watch *watch, uint32_t events)
{
    struct gate *gate = (struct gate *)(void *)watch;
    note(watch, events);
    set(gate, 0);
    int ours = gate->ours;
    gate->ours = next_gate->ours;
    next_gate->ours = ours;
    set(gate, POLLIN);
}

static void moves_within(void **state)
{
    struct turner *turner = start(state);
    struct gate *gate = open_gate(turner);
    next_gate = open_gate(turner);
    gate->watch.ready = move_on;
    set(gate, POLLIN);
    say(gate);
    wait_ms(turner, 10);
    assert_int_equal(gate->calls, 1);
    say(gate); /* nobody watches that one now */
    wait_ms(turner, 10);
    assert_int_equal(gate->calls, 1);
    say(next_gate);
    wait_ms(turner, 10);
    assert_int_equal(gate->calls, 3); /* and back, where an octet waits */
    set(gate, 0);
    close_gate(gate);
    close_gate(next_gate);
    turner_free(turner);
}

/* The descriptor is closed right after the watch, and its number is another file's at once. */
static void same_number(void **state)
{
    struct turner *turner = start(state);
    struct gate *gate = open_gate(turner);
    for (int i = 0; i < 3; i++) {
        struct gate *heir = open_gate(turner);
        set(gate, POLLIN);
        if (i > 0)
            wait_ms(turner, 5); /* once before the kernel has heard of the watch */
        set(gate, 0);
        assert_int_equal(dup2(heir->ours, gate->ours), gate->ours);
        say(heir);
        wait_ms(turner, 10);
        assert_int_equal(gate->calls, 0);
        char octet;
        assert_int_equal(read(heir->ours, &octet, 1), 1);
        close(heir->ours);
        heir->ours = gate->theirs; /* which has no peer any more */
        gate->theirs = heir->theirs;
        heir->theirs = -1;
        close_gate(heir);
    }
    close_gate(gate);
    turner_free(turner);
}

static void places_run_out(void **state)
{
    struct turner *turner = start(state);
    struct gate *gates[WATCH_MAX + 1];
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i <= WATCH_MAX; i++)
            gates[i] = open_gate(turner);
        for (int i = 0; i < WATCH_MAX; i++)
            set(gates[i], POLLIN);
        struct gate *last = gates[WATCH_MAX];
        assert_false(watch_set(&turner->worker, &last->watch, last->ours, POLLIN));
        assert_int_equal(last->watch.wanted, 0);
        set(gates[17], 0);
        set(gates[17], 0); /* at rest: nothing to end */
        set(last, POLLIN);
        for (int i = 0; i <= WATCH_MAX; i++)
            say(gates[i]);
        wait_ms(turner, 20);
        for (int i = 0; i <= WATCH_MAX; i++) {
            assert_int_equal(gates[i]->calls, i == 17 ? 0 : 1);
            set(gates[i], 0);
            close_gate(gates[i]);
        }
    }
    turner_free(turner);
}

/* Watches that are set do not keep a worker, and a worker that is gone forgets them. */
static void ends_all_the_same(void **state)
{
    struct turner *turner = start(state);
    struct gate *gate = open_gate(turner);
    set(gate, POLLIN);
    wait_ms(turner, 5); /* it returns */
    assert_int_equal(uring_in_kernel(turner->worker.ring), 0);
    turner_free(turner);
    close_gate(gate);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TWICE(level_triggered),  TWICE(other_wishes),      TWICE(broken),
        TWICE(never_told_again), TWICE(moves_within),      TWICE(same_number),
        TWICE(places_run_out),   TWICE(ends_all_the_same),
    };
    return cmocka_run_group_tests(tests, twice_set_up, NULL);
}
