/* What a thread has counted and timed; tallies of threads are added up at the end. */
#ifndef BENCH_LOAD_TALLY_H
#define BENCH_LOAD_TALLY_H

#include "bench/load/histogram.h"
#include "bench/load/options.h"

#include <stdbool.h>
#include <stdint.h>

/* What is timed: docs/load.md has a line for each. */
enum tally_time {
    TALLY_CONNECT = 0,
    TALLY_BANNER,
    TALLY_EHLO,
    TALLY_STARTTLS,
    TALLY_HANDSHAKE,
    TALLY_AUTH,
    TALLY_MAIL,
    TALLY_RCPT,
    TALLY_DATA,
    TALLY_DOT,
    TALLY_MESSAGE,
    TALLY_SERVICE,
    TALLY_CONNECTION,
    TALLY_LATENESS,
    TALLY_TIME_COUNT,
};
extern const char *const tally_time_names[TALLY_TIME_COUNT];

/* Why a handshake failed: an enum tls_failure, or one of these. */
enum tally_tls_reason {
    TALLY_TLS_REFUSED = TLS_FAILURE_COUNT, /* another reply to STARTTLS than 220 */
    TALLY_TLS_INJECTED,                    /* octets in clear behind the 220 */
    TALLY_TLS_LOST,                        /* the connection ended */
    TALLY_TLS_REASON_COUNT,
};

enum { TALLY_GROUPS_MAX = 8 };

struct tally_tls {
    uint64_t handshakes;      /* done */
    uint64_t counted;         /* those within the measured time */
    uint64_t resumed;         /* of all */
    uint64_t resumed_counted; /* of the counted */
    uint64_t failed;          /* handshakes */
    uint64_t broken;          /* connections that tls/ ended after the handshake */
    uint64_t reasons[TALLY_TLS_REASON_COUNT];
    uint64_t versions[TLS_1_3 + 1];
    uint64_t ciphers[TLS_CIPHER_COUNT];
    struct tally_group {
        const char *name; /* constant; NULL: this and the rest are free */
        uint64_t count;
    } groups[TALLY_GROUPS_MAX];
};

/* Zeroed memory is an empty tally. Durations are added only while the run measures; counts are of
 * the whole run unless they say otherwise. */
struct tally {
    uint64_t acked;      /* messages answered with 250 (LMTP: for all recipients) */
    uint64_t counted;    /* those answered within the measured time, slow ones left out */
    uint64_t octets;     /* of the counted, as stored */
    uint64_t failed;     /* messages refused */
    uint64_t lost;       /* messages whose connection ended under them */
    uint64_t unfinished; /* messages not answered at the end of the drain */
    uint64_t unstarted;  /* arrivals for which there never was a connection */
    uint64_t offered;    /* intended starts within the measured time */
    uint64_t opened;     /* connections that got their 220 */
    uint64_t logins;     /* AUTH answered with 235 */
    uint64_t unopened;   /* connections refused or lost before */
    uint64_t broken;     /* connections that ended between messages, not by our doing */
    uint64_t lock_step;  /* connections that could not pipeline: EHLO does not offer it */
    uint64_t aborted[LOAD_PHASE_COUNT]; /* connections that we broke off on purpose */
    uint64_t codes[1000];               /* unexpected replies; 0: what is no reply */
    uint64_t threads;
    double seconds;     /* measured time; the longest of the threads */
    double cpu_seconds; /* within it, of all threads */
    double busiest;     /* share of a CPU, of the busiest thread */
    struct tally_tls tls;
    struct histogram times[TALLY_TIME_COUNT];
};

void tally_add(struct tally *tally, const struct tally *other);
void tally_tls_group(struct tally_tls *tls, const char *name, uint64_t count);

/* tally_failed says whether anything went wrong that the options do not excuse, or nothing at all
 * was acknowledged although it should have been. tally_invalid writes why an open run can't be
 * trusted to `reasons`, as sentences, separated by "; "; false: it can. */
bool tally_failed(const struct tally *tally, const struct load_options *options);
bool tally_invalid(const struct tally *tally, const struct load_options *options, char *reasons,
                   size_t size);

#endif
