/* The whole house: makes every part in its order, runs until a signal says stop, and takes all down
 * again. */
#ifndef GATEWAY_GATEWAY_H
#define GATEWAY_GATEWAY_H

#include "gateway/config.h"

/* gateway_run serves with `config`, which was loaded from `path`, until SIGTERM or SIGINT. SIGHUP
 * loads the file again. `takeover`: from the process that answers at admin.control, which must be
 * named then. Takes `config`. Returns the exit code: 0, EX_CONFIG when this system can't run it or
 * a start-up step failed, EX_TEMPFAIL when a hand-over failed so late that there is no process left
 * that serves, or for a reason that may be over soon ("try again"), EX_SOFTWARE when a worker
 * broke. */
int gateway_run(const char *path, struct config *config, bool takeover);

#endif
