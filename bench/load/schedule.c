/* See schedule.h. */
#include "bench/load/schedule.h"

#include <math.h>

static const long double second_ns = 1e9L;

/* The exponential distribution, by inversion; its argument is above 0 and at most 1. */
static double gap_ns(struct schedule *schedule)
{
    double share = (double)((schedule_random(&schedule->chance) >> 11) + 1) * 0x1p-53;
    return -log(share) * schedule->interval_ns;
}

/* Sets the time of the next arrival. Constant ones are computed from their number (a double would
 * be nanoseconds wrong after some days), so no error is carried on; of Poisson ones only the
 * fraction of a nanosecond is added up in floating point. */
static void advance(struct schedule *schedule)
{
    if (!schedule->poisson) {
        schedule->next_ns =
            (uint64_t)((long double)schedule->number * second_ns / schedule->rate + 0.5L);
        return;
    }
    double since = schedule->fraction_ns + gap_ns(schedule);
    uint64_t whole = (uint64_t)since;
    schedule->next_ns += whole;
    schedule->fraction_ns = since - (double)whole;
}

void schedule_start(struct schedule *schedule, bool poisson, double rate, uint64_t start_ns,
                    uint32_t index, uint32_t count, uint64_t seed)
{
    *schedule = (struct schedule){
        .rate = rate,
        .interval_ns = (double)(second_ns / rate * count),
        .start_ns = start_ns,
        .number = index,
        .threads = count,
        .poisson = poisson,
    };
    /* The states of one generator are equally spaced: seeds that lie so, too, would give the same
     * numbers a little later. */
    uint64_t thread = index;
    schedule->chance = seed ^ schedule_random(&thread);
    schedule->chance = schedule_random(&schedule->chance);
    advance(schedule);
}

uint64_t schedule_next_ns(const struct schedule *schedule)
{
    return schedule->start_ns + schedule->next_ns;
}

uint64_t schedule_take(struct schedule *schedule)
{
    uint64_t taken_ns = schedule_next_ns(schedule);
    schedule->number += schedule->threads;
    advance(schedule);
    return taken_ns;
}

uint64_t schedule_random(uint64_t *state)
{
    uint64_t number = *state += UINT64_C(0x9e3779b97f4a7c15);
    number = (number ^ (number >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    number = (number ^ (number >> 27)) * UINT64_C(0x94d049bb133111eb);
    return number ^ (number >> 31);
}
