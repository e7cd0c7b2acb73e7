/* Post between threads: a worker hears of it in its next turn. The memory is the sender's, and the
 * worker's from post_send until `arrived` is called. */
#ifndef GATEWAY_IO_POST_H
#define GATEWAY_IO_POST_H

struct worker;

struct post {
    struct post *next; /* the worker's */
    /* In the worker's thread, exactly once, in the order of sending (of one thread). It may send
     * the post on to another worker. */
    void (*arrived)(struct post *post, struct worker *worker);
};

/* post_send gives a post to a worker and wakes it. Any thread, also the worker's own. The worker
 * must not have ended: who waits for an answer keeps it running (worker_expect). */
void post_send(struct worker *worker, struct post *post);

/* worker_expect tells a worker that a post is to come back to it, and that it may not end before;
 * worker_received takes that back. Worker's thread only, once each for one answer. */
void worker_expect(struct worker *worker);
void worker_received(struct worker *worker);

/* The worker's side. post_hear calls `arrived` for all that has come; once a turn. post_await is
 * for a ring that broke: it hears until nothing is expected any more. */
void post_hear(struct worker *worker);
void post_await(struct worker *worker);

#endif
