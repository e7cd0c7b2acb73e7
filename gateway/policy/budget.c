/* A budget of failures: see budget.h. */
#include "gateway/policy/budget.h"

enum { COST_US = 1000000 / BUDGET_PER_SECOND };

bool budget_take(struct budget *budget, uint64_t now_us)
{
    uint64_t paid_us = atomic_load(&budget->paid_us);
    uint64_t next_us;
    do {
        next_us = (paid_us > now_us ? paid_us : now_us) + COST_US;
        if (next_us - now_us > (uint64_t)BUDGET_BURST * COST_US)
            return false;
    } while (!atomic_compare_exchange_weak(&budget->paid_us, &paid_us, next_us));
    return true;
}

void budget_return(struct budget *budget)
{
    atomic_fetch_sub(&budget->paid_us, COST_US);
}
