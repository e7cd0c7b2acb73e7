/* Intended starts: when the next message or connection of an open loop should begin, fixed
 * beforehand, whatever the server does. Pure arithmetic; one schedule for each thread. */
#ifndef BENCH_LOAD_SCHEDULE_H
#define BENCH_LOAD_SCHEDULE_H

#include <stdbool.h>
#include <stdint.h>

/* The time of the next arrival is kept as whole nanoseconds and a fraction: a sum of doubles would
 * drift by seconds a day. */
struct schedule {
    double rate;        /* a second, of all threads */
    double interval_ns; /* mean, of this thread */
    uint64_t start_ns;
    uint64_t next_ns;   /* since start_ns */
    double fraction_ns; /* behind next_ns; Poisson */
    uint64_t number;    /* constant: of the next arrival, counted over all threads */
    uint32_t threads;
    uint64_t chance; /* state of the generator */
    bool poisson;
};

/* schedule_start begins at `start_ns` (monotonic). Thread `index` of `count` threads gets an equal
 * part of `rate` (a second, of all; above 0). Constant arrivals: number n of all threads together
 * is n / rate after the start, and belongs to thread n mod count. Poisson arrivals of the threads
 * are independent. */
void schedule_start(struct schedule *schedule, bool poisson, double rate, uint64_t start_ns,
                    uint32_t index, uint32_t count, uint64_t seed);

/* schedule_next_ns is the intended time of the next arrival; schedule_take goes on to the one
 * behind it and returns the one taken. */
uint64_t schedule_next_ns(const struct schedule *schedule);
uint64_t schedule_take(struct schedule *schedule);

/* schedule_random returns a random number from a state that the caller keeps (splitmix64). */
uint64_t schedule_random(uint64_t *state);

#endif
