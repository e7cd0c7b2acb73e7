/* Exchanges under test: their set-up, on tests/support/asker, and what they find. */
#ifndef TESTS_SUPPORT_FINDER_H
#define TESTS_SUPPORT_FINDER_H

#include "gateway/deliver/exchange.h"
#include "tests/support/asker.h"

/* What the exchange under test told last. */
struct finder_tale {
    uint32_t found;  /* how often */
    bool refused_it; /* `why` was there */
    struct verdict why;
    struct exchange *to_free; /* when it is told */
};

extern struct finder_tale finder_tale;

/* We are mx.ours.test, at 127.0.0.99 and ::1; SMTP has port 2525. Chance is the same each time. */
extern struct exchange_setup finder_setup;
extern const struct route finder_mx; /* "mx:" */

/* finder_begin is asker_begin and a set-up; asker_end ends it. It waits 0.4 s for an answer,
 * finder_begin_patient, where all are answered, as long as a busy machine may need. */
void finder_begin(const char *const *lines);
void finder_begin_patient(const char *const *lines);

/* finder_now is the worker's clock. finder_told is for exchange_ask, with &finder_tale;
 * finder_was_found for turner_run. */
uint64_t finder_now(void);
void finder_told(void *user, const struct verdict *why);
bool finder_was_found(struct turner *turner);

/* finder_make makes an exchange, find asks it and waits, find_mx does both for a domain's MX. */
struct exchange *finder_make(const struct route *route, const char *domain);
void find(struct exchange *exchange);
struct exchange *find_mx(const char *domain);

/* host_text writes "PREFERENCE NAME ADDRESS:PORT" to `out` and returns it. */
char *host_text(const struct exchange_host *host, char *out, size_t size);

#endif
