/* See meter.h. */
#include "bench/load/meter.h"

#include <string.h>
#include <time.h>

static const uint64_t second_ns = 1000000000;

static uint64_t cpu_now_ns(void)
{
    struct timespec time;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return (uint64_t)time.tv_sec * second_ns + (uint64_t)time.tv_nsec;
}

/* The last second may be shorter than others. */
static void second_begin(struct meter *meter, uint64_t begins_ns)
{
    uint64_t left_ns = meter->until_ns - begins_ns;
    meter->answered = meter->failed = meter->opened = 0;
    if (meter->message.count > 0)
        memset(&meter->message, 0, sizeof(meter->message));
    if (begins_ns >= meter->until_ns)
        meter->second_ends_ns = UINT64_MAX;
    else
        meter->second_ends_ns = begins_ns + (left_ns < second_ns ? left_ns : second_ns);
}

static void second_end(struct meter *meter)
{
    series_hand_in(meter->series, meter->second++, meter->answered, meter->failed, meter->opened,
                   &meter->message);
}

void meter_plan(struct meter *meter, struct series *series, uint64_t from_ns, uint64_t until_ns)
{
    meter->series = series;
    meter->from_ns = from_ns;
    meter->until_ns = until_ns;
    second_begin(meter, from_ns);
}

void meter_begin(struct meter *meter)
{
    meter->begun = true;
    meter->cpu_ns = cpu_now_ns();
    meter->busy_ns = 0;
}

void meter_roll(struct meter *meter, uint64_t now_ns)
{
    while (now_ns >= meter->second_ends_ns) {
        second_end(meter);
        second_begin(meter, meter->second_ends_ns);
    }
}

void meter_end(struct meter *meter, uint64_t now_ns, bool spin)
{
    struct tally *tally = &meter->tally;
    uint64_t cpu_ns = cpu_now_ns() - meter->cpu_ns;
    meter_roll(meter, now_ns);
    if (now_ns < meter->until_ns) {
        bool partial = meter->second_ends_ns != UINT64_MAX &&
                       now_ns > meter->from_ns + meter->second * second_ns;
        meter->until_ns = now_ns > meter->from_ns ? now_ns : meter->from_ns;
        if (partial)
            second_end(meter);
        meter->second_ends_ns = UINT64_MAX;
    }
    series_leave(meter->series, meter->second);
    if (!meter->begun || meter->until_ns <= meter->from_ns)
        return;
    tally->seconds = (double)(meter->until_ns - meter->from_ns) / (double)second_ns;
    tally->cpu_seconds = (double)cpu_ns / (double)second_ns;
    double busy_seconds = spin ? (double)meter->busy_ns / (double)second_ns : tally->cpu_seconds;
    tally->busiest = busy_seconds < tally->seconds ? busy_seconds / tally->seconds : 1;
}

void meter_answered(struct meter *meter, uint64_t size, uint64_t from_ns, uint64_t now_ns)
{
    if (!meter_has(meter, now_ns))
        return;
    meter_roll(meter, now_ns);
    meter->tally.counted++;
    meter->tally.octets += size;
    meter->answered++;
    histogram_add(&meter->message, now_ns - from_ns);
}

void meter_failed(struct meter *meter, uint64_t now_ns)
{
    if (!meter_has(meter, now_ns))
        return;
    meter_roll(meter, now_ns);
    meter->failed++;
}

void meter_opened(struct meter *meter, uint64_t now_ns)
{
    if (!meter_has(meter, now_ns))
        return;
    meter_roll(meter, now_ns);
    meter->opened++;
}
