/* Does a row of the queue belong to what a request means? And which recipients are in it? Looks at
 * the row first, and reads the envelope only when that is needed. */
#ifndef GATEWAY_ADMIN_FILTER_H
#define GATEWAY_ADMIN_FILTER_H

#include "gateway/admin/inquiry.h"
#include "gateway/deliver/courier_queue.h"
#include "gateway/spool/reader.h"

/* A row and its envelope. */
struct filter_view {
    const struct courier_row *row; /* borrowed */
    const struct routes *routes;   /* borrowed */
    bool readable;                 /* `envelope` and `form` are there */
    struct envelope envelope;      /* borrows from the reader */
    struct bytes form;
    const uint8_t *done; /* marks of the finished recipients; NULL: there are none */
};

/* Where envelopes come from; all borrowed. `marks` is valid until the next one is opened. */
struct filter_source {
    struct courier *courier;
    const struct routes *routes;
    struct spool *spool;
    struct spool_reader *reader;
    uint8_t *marks; /* COURIER_MARKS_SIZE octets */
};

/* filter_row says whether a row may belong, from what stands in it. `now_s`: Unix time. */
bool filter_row(const struct inquiry_filter *filter, const struct courier_row *row, uint64_t now_s);

/* filter_id returns the place of an id among those of a filter; id_count: it is none of them. */
size_t filter_id(const struct inquiry_filter *filter, uint64_t id);

/* filter_needs_envelope: has the filter a word about sender or recipients? */
bool filter_needs_envelope(const struct inquiry_filter *filter);

/* filter_open reads the envelope of a row, and who of many recipients is finished, which brings the
 * counts of the row up to date. It may be gone meanwhile: then nothing is readable. */
void filter_open(struct filter_view *view, struct courier_row *row,
                 const struct filter_source *source);

/* filter_envelope says whether sender and recipients fit, too. */
bool filter_envelope(const struct inquiry_filter *filter, const struct filter_view *view);

/* filter_recipients calls `each` for each open recipient of the row (with a domain in the filter,
 * for those in it) until it returns false, and returns how many times it was called. */
uint32_t filter_recipients(const struct inquiry_filter *filter, const struct filter_view *view,
                           bool (*each)(void *user, uint32_t index, struct bytes forward_path),
                           void *user);

#endif
