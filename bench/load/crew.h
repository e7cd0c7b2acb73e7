/* The threads of one run: shares the connections out, lets all begin at one time, shows progress,
 * ends them, adds up. */
#ifndef BENCH_LOAD_CREW_H
#define BENCH_LOAD_CREW_H

#include "bench/load/series.h"
#include "bench/load/tally.h"

#include <stdbool.h>

/* crew_run makes one run in the calling process. *tally is the caller's memory, *series becomes the
 * caller's to free. False: a thread could not run (the reason is on stderr). */
bool crew_run(const struct load_options *options, const struct mail *mail, struct tally *tally,
              struct series **series) __attribute__((warn_unused_result));

/* crew_interrupted: SIGINT or SIGTERM came (crew_run ends early then, and once more each time it is
 * called). */
bool crew_interrupted(void);

#endif
