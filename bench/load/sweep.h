/* The search for the knee: the highest rate that a server answers with p99 within a limit. The
 * search itself is pure (struct sweep); sweep_run makes a run for each step. */
#ifndef BENCH_LOAD_SWEEP_H
#define BENCH_LOAD_SWEEP_H

#include "bench/load/options.h"

#include <stdbool.h>

/* What came of a step. INVALID: the generator was the limit, the server is not to blame. SLOW:
 * nothing but the 99th percentile was above the limit, which one hiccup can do. */
enum sweep_outcome { SWEEP_HELD = 0, SWEEP_FAILED = 1, SWEEP_INVALID = 2, SWEEP_SLOW = 3 };

struct sweep {
    double held;      /* highest rate that held; 0: none yet */
    double failed;    /* lowest rate that did not; 0: none yet */
    double rate;      /* to be tried next */
    uint32_t invalid; /* steps in a row at this rate */
    uint32_t slow;    /* steps at this rate */
    bool checking;    /* the interval is narrow: `rate` has to hold once more */
    bool over;
    bool at_least; /* ended by invalid steps: the knee may be higher */
};

/* sweep_start begins at `rate`; sweep_step takes the outcome of `sweep->rate` and chooses the next,
 * or is over when the interval is within 5% and its lower end has held once more (if it does not,
 * the rate goes down by 5% until one does), nothing above one message a second holds, or a step was
 * invalid three times (a disturbance of the machine is not the generator's limit). A rate has
 * failed when it was slow twice. */
void sweep_start(struct sweep *sweep, double rate);
void sweep_step(struct sweep *sweep, enum sweep_outcome outcome);

/* sweep_seconds is how long a step at options->rate lasts: options->seconds, but at least 50 times
 * the limit, so that an overload shows in the latency; and at least 1,000 arrivals, though no more
 * than ten seconds for their sake. */
double sweep_seconds(const struct load_options *options);

/* sweep_run finds the knee and prints a line a step and the result (JSON if the options say so:
 * `steps`, an array of the reports, and `knee`). The ids of each step's messages are of another
 * run. Returns the program's exit code. */
int sweep_run(const struct load_options *options, struct mail *mail);

#endif
