/* The bell: one word that says silent, rung or sleeping, and a futex for the one who sleeps. The
 * ringer makes a system call only when it found the word at sleeping. */
#include "gateway/base/bell.h"

#include "gateway/base/check.h"
#include "gateway/base/clock.h"

#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

enum bell_state { BELL_SILENT = 0, BELL_RUNG = 1, BELL_SLEEPING = 2 };

static long futex(_Atomic uint32_t *word, int operation, uint32_t value,
                  const struct timespec *timeout)
{
    return syscall(SYS_futex, word, operation | FUTEX_PRIVATE_FLAG, value, timeout, NULL, 0);
}

void bell_ring(struct bell *bell)
{
    /* The exchange is a full barrier: what the ringer wrote before is visible to the one who wakes,
     * and no wait that has seen the old state can miss the new one. */
    if (atomic_exchange(&bell->state, BELL_RUNG) == BELL_SLEEPING)
        futex(&bell->state, FUTEX_WAKE, 1, NULL);
}

bool bell_wait(struct bell *bell, uint64_t timeout_us)
{
    uint32_t silent = BELL_SILENT;
    if (!atomic_compare_exchange_strong(&bell->state, &silent, BELL_SLEEPING)) {
        CHECK(silent == BELL_RUNG);
        atomic_exchange(&bell->state, BELL_SILENT);
        return true;
    }
    uint64_t start_us = clock_monotonic_us();
    uint64_t left_us = timeout_us;
    while (atomic_load(&bell->state) == BELL_SLEEPING && left_us != 0) {
        struct timespec left = {.tv_sec = (time_t)(left_us / 1000000),
                                .tv_nsec = (long)(left_us % 1000000) * 1000};
        long result =
            futex(&bell->state, FUTEX_WAIT, BELL_SLEEPING, timeout_us == UINT64_MAX ? NULL : &left);
        CHECK(result == 0 || errno == EAGAIN || errno == EINTR || errno == ETIMEDOUT);
        if (timeout_us != UINT64_MAX) {
            uint64_t passed_us = clock_monotonic_us() - start_us;
            left_us = passed_us >= timeout_us ? 0 : timeout_us - passed_us;
        }
    }
    return atomic_exchange(&bell->state, BELL_SILENT) == BELL_RUNG;
}
