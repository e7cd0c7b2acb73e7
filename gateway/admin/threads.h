/* How busy each thread of this process is, by its own CPU clock. The names are read from /proc when
 * the list is made; where that is not allowed there are none, and only the process as a whole is
 * known. One thread at a time. */
#ifndef GATEWAY_ADMIN_THREADS_H
#define GATEWAY_ADMIN_THREADS_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

enum {
    THREADS_MAX = 96, /* those that come later count for the process alone */
    THREADS_NAME_SIZE = 16,
};

struct threads_one {
    char name[THREADS_NAME_SIZE];
    int id;
    clockid_t clock;
    uint64_t used_us; /* at the last look */
    uint8_t load;     /* percent of one CPU, between the last two */
};

/* The zero value knows nobody. */
struct threads {
    struct threads_one all[THREADS_MAX];
    uint32_t count;
    uint64_t used_us, looked_us;
    uint32_t load; /* of the process, percent of one CPU */
};

/* threads_find makes the list anew: workers, then the spool's threads and the courier, then the
 * rest. A thread that was there before keeps its figures. */
void threads_find(struct threads *threads);

/* threads_look brings the loads up to date at `now_us` (monotonic). */
void threads_look(struct threads *threads, uint64_t now_us);

#endif
