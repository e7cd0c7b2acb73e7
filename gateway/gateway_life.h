/* How a gateway lives and ends: waiting for what comes up, reload, drain, and giving way to another
 * process (gateway_serve.c, gateway_reload.c, gateway_stop.c, gateway_yield.c). All for the main
 * thread. */
#ifndef GATEWAY_GATEWAY_LIFE_H
#define GATEWAY_GATEWAY_LIFE_H

#include "gateway/gateway_inside.h"

/* What main has to do (gateway_wait). */
enum gateway_event {
    GATEWAY_STOP = 1 << 0,
    GATEWAY_RELOAD = 1 << 1,
    GATEWAY_COMMIT = 1 << 2, /* the process that has our sockets takes over */
    GATEWAY_LOST = 1 << 3,   /* it has given up, or died */
};

/* gateway_signals_open blocks the signals that main waits for, in all threads that come. */
bool gateway_signals_open(struct gateway *gateway) __attribute__((warn_unused_result));

/* gateway_wait waits for signals, orders and the process that takes over, and returns bits of
 * enum gateway_event. */
uint32_t gateway_wait(struct gateway *gateway, int timeout_ms);

/* gateway_serve does what comes up until there is a reason to stop. False: a worker or the courier
 * has ended by itself. */
bool gateway_serve(struct gateway *gateway) __attribute__((warn_unused_result));

/* gateway_reload loads the file again. Returns the exit code of `ringmxctl reload`; *text, owned,
 * has a line for each thing that is wrong, or that only a restart can change. */
int gateway_reload(struct gateway *gateway, char **text) __attribute__((warn_unused_result));

/* gateway_drain ends the workers in order. gateway_yield does so for a process that takes over;
 * false: that one failed, and all is as before. */
void gateway_drain(struct gateway *gateway);
bool gateway_yield(struct gateway *gateway) __attribute__((warn_unused_result));

/* The process that takes over (gateway_yield.c): gateway_yield_offer sends it the sockets, and
 * takes its connection; gateway_yield_hear hears what it says; gateway_yield_gone tells it that the
 * spool is free (false: it is not there any more), gateway_yield_close tells it nothing more. */
enum yield_word { YIELD_NOTHING, YIELD_COMMIT, YIELD_LOST };
void gateway_yield_offer(struct gateway *gateway, int descriptor, pid_t pid);
enum yield_word gateway_yield_hear(struct gateway *gateway);
bool gateway_yield_gone(struct gateway *gateway);
void gateway_yield_close(struct gateway *gateway);

#endif
