/* Counts for `queue summary`: rows by destination, state and reason. */
#ifndef GATEWAY_ADMIN_CENSUS_H
#define GATEWAY_ADMIN_CENSUS_H

#include "gateway/deliver/courier_queue.h"

/* One kind of row. */
struct census_group {
    char destination[COURIER_NAME_MAX], reason[REASON_TEXT_MAX];
    uint8_t state; /* enum consignment_state; CONSIGNMENT_FREE: what did not fit in */
    uint64_t rows, recipients, octets;
    uint64_t oldest_s; /* arrival */
};

struct census;

enum { CENSUS_GROUPS_MAX = 20000 /* more than that are counted as one */ };

struct census *census_new(void) __attribute__((warn_unused_result));
void census_free(struct census *census);

/* census_add counts a row with so many recipients. False: no memory. */
bool census_add(struct census *census, const struct courier_row *row, uint64_t recipients)
    __attribute__((warn_unused_result));

/* census_sort puts the largest group first; census_at returns group `index`, or NULL behind the
 * last.
 */
void census_sort(struct census *census);
const struct census_group *census_at(const struct census *census, size_t index);

#endif
