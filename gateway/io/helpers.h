/* A few threads for work that would stall a worker: private-key operations, writing into Maildirs.
 * A job belongs to the helpers from helpers_submit until its `done` is called in the worker's
 * thread. */
#ifndef GATEWAY_IO_HELPERS_H
#define GATEWAY_IO_HELPERS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "gateway/io/post.h"

struct worker;
struct helpers;

struct helper_job {
    struct post post;                     /* first: how it comes back */
    void (*run)(struct helper_job *job);  /* in a helper thread */
    void (*done)(struct helper_job *job); /* then, in the worker's thread, exactly once */
    struct worker *worker;                /* that waits for it */
    struct helper_job *next;
};

enum helpers_priority {
    HELPERS_LOW = 0,   /* they work when no worker wants the CPU: private keys */
    HELPERS_USUAL = 1, /* as everybody: for jobs that mostly wait, for a disk */
    HELPERS_LEAST = 2, /* of the lowest nice, for what takes long and nobody else waits for:
                        * password hashes */
};

/* helpers_new starts `count` threads (1..64). NULL with errno set: no memory or no threads.
 * helpers_free ends the threads; the workers have ended before, and a worker ends only when all
 * its jobs are done. NULL is allowed. */
struct helpers *helpers_new(uint32_t count, enum helpers_priority priority)
    __attribute__((warn_unused_result));
void helpers_free(struct helpers *helpers);

/* helpers_submit queues a job of `job->worker`, in that worker's thread. The worker turns soon
 * after it was run, and calls `done`. */
void helpers_submit(struct helpers *helpers, struct helper_job *job);

/* helpers_waiting tells how many jobs are queued or running, helpers_taken how many have been begun
 * since the start. Any thread. */
uint32_t helpers_waiting(const struct helpers *helpers);
uint64_t helpers_taken(const struct helpers *helpers);

#endif
