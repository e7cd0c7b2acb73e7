/* The series by second of a run. Each thread hands in what it counted in each second once it is
 * over; when all threads have, the second is complete: its histogram is reduced to percentiles.
 * Locked inside; also what the progress line shows. */
#ifndef BENCH_LOAD_SERIES_H
#define BENCH_LOAD_SERIES_H

#include "bench/load/histogram.h"

#include <stdbool.h>
#include <stdint.h>

struct series_second {
    uint64_t answered, failed, opened;
    uint64_t p50_ns, p99_ns, max_ns; /* of `message`, those answered in this second */
};

struct series;

/* series_new: `threads` hand in each second. NULL: no memory. */
struct series *series_new(uint32_t threads) __attribute__((warn_unused_result));
void series_free(struct series *series);

/* series_hand_in adds a thread's part of second `second` (0: the first of the measured time); each
 * thread once for each second, in order, and none left out (a second without anything, too).
 * Without memory the second is forgotten. */
void series_hand_in(struct series *series, uint32_t second, uint64_t answered, uint64_t failed,
                    uint64_t opened, const struct histogram *message);

/* series_leave: a thread that ends early hands in nothing from second `second` on. */
void series_leave(struct series *series, uint32_t second);

/* series_complete returns how many seconds are complete; series_second copies one of them. Any
 * thread. */
uint32_t series_complete(struct series *series);
struct series_second series_second(struct series *series, uint32_t second);

#endif
