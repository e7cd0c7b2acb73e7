/* The end of a gateway: its phases (docs/operation.md, "Drain"), and that of one whose place
 * another takes, which can still turn back as long as its workers are there. */
#include "gateway/gateway_life.h"

#include <stdlib.h>
#include <sysexits.h>
#include <unistd.h>

#include "gateway/base/clock.h"

enum {
    HURRY_S = 2,        /* between the last word to all and the end of their connections */
    BROKEN_DRAIN_S = 5, /* in place of drain.timeout, and once more, when the courier is broken */
    LISTENING_S = 2,    /* until all accept requests are back */
    TICK_MS = 5,
    MARGIN_S = 30, /* for what comes after the workers: deliveries, outcomes, the disk */
};

enum waited { WAITED_DONE, WAITED_LONG, WAITED_STOP, WAITED_LOST };

static bool all_finished(const struct gateway *gateway)
{
    for (size_t i = 0; i < gateway->hand_count; i++)
        if (gateway->hands[i].started && !atomic_load(&gateway->hands[i].finished))
            return false;
    return true;
}

static bool all_deaf(const struct gateway *gateway)
{
    for (size_t i = 0; i < gateway->hand_count; i++)
        if (gateway->hands[i].started && worker_listening(&gateway->hands[i].worker))
            return false;
    return true;
}

static bool all_listen(const struct gateway *gateway)
{
    for (size_t i = 0; i < gateway->hand_count; i++)
        if (!worker_listening(&gateway->hands[i].worker))
            return false;
    return true;
}

/* all_gone: no session is left, and none can come. */
static bool all_gone(const struct gateway *gateway)
{
    return all_deaf(gateway) && admission_count(gateway->admission) == 0;
}

static void note_all(struct gateway *gateway, uint32_t note)
{
    for (size_t i = 0; i < gateway->hand_count; i++)
        if (atomic_load(&gateway->hands[i].ready) == 1 && !atomic_load(&gateway->hands[i].finished))
            worker_note(&gateway->hands[i].worker, note);
}

/* bound_by_other: who takes over, although a signal had said stop before, waits no longer than
 * drain.handover. */
static uint64_t bound_by_other(const struct gateway *gateway, uint64_t end_us)
{
    uint64_t other_us =
        clock_monotonic_us() + (uint64_t)gateway->current->handover_timeout_s * 1000000;
    bool waits = gateway->yield.committed && !gateway->yielding;
    return waits && other_us < end_us ? other_us : end_us;
}

/* wait_for waits until `done`, for `seconds` at most, and hears signals meanwhile. Those that mean
 * nothing to a process which yields are kept for the case that it turns back. */
static enum waited wait_for(struct gateway *gateway, bool (*done)(const struct gateway *gateway),
                            uint32_t seconds)
{
    uint64_t end_us = clock_monotonic_us() + (uint64_t)seconds * 1000000;
    end_us = bound_by_other(gateway, end_us);
    while (!done(gateway)) {
        uint32_t events = gateway_wait(gateway, TICK_MS);
        if (gateway->yielding)
            gateway->later |= events & (GATEWAY_STOP | GATEWAY_RELOAD);
        if (events & GATEWAY_COMMIT)
            end_us = bound_by_other(gateway, end_us);
        if ((events & GATEWAY_LOST) && gateway->yielding)
            return WAITED_LOST;
        if (events & GATEWAY_STOP)
            return WAITED_STOP;
        if (clock_monotonic_us() >= end_us)
            return WAITED_LONG;
    }
    return WAITED_DONE;
}

/* unnote_all takes back what a worker that hangs has not heard: of two that contradict each other
 * only the last may be there. */
static void unnote_all(struct gateway *gateway, uint32_t note)
{
    for (size_t i = 0; i < gateway->hand_count; i++)
        worker_unnote(&gateway->hands[i].worker, note);
}

/* wait_deaf: whoever closes the listening sockets does so when no request can accept any more. */
static void wait_deaf(struct gateway *gateway)
{
    uint64_t end_us = clock_monotonic_us() + LISTENING_S * 1000000ull;
    while (!all_deaf(gateway) && clock_monotonic_us() < end_us)
        usleep(200);
}

/* A worker can't end while it waits for an answer of the courier's, and a broken courier may never
 * give one. What was answered 250 is on disk, so to end here is no more than a crash. */
static void leave_hard(struct gateway *gateway)
{
    gateway_say(gateway, LOG_ERROR, "stop", "workers wait for the courier in vain: ending at once");
    usleep(500 * 1000); /* for the log's thread */
    _exit(EX_SOFTWARE);
}

/* abort_hands ends what is left, and the workers. */
static void abort_hands(struct gateway *gateway)
{
    note_all(gateway, SERVER_NOTE_DRAIN | SERVER_NOTE_ABORT);
    while (wait_for(gateway, all_finished, BROKEN_DRAIN_S) != WAITED_DONE)
        if (courier_broken(gateway->courier))
            leave_hard(gateway);
    for (size_t i = 0; i < gateway->hand_count; i++)
        if (gateway->hands[i].started)
            pthread_join(gateway->hands[i].thread, NULL);
}

/* hurry says the last word to all. */
static enum waited hurry(struct gateway *gateway, bool (*done)(const struct gateway *gateway))
{
    uint64_t end_us = clock_monotonic_us() + HURRY_S * 1000000ull;
    enum waited waited;
    note_all(gateway, SERVER_NOTE_HURRY);
    do
        waited = wait_for(gateway, done, HURRY_S);
    while (waited == WAITED_STOP && clock_monotonic_us() < end_us);
    return waited;
}

/* notice lets balancers look elsewhere first. True: there is no more time. */
static bool notice(struct gateway *gateway, uint32_t seconds)
{
    atomic_store(&gateway->health.phase, HEALTH_NOTICE);
    note_all(gateway, SERVER_NOTE_NOTICE);
    return wait_for(gateway, all_finished, seconds) == WAITED_STOP;
}

void gateway_drain(struct gateway *gateway)
{
    bool broken = gateway->courier != NULL && courier_broken(gateway->courier);
    uint32_t notice_s = broken ? 0 : gateway->current->drain_notice_s;
    uint32_t timeout_s = broken ? BROKEN_DRAIN_S : gateway->current->drain_timeout_s;
    gateway->stopping = true;
    handover_notify("STOPPING=1\nEXTEND_TIMEOUT_USEC=%llu\nSTATUS=Draining",
                    (notice_s + timeout_s + MARGIN_S) * 1000000ull);
    bool hasty = notice_s > 0 && notice(gateway, notice_s);
    atomic_store(&gateway->health.phase, HEALTH_DRAINING);
    note_all(gateway, SERVER_NOTE_DRAIN);
    wait_deaf(gateway);
    if (all_deaf(gateway) && gateway->yield.descriptor < 0)
        gateway_sockets_refuse(gateway); /* else another process has them, too */
    gateway_sockets_close(gateway, false);
    if (hasty || wait_for(gateway, all_finished, timeout_s) != WAITED_DONE)
        (void)hurry(gateway, all_finished);
    abort_hands(gateway);
}

/* turn_back: the other is gone, and we are still here. */
static void turn_back(struct gateway *gateway)
{
    unnote_all(gateway, SERVER_NOTE_YIELD); /* who has not heard it stays as it is */
    note_all(gateway, SERVER_NOTE_RESUME);
    (void)wait_for(gateway, all_listen, LISTENING_S);
    gateway->stopping = gateway->yielding = false;
    atomic_store(&gateway->health.phase, HEALTH_SERVING);
    handover_notify("STATUS=Serving; a process that wanted to take over has failed");
    gateway_say(gateway, LOG_WARN, "resumed", "this process goes on");
}

bool gateway_yield(struct gateway *gateway)
{
    uint32_t timeout_s = gateway->current->handover_timeout_s;
    gateway->stopping = gateway->yielding = true;
    atomic_store(&gateway->health.phase, HEALTH_DRAINING);
    gateway_say(gateway, LOG_INFO, "drain", "another process takes over");
    unnote_all(gateway, SERVER_NOTE_RESUME);
    note_all(gateway, SERVER_NOTE_YIELD);
    wait_deaf(gateway);
    enum waited waited = wait_for(gateway, all_gone, timeout_s);
    if (waited == WAITED_LONG || waited == WAITED_STOP)
        waited = hurry(gateway, all_gone);
    /* Without a session nobody has looked yet; from DRAIN on there is no way back. */
    gateway->later |= gateway_wait(gateway, 0) & (GATEWAY_STOP | GATEWAY_RELOAD);
    if (waited == WAITED_LOST || gateway->yield.descriptor < 0) {
        turn_back(gateway);
        return false;
    }
    note_all(gateway, SERVER_NOTE_DRAIN);
    (void)wait_for(gateway, all_finished, HURRY_S); /* last words are still on their way */
    abort_hands(gateway);
    return true;
}
