/* A bell between threads: one sleeps until another rings. Rings that nobody waits for are
 * remembered (once), and ringing costs a system call only when somebody sleeps. Built on a futex.
 */
#ifndef GATEWAY_BASE_BELL_H
#define GATEWAY_BASE_BELL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* The zero value is a silent bell. */
struct bell {
    _Atomic uint32_t state; /* enum bell_state */
};

/* bell_ring wakes the sleeper, or makes the next bell_wait return at once. Any thread. Everything
 * written before it is visible to the one who wakes. */
void bell_ring(struct bell *bell);

/* bell_wait sleeps until a ring, at most `timeout_us` (UINT64_MAX: for ever). True when it was
 * rung. One thread only. */
bool bell_wait(struct bell *bell, uint64_t timeout_us);

#endif
