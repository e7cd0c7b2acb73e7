/* A batch is filled in the courier's thread, then belongs to a helper, and comes back with a result
 * for each recipient. The helper knows nothing of the queue: what it needs of it was copied. */
#include "gateway/deliver/store.h"

#include <errno.h>
#include <stdlib.h>

#include "gateway/base/check.h"
#include "gateway/deliver/consign.h"
#include "gateway/deliver/maildir.h"

enum {
    BATCHES = 4,
    BATCHES_MAX = 64,
    ENTRIES = MAILDIR_FILES,        /* consignments in a batch */
    BATCH_OCTETS = 8 * 1024 * 1024, /* text in a batch of files, after which it is closed */
    MAILBOX_MAX = 320,              /* of it are kept for the log */
    HEAD_SIZE = 4096, /* header fields in front of a text that go out in one write with it */
    RESULTS_KEPT = 4096,
};

struct entry {
    struct consignment *consignment;
    struct spool_message message;
    uint32_t first, count; /* as in the consignment */
    uint8_t *done;         /* a copy of the marks; NULL: none */
    uint64_t arrival_us;
    int error;
    uint32_t result_first, result_count;
};

struct batch {
    struct helper_job job; /* first */
    struct store *store;
    bool out;              /* a helper has it */
    struct routes *routes; /* a claim to those its consignments were sorted by; NULL: at rest */
    struct maildir *maildir;
    struct spool_reader reader;
    struct folder folder;
    uint64_t octets;
    uint32_t entry_count, recipient_count;
    struct entry entries[ENTRIES];
    struct store_result *results; /* recipient_count at least, as of these: */
    uint32_t *recipients;
    uint8_t (*mailboxes)[MAILBOX_MAX];
    uint32_t result_count, result_max;
    uint32_t file_count; /* in the present batch of files, and which result each is */
    uint32_t files[MAILDIR_FILES];
};

struct store {
    struct store_options options;
    uint32_t out_count, batch_count;
    struct batch *filling; /* NULL: none is begun */
    struct batch *batches[BATCHES_MAX];
};

/* Text on its way from the spool into files. */
struct pour {
    struct maildir *maildir;
    uint32_t first;
    size_t head_len; /* header fields not written yet */
    uint8_t head[HEAD_SIZE];
};

static void work(struct helper_job *job);
static void report(struct helper_job *job);
static void store_message(struct batch *batch, struct entry *entry);
static bool add_file(struct batch *batch, struct entry *entry, const struct consign_walk *walk);
static void pour_text(struct batch *batch, const struct envelope *envelope, uint32_t first);
static int pour_piece(void *user, struct bytes text);
static void commit(struct batch *batch);
static bool grow(struct batch *batch, uint32_t wanted);

/* --- in the courier's thread --- */

static struct batch *batch_new(struct store *store)
{
    struct batch *batch = calloc(1, sizeof *batch);
    if (batch == NULL)
        return NULL;
    batch->store = store;
    batch->job = (struct helper_job){.run = work, .done = report, .worker = store->options.worker};
    batch->maildir = maildir_new(store->options.hostname);
    if (batch->maildir == NULL) {
        free(batch);
        return NULL;
    }
    return batch;
}

static void batch_free(struct batch *batch)
{
    spool_read_close(&batch->reader);
    maildir_free(batch->maildir);
    free(batch->results);
    free(batch->recipients);
    free(batch->mailboxes);
    free(batch);
}

struct store *store_new(const struct store_options *options)
{
    struct store *store = calloc(1, sizeof *store);
    if (store == NULL)
        return NULL;
    store->options = *options;
    uint32_t wanted = options->batches_max == 0 ? BATCHES : options->batches_max;
    CHECK(wanted <= BATCHES_MAX);
    while (store->batch_count < wanted) {
        struct batch *batch = batch_new(store);
        if (batch == NULL) {
            store_free(store);
            return NULL;
        }
        store->batches[store->batch_count++] = batch;
    }
    return store;
}

void store_free(struct store *store)
{
    if (store == NULL)
        return;
    CHECK(store_at_rest(store));
    for (uint32_t i = 0; i < store->batch_count; i++)
        batch_free(store->batches[i]);
    free(store);
}

bool store_at_rest(const struct store *store)
{
    return store->out_count == 0 && store->filling == NULL;
}

/* A batch that is full is not asked for more; one message may have more recipients than a batch of
 * files, and then is alone or last. */
static bool full(const struct batch *batch)
{
    return batch->entry_count == ENTRIES || batch->recipient_count >= MAILDIR_FILES ||
           batch->octets >= BATCH_OCTETS;
}

bool store_room(const struct store *store)
{
    return (store->filling != NULL && !full(store->filling)) ||
           store->out_count + (store->filling != NULL) < store->batch_count;
}

static struct batch *begin(struct store *store)
{
    uint32_t i = 0;
    while (i < store->batch_count && store->batches[i]->out)
        i++;
    CHECK(i < store->batch_count);
    struct batch *batch = store->batches[i];
    batch->entry_count = batch->recipient_count = batch->result_count = 0;
    batch->octets = 0;
    return batch;
}

bool store_add(struct store *store, struct consignment *consignment, const struct routes *routes)
{
    const struct queue_message *message = consignment->message;
    const uint8_t *marks = queue_finished_map(message);
    uint32_t count = consignment->recipient_count;
    uint8_t *done = NULL;

    CHECK(store_room(store) && count > 0);
    if (store->filling != NULL && full(store->filling))
        store_flush(store);
    struct batch *batch = store->filling != NULL ? store->filling : begin(store);
    if (!grow(batch, batch->recipient_count + count))
        return false;
    if (marks != NULL) {
        size_t size = ((size_t)message->spool.recipient_count + 7) / 8;
        done = malloc(size);
        if (done == NULL)
            return false;
        memcpy(done, marks, size);
    }
    batch->entries[batch->entry_count++] = (struct entry){.consignment = consignment,
                                                          .message = message->spool,
                                                          .first = consignment->first,
                                                          .count = count,
                                                          .done = done};
    batch->recipient_count += count;
    batch->octets += message->spool.text_len * count;
    if (batch->routes == NULL)
        batch->routes = routes_hold(routes);
    CHECK(batch->routes == routes);
    store->filling = batch;
    return true;
}

void store_flush(struct store *store)
{
    struct batch *batch = store->filling;
    if (batch == NULL)
        return;
    store->filling = NULL;
    store->out_count++;
    batch->out = true;
    helpers_submit(store->options.helpers, &batch->job);
}

static void report(struct helper_job *job)
{
    struct batch *batch = (struct batch *)(void *)job;
    struct store *store = batch->store;

    store->out_count--;
    for (uint32_t i = 0; i < batch->entry_count; i++) {
        struct entry *entry = &batch->entries[i];
        free(entry->done);
        struct store_report out = {.consignment = entry->consignment,
                                   .error = entry->error,
                                   .arrival_us = entry->arrival_us,
                                   .recipients = batch->recipients + entry->result_first,
                                   .results = batch->results + entry->result_first,
                                   .count = entry->result_count};
        store->options.stored(store->options.user, &out);
    }
    routes_free(batch->routes);
    batch->routes = NULL;
    if (batch->result_max > RESULTS_KEPT) {
        free(batch->results);
        free(batch->recipients);
        free(batch->mailboxes);
        batch->results = NULL;
        batch->recipients = NULL;
        batch->mailboxes = NULL;
        batch->result_max = 0;
    }
    batch->out = false;
}

/* Makes room for results. */
static bool grow(struct batch *batch, uint32_t wanted)
{
    if (wanted <= batch->result_max)
        return true;
    uint32_t most = batch->result_max == 0 ? MAILDIR_FILES : batch->result_max;
    while (most < wanted)
        most *= 2;
    struct store_result *results = realloc(batch->results, most * sizeof *results);
    if (results == NULL)
        return false;
    batch->results = results;
    uint32_t *recipients = realloc(batch->recipients, most * sizeof *recipients);
    if (recipients == NULL)
        return false;
    batch->recipients = recipients;
    void *mailboxes = realloc(batch->mailboxes, most * sizeof *batch->mailboxes);
    if (mailboxes == NULL)
        return false;
    batch->mailboxes = mailboxes;
    batch->result_max = most;
    return true;
}

/* --- in a helper --- */

static void work(struct helper_job *job)
{
    struct batch *batch = (struct batch *)(void *)job;

    for (uint32_t i = 0; i < batch->entry_count; i++)
        store_message(batch, &batch->entries[i]);
    commit(batch);
}

static void store_message(struct batch *batch, struct entry *entry)
{
    struct envelope envelope;
    struct consign_walk walk;
    uint32_t first = batch->file_count;

    entry->result_first = batch->result_count;
    entry->error =
        spool_read(batch->store->options.spool, &entry->message, &batch->reader, &envelope);
    if (entry->error == 0 && envelope.recipient_count != entry->message.recipient_count)
        entry->error = -EBADMSG;
    if (entry->error != 0)
        return;
    entry->arrival_us = envelope.arrival_us;
    consign_walk_begin(&walk, batch->routes, spool_read_form(&batch->reader),
                       envelope.recipient_count, entry->done, entry->first, entry->count);
    while (consign_walk_next(&walk)) {
        if (maildir_room(batch->maildir) == 0) {
            pour_text(batch, &envelope, first);
            commit(batch);
            first = 0;
        }
        if (!add_file(batch, entry, &walk))
            break;
    }
    pour_text(batch, &envelope, first);
    /* Several large messages: what is written is not kept waiting. */
    if (maildir_octets(batch->maildir) >= BATCH_OCTETS)
        commit(batch);
}

/* The domain of a foreign recipient is not in the table. */
static struct bytes domain_of(const struct consign_walk *walk, uint8_t *lower, size_t size)
{
    struct bytes domain = walk->route->domain;
    if (domain.len > 0)
        return domain;
    domain = route_mailbox_domain(walk->recipient.forward_path);
    size_t len = domain.len < size ? domain.len : size;
    for (size_t i = 0; i < len; i++)
        lower[i] = byte_lower(domain.data[i]);
    return bytes_make(lower, len);
}

/* False: there is no room for its result, since the walk found more than were counted. */
static bool add_file(struct batch *batch, struct entry *entry, const struct consign_walk *walk)
{
    uint8_t lower[256];
    struct bytes mailbox = walk->recipient.forward_path;

    CHECK(walk->route != NULL && walk->route->kind == ROUTE_MAILDIR);
    if (batch->result_count == batch->recipient_count)
        return false;
    uint32_t index = batch->result_count++;
    size_t len = mailbox.len < MAILBOX_MAX ? mailbox.len : MAILBOX_MAX;
    memcpy(batch->mailboxes[index], mailbox.data, len);
    struct store_result *result = &batch->results[index];
    batch->recipients[index] = walk->index;
    *result = (struct store_result){.notify = walk->recipient.notify,
                                    .mailbox = bytes_make(batch->mailboxes[index], len)};
    entry->result_count++;
    result->error = folder_make(&batch->folder, walk->route->maildir,
                                domain_of(walk, lower, sizeof lower), mailbox);
    if (result->error != 0) {
        result->step = "name mail folder";
        return true;
    }
    uint32_t file = maildir_add(batch->maildir, &batch->folder, entry->message.message_id);
    CHECK(file == batch->file_count);
    batch->files[batch->file_count++] = index;
    return true;
}

/* Reads the text once and writes it to all files from `first` on: Return-Path (RFC 5321 4.4), what
 * we added at reception, and the text as it came. */
static void pour_text(struct batch *batch, const struct envelope *envelope, uint32_t first)
{
    struct pour pour = {.maildir = batch->maildir, .first = first};
    const struct bytes parts[] = {BYTES("Return-Path: <"), envelope->reverse_path, BYTES(">\r\n"),
                                  envelope->added};
    int error = 0;

    if (first == batch->file_count)
        return;
    for (size_t i = 0; i < sizeof parts / sizeof parts[0] && error == 0; i++) {
        if (parts[i].len > HEAD_SIZE - pour.head_len) {
            error = pour_piece(&pour, parts[i]);
        } else if (parts[i].len > 0) {
            memcpy(pour.head + pour.head_len, parts[i].data, parts[i].len);
            pour.head_len += parts[i].len;
        }
    }
    if (error == 0)
        error = spool_read_text(&batch->reader, pour_piece, &pour);
    if (error == 0 && pour.head_len > 0) /* a message without text */
        error = pour_piece(&pour, bytes_make(NULL, 0));
    if (error == 0)
        return;
    for (uint32_t i = first; i < batch->file_count; i++)
        maildir_fail(batch->maildir, i, error, "read text");
}

static int pour_piece(void *user, struct bytes text)
{
    struct pour *pour = user;
    const struct bytes texts[] = {bytes_make(pour->head, pour->head_len), text};

    pour->head_len = 0;
    return maildir_write(pour->maildir, pour->first, texts, 2) ? 0 : -ECANCELED;
}

/* Makes the files of the batch durable and keeps what became of each. */
static void commit(struct batch *batch)
{
    if (batch->file_count == 0)
        return;
    maildir_commit(batch->maildir);
    for (uint32_t i = 0; i < batch->file_count; i++) {
        struct maildir_result result = maildir_result(batch->maildir, i);
        batch->results[batch->files[i]].error = result.error;
        batch->results[batch->files[i]].step = result.step;
    }
    batch->file_count = 0;
}
