/* A gateway without its front, for tests of delivery: a log, a spool, a courier, and a port to put
 * messages into. Everything lies in a directory of its own below /tmp, which is the current one
 * while the tests run. */
#ifndef TESTS_SUPPORT_HOUSE_H
#define TESTS_SUPPORT_HOUSE_H

#include "gateway/base/bell.h"
#include "gateway/deliver/courier.h"

#include <unistd.h>

struct house_plan {
    const char *path; /* of the spool; the log is PATH.log */
    uint32_t retry_min_s, retry_max_s, lifetime_s, warn_after_s;
    uint64_t segment_size; /* 0: a usual one */
};

struct house {
    const struct house_plan *plan;
    int log_descriptor;
    struct log *log;
    struct spool *spool;
    struct staging *staging;
    struct courier *courier;
    struct directory *directory; /* empty: every sender is foreign */
    struct bell bell;
    uint64_t next_id;   /* of the next message */
    uint64_t last;      /* end of the last record staged */
    uint32_t recovered; /* messages that the spool held at the start */
};

/* While it is true every write to a segment fails with EIO. */
extern atomic_bool house_disk_fails;

/* What the messages that are staged ask for; all zero at first. */
extern struct envelope_terms house_terms;

/* house_set_up and house_tear_down make the directory and remove it: for cmocka_run_group_tests. */
int house_set_up(void **state);
int house_tear_down(void **state);

/* house_routes makes a table of domain, target, domain, target ... NULL; owned. */
struct routes *house_routes(const char *const *pairs);

/* house_open starts it all, house_close stops it in order. Failures end the test program. */
void house_open(struct house *house, const struct house_plan *plan, const struct routes *routes);
void house_close(struct house *house);

/* house_configure is a reload with other routes. */
void house_configure(struct house *house, const struct routes *routes);

/* house_stage stages a message from sender@example.com to recipients that are separated by blanks,
 * and returns its id. house_commit waits until all that was staged is durable. */
uint64_t house_stage(struct house *house, const char *recipients, struct bytes text);
void house_commit(struct house *house);

struct courier_snapshot house_look(const struct house *house);

/* Waits for a counter of the courier to reach a value, 20 seconds at most. */
#define WAIT_FOR(house, field, value)                                                              \
    do {                                                                                           \
        for (int ms = 0; house_look(house).field != (value) && ms < 20000; ms++)                   \
            usleep(1000);                                                                          \
        assert_int_equal(house_look(house).field, value);                                          \
    } while (0)

/* house_count_files counts the entries of a directory, and gives the path of the last in `name`
 * (512 octets, or NULL). -1: there is none. */
int house_count_files(const char *path, char *name);

/* house_file_is tells whether a delivered file has this text behind the fields that delivery puts
 * before it. */
bool house_file_is(const char *path, struct bytes text);

/* house_logged tells whether a line of the log contains a text. */
bool house_logged(const struct house_plan *plan, const char *text);

/* house_courier_cpu_ns returns the processor time of the courier's thread so far. */
uint64_t house_courier_cpu_ns(void);

#endif
