/* Callaheads: would the next hop take mail for this mailbox (`verify = callahead`)? Asked with MAIL
 * FROM:<>, RCPT and RSET over a connection of the destination's; answers are kept in a bounded
 * cache, equal questions are asked once. docs/through.md has the rules. The courier's thread. */
#ifndef GATEWAY_DELIVER_CALLAHEAD_H
#define GATEWAY_DELIVER_CALLAHEAD_H

#include "gateway/base/log.h"
#include "gateway/deliver/destination.h"
#include "gateway/policy/hop.h"

struct callaheads;

struct callaheads_options {
    struct destinations *destinations; /* borrowed */
    const struct routes *routes;       /* borrowed until callaheads_configure */
    struct log_port *log;              /* borrowed */
    uint32_t cache_s;                  /* a yes is believed so long, a no a sixth of it; 0: never */
    uint32_t entries_max;              /* of the cache; 0: 65536, at about 400 octets */
};

/* callaheads_new returns owned; NULL: no memory. callaheads_free: callaheads_at_rest. */
struct callaheads *callaheads_new(const struct callaheads_options *options)
    __attribute__((warn_unused_result));
void callaheads_free(struct callaheads *callaheads);

/* callaheads_configure swaps the routes and cache_s, and forgets all answers. */
void callaheads_configure(struct callaheads *callaheads, const struct routes *routes,
                          uint32_t cache_s);

/* callaheads_ask takes a question: HOP_CALLAHEAD. It comes back by hop_return within its patience,
 * perhaps at once. */
void callaheads_ask(struct callaheads *callaheads, struct hop_question *question, uint64_t now_us);

/* callaheads_turn ends what has waited too long or is abandoned; call it in every turn_end.
 * callaheads_next_us: when it wants the next turn; UINT64_MAX: any time. */
void callaheads_turn(struct callaheads *callaheads, uint64_t now_us);
uint64_t callaheads_next_us(const struct callaheads *callaheads);

/* callaheads_stop answers all that is open UNREACHABLE, and what comes later, too.
 * callaheads_at_rest: nothing is under way. */
void callaheads_stop(struct callaheads *callaheads);
bool callaheads_at_rest(const struct callaheads *callaheads);

struct callaheads_counters {
    uint64_t asked;   /* of next hops */
    uint64_t cached;  /* questions answered without asking */
    uint64_t merged;  /* questions that joined one under way */
    uint64_t refused; /* answers */
    uint64_t unknown; /* questions without an answer: deferred, unreachable */
    uint64_t entries; /* of the cache, now */
};

/* callaheads_counters returns what they are now; borrowed. */
const struct callaheads_counters *callaheads_counters(const struct callaheads *callaheads);

#endif
