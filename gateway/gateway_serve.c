/* The main thread while all serve: it waits for signals, for orders of the control socket, and for
 * a process that takes over. */
#include "gateway/gateway_life.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

enum {
    LOOK_S = 86400, /* certificates grow old while nobody looks */
    TICK_MS = 1000,
};

bool gateway_signals_open(struct gateway *gateway)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &set, NULL); /* inherited by every thread: only main takes them */
    signal(SIGPIPE, SIG_IGN);
    gateway->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return gateway->signals >= 0;
}

static uint32_t hear_signals(struct gateway *gateway)
{
    struct signalfd_siginfo info;
    uint32_t events = 0;
    while (read(gateway->signals, &info, sizeof(info)) == sizeof(info)) {
        if (info.ssi_signo == SIGHUP) {
            events |= GATEWAY_RELOAD;
            continue;
        }
        events |= GATEWAY_STOP;
        gateway_say(gateway, LOG_INFO, "drain", strsignal((int)info.ssi_signo));
    }
    return events;
}

static uint32_t hear_orders(struct gateway *gateway)
{
    pid_t pid;
    uint32_t events = 0;
    orders_hear(gateway->orders);
    if (orders_take_drain(gateway->orders)) {
        gateway_say(gateway, LOG_INFO, "drain", "ringmxctl drain");
        events |= GATEWAY_STOP;
    }
    uint64_t reload = orders_take_reload(gateway->orders);
    if (reload != 0 && gateway->stopping)
        orders_reload_done(gateway->orders, reload, strdup("the gateway is stopping\n"),
                           EX_UNAVAILABLE);
    else if (reload != 0)
        gateway->reload_asked = reload;
    int descriptor = orders_take_hand_over(gateway->orders, &pid);
    if (descriptor >= 0)
        gateway_yield_offer(gateway, descriptor, pid);
    return gateway->reload_asked != 0 ? events | GATEWAY_RELOAD : events;
}

uint32_t gateway_wait(struct gateway *gateway, int timeout_ms)
{
    uint32_t events = 0;
    struct pollfd polled[] = {
        {.fd = gateway->signals,             .events = POLLIN},
        {.fd = orders_bell(gateway->orders), .events = POLLIN},
        {.fd = gateway->yield.descriptor,    .events = POLLIN},
    };
    if (poll(polled, 3, timeout_ms) <= 0)
        return 0;
    if (polled[0].revents != 0)
        events |= hear_signals(gateway);
    if (polled[2].revents != 0) {
        enum yield_word word = gateway_yield_hear(gateway);
        events |= word == YIELD_COMMIT ? GATEWAY_COMMIT : word == YIELD_LOST ? GATEWAY_LOST : 0;
    }
    if (polled[1].revents != 0)
        events |= hear_orders(gateway);
    return events;
}

static void reload(struct gateway *gateway)
{
    char *text = NULL;
    int code = gateway_reload(gateway, &text);
    if (gateway->reload_asked != 0)
        orders_reload_done(gateway->orders, gateway->reload_asked, text, code);
    else
        free(text);
    gateway->reload_asked = 0;
}

/* broken: something that can't be mended while we run. */
static bool broken(struct gateway *gateway)
{
    if (courier_broken(gateway->courier)) {
        atomic_store(&gateway->health.courier_broken, true);
        gateway_say(gateway, LOG_ERROR, "courier_failed", "the courier's ring broke: stopping");
        return true;
    }
    for (size_t i = 0; i < gateway->hand_count; i++)
        if (atomic_load(&gateway->hands[i].finished)) {
            gateway_say(gateway, LOG_ERROR, "worker_failed", "a worker's ring broke: stopping");
            return true;
        }
    return false;
}

bool gateway_serve(struct gateway *gateway)
{
    time_t look_s = time(NULL) + LOOK_S;
    for (;;) {
        uint32_t events = gateway_wait(gateway, gateway->later != 0 ? 0 : TICK_MS);
        events |= gateway->later;
        gateway->later = 0;
        if (events & GATEWAY_RELOAD)
            reload(gateway);
        /* Before the signal: who takes over waits no longer than drain.handover. */
        if ((events & GATEWAY_COMMIT) && gateway_yield(gateway))
            return true;
        if (events & GATEWAY_STOP)
            return true;
        if (time(NULL) >= look_s) {
            look_s += LOOK_S;
            gateway_tls_say_warnings(gateway, gateway->current);
        }
        if (broken(gateway))
            return false;
    }
}
