/* Post between threads: see post.h. Senders push to a list without a lock, newest first; the worker
 * takes all of it at once and turns it round. */
#include "gateway/io/post.h"

#include "gateway/base/check.h"
#include "gateway/io/worker.h"

#include <unistd.h>

void post_send(struct worker *worker, struct post *post)
{
    /* Once the post is in the list the worker may answer it and end: the count keeps the memory. */
    atomic_fetch_add(&worker->waking, 1);
    struct post *newest = atomic_load_explicit(&worker->posts, memory_order_relaxed);
    do
        post->next = newest;
    while (!atomic_compare_exchange_weak(&worker->posts, &newest, post));
    if (newest == NULL) /* else another who found the list empty rings */
        worker_wake(worker);
    atomic_fetch_sub(&worker->waking, 1);
}

void worker_expect(struct worker *worker)
{
    worker->expected++;
}

void worker_received(struct worker *worker)
{
    CHECK(worker->expected > 0);
    worker->expected--;
}

void post_hear(struct worker *worker)
{
    if (atomic_load_explicit(&worker->posts, memory_order_relaxed) == NULL)
        return;
    struct post *newest = atomic_exchange(&worker->posts, NULL);
    struct post *oldest = NULL;
    while (newest != NULL) { /* as many as were sent; those sent from now on are the next turn's */
        struct post *next = newest->next;
        newest->next = oldest;
        oldest = newest;
        newest = next;
    }
    while (oldest != NULL) {
        struct post *post = oldest;
        oldest = post->next;
        post->arrived(post, worker);
    }
}

void post_await(struct worker *worker)
{
    while (worker->expected > 0) {
        post_hear(worker);
        usleep(1000);
    }
}
