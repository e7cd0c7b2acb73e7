/* Header sections of submitted mail: each text is held whole, cut at every octet and octet by
 * octet, and what comes of it must be the same each time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "gateway/receive/fixups.h"

enum { BLOCKS = 8 };

/* What is added, when nothing is there. */
#define DATE       "Date: Sat, 21 Nov 2026 20:25:15 +0000\r\n"
#define MESSAGE_ID "Message-ID: <*>\r\n" /* its text is compared by pattern */
#define BOTH       DATE MESSAGE_ID
#define SENDER     "Sender: alice@example.org\r\n"

static struct blocks blocks;
static struct fixups_pool large;
static struct arena arena;
static struct senders *senders;
static struct submission_rules rules;
static struct fixups_facts facts;

static int set_up(void **state)
{
    (void)state;
    const char *error;
    if (!blocks_init(&blocks, BLOCKS) || !fixups_pool_init(&large, FIXUPS_LARGE_USER + 2))
        return -1;
    arena = (struct arena){0};
    senders = senders_new("example.org");
    rules = (struct submission_rules){.senders = senders, .sender = SUBMISSION_SENDER_ADD};
    facts = (struct fixups_facts){.rules = &rules,
                                  .user = BYTES("alice"),
                                  .hostname = BYTES("mail.example.org"),
                                  .message_id = 4711,
                                  .wall_us = 1795292715000000};
    return senders != NULL &&
                   senders_add(senders, BYTES("alice"), BYTES("sales@example.net"), &error)
               ? 0
               : -1;
}

static int tear_down(void **state)
{
    (void)state;
    arena_empty(&arena, &blocks);
    assert_int_equal(blocks.used, 0);
    assert_int_equal(large.blocks.used, 0);
    assert_true(list_empty(&large.holders));
    blocks_cleanup(&blocks);
    fixups_pool_cleanup(&large);
    senders_free(senders);
    return 0;
}

/* Holds text as long as it is wanted, `first` octets and then `step` at a time; returns how many
 * octets were taken. */
static size_t hold(struct fixups *fixups, struct bytes text, size_t first, size_t step,
                   enum reply *refusal)
{
    size_t at = 0, next = first;
    while (at < text.len && !fixups_whole(fixups)) {
        size_t room = fixups_room(fixups, refusal);
        size_t end = next < text.len ? next : text.len;
        if (room == 0)
            break;
        if (end > at + room)
            end = at + room;
        fixups_text(fixups, bytes_slice(text, at, end));
        at = end;
        next = at + step;
    }
    return at;
}

/* matches: `expected` may have one "*", for a run without CR. */
static bool matches(const char *expected, const char *text)
{
    const char *star = strchr(expected, '*');
    size_t len = star == NULL ? strlen(expected) : (size_t)(star - expected);
    if (strncmp(expected, text, len) != 0)
        return false;
    if (star == NULL)
        return text[len] == '\0';
    size_t run = strcspn(text + len, ">\r");
    return run >= 20 && strcmp(star + 1, text + len + run) == 0;
}

static void mend_cut(struct bytes text, size_t first, size_t step, enum reply reply,
                     const char *header, const char *body)
{
    enum reply refusal = REPLY_NONE;
    struct fixups *fixups = fixups_new(&arena, &blocks, &large, facts.user);
    assert_non_null(fixups);
    size_t at = hold(fixups, text, first, step, &refusal);
    assert_int_equal(refusal, REPLY_NONE);
    assert_true(fixups_whole(fixups) || at == text.len);
    enum reply found = fixups_mend(fixups, &facts);
    if (found != reply)
        fail_msg("\"%.*s\": %s", (int)text.len, (const char *)text.data, reply_name(found));
    if (reply == REPLY_NONE) {
        char made[8192];
        struct bytes is = fixups_header(fixups), rest = fixups_body(fixups);
        snprintf(made, sizeof(made), "%.*s", (int)is.len, (const char *)is.data);
        if (!matches(header, made))
            fail_msg("cut at %zu, %zu: \"%s\"", first, step, made);
        /* What is not held by now follows as it is. */
        snprintf(made, sizeof(made), "%.*s%.*s", (int)rest.len, (const char *)rest.data,
                 (int)(text.len - at), (const char *)text.data + at);
        assert_string_equal(made, body);
        struct bytes held = fixups_held(fixups);
        assert_ptr_equal(held.data, is.data);
        assert_int_equal(held.len, is.len + 2 + rest.len);
        assert_memory_equal(held.data + is.len, "\r\n", 2);
    }
    fixups_free(fixups);
    arena_empty(&arena, &blocks);
    arena = (struct arena){0};
}

static void mend(struct bytes text, enum reply reply, const char *header, const char *body)
{
    mend_cut(text, text.len, 1, reply, header, body);
    mend_cut(text, 1, 1, reply, header, body);
    mend_cut(text, 2, 3, reply, header, body);
    for (size_t i = 1; i < text.len; i++)
        mend_cut(text, i, text.len, reply, header, body);
}

static void mends(const char *text, const char *header, const char *body)
{
    mend(bytes_of_string(text), REPLY_NONE, header, body);
}

static void refuses(const char *text, enum reply reply)
{
    mend(bytes_of_string(text), reply, "", "");
}

#define FROM "From: Alice <alice@example.org>\r\n"
#define ALL  FROM "Date: x\r\nMessage-ID: <x@y>\r\n"

static void test_nothing_missing(void **state)
{
    (void)state;
    mends(ALL "\r\nbody\r\n", ALL, "body\r\n");
    mends(ALL "\r\n", ALL, "");
    mends(ALL "\r\n\r\nFrom: x@evil\r\n", ALL, "\r\nFrom: x@evil\r\n");
    mends("fRoM :alice@example.org\r\nDATE:\r\n\r\nmessage-id\t:\r\n",
          "fRoM :alice@example.org\r\nDATE:\r\n" MESSAGE_ID, "message-id\t:\r\n");
}

static void test_missing(void **state)
{
    (void)state;
    mends(FROM "\r\nbody", FROM BOTH, "body");
    mends(FROM "Date: x\r\n\r\nbody", FROM "Date: x\r\n" MESSAGE_ID, "body");
    mends("Message-ID: <a@b>\r\n" FROM "Resent-Date: x\r\n\r\nbody",
          "Message-ID: <a@b>\r\n" FROM "Resent-Date: x\r\n" DATE, "body");
    /* The text is over before the empty line comes. */
    mends(FROM, FROM BOTH, "");
    mends("From: alice@example.org", "From: alice@example.org\r\n" BOTH, "");
    mends(FROM "Subj", FROM BOTH, "Subj");
    mends(FROM "Subject:", FROM "Subject:\r\n" BOTH, "");
    mends(ALL " ", ALL " \r\n", "");
}

static void test_no_header(void **state)
{
    (void)state;
    rules.sender = SUBMISSION_SENDER_KEEP;
    mends("", BOTH, "");
    mends("\r\n", BOTH, "");
    mends("\r\nbody\r\n", BOTH, "body\r\n");
    mends("Hello world\r\nFrom: x@evil\r\n\r\n", BOTH, "Hello world\r\nFrom: x@evil\r\n\r\n");
    mends(" From: alice@example.org\r\n\r\n", BOTH, " From: alice@example.org\r\n\r\n");
    mends("From alice Sat Nov 21\r\n" FROM "\r\n", BOTH, "From alice Sat Nov 21\r\n" FROM "\r\n");
    mends(":\r\n", BOTH, ":\r\n");
    mends("\xc3\xa4: x\r\n", BOTH, "\xc3\xa4: x\r\n");
    /* A line that is no field ends the section: what stands behind it is body to everybody, now. */
    mends(FROM "no field\r\nFrom: x@evil\r\n\r\n", FROM BOTH, "no field\r\nFrom: x@evil\r\n\r\n");
}

static void test_blind_copies(void **state)
{
    (void)state;
    mends("Bcc: x@y\r\n" ALL "\r\nBcc: z\r\n", ALL, "Bcc: z\r\n");
    mends(ALL "BCC : x@y,\r\n\t z@w\r\n\r\n", ALL, "");
    mends(ALL "Resent-Bcc: x@y\r\nbcc:\r\n\r\n", ALL, "");
    mends(ALL "Bcc: x@y", ALL, "");
    mends("Bcc: x@y\r\n "
          "a\r\nSubject: b\r\n "
          "c\r\nBcc:\r\n "
          "d\r\n" ALL "\r\n",
          "Subject: b\r\n "
          "c\r\n" ALL,
          "");
    mends("Bcc-Me: x\r\nX-Bcc: x\r\nBc: x\r\n" ALL "\r\n", "Bcc-Me: x\r\nX-Bcc: x\r\nBc: x\r\n" ALL,
          "");
}

static void test_from(void **state)
{
    (void)state;
    refuses("From: x@evil\r\n\r\n", REPLY_NOT_YOUR_FROM);
    refuses("From: alice <alice@example.com>\r\n\r\n", REPLY_NOT_YOUR_FROM);
    refuses("From: alice@example.org, x@evil\r\n\r\n", REPLY_NOT_YOUR_FROM);
    refuses("From: \"alice@example.org\" <x@evil>\r\n\r\n", REPLY_NOT_YOUR_FROM);
    refuses("From: alice@example.org <x@evil>\r\n\r\n", REPLY_NOT_YOUR_FROM);
    refuses("From: x@evil <alice@example.org>\r\n\r\n", REPLY_NOT_YOUR_FROM);
    refuses(FROM "from: x@evil\r\n\r\n", REPLY_NOT_YOUR_FROM);
    refuses(FROM "From\t : x@evil\r\n\r\n", REPLY_NOT_YOUR_FROM);
    refuses("From:\r\n x@evil\r\n\r\n", REPLY_NOT_YOUR_FROM);
    refuses("From: (alice@example.org) x@evil\r\n\r\n", REPLY_NOT_YOUR_FROM);
    refuses("From: g: alice@example.org, x@evil;\r\n\r\n", REPLY_NOT_YOUR_FROM);
    refuses("From: alice\r\n\r\n", REPLY_NOT_YOUR_FROM);
    refuses("From: alice@example.org x\r\n\r\n", REPLY_NOT_YOUR_FROM);
    refuses("From: x@evil", REPLY_NOT_YOUR_FROM);
    refuses("From: \"alice@example.org\"@evil\r\n\r\n", REPLY_NOT_YOUR_FROM);
    /* Without an address (RFC 5322 3.6.2); each field counts. */
    refuses("From: (PayPal service@paypal.example)\r\n\r\n", REPLY_NOT_YOUR_FROM);
    refuses("From: \"ceo@evil.example\":;\r\n\r\n", REPLY_NOT_YOUR_FROM);
    refuses("From:\r\n\r\n", REPLY_NOT_YOUR_FROM);
    refuses(FROM "From: ,\r\n\r\n", REPLY_NOT_YOUR_FROM);
    refuses("From: \"ceo@evil.example\r\n \" <alice@example.org>\r\n\r\n", REPLY_NOT_YOUR_FROM);
    refuses("From: \"Alice\" [x] <alice@example.org>\r\n\r\n", REPLY_NOT_YOUR_FROM);
    mends("From: \"Alice, (A)\" <ALICE+x@Example.Org> (sales)\r\n\r\n",
          "From: \"Alice, (A)\" <ALICE+x@Example.Org> (sales)\r\n" BOTH, "");
    mends("From: \"alice\"@example.org\r\n\r\n", "From: \"alice\"@example.org\r\n" BOTH, "");
    mends("From: <@evil:sales@example.net>\r\n\r\n", "From: <@evil:sales@example.net>\r\n" BOTH,
          "");
}

/* Who may send as anything: what is no address list is none of our business. */
static void test_trusted(void **state)
{
    (void)state;
    const char *error;
    assert_true(senders_add(senders, BYTES("relay@example.org"), BYTES("*"), &error));
    facts.user = BYTES("relay");
    mends("From: root (Cron Daemon)\r\n\r\n", "From: root (Cron Daemon)\r\n" BOTH, "");
    mends("From: MAILER-DAEMON\r\n\r\n", "From: MAILER-DAEMON\r\n" BOTH, "");
    mends("From: x@foo_bar.example\r\n\r\n", "From: x@foo_bar.example\r\n" BOTH, "");
    mends("From: x@y, z@w\r\n\r\n", "From: x@y, z@w\r\n" BOTH "Sender: relay@example.org\r\n", "");
}

static void test_sender(void **state)
{
    (void)state;
#define TWO "From: alice@example.org, sales@example.net\r\n"
    mends(TWO "\r\n", TWO BOTH SENDER, "");
    mends(TWO "Sender: x@y\r\n\r\n", TWO "Sender: x@y\r\n" BOTH, "");
    mends("Subject: x\r\n\r\n", "Subject: x\r\n" BOTH SENDER, "");
    rules.from_any = true;
    mends("From: x@evil\r\n\r\n", "From: x@evil\r\n" BOTH SENDER, "");
    mends("From: x@\r\n\r\n", "From: x@\r\n" BOTH SENDER, "");
    rules.sender = SUBMISSION_SENDER_KEEP;
    mends("From: x@evil\r\n\r\n", "From: x@evil\r\n" BOTH, "");
    mends("From: x@evil\r\nSender: z\r\n\r\n", "From: x@evil\r\nSender: z\r\n" BOTH, "");
    rules.sender = SUBMISSION_SENDER_FORCE;
    mends("Sender: z@y\r\nFrom: x@evil\r\n\r\n", "From: x@evil\r\n" BOTH SENDER, "");
    mends(FROM "Sender: z@y\r\n\r\n", FROM BOTH, "");
    facts.user = BYTES("j\xc3\xb6rg"); /* no UTF-8 where none was asked for */
    mends("From: x@evil\r\nSender: z@y\r\n\r\n", "From: x@evil\r\n" BOTH, "");
    facts.utf8 = true;
    mends("From: x@evil\r\n\r\n", "From: x@evil\r\n" BOTH "Sender: j\xc3\xb6rg@example.org\r\n",
          "");
    facts.user = BYTES("no mailbox@x@y");
    mends("From: x@evil\r\nSender: z@y\r\n\r\n", "From: x@evil\r\n" BOTH, "");
}

static void test_bare(void **state)
{
    (void)state;
    refuses("Subject: a\nFrom: x@evil\r\n\r\n", REPLY_BARE_NEWLINE);
    refuses("Subject: a\rFrom: x@evil\r\n\r\n", REPLY_BARE_NEWLINE);
    refuses("Subject: a\n\nb\r\n\r\n", REPLY_BARE_NEWLINE);
    refuses("Subject: a\r", REPLY_BARE_NEWLINE);
    mend(BYTES("Subject: a\0b\r\n\r\n"), REPLY_BARE_NEWLINE, "", "");
    mends(ALL "\r\nbody\nwith\rbare\r\n", ALL, "body\nwith\rbare\r\n");
    mends(ALL "no\nfield", ALL, "no\nfield");
}

static void test_forged_results(void **state)
{
    (void)state;
#define RESULTS "Authentication-Results: other.example.org; x\r\n"
    mends("Authentication-Results: mail.example.org; auth=pass\r\n" RESULTS ALL "\r\n", RESULTS ALL,
          "");
    mends(ALL "authentication-results:\r\n\tMAIL.example.org 1;\r\n x\r\n\r\n", ALL, "");
    static const char *const forged[] = {
        "(x) mail.example.org; auth=pass",
        "(x)mail.example.org 1; auth=pass",
        "\"mail.example.org\"; auth=pass",
        "\"mail.\\example.org\"(x);",
        "mail.example.org.; dkim=pass",
        "\r\n mail.example.org\r\n (x);",
        "mail.example.org",
        /* Whose these are nobody knows. */
        "mail.example.org/1; x",
        "=?utf-8?q?mail=2Eexample=2Eorg?=; spf=pass",
        "(x mail.example.org; x",
        "\"mail.example.org",
        "x mail.example.org; x",
        "",
    };
    for (size_t i = 0; i < sizeof(forged) / sizeof(forged[0]); i++) {
        char text[512];
        snprintf(text, sizeof(text), "Authentication-Results: %s\r\n" ALL "\r\n", forged[i]);
        mends(text, ALL, "");
    }
    mends("Authentication-Results: (mail.example.org) \"other\" 1 (x); x\r\n" ALL "\r\n",
          "Authentication-Results: (mail.example.org) \"other\" 1 (x); x\r\n" ALL, "");
    mends(ALL "Authentication-Results: mail.example.org.evil; x\r\n\r\n",
          ALL "Authentication-Results: mail.example.org.evil; x\r\n", "");
}

static void domain_is(const char *text, const char *domain)
{
    enum reply refusal = REPLY_NONE;
    struct fixups *fixups = fixups_new(&arena, &blocks, &large, facts.user);
    rules.from_any = true;
    (void)hold(fixups, bytes_of_string(text), strlen(text), 1, &refusal);
    assert_int_equal(fixups_mend(fixups, &facts), REPLY_NONE);
    assert_true(bytes_equal(fixups_domain(fixups), bytes_of_string(domain)));
    fixups_free(fixups);
    arena_empty(&arena, &blocks);
    arena = (struct arena){0};
}

static void test_domain(void **state)
{
    (void)state;
    domain_is("From: a@Example.ORG, b@c\r\nFrom: d@e\r\n\r\n", "Example.ORG");
    domain_is("From: \"a@b\"@c\r\n\r\n", "c");
    domain_is("From: x:;\r\nFrom: a@b\r\n\r\n", "b");
    domain_is("From: x\r\n\r\n", "");
    domain_is("Sender: a@b\r\n\r\n", "");
}

/* The section may be as long as is said, and not an octet longer. */
static void test_bounds(void **state)
{
    (void)state;
    char *text = malloc(LIMIT_PIECE + 16);
    assert_non_null(text);
    for (size_t len = FIXUPS_HEADER_MAX - 3; len <= FIXUPS_HEADER_MAX + 3; len++) {
        enum reply refusal = REPLY_NONE;
        memset(text, 'x', len);
        memcpy(text, FROM "Subject: ", sizeof(FROM) + 8);
        memcpy(text + len - 4, "\r\n\r\n", 4);
        struct fixups *fixups = fixups_new(&arena, &blocks, &large, facts.user);
        size_t taken = hold(fixups, bytes_make(text, len), 1000, 1000, &refusal);
        if (taken == len) {
            assert_true(len <= FIXUPS_HEADER_MAX && fixups_whole(fixups));
            assert_int_equal(fixups_mend(fixups, &facts), REPLY_NONE);
            assert_true(fixups_held(fixups).len <= LIMIT_PIECE);
            assert_memory_equal(fixups_held(fixups).data, text, len - 2);
        } else {
            assert_true(len > FIXUPS_HEADER_MAX - 2);
            assert_int_equal(refusal, REPLY_HEADER_TOO_BIG);
        }
        assert_int_equal(large.blocks.used, 1);
        fixups_free(fixups);
        fixups_free(fixups); /* the second time it has nothing */
        arena_empty(&arena, &blocks);
        arena = (struct arena){0};
    }
    free(text);
}

static void test_no_memory(void **state)
{
    (void)state;
    char text[BLOCK_SIZE];
    enum reply refusal = REPLY_NONE;
    memset(text, 'x', sizeof(text));
    void *taken[FIXUPS_LARGE_USER + 2];
    for (size_t i = 0; i < FIXUPS_LARGE_USER + 2; i++)
        assert_non_null(taken[i] = blocks_take(&large.blocks));
    struct fixups *fixups = fixups_new(&arena, &blocks, &large, facts.user);
    assert_non_null(fixups);
    size_t room = fixups_room(fixups, &refusal);
    assert_true(room >= 3000);
    fixups_text(fixups, bytes_make(text, room));
    assert_int_equal(fixups_room(fixups, &refusal), 0);
    assert_int_equal(refusal, REPLY_NO_MEMORY);
    fixups_free(fixups);
    for (size_t i = 0; i < FIXUPS_LARGE_USER + 2; i++)
        blocks_give(&large.blocks, taken[i]);
    void *all[BLOCKS];
    size_t count = 0;
    while ((all[count] = blocks_take(&blocks)) != NULL)
        count++;
    assert_null(fixups_new(&(struct arena){0}, &blocks, &large, facts.user));
    while (count > 0)
        blocks_give(&blocks, all[--count]);
}

/* One user has his share of the large blocks, and no more; others have the rest. */
static void test_share(void **state)
{
    (void)state;
    static const struct bytes users[] = {BYTES("alice"), BYTES("ALICE"), BYTES("bob")};
    char text[BLOCK_SIZE];
    struct fixups *held[FIXUPS_LARGE_USER + 2];
    struct blocks many;
    enum reply refusal = REPLY_NONE;
    assert_true(blocks_init(&many, 3 * FIXUPS_LARGE_USER));
    memset(text, 'x', sizeof(text));
    for (size_t i = 0; i < FIXUPS_LARGE_USER + 2; i++) {
        bool over = i == FIXUPS_LARGE_USER;
        held[i] = fixups_new(&arena, &many, &large, users[i > FIXUPS_LARGE_USER ? 2 : i % 2]);
        assert_non_null(held[i]);
        fixups_text(held[i], bytes_make(text, fixups_room(held[i], &refusal)));
        assert_int_equal(fixups_room(held[i], &refusal) == 0, over);
        assert_true(!over || refusal == REPLY_NO_MEMORY);
    }
    fixups_free(held[0]);
    assert_true(fixups_room(held[FIXUPS_LARGE_USER], &refusal) > 0); /* now it is his turn */
    for (size_t i = 0; i < FIXUPS_LARGE_USER + 2; i++)
        fixups_free(held[i]);
    arena_empty(&arena, &many);
    arena = (struct arena){0};
    assert_int_equal(many.used, 0);
    blocks_cleanup(&many);
}

/* Addresses in From are bounded. */
static void test_many_addresses(void **state)
{
    (void)state;
    char *text = malloc(LIMIT_PIECE);
    for (int over = 0; over < 2; over++) {
        enum reply refusal = REPLY_NONE;
        size_t len = (size_t)snprintf(text, 32, "From: alice@example.org");
        for (int i = 1; i < FIXUPS_FROM_MAX + over; i++)
            len += (size_t)snprintf(text + len, 32, ",alice@example.org");
        struct fixups *fixups = fixups_new(&arena, &blocks, &large, facts.user);
        (void)hold(fixups, bytes_make(text, len), len, 1, &refusal);
        assert_int_equal(fixups_mend(fixups, &facts), over ? REPLY_NOT_YOUR_FROM : REPLY_NONE);
        fixups_free(fixups);
        arena_empty(&arena, &blocks);
        arena = (struct arena){0};
    }
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_nothing_missing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_missing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_no_header, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_blind_copies, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_from, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_sender, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_bare, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_forged_results, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_domain, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_trusted, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_share, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_many_addresses, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_bounds, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_no_memory, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
