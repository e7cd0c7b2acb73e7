/* A timer wheel: many coarse timers, each started, moved and stopped in constant time. A tick is a
 * quarter of a second. Timers fire late by up to one tick, never early. One thread only. */
#ifndef GATEWAY_BASE_TIMER_H
#define GATEWAY_BASE_TIMER_H

#include "gateway/base/list.h"

#include <stdint.h>

enum {
    TIMER_TICK_US = 250000,
    TIMER_SLOTS = 1024, /* a longer wait goes round more than once */
};

struct timer {
    struct list_node node; /* linked: the timer runs */
    uint64_t due_us;
};

struct timer_wheel {
    struct list slots[TIMER_SLOTS];
    uint64_t tick; /* all before it have fired; no timer is put before it */
    uint32_t count;
};

/* timer_wheel_init makes an empty wheel whose time is `now_us` (monotonic). */
void timer_wheel_init(struct timer_wheel *wheel, uint64_t now_us);

/* timer_start lets `timer` fire at `due_us`; a running timer is moved. */
void timer_start(struct timer_wheel *wheel, struct timer *timer, uint64_t due_us);

/* timer_stop stops it; nothing happens when it does not run. */
void timer_stop(struct timer_wheel *wheel, struct timer *timer);

/* timer_wheel_next returns the time until the next timer may fire, in microseconds from `now_us`;
 * UINT64_MAX: none runs. */
uint64_t timer_wheel_next(const struct timer_wheel *wheel, uint64_t now_us);

/* timer_wheel_expired takes one timer that is due at `now_us` out of the wheel and returns it, or
 * NULL. */
struct timer *timer_wheel_expired(struct timer_wheel *wheel, uint64_t now_us);

#endif
