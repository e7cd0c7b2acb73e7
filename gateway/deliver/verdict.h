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

/* verdict_say writes what people are told: a server's "451 4.7.1 come back later" (the status only
 * when it says more than the code's class), or our own text alone. Cut to fit `size`, with its NUL,
 * not in the midst of a character. Returns `out`. */
const char *verdict_say(const struct verdict *verdict, char *out, size_t size);

#endif
