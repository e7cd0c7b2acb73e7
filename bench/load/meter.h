/* What a thread counts and times: its tally, the measured time, and the part of it that goes to the
 * series second by second. Times are monotonic nanoseconds; each call's is not before the last's.
 */
#ifndef BENCH_LOAD_METER_H
#define BENCH_LOAD_METER_H

#include "bench/load/series.h"
#include "bench/load/tally.h"

#include <stdbool.h>
#include <stdint.h>

struct meter {
    struct tally tally;
    struct series *series;
    uint64_t from_ns, until_ns; /* the measured time; the same before it is known */
    uint64_t second_ends_ns;    /* of the second under way; UINT64_MAX: none is */
    uint32_t second;
    uint64_t answered, failed, opened; /* in it */
    struct histogram message;          /* of those answered in it */
    uint64_t cpu_ns;                   /* of this thread, when the measured time began */
    uint64_t busy_ns;                  /* with --spin: time in which there was something to do */
    bool begun;
};

/* meter_plan sets the measured time, `until_ns` UINT64_MAX if it ends by meter_end alone. */
void meter_plan(struct meter *meter, struct series *series, uint64_t from_ns, uint64_t until_ns);

/* meter_begin notes that the measured time has begun, meter_end that it ends, now or when it was
 * planned to; with `spin`, the thread is as busy as its busy_ns. */
void meter_begin(struct meter *meter);
void meter_end(struct meter *meter, uint64_t now_ns, bool spin);

/* meter_roll hands in the seconds that are over at `now_ns`. */
void meter_roll(struct meter *meter, uint64_t now_ns);

/* meter_next_ns is when meter_roll should be called next; UINT64_MAX: any time. */
static inline uint64_t meter_next_ns(const struct meter *meter)
{
    return meter->second_ends_ns;
}

/* meter_has says whether a time lies in the measured time. */
static inline bool meter_has(const struct meter *meter, uint64_t time_ns)
{
    return time_ns - meter->from_ns < meter->until_ns - meter->from_ns;
}

/* meter_time adds the time from `from_ns` to `now_ns`, if that is measured. */
static inline void meter_time(struct meter *meter, enum tally_time time, uint64_t from_ns,
                              uint64_t now_ns)
{
    if (meter_has(meter, now_ns))
        histogram_add(&meter->tally.times[time], now_ns - from_ns);
}

/* meter_time_begun adds it if it began in the measured time, whenever it ends. */
static inline void meter_time_begun(struct meter *meter, enum tally_time time, uint64_t from_ns,
                                    uint64_t now_ns)
{
    if (meter_has(meter, from_ns))
        histogram_add(&meter->tally.times[time], now_ns - from_ns);
}

/* meter_answered counts a message of `size` octets that was answered with 250 at `now_ns`, and
 * adds its time since `from_ns` to the second under way. */
void meter_answered(struct meter *meter, uint64_t size, uint64_t from_ns, uint64_t now_ns);

/* meter_failed and meter_opened count for the series what the caller counts in the tally. */
void meter_failed(struct meter *meter, uint64_t now_ns);
void meter_opened(struct meter *meter, uint64_t now_ns);

#endif
