/* The memory contract: its sum, and what it grows with. That it holds is for
 * tests/e2e/test_memory.py. */
#include "gateway/gateway_memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "gateway/deliver/destination.h"
#include "tests/support/scratch.h"

static uint64_t part(const struct memory_contract *contract, const char *name)
{
    for (uint32_t i = 0; i < contract->count; i++)
        if (strcmp(contract->parts[i].name, name) == 0)
            return contract->parts[i].octets;
    return 0;
}

static struct memory_contract contract_of(const char *more)
{
    char text[1024];
    struct memory_contract contract;
    snprintf(text, sizeof(text), "%s%s", SCRATCH_NEEDED, more);
    struct config *config = scratch_good(text);
    memory_contract(config, &contract);
    config_free(config);
    return contract;
}

static void adds_up(void **state)
{
    uint64_t octets = 0;
    struct memory_contract contract = contract_of("");
    (void)state;
    for (uint32_t i = 0; i < contract.count; i++)
        octets += contract.parts[i].octets;
    assert_int_equal(contract.octets, octets);
}

/* What is usual must fit a machine that is usual for a mail gateway. */
static void usual_is_modest(void **state)
{
    struct memory_contract contract = contract_of("workers = 4\n");
    (void)state;
    assert_true(contract.octets < 5ull << 30);
}

static void grows_with(void **state)
{
    static const struct {
        const char *little, *much, *name;
        double factor; /* at least */
    } cases[] = {
        {"workers = 4 limits { connections = 1000 }\n",
         "workers = 4 limits { connections = 10000 }\n",                                    "connections",     8 },
        {"limits { connections = 1000 }\n",             "limits { connections = 10000 }\n",
         "unfinished commands",                                                                                8 },
        {"queue { messages = 1000000 }\n",              "queue { messages = 10000000 }\n",  "queue",           7 },
        {"deliver { connections = 100 }\n",             "deliver { connections = 1000 }\n", "deliveries",      4 },
        {"io { buffers = 64 }\n",                       "io { buffers = 4096 }\n",          "receive buffers", 20},
        {"workers = 1\n",                               "workers = 8\n",                    "staging rings",   4 },
        {"resolver { cache = 1000 }\n",                 "resolver { cache = 100000 }\n",    "DNS, callahead",  90},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct memory_contract little = contract_of(cases[i].little);
        struct memory_contract much = contract_of(cases[i].much);
        double factor = (double)part(&much, cases[i].name) / (double)part(&little, cases[i].name);
        if (!(factor >= cases[i].factor))
            fail_msg("%s: %.1f", cases[i].name, factor);
    }
}

/* After a reload it has what is more now, and not what only a restart brings; and nothing is less.
 */
static void reloads_add(void **state)
{
    char text[1024];
    (void)state;
    snprintf(text, sizeof(text), "%s%s", SCRATCH_NEEDED,
             "workers = 2 limits { connections = 1000 } queue { messages = 1000 }\n");
    struct config *initial = scratch_good(text);
    snprintf(text, sizeof(text), "%s%s", SCRATCH_NEEDED,
             "workers = 8 limits { connections = 5000 } queue { messages = 5000000 }\n");
    struct config *loaded = scratch_good(text);
    struct memory_contract before, after, again;
    memory_contract(initial, &before);
    after = before;
    memory_contract_reloaded(initial, loaded, &after);
    assert_true(part(&after, "queue") > part(&before, "queue") + 5000000 * 384ull);
    assert_int_equal(part(&after, "connections"), part(&before, "connections"));
    assert_int_equal(part(&after, "staging rings"), part(&before, "staging rings"));
    uint64_t octets = 0;
    for (uint32_t i = 0; i < after.count; i++)
        octets += after.parts[i].octets;
    assert_int_equal(after.octets, octets);
    again = after;
    memory_contract_reloaded(initial, initial, &again);
    assert_int_equal(again.octets, after.octets);
    config_free(loaded);
    config_free(initial);
}

/* What strangers can make many of is in it, and the agent's socket is http, too. */
static void counts_all(void **state)
{
    (void)state;
    struct memory_contract contract = contract_of("");
    assert_true(part(&contract, "destinations") > (uint64_t)DESTINATIONS_MAX * 1024);
    assert_true(part(&contract, "searches for hosts") >= 1024 * 20296ull);
    assert_int_equal(part(&contract, "control, http"), 0);
    contract = contract_of("admin { agent = \"127.0.0.1:0\" }\n");
    assert_true(part(&contract, "control, http") > 0);
}

/* Password hashes: what the most expensive one of the file takes, for each thread that may compute
 * one; after a reload those of the new file, but by the threads of the start. */
static void counts_hashes(void **state)
{
    static const char argon[] = "a:{ARGON2ID}$argon2id$v=19$m=65536,t=3,p=1$xOmrA+IakmJd1Ge3IbMRPA$"
                                "L2zWLy+eccBleGmlkWmhsYFbYP9SVwpabJuM9TssJnY\n";
    static const char bcrypt[] =
        "a:{BLF-CRYPT}$2y$05$Qi8D1d4KHR.4FTpgvg4Ym.T13/NTuBZ/eRfhlUnwdpWiOWoD26.ji\n";
    const char *text = SCRATCH_NEEDED
        "listener \"s\" { address = {\"127.0.0.1:587\"} role = submission auth = plaintext }\n"
        "auth { users = users helpers = 3 }\n";
    struct memory_contract contract, before = contract_of("");
    (void)state;
    assert_int_equal(part(&before, "logins") + part(&before, "password hashes"), 0);
    scratch_write("users", bcrypt, sizeof(bcrypt) - 1);
    struct config *initial = scratch_good(text);
    memory_contract(initial, &contract);
    assert_true(part(&contract, "logins") > initial->server.connections_max * 4096ull);
    assert_in_range(part(&contract, "password hashes"), 4 * 32 * 1024, 4 * 64 * 1024);
    scratch_write("users", argon, sizeof(argon) - 1);
    struct config *loaded = scratch_good(text);
    loaded->auth_helpers = 10;
    memory_contract_reloaded(initial, loaded, &contract);
    assert_int_equal(part(&contract, "password hashes"), 4 * 64ull << 20);
    config_free(loaded);
    config_free(initial);
}

/* All workers together have room for all connections, and for twice as many at most. */
static void pools_have_room(void **state)
{
    (void)state;
    for (uint32_t workers = 1; workers <= LIMIT_WORKERS; workers++)
        for (uint32_t connections = 1; connections <= 1000000; connections *= 10) {
            const struct config config = {.worker_count = workers,
                                          .server = {.connections_max = connections}};
            struct memory_pools pools = memory_pools(&config);
            uint64_t all = (uint64_t)pools.streams * workers;
            assert_true(pools.streams <= connections && all >= connections);
            assert_true(all <= 2ull * connections + 64 * workers);
            assert_true(pools.blocks > pools.streams * 4);
        }
}

static void this_machine_has_some(void **state)
{
    (void)state;
    assert_true(memory_here() > 64 << 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(adds_up),         cmocka_unit_test(usual_is_modest),
        cmocka_unit_test(grows_with),      cmocka_unit_test(counts_all),
        cmocka_unit_test(counts_hashes),   cmocka_unit_test(reloads_add),
        cmocka_unit_test(pools_have_room), cmocka_unit_test(this_machine_has_some),
    };
    return cmocka_run_group_tests(tests, scratch_begin, scratch_end);
}
