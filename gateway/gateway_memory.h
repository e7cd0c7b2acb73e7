/* The memory contract: the most that this configuration can ever need, part by part. `ringmx
 * --check` prints it, the log of the start tells the sum, and load beyond it gets 421 or 452. */
#ifndef GATEWAY_GATEWAY_MEMORY_H
#define GATEWAY_GATEWAY_MEMORY_H

#include "gateway/config.h"

enum { MEMORY_PARTS_MAX = 24 };

struct memory_part {
    const char *name; /* constant: "connections", "TLS", "queue" */
    const char *how;  /* constant: of what it is the product */
    uint64_t octets;
};

struct memory_contract {
    uint32_t count;
    struct memory_part parts[MEMORY_PARTS_MAX];
    uint64_t octets; /* the sum */
};

void memory_contract(const struct config *config, struct memory_contract *out);

/* memory_print writes it for people. */
void memory_print(const struct memory_contract *contract, FILE *out);

#endif
