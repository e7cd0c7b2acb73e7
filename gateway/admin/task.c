/* The answers of the control socket: see task.h. */
#include "gateway/admin/task.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gateway/admin/census.h"
#include "gateway/admin/filter.h"
#include "gateway/base/clock.h"
#include "gateway/base/id.h"

enum {
    ENVELOPES = 128, /* read in one step */
    IDS = 64,        /* messages acted on by their ids, in one step */
    SHOWN = 10,      /* recipients of a row of a list */
    SHOWN_FULL = 10000,
    HEADER_MAX = 16384,           /* octets of a header that show gives */
    TEXT_MAX = 256,               /* of a request, in the log */
    LOOK_US = 2000,               /* the disk, or main, is waited for in steps of this, */
    DURABLE_US = 2 * 1000 * 1000, /* so long for what was done, and */
    ROOM_US = 10 * 1000 * 1000,   /* so long for room to do more */
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
    bool *seen; /* which of the ids are in the queue */

    /* Of those that change something. */
    struct courier_order *orders; /* TASK_ROWS; what was found and is not done yet */
    uint32_t order_count;
    struct courier_mark mark; /* all is done, and on its way to disk */
    uint64_t due_us;          /* of the next step */
    uint64_t deadline_us;     /* of what is waited for; 0: nothing is */
    uint64_t reload;          /* its number, once it was asked for */
};

struct task *task_new(struct inquiry *inquiry, struct bytes text, uint32_t uid)
{
    struct task *task = calloc(1, sizeof(*task));
    if (task == NULL) {
        inquiry_free(inquiry);
        return NULL;
    }
    task->inquiry = *inquiry;
    task->seen = calloc(inquiry->filter.id_count + 1, sizeof(*task->seen));
    if (inquiry->kind == INQUIRY_SUMMARY)
        task->census = census_new();
    if (inquiry->kind >= INQUIRY_RETRY)
        task->orders = calloc(TASK_ROWS, sizeof(*task->orders));
    if (task->seen == NULL || (inquiry->kind == INQUIRY_SUMMARY && task->census == NULL) ||
        (inquiry->kind >= INQUIRY_RETRY && task->orders == NULL)) {
        task_free(task);
        return NULL;
    }
    task->uid = uid;
    snprintf(task->text, sizeof(task->text), "%.*s",
             (int)(text.len < TEXT_MAX ? text.len : TEXT_MAX), (const char *)text.data);
    task->now_s = clock_wall_us() / 1000000;
    return task;
}

static void forget_order(struct courier_order *order)
{
    free((void *)(uintptr_t)order->recipients);
}

void task_free(struct task *task)
{
    if (task == NULL)
        return;
    census_free(task->census);
    inquiry_free(&task->inquiry);
    for (uint32_t i = 0; i < task->order_count; i++)
        forget_order(&task->orders[i]);
    free(task->orders);
    free(task->seen);
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
                         error == -ESHUTDOWN ? "the gateway is stopping"
                         : error == -EAGAIN  ? "the spool takes nothing: not all of it was done"
                                             : strerror(-error)));
    return false;
}

/* next_rows gets rows of the queue. Returns how many, or -errno. */
static int next_rows(struct task *task, struct task_house *house)
{
    bool envelopes = task->inquiry.kind == INQUIRY_LIST || task->inquiry.kind == INQUIRY_SHOW ||
                     filter_needs_envelope(&task->inquiry.filter);
    int count =
        courier_list(house->courier, &task->cursor, house->rows, envelopes ? ENVELOPES : TASK_ROWS);
    for (int i = 0; i < count; i++)
        task->seen[filter_id(&task->inquiry.filter, house->rows[i].message.message_id)] = true;
    return count;
}

/* trouble tells of a message that was named. */
static void trouble(struct output *output, uint64_t id, const char *what)
{
    output_add(output, json_pack("{s:o, s:s}", "id", id_of(id), "trouble", what));
}

/* tell_missing tells of the ids that were in no row, once the whole queue was looked at. */
static void tell_missing(struct task *task, struct output *output)
{
    const struct inquiry_filter *filter = &task->inquiry.filter;
    for (size_t i = 0; i < filter->id_count; i++) {
        if (task->seen[i])
            continue;
        task->missing++;
        trouble(output, filter->ids[i], "missing");
    }
}

/* matches says whether a row is meant, and opens its envelope when that was needed or `envelope` is
 * wanted. */
static bool matches(const struct task *task, struct task_house *house, struct courier_row *row,
                    bool envelope, struct filter_view *view)
{
    const struct inquiry_filter *filter = &task->inquiry.filter;
    *view = (struct filter_view){.row = row};
    if (!filter_row(filter, row, task->now_s))
        return false;
    if (!envelope && !filter_needs_envelope(filter))
        return true;
    filter_open(view, row,
                &(struct filter_source){house->courier, house->routes, house->spool, &house->reader,
                                        house->marks});
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
    if (view->readable && object != NULL)
        output_terms(object, &view->envelope.terms);
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
    bool more = looked < count || task->cursor != UINT64_MAX;
    if (!more)
        tell_missing(task, output);
    output_add(output, json_pack("{s:b, s:I, s:b, s:I}", "end", 1, "rows", (json_int_t)task->rows,
                                 "more", more, "missing", (json_int_t)task->missing));
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
    tell_missing(task, output);
    output_add(output, json_pack("{s:b, s:I, s:I, s:I}", "end", 1, "rows", (json_int_t)task->rows,
                                 "recipients", (json_int_t)task->recipients, "missing",
                                 (json_int_t)task->missing));
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
        struct courier_row *row = &house->rows[i];
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
    if (result != -EAGAIN)
        task->deadline_us = 0;
}

static void log_acts(const struct task *task, struct task_house *house)
{
    struct log_line line = log_begin(house->log, LOG_INFO, "control");
    log_string(&line, "action", action_name(task->inquiry.kind));
    log_string(&line, "request", task->text);
    log_number(&line, "rows", task->rows);
    log_number(&line, "recipients", task->recipients);
    log_number(&line, "busy", task->busy);
    log_number(&line, "uid", task->uid);
    log_end(&line);
}

static bool end_acts(struct task *task, struct task_house *house, bool durable,
                     struct output *output)
{
    log_acts(task, house);
    output_add(output,
               json_pack("{s:b, s:I, s:I, s:I, s:I, s:b}", "end", 1, "rows", (json_int_t)task->rows,
                         "recipients", (json_int_t)task->recipients, "busy", (json_int_t)task->busy,
                         "missing", (json_int_t)task->missing, "durable", durable));
    return false;
}

/* What was done before it failed is done. */
static bool fail_acts(struct task *task, struct task_house *house, int error, struct output *output)
{
    if (task->rows > 0)
        log_acts(task, house);
    return failed(output, error);
}

static bool only_ids(const struct inquiry_filter *filter)
{
    return filter->id_count > 0 && !filter_needs_envelope(filter) && filter->reason == NULL &&
           filter->destination == NULL && filter->older_s == 0 && filter->state == 0;
}

/* Messages named by nothing but their ids need no look at the queue. Returns 0, -EAGAIN: the disk
 * must be waited for, or -errno. */
static int act_on_ids(struct task *task, struct task_house *house, struct output *output)
{
    const struct inquiry_filter *filter = &task->inquiry.filter;
    for (unsigned i = 0; i < IDS && task->cursor < filter->id_count; i++) {
        uint64_t id = filter->ids[task->cursor];
        int result = courier_act(house->courier, action_of(task->inquiry.kind), id, NULL, 0);
        if (result < 0 && result != -ENOENT && result != -EBUSY)
            return result;
        task->cursor++;
        acted(task, result);
        if (result < 0)
            trouble(output, id, result == -EBUSY ? "busy" : "missing");
    }
    if (task->cursor == filter->id_count)
        task->cursor = UINT64_MAX;
    return 0;
}

static bool choose(void *user, uint32_t index, struct bytes forward_path)
{
    struct courier_order *order = user;
    uint32_t *recipients = (uint32_t *)(uintptr_t)order->recipients;
    (void)forward_path;
    recipients[order->recipient_count++] = index;
    return true;
}

/* Of a consignment for several domains, those in another one than was said must stay. */
static bool choose_some(const struct inquiry_filter *filter, const struct filter_view *view,
                        struct courier_order *order)
{
    order->recipients = calloc(view->envelope.recipient_count, sizeof(uint32_t));
    if (order->recipients == NULL)
        return false;
    filter_recipients(filter, view, choose, order);
    return true;
}

/* find_orders looks at some rows, and makes orders of those that are meant. Returns 0 or -errno. */
static int find_orders(struct task *task, struct task_house *house)
{
    const struct inquiry_filter *filter = &task->inquiry.filter;
    struct filter_view view;
    int count = next_rows(task, house);
    for (int i = 0; i < count; i++) {
        struct courier_row *row = &house->rows[i];
        if (!matches(task, house, row, false, &view))
            continue;
        struct courier_order *order = &task->orders[task->order_count++];
        *order = (struct courier_order){
            .message_id = row->message.message_id, .place = row->place, .first = row->first};
        if (task->inquiry.kind == INQUIRY_REMOVE && filter->domain != NULL &&
            !choose_some(filter, &view, order))
            return -ENOMEM;
    }
    return count < 0 ? count : 0;
}

/* carry_out does what can be done of the orders, and keeps the others. Returns 0, -EAGAIN: there
 * are some, or -errno. */
static int carry_out(struct task *task, struct task_house *house)
{
    uint32_t kept = 0;
    if (task->order_count == 0)
        return 0;
    int error = courier_act_many(house->courier, action_of(task->inquiry.kind), task->orders,
                                 task->order_count);
    if (error != 0)
        return error;
    for (uint32_t i = 0; i < task->order_count; i++) {
        struct courier_order order = task->orders[i];
        acted(task, order.result);
        if (order.result == -EAGAIN)
            task->orders[kept++] = order;
        else
            forget_order(&order);
    }
    task->order_count = kept;
    return kept > 0 ? -EAGAIN : 0;
}

/* wait_for_disk puts the next step off. False: that has been going on for too long. */
static bool wait_for_disk(struct task *task, uint64_t patience_us)
{
    uint64_t now_us = clock_monotonic_us();
    if (task->deadline_us == 0)
        task->deadline_us = now_us + patience_us;
    task->due_us = now_us + LOOK_US;
    return now_us < task->deadline_us;
}

/* What an answer says to be done stays done after a crash, or the answer says otherwise. */
static bool step_durable(struct task *task, struct task_house *house, struct output *output)
{
    int written = task->inquiry.kind == INQUIRY_RETRY || task->rows == 0
                      ? 1
                      : courier_written(house->courier, &task->mark);
    if (written < 0)
        return fail_acts(task, house, written, output);
    return (written == 0 && wait_for_disk(task, DURABLE_US)) ||
           end_acts(task, house, written == 1, output);
}

static bool step_act(struct task *task, struct task_house *house, struct output *output)
{
    if (task->mark.set)
        return step_durable(task, house, output);
    int error = 0;
    if (task->order_count == 0 && task->cursor != UINT64_MAX)
        error = only_ids(&task->inquiry.filter) ? act_on_ids(task, house, output)
                                                : find_orders(task, house);
    if (error == 0)
        error = carry_out(task, house);
    if (error == -EAGAIN && wait_for_disk(task, ROOM_US))
        return true;
    if (error != 0)
        return fail_acts(task, house, error, output);
    if (task->cursor != UINT64_MAX)
        return true;
    if (!only_ids(&task->inquiry.filter))
        tell_missing(task, output);
    task->deadline_us = 0;
    return step_durable(task, house, output);
}

/* --- what main is asked for --- */

static bool step_order(struct task *task, struct task_house *house, struct output *output)
{
    if (house->orders == NULL) {
        output_add(output, json_pack("{s:s}", "error", "there is nobody to do it"));
        return false;
    }
    if (task->reload == 0) {
        struct log_line line = log_begin(house->log, LOG_INFO, "control");
        log_string(&line, "action", task->inquiry.kind == INQUIRY_DRAIN ? "drain" : "reload");
        log_number(&line, "uid", task->uid);
        log_end(&line);
    }
    if (task->inquiry.kind == INQUIRY_DRAIN) {
        orders_drain(house->orders);
        output_add(output, json_pack("{s:b, s:i}", "end", 1, "pid", (int)getpid()));
        return false;
    }
    if (task->reload == 0)
        task->reload = orders_reload(house->orders);
    task->due_us = clock_monotonic_us() + LOOK_US;
    return !orders_reloaded(house->orders, task->reload, output);
}

uint64_t task_due_us(const struct task *task)
{
    return task->due_us;
}

bool task_step(struct task *task, struct task_house *house, struct output *output)
{
    switch (task->inquiry.kind) {
    case INQUIRY_LIST:
    case INQUIRY_SHOW: return step_list(task, house, output);
    case INQUIRY_SUMMARY: return step_summary(task, house, output);
    case INQUIRY_DESTINATIONS: return step_destinations(task, house, output);
    case INQUIRY_STATUS: return step_status(house, output);
    case INQUIRY_DRAIN:
    case INQUIRY_RELOAD: return step_order(task, house, output);
    default: return step_act(task, house, output);
    }
}
