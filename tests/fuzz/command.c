/* Fuzzes command_parse: the first octet chooses `utf8` and `lenient`, the rest is the line. Besides
 * what must be true of each result, it compares results of lines that must come to the same: white
 * space at the end, another case of the verb, lenient where strict was enough. */
#include "parser/command.h"

#include "gateway/base/check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { LINE_LEN_MAX = 4096 };

static void check_inside(struct bytes line, struct bytes part)
{
    CHECK(part.len == 0 ||
          (part.data >= line.data && part.data + part.len <= line.data + line.len));
}

/* Printable ASCII without "=" where an esmtp-value stands; UTF-8 only in ORCPT. */
static void check_value(struct bytes value, size_t len_max, bool utf8)
{
    CHECK(value.len <= len_max);
    for (size_t i = 0; i < value.len; i++)
        CHECK(value.data[i] > ' ' && value.data[i] != '=' &&
              (value.data[i] < 127 || (utf8 && value.data[i] > 127)));
}

static void check_address(const struct command *command, bool utf8, bool lenient)
{
    const struct address *address = &command->address;
    bool path = command->verb == VERB_MAIL || command->verb == VERB_RCPT;
    if (!path)
        CHECK(address->text.data == NULL && address->text.len == 0);
    if (address->text.len == 0 || address->domain_kind == ADDRESS_NO_DOMAIN) {
        CHECK(address->text.len == 0 || command->verb == VERB_RCPT);
        return;
    }
    struct address again;
    bool allowed = command->verb == VERB_MAIL ? command->smtputf8 : utf8;
    enum address_result result = address_mailbox(address->text, allowed, &again);
    CHECK(result == ADDRESS_OK || (lenient && result == ADDRESS_LONG_LOCAL));
    CHECK(bytes_equal(again.local, address->local) && bytes_equal(again.domain, address->domain));
    CHECK(again.utf8 == address->utf8 && again.domain_kind == address->domain_kind);
}

/* What a good line may have set, by verb. */
static void check_good(struct bytes line, const struct command *command, bool utf8, bool lenient)
{
    bool mail = command->verb == VERB_MAIL;
    bool rcpt = command->verb == VERB_RCPT;
    bool bdat = command->verb == VERB_BDAT;
    CHECK(command->verb != VERB_UNKNOWN && command->verb < VERB_COUNT);
    for (size_t i = 0; i < line.len && command->verb != VERB_PROXY; i++)
        CHECK(line.data[i] != '\0' && line.data[i] != '\r' && line.data[i] != '\n');
    CHECK(mail || bdat || (!command->has_size && command->size == 0));
    CHECK(!bdat || command->has_size);
    CHECK(bdat || !command->last);
    CHECK(mail || (command->body == 0 && command->ret == 0 && command->envid.len == 0 &&
                   command->auth.len == 0));
    CHECK(mail || command->verb == VERB_VRFY || command->verb == VERB_EXPN || !command->smtputf8);
    CHECK(mail || !command->requiretls);
    CHECK(rcpt || (!command->has_notify && command->orcpt.len == 0));
    CHECK(command->has_notify == (command->notify != 0));
    CHECK((command->notify & COMMAND_NOTIFY_NEVER) == 0 || command->notify == COMMAND_NOTIFY_NEVER);
    CHECK(command->notify < 16 && command->body <= COMMAND_BODY_BINARYMIME);
    CHECK(command->ret <= COMMAND_RET_HDRS);
    check_value(command->envid, 100, false);
    check_value(command->auth, 500, false);
    check_value(command->orcpt, 500, utf8);
    check_address(command, utf8, lenient);
}

static void check_same(const struct command *a, const struct command *b)
{
    CHECK(a->verb == b->verb && bytes_equal(a->argument, b->argument));
    CHECK(bytes_equal(a->address.text, b->address.text));
    CHECK(a->has_size == b->has_size && a->size == b->size && a->last == b->last);
    CHECK(a->smtputf8 == b->smtputf8 && a->requiretls == b->requiretls && a->body == b->body &&
          a->ret == b->ret);
    CHECK(a->has_notify == b->has_notify && a->notify == b->notify);
    CHECK(bytes_equal(a->envid, b->envid) && bytes_equal(a->orcpt, b->orcpt));
    CHECK(bytes_equal(a->auth, b->auth));
}

/* The line with white space at its end, and with the case of its verb turned round, is the same
 * line. */
static void check_variants(struct bytes line, bool utf8, bool lenient,
                           const struct command *command, enum command_result result)
{
    uint8_t text[LINE_LEN_MAX + 2];
    struct command other;
    if (line.len > 0)
        memcpy(text, line.data, line.len);
    memcpy(text + line.len, " \t", 2);
    CHECK(command_parse(bytes_make(text, line.len + 2), utf8, lenient, &other) == result);
    check_same(command, &other);
    for (size_t i = 0; i < command->name.len; i++)
        if ((uint8_t)(byte_lower(text[i]) - 'a') < 26)
            text[i] ^= 32;
    CHECK(command_parse(bytes_make(text, line.len), utf8, lenient, &other) == result);
    check_same(command, &other);
}

/* An unknown parameter behind a good MAIL or RCPT is found; and the strict rule takes no line that
 * the lenient one refuses. */
static void check_derived(struct bytes line, bool utf8, const struct command *command)
{
    uint8_t text[LINE_LEN_MAX + 8];
    struct command other;
    CHECK(command_parse(line, utf8, true, &other) == COMMAND_OK);
    check_same(command, &other);
    if (command->verb != VERB_MAIL && command->verb != VERB_RCPT)
        return;
    size_t len = (size_t)(command->argument.data + command->argument.len - line.data);
    memcpy(text, line.data, len);
    memcpy(text + len, " X-Y=Z", 6);
    enum command_result result = command_parse(bytes_make(text, len + 6), utf8, true, &other);
    CHECK(result == COMMAND_UNKNOWN_PARAMETER);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0 || size > LINE_LEN_MAX)
        return 0;
    bool utf8 = data[0] & 1;
    bool lenient = data[0] & 2;
    struct bytes line = bytes_make(data + 1, size - 1);
    struct command command;
    enum command_result result = command_parse(line, utf8, lenient, &command);
    CHECK(result >= COMMAND_OK && result <= COMMAND_BAD_OCTETS);
    CHECK(command.name.data == line.data && command.name.len <= line.len);
    CHECK((result == COMMAND_UNKNOWN) <= (command.verb == VERB_UNKNOWN));
    const struct bytes parts[] = {
        command.argument, command.address.text, command.address.local, command.address.domain,
        command.envid,    command.orcpt,        command.auth};
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
        check_inside(line, parts[i]);
    check_variants(line, utf8, lenient, &command, result);
    if (result == COMMAND_OK) {
        check_good(line, &command, utf8, lenient);
        check_derived(line, utf8, &command);
    }
    return 0;
}
