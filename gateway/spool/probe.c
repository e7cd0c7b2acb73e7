/* A few writes of two sizes each way; the medians decide, since a single slow one says nothing. */
#include "gateway/spool/probe.h"

#include "gateway/base/check.h"
#include "gateway/base/clock.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum {
    PROBE_ROUNDS = 9,
    PROBE_SMALL = LIMIT_BLOCK, /* one message */
    PROBE_LARGE = 64 * 1024,   /* a batch of some */
};

static int compare(const void *left, const void *right)
{
    uint64_t a = *(const uint64_t *)left;
    uint64_t b = *(const uint64_t *)right;
    return a < b ? -1 : a > b;
}

/* Returns the median time of a write of `len` zeros at the end of the segment; UINT64_MAX when one
 * fails. */
static uint64_t measure_us(const struct volume *volume, const struct segment *segment,
                           uint8_t *zeros, size_t len)
{
    uint64_t took_us[PROBE_ROUNDS];
    for (int i = 0; i < PROBE_ROUNDS; i++) {
        struct iovec part = {.iov_base = zeros, .iov_len = len};
        uint64_t start_us = clock_monotonic_us();
        if (segment_write(volume, segment, &part, 1, segment->size - len) != 0)
            return UINT64_MAX;
        took_us[i] = clock_monotonic_us() - start_us;
    }
    qsort(took_us, PROBE_ROUNDS, sizeof took_us[0], compare);
    return took_us[PROBE_ROUNDS / 2];
}

enum spool_sync probe_sync(const struct volume *volume, const struct segment *segment,
                           struct log_port *log)
{
    static const enum spool_sync ways[] = {SPOOL_SYNC_DSYNC, SPOOL_SYNC_FDATASYNC};
    uint64_t small_us[2] = {0};
    uint64_t large_us[2] = {0};
    uint8_t *zeros = aligned_alloc(LIMIT_BLOCK, PROBE_LARGE);
    if (segment == NULL || zeros == NULL || segment->size < SEGMENT_START + PROBE_LARGE) {
        free(zeros);
        return SPOOL_SYNC_DSYNC;
    }
    memset(zeros, 0, PROBE_LARGE);
    for (int i = 0; i < 2; i++) {
        struct volume way = *volume;
        way.sync = ways[i];
        small_us[i] = measure_us(&way, segment, zeros, PROBE_SMALL);
        large_us[i] = measure_us(&way, segment, zeros, PROBE_LARGE);
    }
    free(zeros);
    bool failed = false;
    for (int i = 0; i < 2; i++)
        failed |= small_us[i] == UINT64_MAX || large_us[i] == UINT64_MAX;
    /* A flush is one more system call: it must be clearly faster. */
    bool flush = !failed && (small_us[1] + large_us[1]) * 10 < (small_us[0] + large_us[0]) * 9;
    if (failed)
        log_message(log, LOG_WARN, "spool.probe", "the probe of the device failed");
    else
        log_message(log, LOG_INFO, "spool.probe",
                    "sync=%s; 4 KiB: dsync %" PRIu64 " us, fdatasync %" PRIu64
                    " us; 64 KiB: dsync %" PRIu64 " us, fdatasync %" PRIu64 " us",
                    flush ? "fdatasync" : "dsync", small_us[0], small_us[1], large_us[0],
                    large_us[1]);
    return ways[flush];
}
