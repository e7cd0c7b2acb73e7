/* What a client that knows SMTP only from outside makes of a session: every command, chunk and
 * message gets exactly one reply, in order, and each is well formed. */
#ifndef TESTS_SUPPORT_CRITIC_H
#define TESTS_SUPPORT_CRITIC_H

#include "parser/bytes.h"

struct critic_dialog {
    struct bytes said;    /* by the client, behind any PROXY header; it may break off anywhere */
    struct bytes replies; /* to it, the greeting first */
    bool starttls;        /* STARTTLS may succeed: nothing but records may come behind its 220 */
    bool xclient;         /* XCLIENT may succeed */
    bool pause;           /* 554 in place of a greeting may be right */
};

/* critic_judge aborts when anything is wrong. Returns how many messages were answered 250. */
uint32_t critic_judge(const struct critic_dialog *dialog);

#endif
