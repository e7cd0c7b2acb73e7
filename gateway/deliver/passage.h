/* Passages: conversations with a next hop while the client of ours waits (`mode = through`). A
 * passage is a stepwise delivery: its recipients are asked about one by one as the client names
 * them, then its text is sent, and what the next hop says to each goes back to the worker that
 * asked. Nothing is kept here: what can't be answered in time is HOP_UNREACHABLE, and the spool
 * takes over. docs/through.md has states and rules. The courier's thread. */
#ifndef GATEWAY_DELIVER_PASSAGE_H
#define GATEWAY_DELIVER_PASSAGE_H

#include "gateway/base/log.h"
#include "gateway/deliver/destination.h"
#include "gateway/policy/hop.h"

enum {
    PASSAGE_IDLE_S = 60,   /* a passage whose client asks nothing for so long gives its connection
                              back; the next question is UNREACHABLE */
    PASSAGE_CROWDED_S = 5, /* the same, when others wait for a connection */
};

struct passages;

struct passages_options {
    struct destinations *destinations; /* borrowed */
    const struct routes *routes;       /* borrowed until passages_configure */
    struct log_port *log;              /* borrowed */
};

/* passages_new returns owned; NULL: no memory. passages_free: passages_at_rest. */
struct passages *passages_new(const struct passages_options *options)
    __attribute__((warn_unused_result));
void passages_free(struct passages *passages);

/* passages_configure swaps the routes; passages under way end as they began. */
void passages_configure(struct passages *passages, const struct routes *routes);

/* passages_ask takes a question: HOP_RECIPIENT, HOP_TEXT or HOP_END. It comes back by hop_return
 * within its patience, perhaps at once. */
void passages_ask(struct passages *passages, struct hop_question *question, uint64_t now_us);

/* passages_turn ends what has waited too long or is abandoned; call it in every turn_end.
 * passages_next_us: when it wants the next turn; UINT64_MAX: any time. */
void passages_turn(struct passages *passages, uint64_t now_us);
uint64_t passages_next_us(const struct passages *passages);

/* passages_stop gives every passage up; questions come back UNREACHABLE, later ones, too.
 * passages_at_rest: nothing is under way. */
void passages_stop(struct passages *passages);
bool passages_at_rest(const struct passages *passages);

struct passages_counters {
    uint64_t open;      /* now */
    uint64_t in_doubt;  /* now: texts on their way; a crash may make the client repeat them */
    uint64_t delivered; /* recipients whose message the next hop has taken */
    uint64_t refused, deferred; /* recipients, at RCPT or at the end of the text */
    uint64_t given_up;          /* passages that came to UNREACHABLE: the spool took over */
    uint64_t passed; /* of these, whose text had left: perhaps delivered twice (RFC 1047) */
};

/* passages_counters returns what they are now; borrowed. */
const struct passages_counters *passages_counters(const struct passages *passages);

#endif
