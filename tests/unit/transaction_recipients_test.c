/* Recipients of a transaction: each mailbox once, whatever leads to it; ORCPT for what aliases have
 * hidden; what the FOR clause of Received says; all or none when room is short. */
#include "gateway/receive/transaction.h"

#include "tests/support/tape.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { BLOCKS = 256, RECIPIENTS_MAX = 1000 };

static struct blocks blocks;
static struct bell bell;
static struct tape tape;
static struct transaction_context context;
static struct transaction *transaction;

static int set_up(void **state)
{
    (void)state;
    if (!blocks_init(&blocks, BLOCKS))
        return -1;
    tape = (struct tape){.staging = staging_new(1 << 20, &bell, NULL, NULL)};
    context = (struct transaction_context){
        .blocks = &blocks,
        .staging = tape.staging,
        .scratch = calloc(RECIPIENTS_MAX, sizeof(struct envelope_recipient)),
        .hostname = BYTES("mx.example.org"),
        .message_size_max = 1 << 20,
        .recipients_max = RECIPIENTS_MAX,
    };
    return tape.staging == NULL || context.scratch == NULL ? -1 : 0;
}

static int tear_down(void **state)
{
    (void)state;
    tape_free(&tape);
    staging_free(tape.staging);
    free(context.scratch);
    blocks_cleanup(&blocks);
    return 0;
}

static void begin(void)
{
    struct command mail;
    assert_int_equal(command_parse(BYTES("MAIL FROM:<a@b.example> SMTPUTF8"), false, true, &mail),
                     COMMAND_OK);
    transaction = transaction_new(&context, &mail, 1);
    assert_non_null(transaction);
}

static struct directory_target target(const char *mailbox)
{
    bool forwarded = mailbox[0] == '>';
    return (struct directory_target){bytes_of_string(mailbox + forwarded), forwarded};
}

/* rcpt adds what a RCPT line stands for: `targets` ends with NULL; none: itself. ">": forwarded. */
static enum reply rcpt(const char *line, const char *const *targets)
{
    static struct directory_target list[2 * RECIPIENTS_MAX];
    struct command command;
    uint32_t count = 0;
    assert_int_equal(command_parse(bytes_of_string(line), true, true, &command), COMMAND_OK);
    if (targets == NULL)
        return transaction_recipient_add(&context, transaction, &command);
    while (targets[count] != NULL) {
        list[count] = target(targets[count]);
        count++;
    }
    return transaction_recipients_add(&context, transaction, &command, list, count, true);
}

#define TO(...) ((const char *const[]){__VA_ARGS__, NULL})

static const struct transaction_recipient *nth(uint32_t index)
{
    const struct transaction_recipient *at = transaction->recipients;
    for (uint32_t i = 0; i < index && at != NULL; i++)
        at = at->next;
    assert_non_null(at);
    return at;
}

static void is(uint32_t index, const char *mailbox, const char *orcpt)
{
    const struct envelope_recipient *recipient = &nth(index)->envelope;
    bool forwarded = mailbox[0] == '>';
    assert_true(bytes_equal(recipient->forward_path, bytes_of_string(mailbox + forwarded)));
    assert_int_equal(recipient->forwarded, forwarded);
    if (!bytes_equal(recipient->orcpt, bytes_of_string(orcpt)))
        print_message("ORCPT %.*s, not %s\n", (int)recipient->orcpt.len,
                      (const char *)recipient->orcpt.data, orcpt);
    assert_true(bytes_equal(recipient->orcpt, bytes_of_string(orcpt)));
}

/* end_with commits, and looks at what the writer got; `clause` NULL: no FOR. */
static void end_with(uint32_t count, const char *clause)
{
    bool ended;
    static union address_any peer;
    struct stamp stamp = {.helo = BYTES("c.example"), .peer = &peer, .wall_us = 1000000};
    assert_true(listener_parse("192.0.2.1:1", &peer));
    assert_int_equal(transaction_data(&context, transaction, BYTES("x\r\n.\r\n"), &ended), 6);
    assert_int_equal(transaction->envelope.recipient_count, count);
    assert_int_equal(transaction_commit(&context, transaction, &stamp), TRANSACTION_COMMITTED);
    staging_publish(tape.staging, true);
    tape_read(&tape, STAGING_DURABLE);
    staging_acknowledge(tape.staging, staging_settled(tape.staging));
    assert_string_equal(tape.fault, "");
    assert_int_equal(tape.envelope.recipient_count, count);
    struct bytes added = tape.envelope.added;
    assert_true((memmem(added.data, added.len, "for <", 5) != NULL) == (clause != NULL));
    if (clause != NULL)
        assert_non_null(memmem(added.data, added.len, clause, strlen(clause)));
    size_t cursor = 0;
    struct bytes form = bytes_make(tape.commit, tape.commit_len);
    for (uint32_t i = 0; i < count; i++) {
        struct envelope_recipient read = envelope_recipient_next(form, &cursor);
        assert_true(bytes_equal(read.forward_path, nth(i)->envelope.forward_path));
        assert_int_equal(read.forwarded, nth(i)->envelope.forwarded);
        assert_int_equal(read.notify, nth(i)->envelope.notify);
    }
    assert_true(transaction_free(&context, transaction));
    assert_int_equal(blocks.used, 0);
}

static void twice_is_once(void **state)
{
    (void)state;
    begin();
    assert_int_equal(rcpt("RCPT TO:<alice@example.org> NOTIFY=NEVER", NULL), REPLY_RECIPIENT_OK);
    assert_int_equal(rcpt("RCPT TO:<\"Alice\"@EXAMPLE.org> NOTIFY=SUCCESS", NULL),
                     REPLY_RECIPIENT_OK);
    assert_int_equal(rcpt("RCPT TO:<bob@example.org>", NULL), REPLY_RECIPIENT_OK);
    assert_int_equal(rcpt("RCPT TO:<alice@example.net>", NULL), REPLY_RECIPIENT_OK);
    is(0, "alice@example.org", "");
    is(1, "bob@example.org", "");
    is(2, "alice@example.net", "");
    assert_int_equal(nth(0)->envelope.notify, COMMAND_NOTIFY_NEVER); /* the first one's word */
    end_with(3, NULL);
}

static void one_by_name_and_by_alias(void **state)
{
    (void)state;
    begin();
    assert_int_equal(rcpt("RCPT TO:<team@example.org> NOTIFY=DELAY",
                          TO("alice@example.org", "bob@example.org", ">c@else.example")),
                     REPLY_RECIPIENT_OK);
    assert_int_equal(rcpt("RCPT TO:<bob@example.org>", NULL), REPLY_RECIPIENT_OK);
    assert_int_equal(rcpt("RCPT TO:<all@example.org> ORCPT=rfc822;Else@x.example",
                          TO(">C@else.example", "dave@example.org", "ALICE@example.org")),
                     REPLY_RECIPIENT_OK);
    is(0, "alice@example.org", "rfc822;team@example.org");
    is(1, "bob@example.org", "rfc822;team@example.org");
    is(2, ">c@else.example", "rfc822;team@example.org");
    is(3, ">C@else.example", "rfc822;Else@x.example"); /* the case of others counts */
    is(4, "dave@example.org", "rfc822;Else@x.example");
    assert_int_equal(nth(2)->envelope.notify, COMMAND_NOTIFY_DELAY);
    end_with(5, NULL);
}

static void received_names_what_was_asked_for(void **state)
{
    (void)state;
    begin();
    assert_int_equal(rcpt("RCPT TO:<info@example.org>", TO(">secret@else.example")),
                     REPLY_RECIPIENT_OK);
    end_with(1, "for <info@example.org>");
    begin();
    assert_int_equal(rcpt("RCPT TO:<info@example.org>", TO("a@example.org", "b@example.org")),
                     REPLY_RECIPIENT_OK);
    end_with(2, "for <info@example.org>");
    begin(); /* two were asked for, one has it: neither is told of the other */
    assert_int_equal(rcpt("RCPT TO:<info@example.org>", TO("a@example.org")), REPLY_RECIPIENT_OK);
    assert_int_equal(rcpt("RCPT TO:<a@example.org>", NULL), REPLY_RECIPIENT_OK);
    end_with(1, NULL);
}

static void orcpt_is_made(void **state)
{
    (void)state;
    static const struct {
        const char *rcpt, *orcpt;
    } cases[] = {
        {"a+b@example.org",                            "rfc822;a+2Bb@example.org"                          },
        {"\"a b=c\\\"\"@example.org",                  "rfc822;\"a+20b+3Dc\\\"\"@example.org"              },
        {"Postmaster",                                 "rfc822;Postmaster"                                 },
 /* RFC 6533 3 */
        {"j\xc3\xb6rg@example.org",                    "utf-8;j\\x{F6}rg@example.org"                      },
        {"\xf0\x9d\x84\x9e+\xe4\xb8\xad=@example.org",
         "utf-8;\\x{1D11E}\\x{2B}\\x{4E2D}\\x{3D}@example.org"                                             },
        {"\"\xc3\xb6 \\\\\"@example.org",              "utf-8;\"\\x{F6}\\x{20}\\x{5C}\\x{5C}\"@example.org"},
    };
    begin();
    for (uint32_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char line[200], mailbox[40];
        snprintf(line, sizeof(line), "RCPT TO:<%s>", cases[i].rcpt);
        snprintf(mailbox, sizeof(mailbox), "t%u@example.org", i);
        assert_int_equal(rcpt(line, TO(mailbox)), REPLY_RECIPIENT_OK);
        is(i, mailbox, cases[i].orcpt);
        /* What was made is one by the grammar. */
        struct command again;
        snprintf(line, sizeof(line), "RCPT TO:<x@example.org> ORCPT=%s", cases[i].orcpt);
        assert_int_equal(command_parse(bytes_of_string(line), true, true, &again), COMMAND_OK);
    }
    /* RFC 3461 5.4: at most 500 octets; better none. */
    char line[300];
    int len = snprintf(line, sizeof(line), "RCPT TO:<");
    for (size_t i = 0; i < 120; i++)
        len += snprintf(line + len, sizeof(line) - (size_t)len, "\xc3\xb6");
    snprintf(line + len, sizeof(line) - (size_t)len, "@x.example>");
    assert_int_equal(rcpt(line, TO("long@example.org")), REPLY_RECIPIENT_OK);
    is(sizeof(cases) / sizeof(cases[0]), "long@example.org", "");
    end_with(sizeof(cases) / sizeof(cases[0]) + 1, NULL);
}

/* In buckets, from some number on, as in the list before. */
static void many(void **state)
{
    (void)state;
    char line[64];
    begin();
    for (unsigned turn = 0; turn < 2; turn++)
        for (unsigned i = 0; i < RECIPIENTS_MAX; i++) {
            snprintf(line, sizeof(line), "RCPT TO:<%s%u@example.org>", turn == 0 ? "u" : "U", i);
            assert_int_equal(rcpt(line, NULL), REPLY_RECIPIENT_OK);
        }
    assert_int_equal(rcpt("RCPT TO:<more@example.org>", NULL), REPLY_TOO_MANY_RECIPIENTS);
    assert_int_equal(rcpt("RCPT TO:<two@example.org>", TO("u1@example.org", "u2@example.org")),
                     REPLY_RECIPIENT_OK);
    assert_int_equal(rcpt("RCPT TO:<two@example.org>", TO("u1@example.org", "v2@example.org")),
                     REPLY_TOO_MANY_RECIPIENTS);
    end_with(RECIPIENTS_MAX, NULL);
}

static const char *const *list_of(unsigned count)
{
    static char texts[RECIPIENTS_MAX + 1][32];
    static const char *list[RECIPIENTS_MAX + 2];
    for (unsigned i = 0; i < count; i++) {
        snprintf(texts[i], sizeof(texts[i]), "list%u@example.org", i);
        list[i] = texts[i];
    }
    list[count] = NULL;
    return list;
}

static void all_or_none(void **state)
{
    (void)state;
    begin();
    assert_int_equal(rcpt("RCPT TO:<first@example.org>", NULL), REPLY_RECIPIENT_OK);
    /* In a transaction of its own it would fit (452 4.5.3); beyond the maximum, never (550). */
    assert_int_equal(rcpt("RCPT TO:<l@example.org>", list_of(RECIPIENTS_MAX)),
                     REPLY_TOO_MANY_RECIPIENTS);
    assert_int_equal(rcpt("RCPT TO:<l@example.org>", list_of(RECIPIENTS_MAX + 1)),
                     REPLY_ALIAS_TOO_LONG);
    assert_int_equal(transaction->envelope.recipient_count, 1);
    assert_int_equal(rcpt("RCPT TO:<l@example.org>", list_of(RECIPIENTS_MAX - 1)),
                     REPLY_RECIPIENT_OK);
    end_with(RECIPIENTS_MAX, NULL);
}

/* With however few blocks left, a list goes in whole or not at all. */
static void short_of_blocks(void **state)
{
    (void)state;
    void *taken[BLOCKS];
    size_t whole = 0, none = 0;
    for (size_t left = 1; left < 60; left++) {
        size_t count = 0;
        while (blocks.count - blocks.used > left)
            taken[count++] = blocks_take(&blocks);
        begin();
        enum reply reply = rcpt("RCPT TO:<l@example.org>", list_of(500));
        if (reply == REPLY_RECIPIENT_OK)
            whole++;
        else
            none++;
        assert_true(reply == REPLY_RECIPIENT_OK || reply == REPLY_NO_MEMORY);
        assert_int_equal(transaction->envelope.recipient_count,
                         reply == REPLY_RECIPIENT_OK ? 500 : 0);
        assert_true(transaction_free(&context, transaction));
        while (count > 0)
            blocks_give(&blocks, taken[--count]);
    }
    assert_true(whole > 0 && none > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(twice_is_once),
        cmocka_unit_test(one_by_name_and_by_alias),
        cmocka_unit_test(received_names_what_was_asked_for),
        cmocka_unit_test(orcpt_is_made),
        cmocka_unit_test(many),
        cmocka_unit_test(all_or_none),
        cmocka_unit_test(short_of_blocks),
    };
    return cmocka_run_group_tests_name("transaction_recipients", tests, set_up, tear_down);
}
