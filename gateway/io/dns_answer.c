/* Reading DNS messages: see dns_answer.h. glibc's ns_parserr keeps to the message's bounds; what it
 * gives is checked here for what it must be. */
#include "gateway/io/dns_answer.h"

#include "gateway/base/check.h"

#include <arpa/nameser.h>
#include <resolv.h>
#include <string.h>

enum {
    CHAIN_MAX = 16,      /* CNAMEs in a row */
    LOOKED_AT_MAX = 256, /* records of a section */
    NAME_TEXT_MAX = 253, /* what fits into 255 octets on the wire */
    LABEL_MAX = 63,
};

static char lower(char c)
{
    return (char)(c >= 'A' && c <= 'Z' ? c + 'a' - 'A' : c);
}

static bool of_host(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

bool dns_name_fold(const char *name, char *out)
{
    size_t label_len = 0;
    for (size_t i = 0; i <= NAME_TEXT_MAX; i++) {
        out[i] = lower(name[i]);
        if (name[i] == '\0')
            return label_len > 0;
        label_len = name[i] == '.' ? 0 : label_len + 1;
        bool dot_at_start = name[i] == '.' && (i == 0 || name[i - 1] == '.');
        if (dot_at_start || label_len > LABEL_MAX || (name[i] != '.' && !of_host(out[i])))
            return false;
    }
    return false;
}

/* --- reading --- */

/* A walk along the CNAMEs of an answer. */
struct walk {
    ns_msg message;
    char name[NS_MAXDNAME]; /* where it has come to, in lower case */
    uint32_t ttl_s;         /* the least so far */
};

static void fold_text(char *name)
{
    for (; *name != '\0'; name++)
        *name = lower(*name);
}

static uint32_t ttl_of(const ns_rr *record)
{
    return ns_rr_ttl(*record) > INT32_MAX ? 0 : ns_rr_ttl(*record); /* RFC 2181 8 */
}

static void shorten(uint32_t *ttl_s, uint32_t other_s)
{
    if (other_s < *ttl_s)
        *ttl_s = other_s;
}

static bool expand(const ns_msg *message, const uint8_t *at, char out[NS_MAXDNAME])
{
    if (dn_expand(ns_msg_base(*message), ns_msg_end(*message), at, out, NS_MAXDNAME) < 0)
        return false;
    fold_text(out);
    return true;
}

/* take reads the data of a record of the type that is wanted. False: it is malformed. */
static bool take(const ns_msg *message, const ns_rr *record, struct dns_record *out)
{
    char exchange[NS_MAXDNAME];
    const uint8_t *data = ns_rr_rdata(*record);
    size_t len = ns_rr_rdlen(*record);
    memset(out, 0, sizeof(*out));
    switch (ns_rr_type(*record)) {
    case ns_t_a:
        out->address.v4.sin_family = AF_INET;
        if (len == sizeof(out->address.v4.sin_addr))
            memcpy(&out->address.v4.sin_addr, data, len);
        return len == sizeof(out->address.v4.sin_addr);
    case ns_t_aaaa:
        out->address.v6.sin6_family = AF_INET6;
        if (len == sizeof(out->address.v6.sin6_addr))
            memcpy(&out->address.v6.sin6_addr, data, len);
        return len == sizeof(out->address.v6.sin6_addr);
    default: /* MX */
        if (len < 3 || !expand(message, data + 2, exchange))
            return false;
        out->preference = (uint16_t)ns_get16(data);
        return exchange[0] == '\0' || dns_name_fold(exchange, out->name);
    }
}

/* look reads the records of the name that the walk has come to. `step` is where its CNAME leads;
 * empty: it has none. False: something about them is malformed. */
static bool look(struct walk *walk, enum dns_type type, struct dns_reading *out,
                 char step[NS_MAXDNAME])
{
    uint32_t malformed = 0;
    int count = ns_msg_count(walk->message, ns_s_an);
    step[0] = '\0';
    for (int i = 0; i < count && i < LOOKED_AT_MAX; i++) {
        ns_rr record;
        if (ns_parserr(&walk->message, ns_s_an, i, &record) != 0)
            return false;
        fold_text(record.name);
        if (ns_rr_class(record) != ns_c_in || strcmp(record.name, walk->name) != 0)
            continue;
        if (ns_rr_type(record) == ns_t_cname) {
            if (!expand(&walk->message, ns_rr_rdata(record), step))
                return false;
            shorten(&walk->ttl_s, ttl_of(&record));
        } else if (ns_rr_type(record) == (ns_type)type && out->count < DNS_RECORDS_MAX) {
            bool taken = take(&walk->message, &record, &out->records[out->count]);
            out->count += taken;
            malformed += !taken;
            shorten(&walk->ttl_s, ttl_of(&record));
        }
    }
    return malformed == 0 || out->count > 0; /* the good ones count */
}

/* soa_ttl reads how long a denial holds (RFC 2308 5). False: there is no SOA record; *referral
 * then says whether the server names others instead. */
static bool soa_ttl(ns_msg *message, uint32_t *ttl_s, bool *referral)
{
    int count = ns_msg_count(*message, ns_s_ns);
    *referral = false;
    for (int i = 0; i < count && i < LOOKED_AT_MAX; i++) {
        ns_rr record;
        if (ns_parserr(message, ns_s_ns, i, &record) != 0)
            return false;
        *referral |= ns_rr_type(record) == ns_t_ns;
        if (ns_rr_type(record) != ns_t_soa)
            continue;
        const uint8_t *at = ns_rr_rdata(record);
        const uint8_t *end = at + ns_rr_rdlen(record);
        for (int name = 0; name < 2; name++) {
            int skipped = dn_skipname(at, end);
            if (skipped < 0)
                return false;
            at += skipped;
        }
        if (end - at != 5 * NS_INT32SZ)
            return false;
        *ttl_s = ttl_of(&record);
        shorten(ttl_s, (uint32_t)ns_get32(at + 4 * NS_INT32SZ)); /* MINIMUM */
        return true;
    }
    return false;
}

static void fail(struct dns_reading *out)
{
    out->status = DNS_FAILED;
    out->ttl_s = DNS_FAILED_TTL_S;
    out->count = 0;
}

static void deny(struct walk *walk, enum dns_status status, struct dns_reading *out)
{
    uint32_t ttl_s = DNS_FAILED_TTL_S;
    bool referral;
    bool sure = soa_ttl(&walk->message, &ttl_s, &referral);
    bool beside = referral || ns_msg_count(walk->message, ns_s_an) > 0;
    if (status == DNS_NO_DATA && !sure && beside) {
        fail(out);
        return;
    }
    out->status = status;
    out->ttl_s = DNS_NEGATIVE_TTL_MAX_S;
    shorten(&out->ttl_s, ttl_s);
    shorten(&out->ttl_s, walk->ttl_s);
}

void dns_answer_read(const uint8_t *message, size_t len, const char *name, enum dns_type type,
                     struct dns_reading *out)
{
    struct walk walk = {.ttl_s = UINT32_MAX};
    char step[NS_MAXDNAME];
    fail(out);
    if (len > NS_MAXMSG || ns_initparse(message, (int)len, &walk.message) != 0)
        return;
    int code = ns_msg_getflag(walk.message, ns_f_rcode);
    if (code != ns_r_noerror && code != ns_r_nxdomain)
        return;
    memcpy(walk.name, name, strlen(name) + 1);
    for (int i = 0; i < CHAIN_MAX; i++) {
        if (!look(&walk, type, out, step)) {
            fail(out);
            return;
        }
        if (out->count > 0) {
            out->status = DNS_FOUND;
            out->ttl_s = walk.ttl_s;
            return;
        }
        if (step[0] == '\0') {
            deny(&walk, code == ns_r_nxdomain ? DNS_NO_NAME : DNS_NO_DATA, out);
            return;
        }
        memcpy(walk.name, step, strlen(step) + 1);
    }
}

/* --- packing --- */

size_t dns_answer_pack(const struct dns_reading *reading, enum dns_type type, uint8_t *out)
{
    size_t len = 0;
    for (uint32_t i = 0; i < reading->count; i++) {
        const struct dns_record *record = &reading->records[i];
        if (type == DNS_A) {
            memcpy(out + len, &record->address.v4.sin_addr, 4);
            len += 4;
        } else if (type == DNS_AAAA) {
            memcpy(out + len, &record->address.v6.sin6_addr, 16);
            len += 16;
        } else {
            size_t name_len = strlen(record->name);
            memcpy(out + len, &record->preference, 2);
            out[len + 2] = (uint8_t)name_len;
            memcpy(out + len + 3, record->name, name_len);
            len += 3 + name_len;
        }
    }
    CHECK(len <= DNS_PACKED_MAX);
    return len;
}

void dns_answer_unpack(const uint8_t *packed, size_t len, enum dns_type type,
                       struct dns_reading *out)
{
    out->count = 0;
    for (size_t at = 0; at < len; out->count++) {
        CHECK(out->count < DNS_RECORDS_MAX);
        struct dns_record *record = &out->records[out->count];
        memset(record, 0, sizeof(*record));
        if (type == DNS_A) {
            record->address.v4.sin_family = AF_INET;
            memcpy(&record->address.v4.sin_addr, packed + at, 4);
            at += 4;
        } else if (type == DNS_AAAA) {
            record->address.v6.sin6_family = AF_INET6;
            memcpy(&record->address.v6.sin6_addr, packed + at, 16);
            at += 16;
        } else {
            memcpy(&record->preference, packed + at, 2);
            memcpy(record->name, packed + at + 3, packed[at + 2]);
            at += 3u + packed[at + 2];
        }
    }
}
