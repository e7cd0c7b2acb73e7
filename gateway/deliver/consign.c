/* Opened consignments are reused, with the memory of their readers, so that in the long run
 * delivering allocates nothing. */
#include "gateway/deliver/consign.h"

#include <errno.h>
#include <stdlib.h>

#include "gateway/base/check.h"

enum {
    FORM_SMALL = 4096,              /* an envelope up to here is kept as it is while it is open */
    CONSIGN_KEPT = 256 * 1024,      /* what has grown larger is not kept for reuse */
    IDLE_MAX = 1024,                /* so many are */
    IDLE_OCTETS = 16 * 1024 * 1024, /* with so much memory together */
};

struct consigns {
    struct spool *spool;
    struct list open, idle;
    uint32_t open_count, idle_count;
    size_t idle_octets;
    struct spool_ahead ahead; /* of a backlog on disk: a line has about the order of the log */
};

static struct consign *take(struct consigns *consigns);
static int open_envelope(struct consign *consign);
static void fill(struct consign *consign);
static int collect(struct consign *consign, const struct routes *routes, bool *forwarded);
static int collect_these(struct consign *consign, const uint32_t *recipients, uint32_t count);
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
    free(consign->own);
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
    int error = open_envelope(consign);
    if (error == 0)
        error = collect(consign, routes, &forwarded);
    if (error != 0) {
        consign_close(consign);
        return error;
    }
    fill(consign);
    const struct envelope *envelope = &consign->envelope;
    size_t len = 0;
    bool submitted = (envelope->flags & ENVELOPE_SUBMITTED) != 0; /* it is the sender's own */
    if (forwarded && !submitted && srs != NULL && envelope->reverse_path.len > 0 &&
        srs_forward(srs, envelope->reverse_path, now_s, consign->reverse_path, &len) == SRS_OK)
        consign->delivery.reverse_path = bytes_make(consign->reverse_path, len);
    *out = consign;
    return 0;
}

int consign_open_these(struct consigns *consigns, struct consignment *consignment,
                       const uint32_t *recipients, uint32_t count, struct consign **out)
{
    struct consign *consign = take(consigns);

    *out = NULL;
    if (consign == NULL)
        return -ENOMEM;
    consign->consignment = consignment;
    int error = open_envelope(consign);
    if (error == 0)
        error = collect_these(consign, recipients, count);
    if (error != 0) {
        consign_close(consign);
        return error;
    }
    fill(consign);
    *out = consign;
    return 0;
}

void consign_close(struct consign *consign)
{
    struct consigns *consigns = consign->pool;
    size_t octets = spool_read_octets(&consign->reader) + consign->own_capacity +
                    consign->capacity * sizeof *consign->delivery.recipients;

    list_remove(&consign->node);
    consigns->open_count--;
    if (octets > CONSIGN_KEPT || consigns->idle_count >= IDLE_MAX ||
        octets > IDLE_OCTETS - consigns->idle_octets) {
        free_consign(consign);
        return;
    }
    consign->idle_octets = octets;
    consigns->idle_octets += octets;
    list_append(&consigns->idle, &consign->node);
    consigns->idle_count++;
}

size_t consigns_idle_octets(const struct consigns *consigns)
{
    return consigns->idle_octets;
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
        consigns->idle_octets -= consign->idle_octets;
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

/* Reads the envelope. */
static int open_envelope(struct consign *consign)
{
    const struct spool_message *message = &consign->consignment->message->spool;

    spool_read_ahead(&consign->reader, &consign->pool->ahead);
    int error = spool_read(consign->pool->spool, message, &consign->reader, &consign->envelope);
    return error == 0 && consign->envelope.recipient_count != message->recipient_count ? -EBADMSG
                                                                                       : error;
}

static bool add(struct consign *consign, uint32_t index, const struct envelope_recipient *from)
{
    struct delivery *delivery = &consign->delivery;

    if (!grow(consign, delivery->recipient_count + 1))
        return false;
    struct delivery_recipient *recipient = &delivery->recipients[delivery->recipient_count++];
    recipient->index = index;
    recipient->forward_path = from->forward_path;
    recipient->orcpt = from->orcpt;
    recipient->notify = from->notify;
    recipient->verdict = (struct verdict){.kind = VERDICT_OPEN};
    return true;
}

static int collect(struct consign *consign, const struct routes *routes, bool *forwarded)
{
    const struct consignment *consignment = consign->consignment;
    struct consign_walk walk;

    consign_walk_begin(&walk, routes, spool_read_form(&consign->reader),
                       consign->envelope.recipient_count, queue_finished_map(consignment->message),
                       consignment->first, consignment->recipient_count);
    while (consign_walk_next(&walk)) {
        if (consign->delivery.recipient_count == 0)
            *forwarded = walk.recipient.forwarded;
        if (!add(consign, walk.index, &walk.recipient))
            return -ENOMEM;
    }
    return 0;
}

static int collect_these(struct consign *consign, const uint32_t *recipients, uint32_t count)
{
    struct bytes form = spool_read_form(&consign->reader);
    size_t cursor = 0;

    for (uint32_t i = 0, found = 0; i < consign->envelope.recipient_count && found < count; i++) {
        struct envelope_recipient recipient = envelope_recipient_next(form, &cursor);
        if (recipients[found] != i)
            continue;
        found++;
        if (!add(consign, i, &recipient))
            return -ENOMEM;
    }
    return 0;
}

/* Calls `piece` with each part of the envelope that is needed later. */
static void each_own(struct consign *consign, void (*piece)(void *user, struct bytes *slice),
                     void *user)
{
    struct delivery *delivery = &consign->delivery;

    piece(user, &consign->envelope.reverse_path);
    piece(user, &consign->envelope.envid);
    piece(user, &consign->envelope.added);
    for (uint32_t i = 0; i < delivery->recipient_count; i++) {
        piece(user, &delivery->recipients[i].forward_path);
        piece(user, &delivery->recipients[i].orcpt);
    }
}

static void count_piece(void *user, struct bytes *slice)
{
    *(size_t *)user += slice->len;
}

static void copy_piece(void *user, struct bytes *slice)
{
    uint8_t **at = user;
    if (slice->len == 0)
        return;
    memcpy(*at, slice->data, slice->len);
    slice->data = *at;
    *at += slice->len;
}

/* A message to a thousand destinations is open a thousand times: each has its own recipients, and
 * none the large envelope. Without memory for that it stays as it is. */
static void leave_envelope(struct consign *consign)
{
    size_t wanted = 0;

    each_own(consign, count_piece, &wanted);
    if (wanted > consign->own_capacity) {
        uint8_t *own = malloc(wanted);
        if (own == NULL)
            return;
        free(consign->own);
        consign->own = own;
        consign->own_capacity = wanted;
    }
    uint8_t *at = consign->own;
    each_own(consign, copy_piece, &at);
    spool_read_slim(&consign->reader);
}

/* What the delivery says of the message. */
static void fill(struct consign *consign)
{
    struct delivery *delivery = &consign->delivery;
    const struct envelope *envelope = &consign->envelope;

    if (spool_read_form(&consign->reader).len > FORM_SMALL)
        leave_envelope(consign);
    delivery->message_id = envelope->message_id;
    delivery->reverse_path = envelope->reverse_path;
    delivery->envid = envelope->envid;
    delivery->flags = envelope->flags;
    delivery->terms = envelope->terms;
    delivery->head = envelope->added;
    delivery->size = envelope->added.len + envelope->text_len;
    delivery->text = (struct delivery_text){next_piece, rewind_text, consign};
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
