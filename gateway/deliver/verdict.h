/* Making verdicts: of a reply, or of our own. */
#ifndef GATEWAY_DELIVER_VERDICT_H
#define GATEWAY_DELIVER_VERDICT_H

#include "gateway/deliver/delivery.h"

/* verdict_own is for what no server has said; `code` 0, unless the contract names one. The text is
 * cut to its room, not in the midst of a character. */
void verdict_own(struct verdict *verdict, enum verdict_kind kind, uint16_t code,
                 struct reply_status status, const char *format, ...)
    __attribute__((format(printf, 5, 6)));

/* verdict_reply is that of a reply: 2xx DELIVERED, 5xx REFUSED, all else DEFERRED. Without an
 * enhanced status it has that of the code's class, X.0.0 (RFC 3463 3.1). */
void verdict_reply(struct verdict *verdict, const struct reply_read *reply);

#endif
