/* Fuzzes proxy_parse: the answer to a part of a header is the answer to all of it or "unfinished",
 * what it points to lies inside the header, and what stands behind the header changes nothing. */
#include "parser/proxy.h"

#include "gateway/base/check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_inside(struct bytes all, struct bytes part)
{
    if (part.len > 0)
        CHECK(part.data >= all.data && part.data + part.len <= all.data + all.len);
}

static void check_header(struct bytes in, const struct proxy *header)
{
    struct bytes all = bytes_slice(in, 0, header->len);
    CHECK(header->len <= in.len && header->len <= PROXY_V2_MAX && header->len >= 15);
    CHECK(header->version == 1 || header->version == 2);
    CHECK(header->version == 2 || header->len <= PROXY_V1_MAX);
    CHECK(!header->local || header->family == PROXY_NONE);
    CHECK(header->tls || !header->tls_verified);
    CHECK(header->unique_id.len <= PROXY_UNIQUE_ID_MAX);
    CHECK(proxy_begins(in));
    const struct bytes parts[] = {header->authority, header->unique_id, header->tls_version,
                                  header->tls_name, header->tls_cipher};
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
        check_inside(all, parts[i]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes in = bytes_make(data, size);
    struct proxy whole, part;
    enum proxy_result result = proxy_parse(in, &whole);
    if (result == PROXY_OK)
        check_header(in, &whole);
    if (result == PROXY_MORE)
        CHECK(size < PROXY_V2_MAX);
    bool seen_bad = false;
    for (size_t len = 0; len <= size && len <= PROXY_V2_MAX; len++) {
        enum proxy_result now = proxy_parse(bytes_slice(in, 0, len), &part);
        CHECK(now == PROXY_MORE || now == result);
        CHECK(!seen_bad || now == PROXY_BAD);
        seen_bad |= now == PROXY_BAD;
        if (now == PROXY_OK)
            CHECK(part.len == whole.len && part.family == whole.family && len >= part.len &&
                  memcmp(part.source, whole.source, sizeof(part.source)) == 0);
        if (result == PROXY_OK)
            CHECK((now == PROXY_OK) == (len >= whole.len));
    }
    return 0;
}
