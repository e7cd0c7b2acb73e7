/* The recipients of a transaction: each mailbox once, however often and by whatever aliases it was
 * reached. A few are compared one by one; when they get many they are put into buckets. */
#include "gateway/base/check.h"
#include "gateway/policy/mailbox.h"
#include "gateway/receive/transaction.h"

enum {
    FEW = 16,        /* recipients that are compared one by one */
    ORCPT_MAX = 500, /* octets of the parameter (RFC 3461 5.4) */
};

static const char hex[] = "0123456789ABCDEF";

/* An original recipient in the way that ORCPT writes it; len is ORCPT_MAX + 1 when it is too long.
 */
struct orcpt {
    size_t len;
    char text[ORCPT_MAX];
};

static void put(struct orcpt *out, const char *text, size_t len)
{
    if (len > ORCPT_MAX - out->len || out->len > ORCPT_MAX) {
        out->len = ORCPT_MAX + 1;
        return;
    }
    memcpy(out->text + out->len, text, len);
    out->len += len;
}

/* xtext (RFC 3461 4): what is not printable, "+" and "=" are written as "+" and two hex digits. */
static void put_xtext(struct orcpt *out, struct bytes in)
{
    for (size_t i = 0; i < in.len && out->len <= ORCPT_MAX; i++) {
        uint8_t c = in.data[i];
        char escaped[3] = {'+', hex[c >> 4], hex[c & 15]};
        bool plain = c > ' ' && c < 127 && c != '+' && c != '=';
        put(out, plain ? (const char *)in.data + i : escaped, plain ? 1 : 3);
    }
}

/* Takes one character of well-formed UTF-8 from the front of `in`. */
static uint32_t take_character(struct bytes *in)
{
    uint8_t first = in->data[0];
    size_t len = first < 0x80 ? 1 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
    uint32_t point = len == 1 ? first : first & (0x7fu >> len);
    CHECK(len <= in->len);
    for (size_t i = 1; i < len; i++)
        point = point << 6 | (in->data[i] & 0x3f);
    *in = bytes_skip(*in, len);
    return point;
}

/* utf-8-addr-xtext (RFC 6533 3): ASCII only, so that it goes through servers without SMTPUTF8. */
static void put_utf8(struct orcpt *out, struct bytes in)
{
    while (in.len > 0 && out->len <= ORCPT_MAX) {
        uint32_t point = take_character(&in);
        if (point > ' ' && point < 127 && point != '+' && point != '=' && point != '\\') {
            char plain = (char)point;
            put(out, &plain, 1);
            continue;
        }
        char digits[8];
        size_t len = 0;
        for (uint32_t left = point; left > 0 || len < 2; left >>= 4)
            digits[sizeof(digits) - ++len] = hex[left & 15];
        put(out, "\\x{", 3);
        put(out, digits + sizeof(digits) - len, len);
        put(out, "}", 1);
    }
}

/* orcpt_of gives the ORCPT for the targets of an aliased mailbox; empty: none. */
static struct bytes orcpt_of(const struct command *rcpt, bool aliased, struct orcpt *made)
{
    if (rcpt->orcpt.len > 0 || !aliased)
        return rcpt->orcpt;
    made->len = 0;
    if (rcpt->address.utf8) {
        put(made, "utf-8;", 6);
        put_utf8(made, rcpt->address.text);
    } else {
        put(made, "rfc822;", 7);
        put_xtext(made, rcpt->address.text);
    }
    return bytes_make(made->text, made->len > ORCPT_MAX ? 0 : made->len);
}

static bool is_same(const struct transaction_recipient *recipient, uint32_t hash,
                    const struct directory_target *target)
{
    return recipient->hash == hash && recipient->envelope.forwarded == target->forwarded &&
           mailbox_same(recipient->envelope.forward_path, target->mailbox, !target->forwarded);
}

static bool is_there(const struct transaction *transaction, const struct directory_target *target)
{
    const struct transaction_recipient *at;
    if (transaction->recipients == NULL)
        return false;
    uint32_t hash = mailbox_hash(target->mailbox, !target->forwarded);
    if (transaction->buckets != NULL) {
        at = transaction->buckets[hash % TRANSACTION_BUCKETS];
        while (at != NULL && !is_same(at, hash, target))
            at = at->next_alike;
    } else {
        at = transaction->recipients;
        while (at != NULL && !is_same(at, hash, target))
            at = at->next;
    }
    return at != NULL;
}

bool transaction_has(const struct transaction *transaction, struct bytes mailbox)
{
    const struct directory_target target = {.mailbox = mailbox};
    return is_there(transaction, &target);
}

static void link_alike(struct transaction *transaction, struct transaction_recipient *recipient)
{
    struct transaction_recipient **bucket =
        &transaction->buckets[recipient->hash % TRANSACTION_BUCKETS];
    recipient->next_alike = *bucket;
    *bucket = recipient;
}

static bool make_buckets(const struct transaction_context *context, struct transaction *transaction)
{
    size_t size = TRANSACTION_BUCKETS * sizeof(transaction->buckets[0]);
    transaction->buckets = arena_take(&transaction->arena, context->blocks, size);
    if (transaction->buckets == NULL)
        return false;
    memset(transaction->buckets, 0, size);
    for (struct transaction_recipient *at = transaction->recipients; at != NULL; at = at->next)
        link_alike(transaction, at);
    return true;
}

static bool copy_bytes(const struct transaction_context *context, struct transaction *transaction,
                       struct bytes *text)
{
    text->data = arena_copy(&transaction->arena, context->blocks, text->data, text->len);
    return text->data != NULL;
}

static bool add(const struct transaction_context *context, struct transaction *transaction,
                const struct envelope_recipient *envelope)
{
    struct transaction_recipient *recipient =
        arena_take(&transaction->arena, context->blocks, sizeof(*recipient));
    if (recipient == NULL)
        return false;
    *recipient = (struct transaction_recipient){
        .envelope = *envelope,
        .hash = mailbox_hash(envelope->forward_path, !envelope->forwarded),
    };
    if (!copy_bytes(context, transaction, &recipient->envelope.forward_path))
        return false;
    if (transaction->recipients_last == NULL)
        transaction->recipients = recipient;
    else
        transaction->recipients_last->next = recipient;
    transaction->recipients_last = recipient;
    transaction->envelope.recipient_count++;
    if (transaction->buckets != NULL)
        link_alike(transaction, recipient);
    return true;
}

/* has_room says whether the targets can all be added: so many recipients are allowed, and so many
 * blocks are left when the worst piece of each block stays unused. `*fresh`: those that are not
 * there yet. */
static enum reply has_room(const struct transaction_context *context,
                           const struct transaction *transaction,
                           const struct directory_target *targets, uint32_t target_count,
                           uint32_t *fresh)
{
    size_t octets = TRANSACTION_BUCKETS * sizeof(transaction->buckets[0]) + 2 * ORCPT_MAX;
    *fresh = 0;
    for (uint32_t i = 0; i < target_count; i++) {
        if (is_there(transaction, &targets[i]))
            continue;
        ++*fresh;
        octets += sizeof(struct transaction_recipient) + targets[i].mailbox.len + 8;
    }
    if (*fresh > transaction->recipients_max - transaction->envelope.recipient_count)
        return *fresh > transaction->recipients_max ? REPLY_ALIAS_TOO_LONG
                                                    : REPLY_TOO_MANY_RECIPIENTS;
    size_t blocks = target_count == 1 ? 0 : octets / (BLOCK_SIZE - 512) + 1;
    if (context->blocks->count - context->blocks->used < context->blocks_reserved + blocks)
        return REPLY_NO_MEMORY;
    return REPLY_RECIPIENT_OK;
}

enum reply transaction_recipients_add(const struct transaction_context *context,
                                      struct transaction *transaction, const struct command *rcpt,
                                      const struct directory_target *targets, uint32_t target_count,
                                      bool aliased)
{
    struct orcpt made;
    struct envelope_recipient envelope = {.notify = rcpt->notify,
                                          .orcpt = orcpt_of(rcpt, aliased, &made)};
    uint32_t fresh;
    enum reply reply = has_room(context, transaction, targets, target_count, &fresh);
    if (reply != REPLY_RECIPIENT_OK)
        return reply;
    struct bytes first = rcpt->address.text;
    if (transaction->envelope.recipient_count + fresh > FEW && transaction->buckets == NULL &&
        !make_buckets(context, transaction))
        return REPLY_NO_MEMORY;
    if ((transaction->rcpt_count == 0 && aliased && !copy_bytes(context, transaction, &first)) ||
        (fresh > 0 && !copy_bytes(context, transaction, &envelope.orcpt)))
        return REPLY_NO_MEMORY;
    for (uint32_t i = 0; i < target_count && fresh > 0; i++) {
        if (is_there(transaction, &targets[i]))
            continue;
        envelope.forward_path = targets[i].mailbox;
        envelope.forwarded = targets[i].forwarded;
        if (!add(context, transaction, &envelope)) {
            CHECK(target_count == 1); /* has_room has counted the blocks */
            return REPLY_NO_MEMORY;
        }
    }
    if (transaction->rcpt_count++ == 0)
        transaction->rcpt_first = aliased ? first : transaction->recipients->envelope.forward_path;
    return REPLY_RECIPIENT_OK;
}

enum reply transaction_recipient_add(const struct transaction_context *context,
                                     struct transaction *transaction, const struct command *rcpt)
{
    const struct directory_target itself = {.mailbox = rcpt->address.text};
    return transaction_recipients_add(context, transaction, rcpt, &itself, 1, false);
}
