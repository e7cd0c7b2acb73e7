/* The spool as its own modules see it. */
#ifndef GATEWAY_SPOOL_SPOOL_INSIDE_H
#define GATEWAY_SPOOL_SPOOL_INSIDE_H

#include "gateway/spool/arrivals.h"
#include "gateway/spool/preparer.h"
#include "gateway/spool/spool.h"
#include "gateway/spool/writer.h"

struct spool {
    struct volume volume;
    struct pool pool;
    struct arrivals arrivals;
    struct writer writer;
    struct preparer preparer;
    struct log *log; /* borrowed */
    size_t staging_size;
    int lock;        /* descriptor of the lock file */
    bool uuid_known; /* the lock file had it */

    /* Found by recovery. */
    uint64_t message_id_min;
    struct segment *last; /* the log could go on in it; NULL: no */
    _Atomic uint64_t records_damaged, octets_damaged;
    uint64_t octets_found; /* of the segments in use at the start */

    _Atomic uint64_t octets_relocated; /* records of copies, since the start */

    /* For threads that read: they share a log port. */
    pthread_mutex_t log_mutex;
    struct log_port *shared_log;
};

#endif
