/* Descriptors that are not streams: a worker polls them for somebody who speaks on them with calls
 * of its own (the sockets of c-ares). Worker's thread only. */
#ifndef GATEWAY_IO_WATCH_H
#define GATEWAY_IO_WATCH_H

#include <stdbool.h>
#include <stdint.h>

struct worker;

enum { WATCH_MAX = 64 /* of one worker at a time */ };

/* The watcher's memory; zero but for `ready` and `user`, it is at rest. */
struct watch {
    /* The descriptor can be read or written, or is broken: what poll(2) says. Level-triggered: told
     * again in the next turn as long as it stays so. A watch does not keep a worker from ending. */
    void (*ready)(struct watch *watch, uint32_t events);
    void *user;
    /* The worker's. */
    int descriptor;
    uint32_t wanted; /* POLLIN, POLLOUT; 0: at rest */
    uint32_t place;
};

/* watch_set watches `descriptor` for `wanted` (POLLIN | POLLOUT); 0 ends the watch: after that
 * `ready` is not called, the descriptor may be closed, and the memory of `watch` reused at once.
 * False: WATCH_MAX are watched already. */
bool watch_set(struct worker *worker, struct watch *watch, int descriptor, uint32_t wanted)
    __attribute__((warn_unused_result));

/* The worker's side: a poll request of the watch in this place has completed. */
void watch_ready(struct worker *worker, uint32_t place, uint32_t generation, int result);

#endif
