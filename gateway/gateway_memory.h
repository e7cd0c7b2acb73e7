/* The memory contract: the most that this configuration can ever need, part by part. `ringmx
 * --check` prints it, the log of the start tells the sum, and load beyond it gets 421 or 452. */
#ifndef GATEWAY_GATEWAY_MEMORY_H
#define GATEWAY_GATEWAY_MEMORY_H

#include "gateway/config.h"

enum { MEMORY_PARTS_MAX = 32 };

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

/* memory_contract adds up what `config` can need, to what the process has now: ask right after
 * config_load. */
void memory_contract(const struct config *config, struct memory_contract *out);

/* memory_contract_reloaded adds what `loaded` can need more than before, part by part, after a
 * reload: what was taken once may stay. What only a restart changes is that of `initial`. */
void memory_contract_reloaded(const struct config *initial, const struct config *loaded,
                              struct memory_contract *contract);

/* memory_print writes it for people, with a line that begins with "warning:" when it is more than
 * memory_here. */
void memory_print(const struct memory_contract *contract, FILE *out);

/* memory_here returns the octets that this process may use: of the machine, or of its control
 * group, whichever is less; 0: not known. */
uint64_t memory_here(void);

/* The pools of one worker. The kernel spreads connections over the workers by chance, so each has
 * room for twice its share. */
struct memory_pools {
    uint32_t streams; /* connections */
    uint32_t blocks;  /* of 4 KiB: replies, transactions, text put aside */
};

struct memory_pools memory_pools(const struct config *config);

/* memory_rate_cells: for the table of rates (policy/rates.h). */
uint32_t memory_rate_cells(const struct config *config);

/* Cells of policy/attempts.h and policy/quotas.h. */
enum { ATTEMPTS_CELLS = 1 << 18, QUOTAS_CELLS = 1 << 18 };

/* Of policy/login_cache.h, and hashes that wait for a helper, of each worker. */
enum { LOGIN_CACHE_CELLS = 1 << 16, MEMORY_HASHES_WAITING = 64 };

#endif
