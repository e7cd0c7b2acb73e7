/* A thread that wakes a worker at a given microsecond: the worker's own timers are coarse (a
 * quarter of a second), and a delayed reply is not. */
#ifndef BENCH_SINK_ALARM_H
#define BENCH_SINK_ALARM_H

#include "gateway/base/bell.h"
#include "gateway/io/worker.h"

#include <pthread.h>

struct sink_alarm {
    struct worker *worker;
    uint32_t note;
    pthread_t thread;
    struct bell bell;
    _Atomic uint64_t due_us; /* UINT64_MAX: none */
    _Atomic bool ending;
};

/* sink_alarm_start starts the thread; it gives `note` to `worker`. 0, or -errno. sink_alarm_end
 * stops it; the worker's memory must stay until then. */
int sink_alarm_start(struct sink_alarm *alarm, struct worker *worker, uint32_t note)
    __attribute__((warn_unused_result));
void sink_alarm_end(struct sink_alarm *alarm);

/* sink_alarm_set lets it ring at `due_us` (monotonic) or before. Worker's thread. */
void sink_alarm_set(struct sink_alarm *alarm, uint64_t due_us);

#endif
