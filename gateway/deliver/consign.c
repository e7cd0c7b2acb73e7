/* Opened consignments are reused, with the memory of their readers, so that in the long run
 * delivering allocates nothing. */
#include "gateway/deliver/consign.h"

#include <errno.h>
#include <stdlib.h>

#include "gateway/base/check.h"

enum {
    READER_KEPT = 256 * 1024, /* a reader that has grown larger is not kept */
    IDLE_MAX = 1024,          /* kept for reuse */
};

struct consigns {
    struct spool *spool;
    struct list open, idle;
    uint32_t open_count, idle_count;
    struct spool_ahead ahead; /* of a backlog on disk: a line has about the order of the log */
};

static struct consign *take(struct consigns *consigns);
static int collect(struct consign *consign, const struct routes *routes, bool *forwarded);
static int next_piece(void *user, struct bytes *piece);
static int rewind_text(void *user);

/* --- the walk --- */

void consign_walk_begin(struct consign_walk *walk, const struct routes *routes, struct bytes form,
                        uint32_t total, const uint8_t *done, uint32_t first, uint32_t count)
{
    *walk = (struct consign_walk){.form = form,
                                  .routes = routes,
                                  .done = done,
                                  .total = total,
                                  .first = first,
                                  .left = count == 0 ? total : count,
                                  .sorted = count != 0};
}

/* Tells whether the walk's recipient goes where the first one goes; the first one says where. */
static bool belongs(struct consign_walk *walk)
{
    struct bytes domain = route_mailbox_domain(walk->recipient.forward_path);

    if (!walk->sorted)
        return true;
    if (walk->index == walk->first) {
        walk->key_route = walk->route;
        walk->key_domain = domain;
        walk->key_forwarded = walk->recipient.forwarded;
        return true;
    }
    return walk->recipient.forwarded == walk->key_forwarded &&
           route_same_destination(walk->route, domain, walk->key_route, walk->key_domain);
}

bool consign_walk_next(struct consign_walk *walk)
{
    while (walk->next < walk->total && walk->left > 0) {
        walk->recipient = envelope_recipient_next(walk->form, &walk->cursor);
        walk->index = walk->next++;
        bool finished =
            walk->done != NULL && (walk->done[walk->index / 8] >> walk->index % 8 & 1) != 0;
        if (walk->index < walk->first || (finished && walk->index != walk->first))
            continue;
        walk->route =
            routes_find(walk->routes, walk->recipient.forward_path, walk->recipient.forwarded);
        if (!belongs(walk) || finished)
            continue;
        walk->left--;
        return true;
    }
    return false;
}

/* --- the pool --- */

struct consigns *consigns_new(struct spool *spool)
{
    struct consigns *consigns = calloc(1, sizeof *consigns);
    if (consigns == NULL)
        return NULL;
    consigns->spool = spool;
    list_init(&consigns->open);
    list_init(&consigns->idle);
    return consigns;
}

static void free_consign(struct consign *consign)
{
    spool_read_close(&consign->reader);
    free(consign->delivery.recipients);
    free(consign);
}

void consigns_free(struct consigns *consigns)
{
    if (consigns == NULL)
        return;
    CHECK(consigns->open_count == 0);
    struct list_node *node;
    while ((node = list_pop(&consigns->idle)) != NULL)
        free_consign(list_entry(node, struct consign, node));
    spool_ahead_free(&consigns->ahead);
    free(consigns);
}

int consign_open(struct consigns *consigns, struct consignment *consignment,
                 const struct routes *routes, const struct srs *srs, uint64_t now_s,
                 struct consign **out)
{
    struct consign *consign = take(consigns);
    bool forwarded = false;

    *out = NULL;
    if (consign == NULL)
        return -ENOMEM;
    consign->consignment = consignment;
    struct delivery *delivery = &consign->delivery;
    const struct spool_message *message = &consignment->message->spool;
    spool_read_ahead(&consign->reader, &consigns->ahead);
    int error = spool_read(consigns->spool, message, &consign->reader, &consign->envelope);
    if (error == 0 && consign->envelope.recipient_count != message->recipient_count)
        error = -EBADMSG;
    if (error == 0)
        error = collect(consign, routes, &forwarded);
    if (error != 0) {
        consign_close(consign);
        return error;
    }
    const struct envelope *envelope = &consign->envelope;
    delivery->message_id = envelope->message_id;
    delivery->reverse_path = envelope->reverse_path;
    delivery->envid = envelope->envid;
    delivery->flags = envelope->flags;
    delivery->head = envelope->added;
    delivery->size = envelope->added.len + envelope->text_len;
    delivery->text = (struct delivery_text){next_piece, rewind_text, consign};
    size_t len = 0;
    if (forwarded && srs != NULL && envelope->reverse_path.len > 0 &&
        srs_forward(srs, envelope->reverse_path, now_s, consign->reverse_path, &len) == SRS_OK)
        delivery->reverse_path = bytes_make(consign->reverse_path, len);
    *out = consign;
    return 0;
}

void consign_close(struct consign *consign)
{
    struct consigns *consigns = consign->pool;

    list_remove(&consign->node);
    consigns->open_count--;
    if (consigns->idle_count >= IDLE_MAX) {
        free_consign(consign);
        return;
    }
    if (consign->reader.window_capacity + consign->reader.form_capacity > READER_KEPT)
        spool_read_close(&consign->reader);
    if (consign->capacity > CONSIGN_RECIPIENTS) {
        free(consign->delivery.recipients);
        consign->delivery.recipients = NULL;
        consign->capacity = 0;
    }
    list_append(&consigns->idle, &consign->node);
    consigns->idle_count++;
}

uint32_t consigns_open(const struct consigns *consigns)
{
    return consigns->open_count;
}

uint32_t consigns_in_doubt(const struct consigns *consigns)
{
    uint32_t count = 0;
    for (struct list_node *node = consigns->open.head.next; node != &consigns->open.head;
         node = node->next)
        count += list_entry(node, struct consign, node)->delivery.data_sent;
    return count;
}

static struct consign *take(struct consigns *consigns)
{
    struct list_node *node = list_pop(&consigns->idle);
    struct consign *consign;

    if (node != NULL) {
        consign = list_entry(node, struct consign, node);
        consigns->idle_count--;
    } else {
        consign = calloc(1, sizeof *consign);
        if (consign == NULL)
            return NULL;
        consign->pool = consigns;
    }
    struct delivery_recipient *recipients = consign->delivery.recipients;
    consign->delivery = (struct delivery){.recipients = recipients};
    consigns->open_count++;
    list_append(&consigns->open, &consign->node);
    return consign;
}

/* Makes room for `wanted` recipients. */
static bool grow(struct consign *consign, uint32_t wanted)
{
    if (wanted <= consign->capacity)
        return true;
    uint32_t capacity = consign->capacity == 0 ? 4 : consign->capacity;
    while (capacity < wanted)
        capacity *= 2;
    struct delivery_recipient *recipients =
        realloc(consign->delivery.recipients, capacity * sizeof *recipients);
    if (recipients == NULL)
        return false;
    consign->delivery.recipients = recipients;
    consign->capacity = capacity;
    return true;
}

static int collect(struct consign *consign, const struct routes *routes, bool *forwarded)
{
    const struct consignment *consignment = consign->consignment;
    struct delivery *delivery = &consign->delivery;
    struct consign_walk walk;

    consign_walk_begin(&walk, routes, spool_read_form(&consign->reader),
                       consign->envelope.recipient_count, queue_finished_map(consignment->message),
                       consignment->first, consignment->recipient_count);
    while (consign_walk_next(&walk)) {
        if (!grow(consign, delivery->recipient_count + 1))
            return -ENOMEM;
        if (delivery->recipient_count == 0)
            *forwarded = walk.recipient.forwarded;
        struct delivery_recipient *recipient = &delivery->recipients[delivery->recipient_count++];
        recipient->index = walk.index;
        recipient->forward_path = walk.recipient.forward_path;
        recipient->orcpt = walk.recipient.orcpt;
        recipient->notify = walk.recipient.notify;
        recipient->verdict = (struct verdict){.kind = VERDICT_OPEN};
    }
    return 0;
}

static int next_piece(void *user, struct bytes *piece)
{
    struct consign *consign = user;
    return spool_read_next(&consign->reader, piece);
}

static int rewind_text(void *user)
{
    struct consign *consign = user;
    spool_read_rewind(&consign->reader);
    return 0;
}
