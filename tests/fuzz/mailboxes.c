/* Fuzzes the address lists of header fields: what is found must mean the same when it is read
 * again, alone, in brackets, and folded. */
#include "parser/mailboxes.h"
#include "gateway/base/check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* check_again: `before`, the mailbox and `after` are a list of this one mailbox. */
static void check_again(struct bytes mailbox, struct bytes before, struct bytes after)
{
    uint8_t text[MAILBOXES_TEXT_MAX + 64];
    struct bytes again;
    memcpy(text, before.data, before.len);
    memcpy(text + before.len, mailbox.data, mailbox.len);
    memcpy(text + before.len + mailbox.len, after.data, after.len);
    struct mailboxes walk = {.rest = bytes_make(text, before.len + mailbox.len + after.len)};
    CHECK(mailboxes_next(&walk, &again) == MAILBOXES_FOUND && bytes_equal(again, mailbox));
    CHECK(mailboxes_next(&walk, &again) == MAILBOXES_END);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mailboxes walk = {.rest = bytes_make(data, size)};
    struct bytes mailbox;
    enum mailboxes_result result;
    size_t count = 0;
    while ((result = mailboxes_next(&walk, &mailbox)) == MAILBOXES_FOUND) {
        CHECK(++count <= size && mailbox.len <= MAILBOXES_TEXT_MAX);
        CHECK(mailbox.data == walk.text && bytes_find(mailbox, '@') < mailbox.len);
        check_again(mailbox, BYTES(""), BYTES(""));
        check_again(mailbox, BYTES("\"x@y\" (c)\r\n <"), BYTES("> ,"));
        check_again(mailbox, BYTES("g: \"(\" <"), BYTES(">;"));
    }
    CHECK(result == MAILBOXES_END ? walk.rest.len == 0 : mailbox.len <= MAILBOXES_TEXT_MAX);
    return 0;
}
