/* Walking the records of a segment as recovery finds it: good ones, and what lies between. Believes
 * nothing without its checksum. docs/spool.md, "Batches and records". */
#ifndef GATEWAY_SPOOL_SCAN_H
#define GATEWAY_SPOOL_SCAN_H

#include "gateway/spool/record.h"
#include "gateway/spool/segment.h"

struct scan {
    const struct volume *volume;
    const struct segment *segment;
    uint64_t limit;    /* nothing is read from here on */
    uint64_t offset;   /* of the record that scan_next looks at next */
    uint64_t sequence; /* of the last good record; 0: none yet */
    uint64_t batch_end;

    uint8_t *window; /* blocks of the segment */
    uint64_t window_offset;
    size_t window_len, window_capacity;
    uint64_t unreadable; /* blocks that the disk would not give */
};

enum scan_result {
    SCAN_RECORD,          /* a good record */
    SCAN_PAYLOAD_DAMAGED, /* a good header, but the payload is not what it says */
    SCAN_GAP,             /* no record begins where one should; one may begin at gap_end */
    SCAN_END,             /* the log of this segment ends here, on the end of a batch */
};

struct scan_item {
    uint64_t offset;        /* where the record, the gap or the end begins */
    struct record header;   /* RECORD and PAYLOAD_DAMAGED */
    const uint8_t *payload; /* RECORD: header.payload_len octets, borrowed until the next call */

    /* GAP: */
    uint64_t sequence;  /* of the last good record before it; 0: none */
    uint64_t batch_end; /* and where its batch ends */
    uint64_t gap_end;   /* the next good header, or 0: none follows */
    uint64_t gap_sequence;
    uint64_t gap_batch_end;
};

/* scan_init makes a scan that can walk segments one after the other. False: no memory. */
bool scan_init(struct scan *scan, const struct volume *volume) __attribute__((warn_unused_result));
void scan_free(struct scan *scan);

/* scan_begin starts at the front of a segment. */
void scan_begin(struct scan *scan, const struct segment *segment, uint64_t limit);

/* scan_next returns what comes next. After a gap the walk goes on at gap_end. */
enum scan_result scan_next(struct scan *scan, struct scan_item *out);

/* scan_highest returns the highest sequence of any good header in the segment; 0: there is none. */
uint64_t scan_highest(struct scan *scan, const struct segment *segment, uint64_t limit);

#endif
