/* What a DNS server answered: read (RFC 1035 4, with glibc's parser), and in the form in which the
 * cache keeps it. Only for the resolver (gateway/io/dns.c) and its tests. */
#ifndef GATEWAY_IO_DNS_ANSWER_H
#define GATEWAY_IO_DNS_ANSWER_H

#include "gateway/io/dns.h"

enum {
    DNS_FAILED_TTL_S = 5,           /* a failure is kept so long, and what came without a SOA */
    DNS_NEGATIVE_TTL_MAX_S = 10800, /* RFC 2308 5 */
    DNS_PACKED_MAX = DNS_RECORDS_MAX * (3 + DNS_NAME_MAX),
};

/* An answer with room for its records. */
struct dns_reading {
    enum dns_status status;
    uint32_t ttl_s;
    uint32_t count;
    struct dns_record records[DNS_RECORDS_MAX];
};

/* dns_name_fold writes a name in lower case to `out` of DNS_NAME_SIZE. False: it is no host name
 * that could be asked for (letters, digits, "-" and "_", labels of 1..63 octets, 253 in all). */
bool dns_name_fold(const char *name, char *out) __attribute__((warn_unused_result));

/* dns_answer_read reads a message that answers a question for `type` records of `name` (folded).
 * Records count only when they belong to the name, or to where its CNAMEs lead. Whatever is in the
 * message, the result is one of the statuses but DNS_TIMED_OUT. A message without
 * what was asked for that only refers to other servers or has other records is DNS_FAILED: who
 * sends it is no resolver, and knows nothing about the name. */
void dns_answer_read(const uint8_t *message, size_t len, const char *name, enum dns_type type,
                     struct dns_reading *out);

/* dns_answer_pack writes the records of a reading in a short form to `out` of DNS_PACKED_MAX and
 * returns its length; dns_answer_unpack reads that again, and leaves status and ttl_s alone. */
size_t dns_answer_pack(const struct dns_reading *reading, enum dns_type type, uint8_t *out);
void dns_answer_unpack(const uint8_t *packed, size_t len, enum dns_type type,
                       struct dns_reading *out);

#endif
