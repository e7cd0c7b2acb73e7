/* A table of texts with counters, found by a keyed hash: what failed is told by strangers. */
#include "gateway/deliver/reasons.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/base/check.h"
#include "gateway/base/hash.h"
#include "parser/octet.h"
#include "tls/crypto.h"

enum { BUCKETS = REASONS_MAX };

static_assert((BUCKETS & (BUCKETS - 1)) == 0, "a hash is cut by a mask");
static_assert(REASONS_MAX <= UINT16_MAX, "numbers have 16 bits");

struct reason {
    char *text;     /* owned; NULL: free */
    uint32_t count; /* who refer to it */
    uint32_t hash;
    uint16_t next; /* in its bucket, or of those free; REASON_NONE: the last */
};

struct reasons {
    uint64_t seed[2];
    uint16_t free_first;
    uint16_t buckets[BUCKETS];
    struct reason list[REASONS_MAX];
};

static size_t clean(const char *text, char out[REASON_TEXT_MAX]);

struct reasons *reasons_new(void)
{
    struct reasons *reasons = calloc(1, sizeof *reasons);
    if (reasons == NULL)
        return NULL;
    crypto_random(reasons->seed, sizeof reasons->seed);
    for (uint16_t i = REASONS_MAX - 1; i > REASON_OTHER; i--) {
        reasons->list[i].next = reasons->free_first;
        reasons->free_first = i;
    }
    return reasons;
}

void reasons_free(struct reasons *reasons)
{
    if (reasons == NULL)
        return;
    for (size_t i = 0; i < REASONS_MAX; i++)
        free(reasons->list[i].text);
    free(reasons);
}

uint16_t reasons_note(struct reasons *reasons, const char *text)
{
    char cleaned[REASON_TEXT_MAX];
    size_t len = clean(text, cleaned);

    if (len == 0)
        return REASON_NONE;
    uint32_t hash = (uint32_t)hash_keyed(reasons->seed, 0, cleaned, len);
    uint16_t *bucket = &reasons->buckets[hash & (BUCKETS - 1)];
    for (uint16_t i = *bucket; i != REASON_NONE; i = reasons->list[i].next) {
        struct reason *known = &reasons->list[i];
        if (known->hash == hash && strcmp(known->text, cleaned) == 0) {
            known->count++;
            return i;
        }
    }
    uint16_t number = reasons->free_first;
    char *kept = number == REASON_NONE ? NULL : strdup(cleaned);
    if (kept == NULL) {
        reasons->list[REASON_OTHER].count++;
        return REASON_OTHER;
    }
    reasons->free_first = reasons->list[number].next;
    reasons->list[number] = (struct reason){kept, 1, hash, *bucket};
    *bucket = number;
    return number;
}

void reasons_drop(struct reasons *reasons, uint16_t reason)
{
    if (reason == REASON_NONE)
        return;
    CHECK(reason < REASONS_MAX && reasons->list[reason].count > 0);
    struct reason *dropped = &reasons->list[reason];
    dropped->count--;
    if (dropped->count > 0 || reason == REASON_OTHER)
        return;
    uint16_t *link = &reasons->buckets[dropped->hash & (BUCKETS - 1)];
    while (*link != reason)
        link = &reasons->list[*link].next;
    *link = dropped->next;
    free(dropped->text);
    *dropped = (struct reason){.next = reasons->free_first};
    reasons->free_first = reason;
}

const char *reasons_text(const struct reasons *reasons, uint16_t reason)
{
    CHECK(reason < REASONS_MAX);
    if (reason == REASON_OTHER)
        return "one of many other reasons";
    const char *text = reasons->list[reason].text;
    return text == NULL ? "" : text;
}

uint32_t reasons_count(const struct reasons *reasons, uint16_t reason)
{
    CHECK(reason < REASONS_MAX);
    return reasons->list[reason].count;
}

/* Copies what is printable of `text`, ASCII or UTF-8, as far as it fits, with a final NUL; what is
 * not becomes "?". C1 controls (U+0080 to U+009F) are not printable either. */
static size_t clean(const char *text, char out[REASON_TEXT_MAX])
{
    struct bytes rest = bytes_make(text, strnlen(text, 2 * REASON_TEXT_MAX));
    size_t len = 0;

    while (rest.len > 0) {
        size_t octets = octet_utf8_len(rest);
        bool control = octets == 2 && rest.data[0] == 0xc2 && rest.data[1] < 0xa0;
        bool plain = rest.data[0] >= ' ' && rest.data[0] < 0x7f;
        size_t width = octets > 0 && !control ? octets : 1;
        if (len + width >= REASON_TEXT_MAX)
            break;
        if (plain || (octets > 0 && !control))
            memcpy(out + len, rest.data, width);
        else
            out[len] = '?';
        len += width;
        rest = bytes_skip(rest, octets > 0 ? octets : 1);
    }
    out[len] = '\0';
    return len;
}
