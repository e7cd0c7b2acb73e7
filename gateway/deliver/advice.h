/* What a status code (RFC 3463) means, and what a person can do about it. */
#ifndef GATEWAY_DELIVER_ADVICE_H
#define GATEWAY_DELIVER_ADVICE_H

#include "parser/reply.h"

/* advice_for returns some sentences about a failure with this status; constant, ASCII, on one line.
 * There is always one. */
const char *advice_for(struct reply_status status);

#endif
