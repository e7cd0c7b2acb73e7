/* The memory contract: see gateway_memory.h. Each part is a product of what the configuration says
 * and of sizes that the code has; where it has none, of what was measured, rounded up. The test is
 * tests/e2e/test_memory.py: a gateway that is driven to its limits stays below the sum. */
#include "gateway/gateway_memory.h"

#include <inttypes.h>
#include <string.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "gateway/base/check.h"
#include "gateway/deliver/destination.h"
#include "gateway/deliver/queue.h"
#include "gateway/io/stream.h"
#include "gateway/receive/fixups.h"
#include "gateway/receive/session.h"
#include "gateway/spool/living.h"
#include "tls/tls.h"

#define KIB 1024ull
#define MIB (1024 * KIB)

enum {
    SPARE_STREAMS = 64,   /* of a worker, beyond twice its share */
    SPARE_BLOCKS = 32768, /* of a worker: 128 MiB for recipients of long transactions */
    COURIER_BUFFERS = 512,
    COURIER_BUFFER = 4096,
    POOL_GAP = 64, /* between two blocks of a pool */
    BUFFER_GAP = 320 + 24,
    RATE_CELLS_MAX = 1 << 24,
    RATE_CELLS_EACH = 16, /* for a connection: two kinds, address and network; and clients go */
};

/* Measured, with room to spare; docs/threat-model.md has the table. */
enum measured {
    TLS_IDLE = 3072,                 /* a connection after its handshake */
    TLS_HANDSHAKE = 40 * 1024,       /* one that is under way: long hellos, or bit by bit */
    TLS_CERTIFICATES = 128 * 1024,   /* of the peer, at most, when it is asked for them */
    WORKER_TABLES = 5 * 1024 * 1024, /* aliases and recipients of one transaction, io_uring */
    SHARED_EACH = 1536 * 1024,       /* Redis, of each worker */
    DOVECOT_EACH = 512 * 1024,       /* likewise */
    GREYLIST = 10 * 1024 * 1024,     /* both tables */
    MESSAGE_OCTETS = 256,            /* with one destination; queue.h */
    ARRIVAL_OCTETS = 128,            /* and as long as the courier has not heard of it */
    CONSIGNMENT_OCTETS = 96,         /* each further destination */
    SEARCH_QUESTIONS = 33 * 512,     /* of one destination, to the DNS */
    DELIVERY_OCTETS = 640 * 1024,    /* a connection of ours that is under way: text read ahead */
    LOAN_OCTETS = 288 * 1024,        /* and TLS records of it */
    CLIENT_OCTETS = 8192,            /* and itself */
    STORE_OCTETS = 6 * 1024 * 1024,  /* a batch of Maildir files */
    DNS_OCTETS = 768,                /* an answer */
    CALLAHEADS = 65536 * 448,        /* answers of next hops */
    LOG_PORT = 1024 * 1024 + 32 * 1024,
    STACK = 192 * 1024, /* of a thread, what is used of it */
    CONTROL = 32 * 1024 * 1024,
    HTTP = 24 * 1024 * 1024,
    SPOOL = 24 * 1024 * 1024, /* batches, table of segments, pieces that are zeroed or copied */
    TRUST = 8 * 1024 * 1024,  /* authorities */
    IDLE_READERS = 16 * 1024 * 1024, /* deliver/consign.c keeps so much */
    EVENTS = 24 * 1024 * 1024,       /* notifications that wait, and outcomes */
};

struct sum {
    struct memory_contract *contract;
    uint64_t allocated; /* by malloc: it rounds up, and holes stay */
};

struct memory_pools memory_pools(const struct config *config)
{
    uint64_t streams = config->server.connections_max;
    uint64_t share = streams * 2 / config->worker_count + SPARE_STREAMS;
    streams = share < streams ? share : streams;
    /* A connection that does its worst at once: two blocks of replies, a transaction, text put
     * aside, and the header section of submitted mail. */
    uint32_t each = config_has_submission(config) ? 5 : 4;
    return (struct memory_pools){.streams = (uint32_t)streams,
                                 .blocks = (uint32_t)streams * each + SPARE_BLOCKS};
}

uint32_t memory_rate_cells(const struct config *config)
{
    uint64_t cells = (uint64_t)config->server.connections_max * RATE_CELLS_EACH;
    return cells < RATE_CELLS_MAX ? (uint32_t)cells : RATE_CELLS_MAX;
}

static void add(struct sum *sum, const char *name, const char *how, uint64_t octets)
{
    struct memory_contract *contract = sum->contract;
    if (octets == 0)
        return;
    CHECK(contract->count < MEMORY_PARTS_MAX);
    contract->parts[contract->count++] = (struct memory_part){name, how, octets};
    contract->octets += octets;
}

static void add_allocated(struct sum *sum, const char *name, const char *how, uint64_t octets)
{
    sum->allocated += octets;
    add(sum, name, how, octets);
}

static uint64_t power_of_two_above(uint64_t number)
{
    uint64_t power = 1024;
    while (power < number)
        power *= 2;
    return power;
}

/* What the process has now: itself, and the tables that config_load has made. */
static uint64_t resident(void)
{
    unsigned long long pages = 0;
    FILE *file = fopen("/proc/self/statm", "re");
    if (file != NULL && fscanf(file, "%*u %llu", &pages) != 1)
        pages = 0;
    if (file != NULL)
        fclose(file);
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

static void add_workers(struct sum *sum, const struct config *config)
{
    const uint64_t workers = config->worker_count;
    const struct memory_pools pools = memory_pools(config);
    const uint64_t streams = workers * pools.streams;
    const uint64_t stream = sizeof(struct stream) + sizeof(struct session) + POOL_GAP +
                            2 * 2 * 48; /* and what the writer knows of an unfinished message */
    add(sum, "receive buffers", "workers x io.buffers x io.buffer_size",
        workers * config->io_buffer_count * (config->io_buffer_size + BUFFER_GAP) +
            COURIER_BUFFERS * (COURIER_BUFFER + BUFFER_GAP));
    add(sum, "staging rings", "(workers + 1) x spool.staging_size",
        (workers + 1) * (config->spool.staging_size + config->spool.staging_size / 4));
    add(sum, "connections", "limits.connections x 552; twice if there are workers",
        streams * stream);
    add(sum, "unfinished commands", "limits.connections x 12.7k, likewise",
        streams * (LIMIT_LINE + SESSION_HELO_MAX + 1 + 2 * POOL_GAP));
    add(sum, "transactions, replies",
        config_has_submission(config) ? "limits.connections x 20.3k, likewise; workers x 130M"
                                      : "limits.connections x 16.2k, likewise; workers x 130M",
        workers * pools.blocks * (BLOCK_SIZE + POOL_GAP));
    add(sum, "tables of workers", "workers x 5M, and Redis",
        workers * (WORKER_TABLES + (config->has_redis ? SHARED_EACH : 0)));
    add(sum, "rates, counts, greylist", "limits.connections x 160, and 10M",
        power_of_two_above(config->server.connections_max * 4ull) * 8 +
            power_of_two_above(memory_rate_cells(config)) * 8 + GREYLIST);
    if (config_has_submission(config))
        add(sum, "failed logins, quotas", "6M",
            attempts_octets(ATTEMPTS_CELLS) + quotas_octets(QUOTAS_CELLS));
    if (config_has_submission(config))
        add(sum, "headers of submitted mail", "workers x 16M",
            workers * FIXUPS_LARGE * (LIMIT_PIECE + POOL_GAP));
}

static void add_logins(struct sum *sum, const struct config *config)
{
    if (!config_has_submission(config))
        return;
    add(sum, "logins", "limits.connections x 5.8k, likewise; and 1M",
        config->worker_count * memory_pools(config).streams * authenticator_login_octets() +
            login_cache_octets(LOGIN_CACHE_CELLS));
    if (config->has_dovecot)
        add(sum, "Dovecot", "workers x 512k", config->worker_count * DOVECOT_EACH);
    /* Each helper, and the relief, hashes one at a time. */
    if (config->users != NULL)
        add_allocated(sum, "password hashes", "(auth.helpers + 1) x what the hashes say",
                      (config->auth_helpers + 1ull) * users_memory(config->users));
}

static void add_tls(struct sum *sum, const struct config *config)
{
    uint64_t connections = config->server.connections_max;
    uint64_t handshakes = config->server.handshakes_max;
    bool asks = false;
    if (!config_has_tls(config))
        return;
    for (size_t i = 0; i < config->listener_count; i++)
        asks |= config->listeners[i].client_ca != NULL;
    handshakes = handshakes == 0 || handshakes > connections ? connections : handshakes;
    add(sum, "TLS records", "limits.connections x 16.4k, likewise",
        config->worker_count * (uint64_t)memory_pools(config).streams *
            (TLS_RECORD_MAX + 2 * POOL_GAP));
    add_allocated(sum, "TLS connections", "limits.connections x 3k", connections * TLS_IDLE);
    add_allocated(sum, "TLS handshakes", "tls.handshakes x 40k, or 168k with client_ca",
                  handshakes * (TLS_HANDSHAKE + (asks ? TLS_CERTIFICATES : 0)));
}

static void note_hop(void *user, const struct route *route)
{
    bool *asks = user;
    *asks |= route->options.through || route->options.callahead;
}

static void add_delivery(struct sum *sum, const struct config *config)
{
    const struct courier_options *courier = &config->courier;
    const uint64_t messages = config->spool.messages_max;
    const uint64_t connections = courier->connections_max + courier->connections_max / 4 + 16;
    bool asks = false;
    routes_each(config->routes, note_hop, &asks);
    /* Of more than 64 recipients those that are finished are marked. */
    const uint64_t marks =
        config->server.recipients_max > 64 ? config->server.recipients_max / 8 + 8 : 0;
    add(sum, "queue", "queue.messages x (384 + limits.recipients / 8), and 96M",
        messages * (MESSAGE_OCTETS + ARRIVAL_OCTETS + marks) +
            (uint64_t)QUEUE_EXTRA_MAX * CONSIGNMENT_OCTETS);
    add_allocated(sum, "destinations", "(262144 + domains) x 1.4k, and 54M of hosts",
                  (DESTINATIONS_MAX + (uint64_t)config->domain_count) * DESTINATION_OCTETS +
                      (uint64_t)DESTINATIONS_HOSTS * sizeof(struct exchange_host));
    add_allocated(sum, "searches for hosts", "1024 x 37k",
                  (uint64_t)DESTINATIONS_SEARCHES * (EXCHANGE_SEARCH_OCTETS + SEARCH_QUESTIONS));
    add_allocated(sum, "deliveries", "deliver.connections x 1.2M",
                  connections * (DELIVERY_OCTETS + LOAN_OCTETS + CLIENT_OCTETS + TLS_RECORD_MAX +
                                 4 * BLOCK_SIZE) +
                      IDLE_READERS + TRUST);
    add_allocated(sum, "Maildirs", "deliver.store_threads x 6M, and 24M",
                  (4ull + courier->store_threads) * STORE_OCTETS);
    add_allocated(sum, "notifications", "24M + 4 x queue.bounce_size",
                  EVENTS + 4ull * courier->rules.bounce_original_max);
    add_allocated(sum, "DNS, callahead", "resolver.cache x 768, and 28M",
                  (uint64_t)courier->dns.cache_max * DNS_OCTETS + (asks ? CALLAHEADS : 0));
    if (asks)
        add(sum, "through", "workers x through.memory",
            config->worker_count * config->through_memory);
}

static void add_rest(struct sum *sum, const struct config *config)
{
    /* main, log, spool (3), courier, control, http (2), sampler, census, trace */
    const uint64_t threads = 12ull + config->worker_count + config->tls_helpers +
                             config->courier.store_threads +
                             (config_has_submission(config) ? config->auth_helpers + 1ull : 0);
    add(sum, "spool", "24M", SPOOL);
    add(sum, "log", "(workers + threads) x 1M", threads * LOG_PORT);
    add(sum, "stacks", "threads x 192k", threads * STACK);
    bool http = config->http.any.sa_family != AF_UNSPEC || config->agent.any.sa_family != AF_UNSPEC;
    add_allocated(sum, "control, http", "admin.control 32M, admin.http or admin.agent 24M",
                  (config->control_path != NULL ? CONTROL : 0) + (http ? HTTP : 0));
    add(sum, "allocator", "a quarter of what it gives out", sum->allocated / 4);
}

/* While it starts, recovery has a table of what lives (and half of another, when it grows), but
 * there are no connections yet: `later` octets are for these. */
static void add_recovery(struct sum *sum, const struct config *config, uint64_t later)
{
    uint64_t table = power_of_two_above(config->spool.messages_max * 2) * sizeof(struct living);
    uint64_t start = table + table / 2;
    add(sum, "recovery", "at the start, what is more than connections need later",
        start > later ? start - later : 0);
}

static void add_all(const struct config *config, uint64_t tables, struct memory_contract *out)
{
    struct sum sum = {.contract = out};
    *out = (struct memory_contract){0};
    add(&sum, "program and tables", "three times what they take now: a reload has them", tables);
    uint64_t before = out->octets;
    add_workers(&sum, config);
    add_tls(&sum, config);
    add_logins(&sum, config);
    uint64_t later = out->octets - before;
    add_delivery(&sum, config);
    add_rest(&sum, config);
    add_recovery(&sum, config, later);
}

void memory_contract(const struct config *config, struct memory_contract *out)
{
    add_all(config, 3 * resident(), out);
}

static struct memory_part *find_part(struct memory_contract *contract, const char *name)
{
    for (uint32_t i = 0; i < contract->count; i++)
        if (strcmp(contract->parts[i].name, name) == 0)
            return &contract->parts[i];
    CHECK(contract->count < MEMORY_PARTS_MAX);
    contract->parts[contract->count] = (struct memory_part){.name = name};
    return &contract->parts[contract->count++];
}

void memory_contract_reloaded(const struct config *initial, const struct config *loaded,
                              struct memory_contract *contract)
{
    struct memory_contract now;
    struct config config = *loaded; /* a view: nothing in it is owned */
    config.worker_count = initial->worker_count;
    config.tls_helpers = initial->tls_helpers;
    config.auth_helpers = initial->auth_helpers;
    config.has_redis = initial->has_redis;
    config.has_dovecot = initial->has_dovecot;
    config.control_path = initial->control_path;
    config.http = initial->http;
    config.agent = initial->agent;
    config.through_memory = initial->through_memory;
    config.io_buffer_count = initial->io_buffer_count;
    config.io_buffer_size = initial->io_buffer_size;
    config.spool.staging_size = initial->spool.staging_size;
    config.courier.connections_max = initial->courier.connections_max;
    config.courier.store_threads = initial->courier.store_threads;
    config.courier.dns.cache_max = initial->courier.dns.cache_max;
    if (config.server.connections_max > initial->server.connections_max)
        config.server.connections_max = initial->server.connections_max;
    add_all(&config, 0, &now); /* the tables of the start have room for those of a reload */
    for (uint32_t i = 0; i < now.count; i++) {
        struct memory_part *part = find_part(contract, now.parts[i].name);
        if (now.parts[i].octets <= part->octets)
            continue;
        contract->octets += now.parts[i].octets - part->octets;
        *part = now.parts[i];
    }
}

/* --- for people --- */

static uint64_t read_number(const char *path)
{
    unsigned long long number = 0;
    FILE *file = fopen(path, "re");
    if (file != NULL && fscanf(file, "%llu", &number) != 1)
        number = 0; /* "max" */
    if (file != NULL)
        fclose(file);
    return number;
}

static uint64_t lesser(uint64_t a, uint64_t b)
{
    return b != 0 && b < a ? b : a;
}

/* The limits of all groups from ours up to the root hold. */
static uint64_t limit_of_group(uint64_t octets)
{
    char line[512] = "";
    char path[sizeof(line) + 64];
    FILE *file = fopen("/proc/self/cgroup", "re");
    bool found = false;
    while (file != NULL && !found && fgets(line, sizeof(line), file) != NULL)
        found = strncmp(line, "0::/", 4) == 0;
    if (file != NULL)
        fclose(file);
    if (!found)
        return octets;
    char *group = line + 3;
    group[strcspn(group, "\n")] = '\0';
    for (char *end = group + strlen(group); end != NULL; end = strrchr(group, '/')) {
        *end = '\0';
        snprintf(path, sizeof(path), "/sys/fs/cgroup%s/memory.max", group);
        octets = lesser(octets, read_number(path));
    }
    return octets;
}

uint64_t memory_here(void)
{
    struct sysinfo machine;
    if (sysinfo(&machine) != 0)
        return 0;
    return limit_of_group((uint64_t)machine.totalram * machine.mem_unit);
}

void memory_print(const struct memory_contract *contract, FILE *out)
{
    uint64_t here = memory_here();
    fprintf(out, "memory, at most (MiB):\n");
    for (uint32_t i = 0; i < contract->count; i++)
        fprintf(out, "%9.1f  %-24s %s\n", (double)contract->parts[i].octets / (double)MIB,
                contract->parts[i].name, contract->parts[i].how);
    fprintf(out, "%9.1f  together\n", (double)contract->octets / (double)MIB);
    if (here != 0 && contract->octets > here)
        fprintf(out,
                "warning: this machine, or the control group, has %.1f MiB: lower "
                "limits.connections, deliver.connections or queue.messages\n",
                (double)here / (double)MIB);
}
