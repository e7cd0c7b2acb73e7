/* Fuzzes what a DNS server may answer: the first octet chooses the type that was asked for, the
 * rest is the message, for "a.test". Whatever comes, the reading is whole, its names could be asked
 * for, and the cache's form gives it back. */
#include "gateway/io/dns_answer.h"

#include "gateway/base/check.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_record(const struct dns_record *record, enum dns_type type)
{
    char folded[DNS_NAME_SIZE];
    if (type == DNS_MX) {
        CHECK(record->address.any.sa_family == 0);
        CHECK(record->name[0] == '\0' ||
              (dns_name_fold(record->name, folded) && strcmp(folded, record->name) == 0));
        return;
    }
    CHECK(record->name[0] == '\0' && record->preference == 0);
    CHECK(record->address.any.sa_family == (type == DNS_A ? AF_INET : AF_INET6));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const enum dns_type types[] = {DNS_A, DNS_MX, DNS_AAAA};
    static struct dns_reading reading, again;
    uint8_t packed[DNS_PACKED_MAX];
    if (size == 0)
        return 0;
    enum dns_type type = types[data[0] % 3];
    memset(&reading, 0xa5, sizeof(reading));
    dns_answer_read(data + 1, size - 1, "a.test", type, &reading);
    CHECK(reading.count <= DNS_RECORDS_MAX && (reading.count > 0) == (reading.status == DNS_FOUND));
    CHECK(reading.status <= DNS_FAILED && reading.ttl_s <= INT32_MAX);
    for (uint32_t i = 0; i < reading.count; i++)
        check_record(&reading.records[i], type);
    dns_answer_unpack(packed, dns_answer_pack(&reading, type, packed), type, &again);
    CHECK(again.count == reading.count);
    CHECK(memcmp(again.records, reading.records, reading.count * sizeof(reading.records[0])) == 0);
    return 0;
}
