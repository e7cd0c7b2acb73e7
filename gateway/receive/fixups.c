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
    struct blocks *blocks, *large;
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
    bool date, message_id, sender, from;
    bool foreign;        /* a From address is not the user's */
    bool bad;            /* a From field is no address list */
    uint32_t from_count; /* addresses */
};

struct fixups *fixups_new(struct arena *arena, struct blocks *blocks, struct blocks *large)
{
    struct fixups *fixups = arena_take(arena, blocks, sizeof(*fixups));
    if (fixups == NULL)
        return NULL;
    memset(fixups, 0, sizeof(*fixups));
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
    blocks_give(fixups->is_large ? fixups->large : fixups->blocks, fixups->text);
    fixups->text = NULL;
}

/* --- holding --- */

static bool grow(struct fixups *fixups)
{
    uint8_t *text = blocks_take(fixups->large);
    if (text == NULL)
        return false;
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

static void judge_from(struct fixups *fixups, const struct fixups_facts *facts, struct bytes value,
                       struct findings *findings)
{
    struct mailboxes walk = {.rest = value};
    struct bytes mailbox;
    enum mailboxes_result result = mailboxes_next(&walk, &mailbox);
    for (; result == MAILBOXES_FOUND; result = mailboxes_next(&walk, &mailbox)) {
        if (findings->from_count++ == 0)
            note_domain(fixups, mailbox);
        findings->foreign |= !senders_owns(facts->rules->senders, facts->user, mailbox);
    }
    findings->from = true;
    findings->bad |= result == MAILBOXES_BAD;
}

/* is_forged: only we say what we have found out about a message (RFC 8601 5). */
static bool is_forged(const struct header_field *field, struct bytes hostname)
{
    struct bytes value = field->value;
    if (!header_is(field, BYTES("Authentication-Results")))
        return false;
    while (value.len > 0 && value.data[0] <= ' ')
        value = bytes_skip(value, 1);
    if (value.len < hostname.len ||
        !bytes_equal_nocase(bytes_slice(value, 0, hostname.len), hostname))
        return false;
    value = bytes_skip(value, hostname.len);
    return value.len == 0 || value.data[0] <= ' ' || value.data[0] == ';' || value.data[0] == '(';
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
 * we have not judged. */
static bool has_bare(struct bytes section)
{
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
    bool own = findings->from_count == 1 && !findings->foreign && !findings->bad;
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
    struct findings findings = {.date = false};
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
    if (!facts->rules->from_any && (findings.foreign || findings.bad))
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
