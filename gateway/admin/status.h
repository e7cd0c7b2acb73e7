/* The data of the status page as JSON: what is now, totals, and the rows of the sampler.
 * docs/status.md has each field. */
#ifndef GATEWAY_ADMIN_STATUS_H
#define GATEWAY_ADMIN_STATUS_H

#include "gateway/admin/sampler.h"

struct status_facts {
    const struct health *health;
    const struct metrics_sources *sources; /* NULL: none yet, and no sampler is looked at */
    const struct sampler *sampler;
    struct log *log; /* for the last warnings and errors */
    uint64_t wall_us;
    uint64_t since; /* rows from here on */
};

/* status_text returns the text, owned, with its length; NULL: no memory. */
char *status_text(const struct status_facts *facts, size_t *len)
    __attribute__((warn_unused_result));

#endif
