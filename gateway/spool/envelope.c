/* The envelope's binary form: a fixed head, then strings by their lengths. What is read comes from
 * a disk, so each length is checked before it is believed. */
#include "gateway/spool/envelope.h"

#include "gateway/base/check.h"

enum { RECIPIENT_HEAD = 5 /* two lengths and notify */ };

bool envelope_has_terms(const struct envelope_terms *terms)
{
    return terms->release_s != 0 || terms->by_s != 0 || terms->priority != 0;
}

static bool terms_are_good(const struct envelope_terms *terms)
{
    unsigned modes = ENVELOPE_BY_RETURN | ENVELOPE_BY_TRACE | ENVELOPE_BY_TOLD;
    return terms->priority >= -ENVELOPE_PRIORITY_MAX && terms->priority <= ENVELOPE_PRIORITY_MAX &&
           (terms->by_mode & ~modes) == 0;
}

/* What stands before the strings. */
static size_t fixed_size(uint32_t version)
{
    return sizeof(struct envelope_head) +
           (version == ENVELOPE_PLAIN ? 0 : sizeof(struct envelope_terms));
}

static enum envelope_version version_of(const struct envelope *envelope)
{
    return envelope_has_terms(&envelope->terms) ? ENVELOPE_WITH_TERMS : ENVELOPE_PLAIN;
}

size_t envelope_size(const struct envelope *envelope, const struct envelope_recipient *recipients)
{
    size_t size = fixed_size(version_of(envelope)) + envelope->reverse_path.len +
                  envelope->envid.len + envelope->added.len;
    for (uint32_t i = 0; i < envelope->recipient_count; i++)
        size += RECIPIENT_HEAD + recipients[i].forward_path.len + recipients[i].orcpt.len;
    return size;
}

static uint8_t *put(uint8_t *out, struct bytes in)
{
    if (in.len != 0)
        memcpy(out, in.data, in.len);
    return out + in.len;
}

static uint8_t *put_u16(uint8_t *out, size_t value)
{
    CHECK(value <= UINT16_MAX);
    out[0] = (uint8_t)value;
    out[1] = (uint8_t)(value >> 8);
    return out + 2;
}

static size_t get_u16(const uint8_t *in)
{
    return in[0] | (size_t)in[1] << 8;
}

size_t envelope_write(const struct envelope *envelope, const struct envelope_recipient *recipients,
                      uint8_t *out)
{
    CHECK(envelope->reverse_path.len <= UINT16_MAX && envelope->envid.len <= UINT16_MAX &&
          envelope->added.len <= UINT32_MAX && terms_are_good(&envelope->terms));
    struct envelope_head head = {
        .version = version_of(envelope),
        .flags = envelope->flags,
        .message_id = envelope->message_id,
        .arrival_us = envelope->arrival_us,
        .text_len = envelope->text_len,
        .recipient_count = envelope->recipient_count,
        .added_len = (uint32_t)envelope->added.len,
        .reverse_path_len = (uint16_t)envelope->reverse_path.len,
        .envid_len = (uint16_t)envelope->envid.len,
    };
    uint8_t *at = put(out, bytes_make(&head, sizeof head));
    if (head.version == ENVELOPE_WITH_TERMS)
        at = put(at, bytes_make(&envelope->terms, sizeof envelope->terms));
    at = put(at, envelope->reverse_path);
    at = put(at, envelope->envid);
    at = put(at, envelope->added);
    for (uint32_t i = 0; i < envelope->recipient_count; i++) {
        at = put_u16(at, recipients[i].forward_path.len);
        at = put_u16(at, recipients[i].orcpt.len);
        CHECK((recipients[i].notify & ENVELOPE_FORWARDED) == 0);
        *at++ =
            (uint8_t)(recipients[i].notify | (recipients[i].forwarded ? ENVELOPE_FORWARDED : 0));
        at = put(at, recipients[i].forward_path);
        at = put(at, recipients[i].orcpt);
    }
    return (size_t)(at - out);
}

bool envelope_read(struct bytes in, struct envelope *envelope)
{
    struct envelope_head head;
    if (in.len < sizeof head)
        return false;
    memcpy(&head, in.data, sizeof head);
    size_t strings = (size_t)head.reverse_path_len + head.envid_len + head.added_len;
    size_t fixed = fixed_size(head.version);
    if ((head.version != ENVELOPE_PLAIN && head.version != ENVELOPE_WITH_TERMS) || in.len < fixed ||
        in.len - fixed < strings)
        return false;
    struct envelope_terms terms = envelope_terms_of(in);
    if (!terms_are_good(&terms))
        return false;
    size_t at = fixed + strings;
    for (uint32_t i = 0; i < head.recipient_count; i++) {
        if (in.len - at < RECIPIENT_HEAD)
            return false;
        size_t len = get_u16(in.data + at) + get_u16(in.data + at + 2);
        at += RECIPIENT_HEAD;
        if (in.len - at < len)
            return false;
        at += len;
    }
    if (at != in.len)
        return false;
    const uint8_t *string = in.data + fixed;
    *envelope = (struct envelope){
        .message_id = head.message_id,
        .arrival_us = head.arrival_us,
        .text_len = head.text_len,
        .flags = head.flags,
        .recipient_count = head.recipient_count,
        .terms = terms,
        .reverse_path = bytes_make(string, head.reverse_path_len),
        .envid = bytes_make(string + head.reverse_path_len, head.envid_len),
        .added = bytes_make(string + head.reverse_path_len + head.envid_len, head.added_len),
    };
    return true;
}

struct envelope_terms envelope_terms_of(struct bytes form)
{
    struct envelope_terms terms = {0};
    uint32_t version;
    memcpy(&version, form.data, sizeof version);
    if (version == ENVELOPE_WITH_TERMS) {
        CHECK(form.len >= fixed_size(version));
        memcpy(&terms, form.data + sizeof(struct envelope_head), sizeof terms);
    }
    return terms;
}

struct envelope_recipient envelope_recipient_next(struct bytes in, size_t *cursor)
{
    size_t at = *cursor;
    if (at == 0) {
        struct envelope_head head;
        memcpy(&head, in.data, sizeof head);
        at = fixed_size(head.version) + head.reverse_path_len + head.envid_len + head.added_len;
    }
    CHECK(at + RECIPIENT_HEAD <= in.len);
    size_t path_len = get_u16(in.data + at);
    size_t orcpt_len = get_u16(in.data + at + 2);
    struct envelope_recipient recipient = {
        .notify = in.data[at + 4] & (uint8_t)~ENVELOPE_FORWARDED,
        .forwarded = (in.data[at + 4] & ENVELOPE_FORWARDED) != 0,
    };
    at += RECIPIENT_HEAD;
    CHECK(path_len + orcpt_len <= in.len - at);
    recipient.forward_path = bytes_make(in.data + at, path_len);
    recipient.orcpt = bytes_make(in.data + at + path_len, orcpt_len);
    *cursor = at + path_len + orcpt_len;
    return recipient;
}
