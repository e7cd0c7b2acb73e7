/* Timer wheel: see timer.h. One level; a timer beyond its reach is met once a round and left alone
 * until due. */
#include "gateway/base/timer.h"

#include "gateway/base/check.h"

static uint64_t tick_of(uint64_t due_us)
{
    return (due_us + TIMER_TICK_US - 1) / TIMER_TICK_US;
}

void timer_wheel_init(struct timer_wheel *wheel, uint64_t now_us)
{
    for (size_t i = 0; i < TIMER_SLOTS; i++)
        list_init(&wheel->slots[i]);
    wheel->tick = now_us / TIMER_TICK_US + 1;
    wheel->count = 0;
}

void timer_start(struct timer_wheel *wheel, struct timer *timer, uint64_t due_us)
{
    timer_stop(wheel, timer);
    uint64_t tick = tick_of(due_us);
    if (tick < wheel->tick)
        tick = wheel->tick; /* already due: the next tick finds it */
    timer->due_us = due_us;
    list_append(&wheel->slots[tick % TIMER_SLOTS], &timer->node);
    wheel->count++;
}

void timer_stop(struct timer_wheel *wheel, struct timer *timer)
{
    if (!list_linked(&timer->node))
        return;
    list_remove(&timer->node);
    wheel->count--;
}

uint64_t timer_wheel_next(const struct timer_wheel *wheel, uint64_t now_us)
{
    if (wheel->count == 0)
        return UINT64_MAX;
    /* What was due by now has been taken out with timer_wheel_expired, and what has been started
     * since lies in later ticks; what else is in the present slot belongs to a later round. */
    uint64_t first = now_us / TIMER_TICK_US + 1;
    uint64_t tick = first;
    while (tick < first + TIMER_SLOTS && list_empty(&wheel->slots[tick % TIMER_SLOTS]))
        tick++;
    return tick * TIMER_TICK_US - now_us;
}

struct timer *timer_wheel_expired(struct timer_wheel *wheel, uint64_t now_us)
{
    uint64_t now_tick = now_us / TIMER_TICK_US;
    if (wheel->count == 0) {
        wheel->tick = now_tick + 1;
        return NULL;
    }
    for (; wheel->tick <= now_tick; wheel->tick++) {
        struct list *slot = &wheel->slots[wheel->tick % TIMER_SLOTS];
        for (struct list_node *node = slot->head.next; node != &slot->head; node = node->next) {
            struct timer *timer = list_entry(node, struct timer, node);
            if (tick_of(timer->due_us) > wheel->tick)
                continue; /* a later round */
            timer_stop(wheel, timer);
            return timer;
        }
    }
    return NULL;
}
