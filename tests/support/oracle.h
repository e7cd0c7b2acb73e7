/* A next hop for the session's fuzzer: what it says, and when, depends on the octets that it is
 * asked about, so that the input decides. It insists that it is asked by the rules of policy/hop.h.
 */
#ifndef TESTS_SUPPORT_ORACLE_H
#define TESTS_SUPPORT_ORACLE_H

#include "gateway/policy/directory.h"
#include "gateway/policy/hop.h"

enum {
    ORACLE_OUT_MAX = 16,
    ORACLE_PATIENCE = 40, /* turns: then UNREACHABLE */
};

struct oracle {
    struct hop_question *out[ORACLE_OUT_MAX]; /* in the order in which they came */
    uint32_t turns[ORACLE_OUT_MAX];           /* until each is answered */
    uint32_t out_count;
    uint32_t open_count; /* passages */
};

/* oracle_directory makes domains: alice and b with any tag in example.org, everybody in x.org, in
 * t.org, which is passed through, and in c.org, which is asked about. Owned. */
struct directory *oracle_directory(void);

/* oracle_ask is struct hop's `send`; its user is the oracle. */
void oracle_ask(void *user, struct hop_question *question);

/* oracle_turn lets a turn pass. Of the first octet of a mailbox, or of a text, the lower two bits
 * are the answer (enum hop_answer), the next two when it comes: in the next turn, in three, in ten,
 * or never. One that is abandoned is answered in the next. */
void oracle_turn(struct oracle *oracle);

/* oracle_at_rest: no question is out, and no passage was forgotten. */
bool oracle_at_rest(const struct oracle *oracle);

#endif
