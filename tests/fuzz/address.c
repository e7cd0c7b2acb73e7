/* Fuzzes the address functions: the first octet chooses whether UTF-8 is allowed, the rest is the
 * address. What is taken must lie inside the input, keep the limits, and be taken again, the same,
 * when it stands alone. */
#include "parser/address.h"

#include "gateway/base/check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_inside(struct bytes in, struct bytes part)
{
    CHECK(part.len == 0 || (part.data >= in.data && part.data + part.len <= in.data + in.len));
}

static void check_same(const struct address *a, const struct address *b)
{
    CHECK(bytes_equal(a->text, b->text) && bytes_equal(a->local, b->local));
    CHECK(bytes_equal(a->domain, b->domain) && a->domain_kind == b->domain_kind);
    CHECK(a->quoted == b->quoted && a->utf8 == b->utf8);
}

/* The meaning of the local part, quoted again with as few backslashes as can be, means the same. */
static void check_meaning(const struct address *address)
{
    uint8_t meaning[ADDRESS_LOCAL_LEN_MAX], again[ADDRESS_LOCAL_LEN_MAX];
    size_t len = address_local_unquoted(address, meaning);
    CHECK(len <= address->local.len - (address->quoted ? 2 : 0));
    uint8_t text[2 * ADDRESS_LOCAL_LEN_MAX + 8] = "\"";
    size_t text_len = 1;
    for (size_t i = 0; i < len; i++) {
        if (meaning[i] == '"' || meaning[i] == '\\')
            text[text_len++] = '\\';
        text[text_len++] = meaning[i];
    }
    memcpy(text + text_len, "\"@x", 3);
    struct address quoted;
    enum address_result result = address_mailbox(bytes_make(text, text_len + 3), true, &quoted);
    if (text_len + 1 > ADDRESS_LOCAL_LEN_MAX) {
        CHECK(result == ADDRESS_TOO_LONG);
        return;
    }
    CHECK(result == (text_len + 1 > ADDRESS_LOCAL_LEN_USUAL ? ADDRESS_LONG_LOCAL : ADDRESS_OK));
    CHECK(address_local_unquoted(&quoted, again) == len && memcmp(meaning, again, len) == 0);
}

static bool is_taken(enum address_result result)
{
    return result == ADDRESS_OK || result == ADDRESS_LONG_LOCAL;
}

/* Everything that is true of every address that was taken. */
static void check_taken(struct bytes in, bool utf8, const struct address *address)
{
    check_inside(in, address->text);
    check_inside(in, address->local);
    check_inside(in, address->domain);
    if (address->domain_kind == ADDRESS_NO_DOMAIN) {
        CHECK(address->text.len == 0 || bytes_equal_nocase(address->text, BYTES("postmaster")));
        return;
    }
    CHECK(address->local.len > 0 && address->local.len <= ADDRESS_LOCAL_LEN_MAX);
    CHECK(address->domain.len > 0 && address->domain.len <= ADDRESS_DOMAIN_LEN_MAX);
    CHECK(address->text.len <= ADDRESS_LEN_MAX);
    CHECK(address->local.len + 1 + address->domain.len == address->text.len);
    CHECK(address->text.data[address->local.len] == '@');
    CHECK(address->quoted == (address->local.data[0] == '"'));
    CHECK((address->domain.data[0] == '[') == (address->domain_kind != ADDRESS_NAME));
    bool high = false;
    for (size_t i = 0; i < address->text.len; i++) {
        uint8_t c = address->text.data[i];
        CHECK(c >= ' ' && c != 127);
        high |= c > 127;
    }
    CHECK(high == address->utf8 && (utf8 || !high));
    struct address again;
    CHECK(address_mailbox(address->text, utf8, &again) ==
          (address->local.len > ADDRESS_LOCAL_LEN_USUAL ? ADDRESS_LONG_LOCAL : ADDRESS_OK));
    check_same(address, &again);
    enum address_domain_kind kind;
    CHECK(address_domain(address->domain, utf8, &kind) == ADDRESS_OK);
    CHECK(kind == address->domain_kind);
    check_meaning(address);
}

static void check_zero(const struct address *address)
{
    const struct address zero = {0};
    check_same(address, &zero);
}

static enum address_result check_path(enum address_result (*function)(struct bytes, bool,
                                                                      struct address *, size_t *),
                                      struct bytes in, bool utf8, struct address *address)
{
    size_t used = SIZE_MAX;
    enum address_result result = function(in, utf8, address, &used);
    if (!is_taken(result)) {
        CHECK(used == 0);
        check_zero(address);
        return result;
    }
    CHECK(used >= 2 && used <= in.len && in.data[0] == '<' && in.data[used - 1] == '>');
    check_taken(in, utf8, address);
    /* A path that has ended is the same without what follows, and none without its bracket. */
    struct address again;
    size_t used_again;
    CHECK(function(bytes_slice(in, 0, used), utf8, &again, &used_again) == result);
    CHECK(used_again == used);
    check_same(address, &again);
    CHECK(function(bytes_slice(in, 0, used - 1), utf8, &again, &used_again) == ADDRESS_BAD);
    return result;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    bool utf8 = data[0] & 1;
    struct bytes in = bytes_make(data + 1, size - 1);
    struct address address, other;
    enum address_result result = address_mailbox(in, utf8, &address);
    if (is_taken(result))
        check_taken(in, utf8, &address);
    else
        check_zero(&address);
    /* Permission changes one answer only; what is too long may then be long only. */
    enum address_result permitted = address_mailbox(in, true, &other);
    CHECK(permitted == (result == ADDRESS_UTF8 ? ADDRESS_OK : result) ||
          (result == ADDRESS_TOO_LONG && permitted == ADDRESS_LONG_LOCAL));
    if (is_taken(result))
        check_same(&address, &other);

    enum address_result path = check_path(address_path, in, utf8, &address);
    enum address_result reverse = check_path(address_reverse_path, in, utf8, &other);
    CHECK(reverse == path || (path == ADDRESS_BAD && other.text.len == 0));
    enum address_result forward = check_path(address_forward_path, in, utf8, &other);
    CHECK(forward == path || (path == ADDRESS_BAD && other.domain.len == 0));
    enum address_domain_kind kind;
    result = address_domain(in, utf8, &kind);
    CHECK((result == ADDRESS_OK) == (kind != ADDRESS_NO_DOMAIN));
    return 0;
}
