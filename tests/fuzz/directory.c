/* A directory from a text, and addresses looked up in it. Each line is one of
 *   D name      a domain            R pattern   a recipient of the last domain
 *   A from to   an alias            ? mailbox   looked up
 * Whatever the lines say: an end in bounded time, targets without duplicates, each a mailbox, and
 * the same answer as directory_check where both must agree. */
#include "gateway/policy/directory.h"

#include "gateway/base/check.h"
#include "gateway/policy/mailbox.h"

#include <stdlib.h>

int LLVMFuzzerInitialize(int *argument_count, char ***arguments);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { NOW_S = 1728000000, TARGETS_MAX = 50, SIZE_MAX_FUZZ = 4096 };

static struct directory_expansion expansion;
static struct srs *srs;

int LLVMFuzzerInitialize(int *argument_count, char ***arguments)
{
    (void)argument_count;
    (void)arguments;
    static const struct bytes secret = BYTES("secret");
    const struct srs_options options = {
        .domain = BYTES("s"), .secrets = &secret, .secret_count = 1, .hash_length = 1};
    srs = srs_new(&options);
    CHECK(srs != NULL && directory_expansion_init(&expansion, TARGETS_MAX));
    return 0;
}

static void check_targets(void)
{
    CHECK(expansion.target_count > 0 && expansion.target_count <= TARGETS_MAX);
    CHECK(expansion.aliased || expansion.target_count == 1);
    for (uint32_t i = 0; i < expansion.target_count; i++) {
        const struct directory_target *target = &expansion.targets[i];
        struct address address;
        enum address_result result = address_mailbox(target->mailbox, true, &address);
        CHECK(result == ADDRESS_OK || result == ADDRESS_LONG_LOCAL ||
              bytes_equal_nocase(target->mailbox, BYTES("postmaster")));
        for (uint32_t other = 0; other < i; other++)
            CHECK(!mailbox_same(target->mailbox, expansion.targets[other].mailbox,
                                !target->forwarded));
    }
}

static void look_up(const struct directory *directory, struct bytes mailbox)
{
    struct address address;
    enum address_result parsed = address_mailbox(mailbox, true, &address);
    if (bytes_equal_nocase(mailbox, BYTES("postmaster")))
        address = (struct address){.text = mailbox, .local = mailbox};
    else if (parsed != ADDRESS_OK && parsed != ADDRESS_LONG_LOCAL)
        return;
    enum directory_verdict verdict = directory_expand(directory, &address, NOW_S, &expansion);
    if (verdict == DIRECTORY_ACCEPT)
        check_targets();
    if (srs_is_ours(srs, address.domain) || address.local.len > ADDRESS_LOCAL_LEN_USUAL)
        return;
    enum directory_verdict checked = directory_check(directory, &address);
    CHECK((checked == DIRECTORY_RELAY_DENIED) == (verdict == DIRECTORY_RELAY_DENIED));
    CHECK(checked == DIRECTORY_ACCEPT || verdict == checked);
    CHECK(verdict != DIRECTORY_ACCEPT || checked == DIRECTORY_ACCEPT);
}

static void take_line(struct directory *directory, struct bytes line, int *domain)
{
    enum address_domain_kind kind;
    const char *error;
    struct bytes rest = bytes_skip(line, 2);
    size_t blank = bytes_find(rest, ' ');
    if (line.len < 3)
        return;
    switch (line.data[0]) {
    case 'D':
        if (address_domain(rest, true, &kind) == ADDRESS_OK && kind == ADDRESS_NAME) {
            int added = directory_add_domain(directory, rest);
            *domain = added < 0 ? *domain : added;
        }
        break;
    case 'R':
        if (*domain >= 0)
            (void)!directory_add_recipient(directory, *domain, rest);
        break;
    case 'A':
        error = NULL;
        if (blank < rest.len && !directory_add_alias(directory, bytes_slice(rest, 0, blank),
                                                     bytes_skip(rest, blank + 1), &error))
            CHECK(error != NULL);
        break;
    default: break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > SIZE_MAX_FUZZ)
        return 0;
    struct directory *directory = directory_new();
    CHECK(directory != NULL);
    directory_set_srs(directory, srs);
    int domain = -1;
    for (int round = 0; round < 2; round++) {
        struct bytes rest = bytes_make(data, size);
        while (rest.len > 0) {
            size_t end = bytes_find(rest, '\n');
            struct bytes line = bytes_slice(rest, 0, end);
            rest = bytes_skip(rest, end + 1);
            if (round == 0)
                take_line(directory, line, &domain);
            else if (line.len > 2 && line.data[0] == '?')
                look_up(directory, bytes_skip(line, 2));
        }
    }
    char text[64];
    (void)directory_alias_missing(directory, text, sizeof(text));
    (void)directory_alias_loop(directory, text, sizeof(text));
    for (int i = 0; i <= domain; i++)
        directory_set_flags(directory, i, DIRECTORY_NO_TARGET);
    (void)directory_alias_copy(directory, text, sizeof(text));
    directory_free(directory);
    return 0;
}
