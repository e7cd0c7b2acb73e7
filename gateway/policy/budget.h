/* How often something may fail in a while, over all threads: so many at once, and then so many a
 * second. One atomic word: the moment at which everything taken so far is paid back. */
#ifndef GATEWAY_POLICY_BUDGET_H
#define GATEWAY_POLICY_BUDGET_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum { BUDGET_BURST = 100, BUDGET_PER_SECOND = 10 };

/* All zero: full. */
struct budget {
    _Atomic uint64_t paid_us;
};

/* budget_take takes one out; false: it is used up, nothing has changed. `now_us`: monotonic. Any
 * thread. budget_return puts one back that was taken. */
bool budget_take(struct budget *budget, uint64_t now_us) __attribute__((warn_unused_result));
void budget_return(struct budget *budget);

#endif
