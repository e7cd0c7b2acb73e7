/* Time in two forms: monotonic for intervals, wall for people. A thread reads the kernel's clock
 * once a turn and works with that. */
#ifndef GATEWAY_BASE_CLOCK_H
#define GATEWAY_BASE_CLOCK_H

#include <stdint.h>
#include <time.h>

/* clock_monotonic_us returns microseconds since some fixed point; never goes back. */
static inline uint64_t clock_monotonic_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

/* clock_wall_us returns microseconds since 1970-01-01 UTC; may jump. */
static inline uint64_t clock_wall_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

#endif
