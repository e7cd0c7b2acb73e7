/* The scan reads large pieces of a segment into a window that holds any record. Where the disk
 * gives an error it goes block by block and takes zeros for those that are lost: zeros are no
 * record. */
#include "gateway/spool/scan.h"

#include "gateway/base/check.h"

#include <stdlib.h>
#include <string.h>

enum { SCAN_WINDOW = 16 * 1024 * 1024 };
static_assert((int)SCAN_WINDOW >= (int)LIMIT_RECORD + 2 * (int)LIMIT_BLOCK,
              "the window holds any record");

bool scan_init(struct scan *scan, const struct volume *volume)
{
    *scan = (struct scan){.volume = volume, .window_capacity = SCAN_WINDOW};
    scan->window = aligned_alloc(LIMIT_BLOCK, scan->window_capacity);
    return scan->window != NULL;
}

void scan_free(struct scan *scan)
{
    free(scan->window);
}

void scan_begin(struct scan *scan, const struct segment *segment, uint64_t limit)
{
    scan->segment = segment;
    scan->limit = limit & ~(uint64_t)(LIMIT_BLOCK - 1);
    scan->offset = SEGMENT_START;
    scan->sequence = 0;
    scan->batch_end = SEGMENT_START;
    scan->window_len = 0;
}

static void load(struct scan *scan, uint64_t from, size_t len)
{
    scan->window_offset = from;
    scan->window_len = len;
    if (segment_read(scan->segment, scan->window, len, from) == 0)
        return;
    for (size_t at = 0; at < len; at += LIMIT_BLOCK) {
        if (segment_read(scan->segment, scan->window + at, LIMIT_BLOCK, from + at) == 0)
            continue;
        memset(scan->window + at, 0, LIMIT_BLOCK);
        scan->unreadable++;
    }
}

/* Returns the memory of [offset, offset + len), or NULL when the segment ends before. */
static const uint8_t *look(struct scan *scan, uint64_t offset, size_t len)
{
    if (offset + len > scan->limit)
        return NULL;
    if (offset < scan->window_offset || offset + len > scan->window_offset + scan->window_len) {
        uint64_t from = offset & ~(uint64_t)(LIMIT_BLOCK - 1);
        uint64_t left = scan->limit - from;
        load(scan, from, left < scan->window_capacity ? left : scan->window_capacity);
    }
    return scan->window + (offset - scan->window_offset);
}

/* Returns the header at an offset if it is a good one, whatever its batch. */
static const struct record *header_at(struct scan *scan, uint64_t offset)
{
    const struct record *record = (const struct record *)look(scan, offset, RECORD_HEADER);
    if (record == NULL || record->magic != RECORD_MAGIC ||
        record->generation != scan->segment->generation ||
        record->header_crc != record_header_crc(record, scan->volume->salt, offset))
        return NULL;
    /* What follows can't be wrong under a right checksum, unless we wrote nonsense. */
    bool sane = record->kind >= RECORD_PAD && record->kind <= RECORD_DONE &&
                record->batch_end % LIMIT_BLOCK == 0 &&
                offset + record_size(record->payload_len) <= record->batch_end;
    return sane ? record : NULL;
}

/* True when the record may stand where the scan is: within a batch it belongs to it, behind one it
 * begins a later one. Remains of failed batches, which were overwritten, are older. */
static bool expected(const struct scan *scan, const struct record *record)
{
    if (scan->offset == scan->batch_end)
        return record->sequence > scan->sequence;
    return record->sequence == scan->sequence && record->batch_end == scan->batch_end;
}

/* Looks for the next good header that is not older than what was seen, at any place where a record
 * can lie. */
static void find_next(struct scan *scan, struct scan_item *out)
{
    bool at_end = scan->offset == scan->batch_end;
    for (uint64_t offset = scan->offset; offset + RECORD_HEADER <= scan->limit;
         offset += RECORD_ALIGN) {
        const struct record *record = header_at(scan, offset);
        if (record == NULL || record->sequence < scan->sequence ||
            (record->sequence == scan->sequence &&
             (at_end || record->batch_end != scan->batch_end)))
            continue;
        out->gap_end = offset;
        out->gap_sequence = record->sequence;
        out->gap_batch_end = record->batch_end;
        return;
    }
}

/* No record begins where one should. */
static enum scan_result gap(struct scan *scan, struct scan_item *out)
{
    out->sequence = scan->sequence;
    out->batch_end = scan->batch_end;
    find_next(scan, out);
    if (out->gap_end == 0) {
        enum scan_result result = scan->offset == scan->batch_end ? SCAN_END : SCAN_GAP;
        scan->offset = scan->limit;
        return result;
    }
    scan->offset = out->gap_end;
    scan->sequence = out->gap_sequence;
    scan->batch_end = out->gap_batch_end;
    return SCAN_GAP;
}

enum scan_result scan_next(struct scan *scan, struct scan_item *out)
{
    *out = (struct scan_item){.offset = scan->offset};
    if (scan->offset >= scan->limit)
        return SCAN_END;
    const struct record *record = header_at(scan, scan->offset);
    if (record == NULL || !expected(scan, record))
        return gap(scan, out);
    out->header = *record;
    size_t size = record_size(record->payload_len);
    const uint8_t *whole = look(scan, scan->offset, size);
    scan->sequence = out->header.sequence;
    scan->batch_end = out->header.batch_end;
    scan->offset += size;
    if (whole == NULL)
        return SCAN_PAYLOAD_DAMAGED;
    out->payload = whole + RECORD_HEADER;
    if (out->header.kind == RECORD_PAD ||
        crc32c(0, out->payload, out->header.payload_len) == out->header.payload_crc)
        return SCAN_RECORD;
    return SCAN_PAYLOAD_DAMAGED;
}

uint64_t scan_highest(struct scan *scan, const struct segment *segment, uint64_t limit)
{
    uint64_t highest = 0;
    scan_begin(scan, segment, limit);
    for (uint64_t offset = SEGMENT_START; offset + RECORD_HEADER <= scan->limit;) {
        const struct record *record = header_at(scan, offset);
        if (record != NULL && record->sequence > highest)
            highest = record->sequence;
        offset += record != NULL ? record_size(record->payload_len) : RECORD_ALIGN;
    }
    return highest;
}
