/* The alarm: see sink_alarm.h. */
#include "bench/sink_alarm.h"

#include "gateway/base/clock.h"

static void *run(void *argument)
{
    struct sink_alarm *alarm = argument;
    while (!atomic_load(&alarm->ending)) {
        uint64_t due_us = atomic_load(&alarm->due_us);
        uint64_t now_us = clock_monotonic_us();
        if (due_us > now_us)
            (void)bell_wait(&alarm->bell, due_us == UINT64_MAX ? UINT64_MAX : due_us - now_us);
        else if (atomic_compare_exchange_strong(&alarm->due_us, &due_us, UINT64_MAX))
            worker_note(alarm->worker, alarm->note);
    }
    return NULL;
}

int sink_alarm_start(struct sink_alarm *alarm, struct worker *worker, uint32_t note)
{
    alarm->worker = worker;
    alarm->note = note;
    atomic_store(&alarm->due_us, UINT64_MAX);
    return -pthread_create(&alarm->thread, NULL, run, alarm);
}

void sink_alarm_end(struct sink_alarm *alarm)
{
    atomic_store(&alarm->ending, true);
    bell_ring(&alarm->bell);
    pthread_join(alarm->thread, NULL);
}

void sink_alarm_set(struct sink_alarm *alarm, uint64_t due_us)
{
    if (atomic_load(&alarm->due_us) <= due_us)
        return;
    atomic_store(&alarm->due_us, due_us);
    bell_ring(&alarm->bell);
}
