/* Rates of several ways to do the same work, measured in turns: a slow moment of the machine then
 * meets all of them, and their ratios stay. */
#ifndef BENCH_SCAN_MEASURE_H
#define BENCH_SCAN_MEASURE_H

#include <stddef.h>
#include <stdint.h>

enum { MEASURE_TURNS_MAX = 999 };

struct measure {
    const char *name;
    /* One piece of the work, much longer than reading the clock takes; returns how many units were
     * done. */
    uint64_t (*run)(void *user);
    void *user;
    double rates[MEASURE_TURNS_MAX]; /* units a second, of each turn */
    double best, median, worst;      /* of them */
};

struct measure_options {
    uint32_t turns;
    double seconds; /* of one turn */
};

/* measure_all fills in the rates of `count` measures. A fifth of each turn is a warm-up that does
 * not count. */
void measure_all(struct measure *measures, size_t count, const struct measure_options *options);

#endif
