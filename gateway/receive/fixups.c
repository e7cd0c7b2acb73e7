/* Headers of submitted mail: see fixups.h. The text is held in a block of 4 KiB, which is enough
 * for most, then in one of 128 KiB. It is mended in place: fields that go are closed over, what is
 * added comes behind the last field, for which room was left from the start. */
#include "gateway/receive/fixups.h"

#include "gateway/base/check.h"
#include "gateway/base/id.h"
#include "gateway/receive/stamp.h"
#include "parser/mailboxes.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

enum { DOMAIN_MAX = ADDRESS_DOMAIN_LEN_MAX };

struct fixups {
    struct blocks *blocks;
    struct fixups_pool *large;
    struct list_node node; /* in its holders */
    struct bytes user;     /* a copy */
    uint8_t *text;
    size_t len;  /* octets held */
    size_t size; /* of the block */
    struct header_watch watch;
    bool is_large;
    bool mended;
    uint8_t domain_len;
    char domain[DOMAIN_MAX]; /* of the first From address */
    size_t header_len;       /* mended: without the empty line */
    size_t body_start;
};

/* What a section has. */
struct findings {
    bool anything; /* the user may send as anything */
    bool any;      /* ... or the From field is not judged */
    bool date, message_id, sender, from;
    bool foreign;        /* a From address is not the user's */
    bool bad;            /* a From field is no address list, or has no address */
    uint32_t from_count; /* addresses that were looked at */
};

bool fixups_pool_init(struct fixups_pool *pool, uint32_t count)
{
    list_init(&pool->holders);
    return blocks_init_sized(&pool->blocks, count, LIMIT_PIECE);
}

void fixups_pool_cleanup(struct fixups_pool *pool)
{
    blocks_cleanup(&pool->blocks);
}

struct fixups *fixups_new(struct arena *arena, struct blocks *blocks, struct fixups_pool *large,
                          struct bytes user)
{
    struct fixups *fixups = arena_take(arena, blocks, sizeof(*fixups));
    uint8_t *name = arena_copy(arena, blocks, user.data, user.len);
    if (fixups == NULL || name == NULL)
        return NULL;
    memset(fixups, 0, sizeof(*fixups));
    fixups->user = bytes_make(name, user.len);
    fixups->blocks = blocks;
    fixups->large = large;
    fixups->size = BLOCK_SIZE;
    fixups->text = blocks_take(blocks);
    return fixups->text == NULL ? NULL : fixups;
}

void fixups_free(struct fixups *fixups)
{
    if (fixups == NULL)
        return;
    blocks_give(fixups->is_large ? &fixups->large->blocks : fixups->blocks, fixups->text);
    list_remove(&fixups->node);
    fixups->text = NULL;
}

/* --- holding --- */

/* has_share: one more is his share of the worker's at most. */
static bool has_share(const struct fixups *fixups)
{
    const struct list *holders = &fixups->large->holders;
    uint32_t count = 0;
    for (struct list_node *at = holders->head.next; at != &holders->head; at = at->next)
        count += bytes_equal_nocase(list_entry(at, struct fixups, node)->user, fixups->user);
    return count < FIXUPS_LARGE_USER;
}

static bool grow(struct fixups *fixups)
{
    uint8_t *text = has_share(fixups) ? blocks_take(&fixups->large->blocks) : NULL;
    if (text == NULL)
        return false;
    list_append(&fixups->large->holders, &fixups->node);
    memcpy(text, fixups->text, fixups->len);
    blocks_give(fixups->blocks, fixups->text);
    fixups->text = text;
    fixups->size = LIMIT_PIECE;
    fixups->is_large = true;
    return true;
}

size_t fixups_room(struct fixups *fixups, enum reply *refusal)
{
    CHECK(!fixups->mended);
    size_t room = fixups->size - FIXUPS_ADDED_MAX - fixups->len;
    if (room >= 2)
        return room;
    *refusal = REPLY_HEADER_TOO_BIG;
    if (fixups->is_large)
        return 0;
    *refusal = REPLY_NO_MEMORY;
    return grow(fixups) ? fixups->size - FIXUPS_ADDED_MAX - fixups->len : 0;
}

void fixups_text(struct fixups *fixups, struct bytes text)
{
    CHECK(text.len <= fixups->size - FIXUPS_ADDED_MAX - fixups->len);
    if (text.len == 0)
        return;
    memcpy(fixups->text + fixups->len, text.data, text.len);
    fixups->len += text.len;
    header_watch_text(&fixups->watch, text);
}

bool fixups_whole(const struct fixups *fixups)
{
    return fixups->watch.ended;
}

/* --- judging --- */

static void note_domain(struct fixups *fixups, struct bytes mailbox)
{
    size_t at = mailbox.len;
    while (at > 0 && mailbox.data[at - 1] != '@') /* a domain has none */
        at--;
    struct bytes domain = bytes_skip(mailbox, at);
    if (domain.len > DOMAIN_MAX)
        return;
    memcpy(fixups->domain, domain.data, domain.len);
    fixups->domain_len = (uint8_t)domain.len;
}

/* is_settled: what further addresses are changes nothing. */
static bool is_settled(const struct findings *findings)
{
    return findings->any ? findings->from_count > 1 : findings->foreign || findings->bad;
}

/* judge_from: each field has an address (RFC 5322 3.6.2). */
static void judge_from(struct fixups *fixups, const struct fixups_facts *facts, struct bytes value,
                       struct findings *findings)
{
    struct mailboxes walk = {.rest = value};
    struct bytes mailbox;
    enum mailboxes_result result = MAILBOXES_FOUND;
    uint32_t before = findings->from_count;
    findings->from = true;
    while (result == MAILBOXES_FOUND && !is_settled(findings)) {
        result = mailboxes_next(&walk, &mailbox);
        if (result != MAILBOXES_FOUND)
            break;
        if (findings->from_count++ == 0)
            note_domain(fixups, mailbox);
        findings->foreign |= !senders_owns(facts->rules->senders, facts->user, mailbox);
        findings->bad |= findings->from_count > FIXUPS_FROM_MAX;
    }
    findings->bad |=
        result == MAILBOXES_BAD || (result == MAILBOXES_END && findings->from_count == before);
}

static bool is_token(uint8_t c)
{
    static const char special[] = "()<>@,;:\\\"/[]?="; /* RFC 2045 5.1 */
    return c > ' ' && c != 127 && memchr(special, c, sizeof(special) - 1) == NULL;
}

/* take_value takes a token or quoted-string, and returns the octets of its meaning, which are
 * `out`, as far as there is room. False: there is none. */
static bool take_value(struct bytes *in, struct bytes *value, uint8_t *out, size_t size)
{
    size_t at = 0, len = 0;
    bool quoted = in->len > 0 && in->data[0] == '"';
    for (at = quoted; at < in->len; at++) {
        if (quoted ? in->data[at] == '"' : !is_token(in->data[at]))
            break;
        if (quoted && in->data[at] == '\\' && ++at == in->len)
            return false;
        if (len == size)
            return false;
        out[len++] = in->data[at];
    }
    if (len == 0 || (quoted && at == in->len))
        return false;
    *in = bytes_skip(*in, at + quoted);
    *value = bytes_make(out, len);
    return true;
}

/* is_forged: only we say what we have found out about a message (RFC 8601 5). What is no such field
 * by RFC 8601 2.2 is none of anybody's: others may read our name in it. */
static bool is_forged(const struct header_field *field, struct bytes hostname)
{
    uint8_t text[ADDRESS_LEN_MAX];
    struct bytes in = field->value, id;
    if (!header_is(field, BYTES("Authentication-Results")))
        return false;
    if (!mailboxes_skip_space(&in) || !take_value(&in, &id, text, sizeof(text)) ||
        !mailboxes_skip_space(&in))
        return true;
    while (in.len > 0 && in.data[0] >= '0' && in.data[0] <= '9') /* the version */
        in = bytes_skip(in, 1);
    if (!mailboxes_skip_space(&in) || (in.len > 0 && in.data[0] != ';'))
        return true;
    if (id.data[id.len - 1] == '.')
        id.len--;
    if (hostname.len > 0 && hostname.data[hostname.len - 1] == '.')
        hostname.len--;
    return bytes_equal_nocase(id, hostname);
}

/* is_dropped: a field that must not leave. */
static bool is_dropped(const struct header_field *field, const struct fixups_facts *facts)
{
    return header_is(field, BYTES("Bcc")) || header_is(field, BYTES("Resent-Bcc")) ||
           is_forged(field, facts->hostname) ||
           (facts->rules->sender == SUBMISSION_SENDER_FORCE && header_is(field, BYTES("Sender")));
}

static void judge_field(struct fixups *fixups, const struct fixups_facts *facts,
                        const struct header_field *field, struct findings *findings)
{
    findings->date |= header_is(field, BYTES("Date"));
    findings->message_id |= header_is(field, BYTES("Message-ID"));
    findings->sender |= header_is(field, BYTES("Sender"));
    if (header_is(field, BYTES("From")))
        judge_from(fixups, facts, field->value, findings);
}

/* Judges the fields of the section, and closes over those that go. Returns the length that is left
 * of it. */
static size_t take_fields(struct fixups *fixups, const struct fixups_facts *facts, size_t section,
                          struct findings *findings)
{
    struct header_field field;
    size_t used, kept = 0, at = 0;
    while (header_next(bytes_make(fixups->text + at, section - at), &field, &used) ==
           HEADER_FIELD) {
        judge_field(fixups, facts, &field, findings);
        if (is_dropped(&field, facts)) {
            findings->sender &= !header_is(&field, BYTES("Sender"));
        } else {
            memmove(fixups->text + kept, fixups->text + at, used);
            kept += used;
        }
        at += used;
    }
    return kept;
}

/* has_bare: in BINARYMIME text may have bare CR and LF, but not here: others would see lines that
 * we have not judged. Nor may any text have NUL here, where others end it (RFC 5322 4). */
static bool has_bare(struct bytes section)
{
    if (section.len > 0 && memchr(section.data, 0, section.len) != NULL)
        return true;
    for (size_t i = 0; i < section.len; i++) {
        if (section.data[i] == '\n' && (i == 0 || section.data[i - 1] != '\r'))
            return true;
        if (section.data[i] == '\r' && (i + 1 == section.len || section.data[i + 1] != '\n'))
            return true;
    }
    return false;
}

/* --- mending --- */

/* What is added; its room is computed from the limits of its parts. */
struct added {
    char text[FIXUPS_ADDED_MAX];
    size_t len;
};

static void add(struct added *added, const void *text, size_t len)
{
    CHECK(len <= sizeof(added->text) - added->len);
    memcpy(added->text + added->len, text, len);
    added->len += len;
}

static void add_string(struct added *added, const char *text)
{
    add(added, text, strlen(text));
}

static void add_date(struct added *added, uint64_t wall_us)
{
    char date[STAMP_DATE_LEN];
    stamp_date(wall_us, date);
    add_string(added, "Date: ");
    add(added, date, sizeof(date));
    add_string(added, "\r\n");
}

/* Several gateways may have one name, so a random number makes it unique (RFC 5322 3.6.4). */
static void add_message_id(struct added *added, const struct fixups_facts *facts)
{
    char id[ID_TEXT_LEN + 1], number[24];
    uint64_t random = 0;
    if (getrandom(&random, sizeof(random), GRND_NONBLOCK) != sizeof(random))
        random = facts->wall_us; /* next to impossible */
    id_format(facts->message_id, id);
    snprintf(number, sizeof(number), ".%016" PRIx64 "@", random);
    add_string(added, "Message-ID: <");
    add_string(added, id);
    add_string(added, number);
    add(added, facts->hostname.data, facts->hostname.len);
    add_string(added, ">\r\n");
}

static bool is_ascii(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if ((uint8_t)text[i] >= 0x80)
            return false;
    return true;
}

static void add_sender(struct added *added, const struct fixups_facts *facts)
{
    char mailbox[ADDRESS_LEN_MAX];
    size_t len = senders_main(facts->rules->senders, facts->user, mailbox, sizeof(mailbox));
    if (len == 0 || (!facts->utf8 && !is_ascii(mailbox, len)))
        return;
    add_string(added, "Sender: ");
    add(added, mailbox, len);
    add_string(added, "\r\n");
}

static void add_fields(struct added *added, const struct fixups_facts *facts,
                       const struct findings *findings)
{
    bool own = findings->anything
                   ? findings->from && findings->from_count <= 1
                   : findings->from_count == 1 && !findings->foreign && !findings->bad;
    if (!findings->date)
        add_date(added, facts->wall_us);
    if (!findings->message_id)
        add_message_id(added, facts);
    if (!own && !findings->sender && facts->rules->sender != SUBMISSION_SENDER_KEEP)
        add_sender(added, facts);
}

/* Puts what is added, and the empty line, between the fields that are left and the body. */
static void put_together(struct fixups *fixups, size_t kept, const struct added *added)
{
    size_t body_len = fixups->len - fixups->body_start;
    bool open = kept > 0 && fixups->text[kept - 1] != '\n'; /* the text was over in a field */
    size_t header_len = kept + (open ? 2 : 0) + added->len;
    CHECK(header_len + 2 + body_len <= fixups->size);
    memmove(fixups->text + header_len + 2, fixups->text + fixups->body_start, body_len);
    if (open)
        memcpy(fixups->text + kept, "\r\n", 2);
    memcpy(fixups->text + header_len - added->len, added->text, added->len);
    memcpy(fixups->text + header_len, "\r\n", 2);
    fixups->header_len = header_len;
    fixups->body_start = header_len + 2;
    fixups->len = header_len + 2 + body_len;
}

static_assert(FIXUPS_ADDED_MAX >= 4 + 6 + STAMP_DATE_LEN + 2 + 13 + ID_TEXT_LEN + 24 +
                                      ADDRESS_DOMAIN_LEN_MAX + 3 + 8 + ADDRESS_LEN_MAX + 2,
              "all that is ever added has room");

enum reply fixups_mend(struct fixups *fixups, const struct fixups_facts *facts)
{
    bool anything = senders_owns_all(facts->rules->senders, facts->user);
    struct findings findings = {.anything = anything, .any = anything || facts->rules->from_any};
    struct added added = {.len = 0};
    CHECK(!fixups->mended && fixups->watch.len <= fixups->len);
    fixups->mended = true;
    /* The text may be over in the middle of a line: header_next knows what that is. */
    size_t section = fixups->watch.ended ? (size_t)fixups->watch.len : fixups->len;
    size_t fields = 0, used;
    struct header_field field;
    while (header_next(bytes_make(fixups->text + fields, section - fields), &field, &used) ==
           HEADER_FIELD)
        fields += used;
    bool empty_line = section - fields == 2 && memcmp(fixups->text + fields, "\r\n", 2) == 0;
    fixups->body_start = fields + (empty_line ? 2 : 0);
    if (has_bare(bytes_make(fixups->text, fields)))
        return REPLY_BARE_NEWLINE;
    size_t kept = take_fields(fixups, facts, fields, &findings);
    if (!findings.any && (findings.foreign || findings.bad))
        return REPLY_NOT_YOUR_FROM;
    add_fields(&added, facts, &findings);
    put_together(fixups, kept, &added);
    return REPLY_NONE;
}

struct bytes fixups_held(const struct fixups *fixups)
{
    return bytes_make(fixups->text, fixups->len);
}

struct bytes fixups_header(const struct fixups *fixups)
{
    return bytes_make(fixups->text, fixups->header_len);
}

struct bytes fixups_body(const struct fixups *fixups)
{
    return bytes_make(fixups->text + fixups->body_start, fixups->len - fixups->body_start);
}

struct bytes fixups_domain(const struct fixups *fixups)
{
    return bytes_make(fixups->domain, fixups->domain_len);
}
