/* Does a row of the queue belong to what a request means? And which recipients are in it? Looks at
 * the row first, and reads the envelope only when that is needed. */
#ifndef GATEWAY_ADMIN_FILTER_H
#define GATEWAY_ADMIN_FILTER_H

#include "gateway/admin/inquiry.h"
#include "gateway/deliver/courier.h"
#include "gateway/spool/reader.h"

/* A row and its envelope. */
struct filter_view {
    const struct courier_row *row; /* borrowed */
    const struct routes *routes;   /* borrowed */
    bool readable;                 /* `envelope` and `form` are there */
    struct envelope envelope;      /* borrows from the reader */
    struct bytes form;
};

/* filter_row says whether a row may belong, from what stands in it. `now_s`: Unix time. */
bool filter_row(const struct inquiry_filter *filter, const struct courier_row *row, uint64_t now_s);

/* filter_needs_envelope: has the filter a word about sender or recipients? */
bool filter_needs_envelope(const struct inquiry_filter *filter);

/* filter_open reads the envelope of a row; it may be gone meanwhile: then nothing is readable. */
void filter_open(struct filter_view *view, const struct courier_row *row,
                 const struct routes *routes, struct spool *spool, struct spool_reader *reader);

/* filter_envelope says whether sender and recipients fit, too. */
bool filter_envelope(const struct inquiry_filter *filter, const struct filter_view *view);

/* filter_recipients calls `each` for each open recipient of the row (with a domain in the filter,
 * for those in it) until it returns false, and returns how many times it was called. */
uint32_t filter_recipients(const struct inquiry_filter *filter, const struct filter_view *view,
                           bool (*each)(void *user, uint32_t index, struct bytes forward_path),
                           void *user);

#endif
