/* Rows and envelopes against a filter: see filter.h. */
#include "gateway/admin/filter.h"

#include <stdlib.h>
#include <string.h>

#include "gateway/deliver/consign.h"

static int compare_ids(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

size_t filter_id(const struct inquiry_filter *filter, uint64_t id)
{
    const uint64_t *found = filter->id_count == 0 ? NULL
                                                  : bsearch(&id, filter->ids, filter->id_count,
                                                            sizeof(id), compare_ids);
    return found == NULL ? filter->id_count : (size_t)(found - filter->ids);
}

bool filter_row(const struct inquiry_filter *filter, const struct courier_row *row, uint64_t now_s)
{
    if (filter->id_count > 0 && filter_id(filter, row->message.message_id) == filter->id_count)
        return false;
    if (filter->state != 0 && filter->state != row->state)
        return false;
    if (filter->older_s > 0 && row->message.arrival_s + filter->older_s > now_s)
        return false;
    if (filter->reason != NULL && strcasestr(row->reason, filter->reason) == NULL)
        return false;
    return filter->destination == NULL || strcasecmp(row->destination, filter->destination) == 0;
}

bool filter_needs_envelope(const struct inquiry_filter *filter)
{
    return filter->domain != NULL || filter->sender != NULL;
}

/* Who is finished stands in the row itself for up to 64 recipients. */
static bool read_marks(struct filter_view *view, struct courier_row *row,
                       const struct filter_source *source)
{
    view->done = NULL;
    if (row->message.recipient_count <= 64) {
        view->done = (const uint8_t *)&row->finished;
        return true;
    }
    if (row->open_count == row->message.recipient_count)
        return true;
    view->done = source->marks;
    return courier_marks(source->courier, row, source->marks) == 0;
}

void filter_open(struct filter_view *view, struct courier_row *row,
                 const struct filter_source *source)
{
    *view = (struct filter_view){.row = row, .routes = source->routes};
    view->readable = read_marks(view, row, source) &&
                     spool_read(source->spool, &row->message, source->reader, &view->envelope) == 0;
    if (view->readable)
        view->form = spool_read_form(source->reader);
}

static bool is_sender(struct bytes wanted, struct bytes reverse_path)
{
    if (bytes_equal(wanted, BYTES("<>")))
        return reverse_path.len == 0;
    if (wanted.len > 0 && wanted.data[0] == '@') {
        if (reverse_path.len < wanted.len)
            return false;
        reverse_path = bytes_skip(reverse_path, reverse_path.len - wanted.len);
    }
    return bytes_equal_nocase(wanted, reverse_path);
}

bool filter_envelope(const struct inquiry_filter *filter, const struct filter_view *view)
{
    if (!view->readable)
        return !filter_needs_envelope(filter);
    if (filter->sender != NULL &&
        !is_sender(bytes_of_string(filter->sender), view->envelope.reverse_path))
        return false;
    return filter->domain == NULL || filter_recipients(filter, view, NULL, NULL) > 0;
}

uint32_t filter_recipients(const struct inquiry_filter *filter, const struct filter_view *view,
                           bool (*each)(void *user, uint32_t index, struct bytes forward_path),
                           void *user)
{
    struct consign_walk walk;
    uint32_t count = 0;
    bool more = view->readable;
    if (view->readable)
        consign_walk_begin(&walk, view->routes, view->form, view->envelope.recipient_count,
                           view->done, view->row->first, view->row->recipient_count);
    while (more && consign_walk_next(&walk)) {
        struct bytes path = walk.recipient.forward_path;
        if (filter->domain != NULL &&
            !bytes_equal_nocase(route_mailbox_domain(path), bytes_of_string(filter->domain)))
            continue;
        count++;
        more = each == NULL || each(user, walk.index, path);
    }
    return count;
}
