/* CPU time of the calling thread, and the median of what was measured with it. */
#ifndef BENCH_TLS_CLOCK_H
#define BENCH_TLS_CLOCK_H

#include <stdlib.h>
#include <time.h>

static inline double clock_cpu_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static inline int clock_compare(const void *a, const void *b)
{
    double left = *(const double *)a, right = *(const double *)b;
    return left < right ? -1 : left > right;
}

/* clock_median sorts `values`. */
static inline double clock_median(double *values, size_t count)
{
    qsort(values, count, sizeof(*values), clock_compare);
    return count % 2 == 1 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}

#endif
