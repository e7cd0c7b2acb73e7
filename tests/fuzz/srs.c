/* Any address, read as an SRS address, and forwarded as a sender: what was made comes back as it
 * was, what was not made by us is refused, and what is answered is a mailbox. The first octet
 * chooses options. */
#include "gateway/policy/srs.h"

#include "gateway/base/check.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { NOW_S = 1728000000, DAY_S = 86400 };

static struct srs *make(uint8_t choice)
{
    static const struct bytes secrets[] = {BYTES("first secret"), BYTES("second secret")};
    const struct srs_options options = {
        .domain = BYTES("srs.example.org"),
        .secrets = secrets,
        .secret_count = 1 + (choice & 1),
        .hash_length = 4u + (choice >> 1 & 15),
        .separator = "=+-="[choice >> 5 & 3],
    };
    struct srs *srs = srs_new(&options);
    CHECK(srs != NULL);
    return srs;
}

static bool parse(const char *text, size_t len, struct address *address)
{
    enum address_result result = address_mailbox(bytes_make(text, len), true, address);
    return result == ADDRESS_OK || result == ADDRESS_LONG_LOCAL;
}

/* A sender and what came back mean the same; quotes that were not needed are gone. */
static void check_back(const struct address *sender, const char *back, size_t len)
{
    uint8_t meant[ADDRESS_LOCAL_LEN_MAX], got[ADDRESS_LOCAL_LEN_MAX];
    struct address again;
    CHECK(parse(back, len, &again));
    size_t meant_len = address_local_unquoted(sender, meant);
    size_t got_len = address_local_unquoted(&again, got);
    CHECK(bytes_equal(bytes_make(meant, meant_len), bytes_make(got, got_len)));
    CHECK(bytes_equal(sender->domain, again.domain));
}

static void check_forward(const struct srs *srs, const struct address *sender)
{
    char wrapped[SRS_LEN_MAX], back[SRS_LEN_MAX];
    size_t len = 0;
    size_t back_len = 0;
    struct address address;
    if (srs_forward(srs, sender->text, NOW_S, wrapped, &len) != SRS_OK)
        return;
    CHECK(len <= ADDRESS_LEN_MAX && parse(wrapped, len, &address));
    CHECK(srs_is_ours(srs, address.domain));
    CHECK(srs_reverse(srs, &address, NOW_S, back, &back_len) == SRS_OK);
    struct address again;
    CHECK(parse(back, back_len, &again));
    uint8_t local[ADDRESS_LOCAL_LEN_MAX];
    size_t local_len = address_local_unquoted(&address, local);
    CHECK(local_len > 4);
    if (local[3] == '0') {
        check_back(sender, back, back_len);
        CHECK(srs_reverse(srs, &address, NOW_S + 30 * DAY_S, back, &back_len) == SRS_EXPIRED);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2 || size > 600)
        return 0;
    struct srs *srs = make(data[0]);
    char *text = malloc(size - 1); /* of its own size, for the address sanitizer */
    CHECK(text != NULL);
    memcpy(text, data + 1, size - 1);
    struct address address;
    char out[SRS_LEN_MAX];
    size_t len = 0;
    if (parse(text, size - 1, &address)) {
        check_forward(srs, &address);
        enum srs_result result = srs_reverse(srs, &address, NOW_S, out, &len);
        CHECK(result == SRS_NOT_OURS || srs_is_ours(srs, address.domain));
        struct address again;
        CHECK(result != SRS_OK || (len <= ADDRESS_LEN_MAX && parse(out, len, &again)));
    } else {
        (void)srs_forward(srs, bytes_make(text, size - 1), NOW_S, out, &len);
    }
    free(text);
    srs_free(srs);
    return 0;
}
