/* The line on the terminal while a run is under way, and nothing elsewhere. */
#ifndef BENCH_LOAD_PROGRESS_H
#define BENCH_LOAD_PROGRESS_H

#include "bench/load/options.h"
#include "bench/load/series.h"

/* progress_show draws the line anew: rate, failures, p50 and p99 of the newest complete second, the
 * time left. `seconds_gone` is since the start, the warm-up included; below 0: connections are
 * being opened. Does nothing unless standard error is a terminal and the options want it.
 * progress_clear takes the line away before anything else is printed, by whatever thread. */
void progress_show(const struct load_options *options, struct series *series, double seconds_gone);
void progress_clear(void);

#endif
