/* The answers of the control socket: see task.h. */
#include "gateway/admin/task.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/admin/census.h"
#include "gateway/admin/filter.h"
#include "gateway/base/clock.h"
#include "gateway/base/id.h"

enum {
    ENVELOPES = 128, /* read in one step */
    IDS = 64,        /* messages acted on by their ids, in one step */
    SHOWN = 10,      /* recipients of a row of a list */
    SHOWN_FULL = 10000,
    HEADER_MAX = 16384, /* octets of a header that show gives */
    TEXT_MAX = 256,     /* of a request, in the log */
};

struct task {
    struct inquiry inquiry;
    uint32_t uid;
    char text[TEXT_MAX]; /* of the request */
    uint64_t now_s;      /* when it began: what "older" is measured by */
    uint64_t cursor;     /* of the courier, or an index */
    struct census *census;
    bool counted; /* summary: the whole queue was looked at */
    uint64_t rows, recipients, busy, missing;
};

struct task *task_new(struct inquiry *inquiry, struct bytes text, uint32_t uid)
{
    struct task *task = calloc(1, sizeof(*task));
    if (task != NULL && inquiry->kind == INQUIRY_SUMMARY)
        task->census = census_new();
    if (task == NULL || (inquiry->kind == INQUIRY_SUMMARY && task->census == NULL)) {
        free(task);
        inquiry_free(inquiry);
        return NULL;
    }
    task->inquiry = *inquiry;
    task->uid = uid;
    snprintf(task->text, sizeof(task->text), "%.*s",
             (int)(text.len < TEXT_MAX ? text.len : TEXT_MAX), (const char *)text.data);
    task->now_s = clock_wall_us() / 1000000;
    return task;
}

void task_free(struct task *task)
{
    if (task == NULL)
        return;
    census_free(task->census);
    inquiry_free(&task->inquiry);
    free(task);
}

/* --- pieces of answers --- */

static json_t *text_of(const char *text)
{
    return output_text(bytes_of_string(text));
}

static json_t *time_of(uint64_t time_s)
{
    return time_s == 0 || time_s > INT64_MAX ? json_null() : json_integer((json_int_t)time_s);
}

static json_t *id_of(uint64_t id)
{
    char text[ID_TEXT_LEN + 1];
    id_format(id, text);
    return json_string(text);
}

/* failed ends an answer with an error. */
static bool failed(struct output *output, int error)
{
    output_add(output,
               json_pack("{s:s}", "error",
                         error == -ESHUTDOWN ? "the gateway is stopping" : strerror(-error)));
    return false;
}

/* next_rows gets rows of the queue. Returns how many, or -errno. */
static int next_rows(struct task *task, struct task_house *house)
{
    bool envelopes = task->inquiry.kind == INQUIRY_LIST || task->inquiry.kind == INQUIRY_SHOW ||
                     filter_needs_envelope(&task->inquiry.filter);
    return courier_list(house->courier, &task->cursor, house->rows,
                        envelopes ? ENVELOPES : TASK_ROWS);
}

/* matches says whether a row is meant, and opens its envelope when that was needed or `envelope` is
 * wanted. */
static bool matches(const struct task *task, struct task_house *house,
                    const struct courier_row *row, bool envelope, struct filter_view *view)
{
    const struct inquiry_filter *filter = &task->inquiry.filter;
    *view = (struct filter_view){.row = row};
    if (!filter_row(filter, row, task->now_s))
        return false;
    if (!envelope && !filter_needs_envelope(filter))
        return true;
    filter_open(view, row, house->routes, house->spool, &house->reader);
    return filter_envelope(filter, view);
}

static uint64_t recipients_of(const struct courier_row *row)
{
    return row->recipient_count > 0 ? row->recipient_count : row->open_count;
}

/* --- list and show --- */

struct shown {
    json_t *list;
    size_t max;
};

static bool add_recipient(void *user, uint32_t index, struct bytes forward_path)
{
    struct shown *shown = user;
    (void)index;
    json_array_append_new(shown->list, output_text(forward_path));
    return json_array_size(shown->list) < shown->max;
}

/* header_of returns the header of the message that the reader has open, as far as it is shown. */
static json_t *header_of(struct spool_reader *reader, struct bytes added)
{
    char text[HEADER_MAX];
    size_t len = added.len < sizeof(text) ? added.len : sizeof(text);
    struct bytes piece;
    const char *end = NULL;
    memcpy(text, added.data, len);
    while (end == NULL && len < sizeof(text) && spool_read_next(reader, &piece) == 0 &&
           piece.len > 0) {
        size_t take = piece.len < sizeof(text) - len ? piece.len : sizeof(text) - len;
        memcpy(text + len, piece.data, take);
        len += take;
        end = memmem(text, len, "\r\n\r\n", 4);
    }
    return output_text(bytes_make(text, end != NULL ? (size_t)(end - text) + 2 : len));
}

static void add_row(struct task_house *house, const struct filter_view *view, bool full,
                    struct output *output)
{
    static const struct inquiry_filter any;
    const struct courier_row *row = view->row;
    struct shown shown = {json_array(), full ? SHOWN_FULL : SHOWN};
    filter_recipients(&any, view, add_recipient, &shown);
    json_t *object = json_pack(
        "{s:o, s:o, s:o, s:I, s:I, s:o, s:s, s:i, s:o, s:o, s:o}", "id",
        id_of(row->message.message_id), "from",
        view->readable ? output_text(view->envelope.reverse_path) : json_null(), "to", shown.list,
        "recipients", (json_int_t)recipients_of(row), "size", (json_int_t)row->message.text_len,
        "arrived", time_of(row->message.arrival_s), "state", inquiry_state_name(row->state),
        "attempts", row->attempts, "next", time_of(row->next_s), "destination",
        text_of(row->destination), "reason", text_of(row->reason));
    if (full && view->readable && object != NULL) {
        json_object_set_new(object, "envid", output_text(view->envelope.envid));
        json_object_set_new(object, "header", header_of(&house->reader, view->envelope.added));
    }
    output_add(output, object);
}

static bool step_list(struct task *task, struct task_house *house, struct output *output)
{
    bool full = task->inquiry.kind == INQUIRY_SHOW;
    struct filter_view view;
    int count = next_rows(task, house);
    if (count < 0)
        return failed(output, count);
    int looked = 0;
    for (; looked < count && task->rows < task->inquiry.limit; looked++) {
        if (!matches(task, house, &house->rows[looked], true, &view))
            continue;
        add_row(house, &view, full, output);
        task->rows++;
    }
    if (task->cursor != UINT64_MAX && task->rows < task->inquiry.limit)
        return true;
    output_add(output, json_pack("{s:b, s:I, s:b}", "end", 1, "rows", (json_int_t)task->rows,
                                 "more", looked < count || task->cursor != UINT64_MAX));
    return false;
}

/* --- summary, destinations, status --- */

static void add_group(const struct census_group *group, struct output *output)
{
    output_add(output,
               json_pack("{s:o, s:s, s:o, s:I, s:I, s:I, s:o}", "destination",
                         text_of(group->destination), "state", inquiry_state_name(group->state),
                         "reason", text_of(group->reason), "rows", (json_int_t)group->rows,
                         "recipients", (json_int_t)group->recipients, "octets",
                         (json_int_t)group->octets, "oldest", time_of(group->oldest_s)));
}

static bool step_groups(struct task *task, struct output *output)
{
    const struct census_group *group = NULL;
    for (unsigned i = 0; i < TASK_ROWS; i++) {
        group = census_at(task->census, task->cursor++);
        if (group == NULL)
            break;
        add_group(group, output);
    }
    if (group != NULL)
        return true;
    output_add(output, json_pack("{s:b, s:I, s:I}", "end", 1, "rows", (json_int_t)task->rows,
                                 "recipients", (json_int_t)task->recipients));
    return false;
}

static bool step_summary(struct task *task, struct task_house *house, struct output *output)
{
    struct filter_view view;
    if (task->counted)
        return step_groups(task, output);
    int count = next_rows(task, house);
    if (count < 0)
        return failed(output, count);
    for (int i = 0; i < count; i++) {
        const struct courier_row *row = &house->rows[i];
        if (!matches(task, house, row, false, &view))
            continue;
        uint64_t recipients = task->inquiry.filter.domain == NULL
                                  ? recipients_of(row)
                                  : filter_recipients(&task->inquiry.filter, &view, NULL, NULL);
        if (!census_add(task->census, row, recipients))
            return failed(output, -ENOMEM);
        task->rows++;
        task->recipients += recipients;
    }
    if (task->cursor == UINT64_MAX) {
        task->counted = true;
        task->cursor = 0;
        census_sort(task->census);
    }
    return true;
}

static bool step_destinations(struct task *task, struct task_house *house, struct output *output)
{
    static const char *const states[] = {"idle", "busy", "dead", "refused"};
    enum { STATES = sizeof(states) / sizeof(states[0]) };
    int count = courier_destinations(house->courier, &task->cursor, house->destinations,
                                     sizeof(house->destinations) / sizeof(house->destinations[0]));
    if (count < 0)
        return failed(output, count);
    for (int i = 0; i < count; i++) {
        const struct courier_destination *row = &house->destinations[i];
        output_add(output,
                   json_pack("{s:o, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:o, s:o}", "destination",
                             text_of(row->name), "state",
                             row->state < STATES ? states[row->state] : "", "queued",
                             (json_int_t)row->queued, "connections", (json_int_t)row->connections,
                             "busy", (json_int_t)row->busy, "delivered", (json_int_t)row->delivered,
                             "deferred", (json_int_t)row->deferred, "refused",
                             (json_int_t)row->refused, "retry", time_of(row->retry_s), "reason",
                             text_of(row->reason)));
    }
    task->rows += (uint64_t)count;
    if (task->cursor != UINT64_MAX)
        return true;
    output_add(output, json_pack("{s:b, s:I}", "end", 1, "rows", (json_int_t)task->rows));
    return false;
}

static bool step_status(struct task_house *house, struct output *output)
{
    struct courier_snapshot now;
    courier_snapshot(house->courier, &now);
    output_add(output,
               json_pack("{s:b, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "end", 1, "version",
                         RINGMX_VERSION, "queued", (json_int_t)now.queued, "held",
                         (json_int_t)now.held, "delivered", (json_int_t)now.delivered, "deferred",
                         (json_int_t)now.deferred, "refused", (json_int_t)now.refused, "bounces",
                         (json_int_t)now.bounces, "connections", (json_int_t)now.connections,
                         "duplicates_possible", (json_int_t)now.duplicates_possible));
    return false;
}

/* --- retry, hold, release, remove: who changed something is written down; what was removed, the
 * courier writes --- */

static const char *action_name(enum inquiry_kind kind)
{
    switch (kind) {
    case INQUIRY_RETRY: return "retry";
    case INQUIRY_HOLD: return "hold";
    case INQUIRY_RELEASE: return "release";
    default: return "remove";
    }
}

static enum courier_action action_of(enum inquiry_kind kind)
{
    switch (kind) {
    case INQUIRY_RETRY: return COURIER_RETRY;
    case INQUIRY_HOLD: return COURIER_HOLD;
    case INQUIRY_RELEASE: return COURIER_RELEASE;
    default: return COURIER_REMOVE;
    }
}

/* acted counts what became of one consignment or message. */
static void acted(struct task *task, int result)
{
    task->busy += result == -EBUSY;
    task->missing += result == -ENOENT;
    task->rows += result > 0;
    task->recipients += result > 0 ? (uint64_t)result : 0;
}

static bool end_acts(struct task *task, struct task_house *house, struct output *output)
{
    struct log_line line = log_begin(house->log, LOG_INFO, "control");
    log_string(&line, "action", action_name(task->inquiry.kind));
    log_string(&line, "request", task->text);
    log_number(&line, "rows", task->rows);
    log_number(&line, "recipients", task->recipients);
    log_number(&line, "busy", task->busy);
    log_number(&line, "uid", task->uid);
    log_end(&line);
    output_add(output,
               json_pack("{s:b, s:I, s:I, s:I, s:I}", "end", 1, "rows", (json_int_t)task->rows,
                         "recipients", (json_int_t)task->recipients, "busy", (json_int_t)task->busy,
                         "missing", (json_int_t)task->missing));
    return false;
}

static bool only_ids(const struct inquiry_filter *filter)
{
    return filter->id_count > 0 && !filter_needs_envelope(filter) && filter->reason == NULL &&
           filter->destination == NULL && filter->older_s == 0 && filter->state == 0;
}

/* Messages named by nothing but their ids need no look at the queue. */
static bool step_ids(struct task *task, struct task_house *house, struct output *output)
{
    const struct inquiry_filter *filter = &task->inquiry.filter;
    for (unsigned i = 0; i < IDS && task->cursor < filter->id_count; i++) {
        uint64_t id = filter->ids[task->cursor++];
        int result = courier_act(house->courier, action_of(task->inquiry.kind), id, NULL, 0);
        if (result < 0 && result != -ENOENT && result != -EBUSY)
            return failed(output, result);
        acted(task, result);
        if (result < 0)
            output_add(output, json_pack("{s:o, s:s}", "id", id_of(id), "trouble",
                                         result == -EBUSY ? "busy" : "missing"));
    }
    return task->cursor < filter->id_count || end_acts(task, house, output);
}

struct chosen {
    uint32_t *indexes;
    uint32_t count;
};

static bool choose(void *user, uint32_t index, struct bytes forward_path)
{
    struct chosen *chosen = user;
    (void)forward_path;
    chosen->indexes[chosen->count++] = index;
    return true;
}

/* Of a consignment for several domains, those in another one than was said must stay. */
static int remove_some(struct task_house *house, const struct filter_view *view,
                       const struct inquiry_filter *filter)
{
    struct chosen chosen = {calloc(view->envelope.recipient_count, sizeof(uint32_t)), 0};
    if (chosen.indexes == NULL)
        return -ENOMEM;
    filter_recipients(filter, view, choose, &chosen);
    int result = courier_act(house->courier, COURIER_REMOVE, view->row->message.message_id,
                             chosen.indexes, chosen.count);
    free(chosen.indexes);
    return result;
}

static bool step_act(struct task *task, struct task_house *house, struct output *output)
{
    const struct inquiry_filter *filter = &task->inquiry.filter;
    struct filter_view view;
    uint32_t orders = 0;
    if (only_ids(filter))
        return step_ids(task, house, output);
    int count = next_rows(task, house);
    for (int i = 0; i < count; i++) {
        const struct courier_row *row = &house->rows[i];
        if (!matches(task, house, row, false, &view))
            continue;
        if (task->inquiry.kind == INQUIRY_REMOVE && filter->domain != NULL)
            acted(task, remove_some(house, &view, filter));
        else
            house->orders[orders++] =
                (struct courier_order){row->message.message_id, row->place, row->first, 0};
    }
    if (count >= 0 && orders > 0) {
        int result =
            courier_act_many(house->courier, action_of(task->inquiry.kind), house->orders, orders);
        count = result < 0 ? result : count;
        for (uint32_t i = 0; i < orders && result == 0; i++)
            acted(task, house->orders[i].result);
    }
    if (count < 0)
        return failed(output, count);
    return task->cursor != UINT64_MAX || end_acts(task, house, output);
}

bool task_step(struct task *task, struct task_house *house, struct output *output)
{
    switch (task->inquiry.kind) {
    case INQUIRY_LIST:
    case INQUIRY_SHOW: return step_list(task, house, output);
    case INQUIRY_SUMMARY: return step_summary(task, house, output);
    case INQUIRY_DESTINATIONS: return step_destinations(task, house, output);
    case INQUIRY_STATUS: return step_status(house, output);
    default: return step_act(task, house, output);
    }
}
