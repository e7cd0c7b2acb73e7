/* Those who watch dialogues through the control socket (docs/control.md, trace): what the workers
 * write comes here by a pipe, and goes to each watcher that it is for. Of the control thread. */
#ifndef GATEWAY_ADMIN_WATCHERS_H
#define GATEWAY_ADMIN_WATCHERS_H

#include "gateway/admin/inquiry.h"
#include "gateway/admin/output.h"
#include "gateway/receive/trace.h"

struct watchers;

/* watchers_new: `trace` is borrowed; NULL: nobody can watch. NULL: no memory. watchers_free ends
 * all of them. */
struct watchers *watchers_new(struct trace *trace) __attribute__((warn_unused_result));
void watchers_free(struct watchers *watchers);

/* watchers_add lets one watch as the inquiry says, whose objects are added to `output`, borrowed,
 * until watchers_remove. Returns its number, or -1: `error` (a constant) says why. */
int watchers_add(struct watchers *watchers, const struct inquiry *inquiry, struct output *output,
                 const char **error);

/* watchers_remove ends it; `output` gets the last object, with `end`. */
void watchers_remove(struct watchers *watchers, int number);

/* watchers_ended: it has had as many objects as it asked for. */
bool watchers_ended(const struct watchers *watchers, int number);

/* watchers_descriptor is what to wait for (POLLIN), -1: nothing; watchers_read then hands on a
 * bounded part of what has come. What a watcher has no room for is counted, and told later. */
int watchers_descriptor(const struct watchers *watchers);
void watchers_read(struct watchers *watchers);

#endif
