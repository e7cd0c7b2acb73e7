/* What clients of the control socket want of the gateway's main thread: drain, reload, hand the
 * listening sockets over. The control thread leaves an order and goes on; the main thread, which
 * hears the bell, takes it and says what came of it. */
#ifndef GATEWAY_ADMIN_ORDERS_H
#define GATEWAY_ADMIN_ORDERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "gateway/admin/output.h"

struct orders;

/* orders_new returns them, owned; NULL: no memory or descriptor. */
struct orders *orders_new(void);
void orders_free(struct orders *orders);

/* --- the control thread --- */

void orders_drain(struct orders *orders);

/* orders_reload asks for one; returns its number. orders_reloaded: when it is done, the answer is
 * added to `output`: the lines that were said, then the exit code of ringmxctl. False: not yet. */
uint64_t orders_reload(struct orders *orders);
bool orders_reloaded(struct orders *orders, uint64_t number, struct output *output)
    __attribute__((warn_unused_result));

/* orders_hand_over gives the connection (its descriptor is taken) of a process, whose id is `pid`,
 * that wants to take over. False: another one has not been looked at yet; nothing was taken. */
bool orders_hand_over(struct orders *orders, int descriptor, pid_t pid)
    __attribute__((warn_unused_result));

/* --- the main thread --- */

/* orders_bell becomes readable when there is something to take; orders_hear silences it. */
int orders_bell(const struct orders *orders);
void orders_hear(struct orders *orders);

bool orders_take_drain(struct orders *orders);

/* orders_take_reload returns the number of the newest reload that was asked for, or 0: none.
 * orders_reload_done tells all who have asked until then; takes `text` (NULL: nothing was said). */
uint64_t orders_take_reload(struct orders *orders);
void orders_reload_done(struct orders *orders, uint64_t number, char *text, int code);

/* orders_take_hand_over returns the connection, owned, or -1: none. */
int orders_take_hand_over(struct orders *orders, pid_t *pid);

#endif
