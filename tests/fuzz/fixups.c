/* Fuzzes the header sections of submitted mail: the first two octets say how the text is cut, the
 * third what the rules are, the rest is a message. By pieces must come the same as at once; and
 * what has passed has every address that is needed, nobody else's, and no blind copies. */
#include "gateway/receive/fixups.h"
#include "gateway/base/check.h"
#include "parser/mailboxes.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct blocks blocks;
static struct fixups_pool large;
static struct senders *senders;

static void set_up(void)
{
    const char *error;
    CHECK(blocks_init(&blocks, 8) && fixups_pool_init(&large, 2));
    senders = senders_new("a.b");
    CHECK(senders != NULL && senders_add(senders, BYTES("x"), BYTES("*@c"), &error));
}

/* What came of a text. */
struct made {
    enum reply reply;
    struct arena arena;
    struct fixups *fixups;
    size_t taken;
};

static struct made make(struct bytes text, size_t first, size_t step,
                        const struct fixups_facts *facts)
{
    struct made made = {.reply = REPLY_NONE};
    made.fixups = fixups_new(&made.arena, &blocks, &large, facts->user);
    CHECK(made.fixups != NULL);
    for (size_t end = first; made.taken < text.len && !fixups_whole(made.fixups); end += step) {
        size_t room = fixups_room(made.fixups, &made.reply);
        if (room == 0)
            return made;
        end = end < text.len ? end : text.len;
        end = end - made.taken < room ? end : made.taken + room;
        fixups_text(made.fixups, bytes_slice(text, made.taken, end));
        made.taken = end;
    }
    made.reply = fixups_mend(made.fixups, facts);
    return made;
}

static void unmake(struct made *made)
{
    fixups_free(made->fixups);
    arena_empty(&made->arena, &blocks);
}

static void check_from(struct bytes value)
{
    struct mailboxes walk = {.rest = value};
    struct bytes mailbox;
    enum mailboxes_result result;
    size_t count = 0;
    for (; (result = mailboxes_next(&walk, &mailbox)) == MAILBOXES_FOUND; count++)
        CHECK(senders_owns(senders, BYTES("x"), mailbox));
    CHECK(result == MAILBOXES_END && count > 0);
}

static void check_header(struct bytes header, bool from_any)
{
    struct header_field field;
    size_t used;
    bool date = false, message_id = false;
    enum header_result result;
    while ((result = header_next(header, &field, &used)) == HEADER_FIELD) {
        CHECK(!header_is(&field, BYTES("Bcc")) && !header_is(&field, BYTES("Resent-Bcc")));
        date |= header_is(&field, BYTES("Date"));
        message_id |= header_is(&field, BYTES("Message-ID"));
        if (!from_any && header_is(&field, BYTES("From")))
            check_from(field.value);
        CHECK(memcmp(field.whole.data + field.whole.len - 2, "\r\n", 2) == 0);
        header = bytes_skip(header, used);
    }
    CHECK(result == HEADER_END && header.len == 0 && date && message_id);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 3)
        return 0;
    if (senders == NULL)
        set_up();
    const struct submission_rules rules = {
        .senders = senders, .sender = data[2] % 3, .from_any = data[2] & 4};
    const struct fixups_facts facts = {
        .rules = &rules, .user = BYTES("x"), .hostname = BYTES("h"), .wall_us = 1};
    struct bytes text = bytes_make(data + 3, size - 3);
    struct made whole = make(text, text.len, 1, &facts);
    struct made pieces = make(text, data[0] + 1u, data[1] % 32u + 1u, &facts);
    CHECK(whole.reply == pieces.reply);
    if (whole.reply == REPLY_NONE) {
        struct bytes header = fixups_header(whole.fixups), body = fixups_body(whole.fixups);
        CHECK(header.len == fixups_header(pieces.fixups).len);
        check_header(header, rules.from_any);
        /* The body is the end of the text, whatever is held of it. */
        size_t held = fixups_body(pieces.fixups).len + text.len - pieces.taken;
        CHECK(held == body.len + text.len - whole.taken && held <= text.len);
        CHECK(body.len == 0 || memcmp(body.data, text.data + text.len - held, body.len) == 0);
    }
    unmake(&whole);
    unmake(&pieces);
    CHECK(blocks.used == 0 && large.blocks.used == 0);
    return 0;
}
