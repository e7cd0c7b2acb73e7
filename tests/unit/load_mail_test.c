/* Messages as they go over the wire: taken apart again by the rules of the RFCs, they are what
 * their header section says, in every size, way and piece. */
#include "bench/load/lognormal.h"
#include "bench/load/mail.h"
#include "gateway/spool/crc.h"
#include "tests/support/model.h"
#include "tests/support/tree.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

static struct mail_options options_default(void)
{
    return (struct mail_options){
        .size = 4096,
        .recipients = {1, 1},
        .domain = "example.org",
        .from = "load@sender.example",
        .user = "user",
        .run = 0x0123abcd,
        .seed = 1,
    };
}

/* A message as it is stored. */
struct stored {
    uint8_t *text;
    size_t len;
    uint32_t chunks;
};

static void stored_add(struct stored *stored, const void *data, size_t len)
{
    stored->text = realloc(stored->text, stored->len + len + 1);
    assert_non_null(stored->text);
    memcpy(stored->text + stored->len, data, len);
    stored->len += len;
    stored->text[stored->len] = '\0';
}

/* wire_of joins the pieces; owned. */
static struct stored wire_of(const struct iovec *pieces, uint32_t count)
{
    struct stored wire = {0};
    assert_true(count > 0 && count <= MAIL_PIECES_MAX);
    for (uint32_t i = 0; i < count; i++) {
        assert_true(pieces[i].iov_len > 0);
        stored_add(&wire, pieces[i].iov_base, pieces[i].iov_len);
    }
    return wire;
}

/* content_of takes the message apart as a server would. */
static struct stored content_of(const struct mail *mail, const struct mail_options *options,
                                struct mail_draft *draft)
{
    struct iovec pieces[MAIL_PIECES_MAX];
    struct stored stored = {0};
    if (!options->bdat) {
        assert_int_equal(draft->chunks, 1);
        struct stored wire = wire_of(pieces, mail_content(mail, draft, 0, pieces));
        stored.text = malloc(wire.len + 1);
        size_t taken = model_data(bytes_make(wire.text, wire.len), stored.text, &stored.len);
        assert_int_equal(taken, wire.len); /* it ends at its end, and not before */
        stored.text[stored.len] = '\0';
        free(wire.text);
        return stored;
    }
    for (uint32_t chunk = 0; chunk < draft->chunks; chunk++) {
        struct stored wire = wire_of(pieces, mail_content(mail, draft, chunk, pieces));
        char *end;
        assert_memory_equal(wire.text, "BDAT ", 5);
        size_t len = strtoul((char *)wire.text + 5, &end, 10);
        const char *last = chunk + 1 == draft->chunks ? " LAST\r\n" : "\r\n";
        assert_memory_equal(end, last, strlen(last));
        end += strlen(last);
        assert_int_equal((uint8_t *)end + len - wire.text, wire.len);
        if (options->chunk > 0 && chunk + 1 < draft->chunks)
            assert_int_equal(len, options->chunk);
        stored_add(&stored, end, len);
        free(wire.text);
    }
    return stored;
}

/* field_of copies the value of a field. */
static void field_of(const struct stored *stored, const char *name, char *value, size_t size)
{
    char begin[64];
    snprintf(begin, sizeof begin, "\r\n%s: ", name);
    const char *text = (const char *)stored->text;
    const char *found =
        strncmp(text, begin + 2, strlen(begin) - 2) == 0 ? text - 2 : strstr(text, begin);
    assert_non_null(found);
    found += strlen(begin);
    snprintf(value, size, "%.*s", (int)strcspn(found, "\r"), found);
}

/* Id, sum and size are what the message says and the draft says. */
static void check_identity(const struct stored *stored, const struct mail_draft *draft)
{
    char value[128], expected[128];
    const char *body = strstr((const char *)stored->text, "\r\n\r\n");
    assert_non_null(body);
    body += 4;
    uint32_t sum = crc32(0, body, stored->len - (size_t)(body - (const char *)stored->text));
    field_of(stored, "X-Load-Sum", value, sizeof value);
    snprintf(expected, sizeof expected, "%08x", sum);
    assert_string_equal(value, expected);
    assert_int_equal(draft->sum, sum);
    field_of(stored, "X-Load-Id", value, sizeof value);
    snprintf(expected, sizeof expected, "0123abcd-%010llu", (unsigned long long)draft->number);
    assert_string_equal(value, expected);
    assert_int_equal(strlen(value), MAIL_ID_LEN);
    assert_int_equal(draft->size, stored->len);
    assert_false(model_has_bare(stored->text, stored->len));
    assert_memory_equal(stored->text + stored->len - 2, "\r\n", 2);
}

/* Every line has 70 columns, but the last one. */
static void check_lines(const struct stored *stored)
{
    const char *line = strstr((const char *)stored->text, "\r\n\r\n") + 4;
    for (const char *end; *line != '\0'; line = end + 2) {
        end = strstr(line, "\r\n");
        assert_non_null(end);
        assert_true(end - line == 70 || (end - line < 74 && end[2] == '\0') ||
                    (end - line == 70 - 1 && strcmp(end, "\r\n\r\n") == 0));
    }
}

/* --- made messages --- */

static void check_size(size_t size, bool bdat, size_t chunk)
{
    struct mail_options options = options_default();
    struct mail_draft draft;
    options.size = size;
    options.bdat = bdat;
    options.chunk = chunk;
    struct mail *mail = mail_new(&options);
    uint32_t sums[17];
    for (uint64_t number = 0; number < 17; number++) {
        mail_draft(mail, number + 1000000000, number * UINT64_C(0x9e3779b97f4a7c15), &draft);
        struct stored stored = content_of(mail, &options, &draft);
        check_identity(&stored, &draft);
        check_lines(&stored);
        if (size >= 400)
            assert_int_equal(stored.len, size);
        assert_true(mail_size_mean(mail) == (double)stored.len);
        sums[number] = draft.sum;
        free(stored.text);
    }
    /* Sixteen different bodies; of large messages one. */
    assert_int_equal(sums[0], sums[16]);
    for (unsigned i = 1; i < 16 && size >= 400; i++)
        assert_int_equal(sums[i] == sums[i - 1], size > 66000);
    mail_free(mail);
}

static void sizes(void **state)
{
    (void)state;
    for (size_t size = 400; size < 400 + 150; size++)
        check_size(size, false, 0);
    static const size_t others[] = {0, 1, 300, 4096, 10000, 65536, 100000};
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        check_size(others[i], false, 0);
        check_size(others[i], true, 0);
    }
}

static void chunks(void **state)
{
    (void)state;
    static const size_t all[] = {1, 2, 100, 333, 334, 999, 1000, 1001, 5000};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        check_size(1000, true, all[i]);
    struct mail_options options = options_default();
    struct mail_draft draft;
    options.bdat = true;
    options.size = 1000;
    for (size_t chunk = 0; chunk < 1003; chunk++) {
        options.chunk = chunk;
        struct mail *mail = mail_new(&options);
        mail_draft(mail, 1, 0, &draft);
        assert_int_equal(draft.chunks, chunk == 0 ? 1 : (1000 + chunk - 1) / chunk);
        mail_free(mail);
    }
}

/* A body that is large enough has lines that begin with a dot, and not only those. */
static void dots(void **state)
{
    (void)state;
    struct mail_options options = options_default();
    struct mail_draft draft;
    struct iovec pieces[MAIL_PIECES_MAX];
    options.size = 20000;
    struct mail *mail = mail_new(&options);
    mail_draft(mail, 5, 0, &draft);
    struct stored wire = wire_of(pieces, mail_content(mail, &draft, 0, pieces));
    unsigned stuffed = 0;
    for (const char *at = (char *)wire.text; (at = strstr(at, "\r\n..")) != NULL; at++)
        stuffed++;
    assert_true(stuffed >= 3 && stuffed <= 6);
    assert_int_equal(wire.len, 20000 + stuffed + 3);
    free(wire.text);
    mail_free(mail);
}

/* RFC 5322 3.3: the day of the week is that of the date, and the date is now. */
static void header_section(void **state)
{
    (void)state;
    struct mail_options options = options_default();
    struct mail_draft draft;
    char value[128], day[8];
    time_t before = time(NULL);
    struct mail *mail = mail_new(&options);
    mail_draft(mail, 42, 0, &draft);
    struct stored stored = content_of(mail, &options, &draft);
    field_of(&stored, "Date", value, sizeof value);
    struct tm tm = {0};
    const char *rest = strptime(value, "%a, %d %b %Y %H:%M:%S ", &tm);
    assert_non_null(rest);
    assert_string_equal(rest, "+0000");
    time_t said = timegm(&tm);
    assert_true(said >= before && said <= time(NULL));
    strftime(day, sizeof day, "%a", gmtime(&said));
    assert_memory_equal(value, day, 3);
    field_of(&stored, "Message-ID", value, sizeof value);
    assert_string_equal(value, "<0123abcd-0000000042@sender.example>");
    field_of(&stored, "From", value, sizeof value);
    assert_string_equal(value, "Load <load@sender.example>");
    field_of(&stored, "To", value, sizeof value);
    assert_string_equal(value, "<user@example.org>");
    free(stored.text);
    mail_free(mail);
}

/* The longest names that options_read lets through. */
static void longest_names(void **state)
{
    (void)state;
    char user[61], domain[121], from[121];
    memset(from, 'f', 120);
    memset(user, 'u', 60);
    memset(domain, 'd', 120);
    user[60] = domain[120] = from[120] = '\0';
    from[1] = '@'; /* its domain stands in Message-ID, too */
    struct mail_options options = options_default();
    struct mail_draft draft;
    options.user = user;
    options.domain = domain;
    options.from = from;
    struct mail *mail = mail_new(&options);
    mail_draft(mail, UINT64_C(9999999999), 0, &draft);
    struct stored stored = content_of(mail, &options, &draft);
    check_identity(&stored, &draft);
    free(stored.text);
    mail_free(mail);
}

static void acked_lines(void **state)
{
    (void)state;
    struct mail_options options = options_default();
    struct mail_draft draft;
    char line[MAIL_ACKED_MAX], expected[128];
    struct mail *mail = mail_new(&options);
    mail_draft(mail, 17, 0, &draft);
    static const uint32_t counts[] = {1, 100000, UINT32_MAX};
    for (unsigned i = 0; i < 3; i++) {
        size_t len = mail_acked(mail, &draft, counts[i], line);
        snprintf(expected, sizeof expected, "0123abcd-0000000017 %08x %u\n", draft.sum, counts[i]);
        assert_int_equal(len, strlen(expected));
        assert_true(len <= MAIL_ACKED_MAX);
        assert_memory_equal(line, expected, len);
    }
    mail_free(mail);
}

/* --- commands --- */

/* commands_are checks the text of some commands, and in how many pieces it came. */
static void commands_are(const struct mail *mail, const struct mail_draft *draft, uint32_t first,
                         uint32_t count, const char *expected, uint32_t pieces_max)
{
    struct iovec pieces[MAIL_PIECES_MAX];
    uint32_t used = mail_commands(mail, draft, first, count, pieces);
    assert_true(used <= pieces_max);
    struct stored wire = wire_of(pieces, used);
    assert_string_equal((char *)wire.text, expected);
    free(wire.text);
}

static void commands_of_one_recipient(void **state)
{
    (void)state;
    struct mail_options options = options_default();
    struct mail_draft draft;
    struct mail *mail = mail_new(&options);
    mail_draft(mail, 0, UINT64_MAX, &draft);
    assert_int_equal(draft.recipients, 1);
    assert_int_equal(mail_command_count(mail, &draft), 3);
    commands_are(mail, &draft, 0, 3,
                 "MAIL FROM:<load@sender.example>\r\nRCPT TO:<user@example.org>\r\nDATA\r\n", 1);
    commands_are(mail, &draft, 0, 1, "MAIL FROM:<load@sender.example>\r\n", 1);
    commands_are(mail, &draft, 1, 1, "RCPT TO:<user@example.org>\r\n", 1);
    commands_are(mail, &draft, 2, 1, "DATA\r\n", 1);
    mail_free(mail);
    options.bdat = true;
    mail = mail_new(&options);
    mail_draft(mail, 0, 0, &draft);
    assert_int_equal(mail_command_count(mail, &draft), 2);
    commands_are(mail, &draft, 0, 2,
                 "MAIL FROM:<load@sender.example>\r\nRCPT TO:<user@example.org>\r\n", 1);
    mail_free(mail);
}

static void commands_of_many_recipients(void **state)
{
    (void)state;
    struct mail_options options = options_default();
    struct mail_draft draft;
    uint32_t seen[4] = {0};
    options.recipients = (struct words_range){1, 3};
    struct mail *mail = mail_new(&options);
    uint64_t chance = 1;
    for (unsigned i = 0; i < 3000; i++) {
        chance = chance * UINT64_C(6364136223846793005) + 1442695040888963407;
        mail_draft(mail, i, chance, &draft);
        assert_in_range(draft.recipients, 1, 3);
        if (seen[draft.recipients]++ > 0)
            continue;
        char text[512] = "MAIL FROM:<load@sender.example>\r\n";
        for (uint32_t j = 0; j < draft.recipients; j++) {
            char rcpt[64];
            snprintf(rcpt, sizeof rcpt, "RCPT TO:<user%u@example.org>\r\n", j);
            commands_are(mail, &draft, 1 + j, 1, rcpt, 1);
            snprintf(text + strlen(text), sizeof text - strlen(text), "%s", rcpt);
        }
        commands_are(mail, &draft, draft.recipients + 1, 1, "DATA\r\n", 1);
        commands_are(mail, &draft, 0, draft.recipients + 1, text, 1);
        snprintf(text + strlen(text), sizeof text - strlen(text), "DATA\r\n");
        commands_are(mail, &draft, 0, mail_command_count(mail, &draft), text,
                     draft.recipients == 3 ? 1 : 2);
    }
    for (unsigned i = 1; i <= 3; i++)
        assert_in_range(seen[i], 850, 1150);
    mail_free(mail);
    options.recipients = (struct words_range){100, 100};
    mail = mail_new(&options);
    mail_draft(mail, 0, 0, &draft);
    struct iovec pieces[MAIL_PIECES_MAX];
    assert_int_equal(mail_commands(mail, &draft, 0, 102, pieces), 1);
    commands_are(mail, &draft, 100, 2, "RCPT TO:<user99@example.org>\r\nDATA\r\n", 1);
    mail_free(mail);
}

/* --- sizes by chance --- */

static void quantiles_of_normal(void **state)
{
    (void)state;
    static const struct {
        double share, value;
    } known[] = {
        {0.5,    0                  },
        {0.075,  -1.4395314709384563},
        {0.0749, -1.4402382675279632},
        {0.925,  1.4395314709384563 },
        {0.975,  1.9599639845400545 },
        {0.25,   -0.6744897501960817},
        {0.001,  -3.090232306167813 },
        {0.999,  3.090232306167813  },
        {1e-6,   -4.753424308822899 },
    };
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        assert_true(fabs(normal_quantile(known[i].share) - known[i].value) < 1e-6);
    for (double share = 0.0001; share < 0.9999; share += 0.0001)
        assert_true(normal_quantile(share) < normal_quantile(share + 0.0001));
    /* The error function is the other way round. */
    for (double share = 0.0005; share < 1; share += 0.001)
        assert_true(fabs(0.5 * erfc(-normal_quantile(share) / sqrt(2)) - share) < 1e-6);
}

static void sizes_of_lognormal(void **state)
{
    (void)state;
    double sum = 0;
    size_t last = 0;
    for (uint32_t i = 0; i < 256; i++) {
        size_t size = lognormal_size(20000, 1, 1000000000, i, 256);
        assert_true(size > last);
        last = size;
        sum += (double)size;
        assert_int_equal(lognormal_size(20000, 1, 30000, i, 256), size < 30000 ? size : 30000);
        assert_int_equal(lognormal_size(20000, 0, 30000, i, 256), 20000);
    }
    assert_in_range(lognormal_size(20000, 1, 1000000000, 127, 256), 19800, 20000);
    assert_in_range(lognormal_size(20000, 1, 1000000000, 128, 256), 20000, 20200);
    /* The mean of the distribution is median * exp(sigma^2 / 2); of 256 parts nearly so. */
    double mean = 20000 * exp(0.5);
    assert_true(fabs(sum / 256 - mean) < mean * 0.02);
}

static void check_lognormal(bool bdat, double sigma)
{
    struct mail_options options = options_default();
    struct mail_draft draft;
    options.sizes = MAIL_SIZES_LOGNORMAL;
    options.size = 5000;
    options.sigma = sigma;
    options.size_max = 200000;
    options.bdat = bdat;
    struct mail *mail = mail_new(&options);
    double sum = 0;
    size_t last = 0;
    for (uint64_t part = 0; part < 256; part++) {
        mail_draft(mail, part, part << 24 | 0xffffff, &draft);
        struct stored stored = content_of(mail, &options, &draft);
        check_identity(&stored, &draft);
        size_t size = lognormal_size(5000, sigma, 200000, (uint32_t)part, 256);
        if (size >= 400)
            assert_int_equal(stored.len, size);
        assert_true(stored.len >= last);
        last = stored.len;
        sum += (double)stored.len;
        free(stored.text);
    }
    assert_true(fabs(mail_size_mean(mail) - sum / 256) < 0.001);
    mail_free(mail);
}

/* With sigma 0.003 neighbours differ by no more than an octet or two, and end in every column. */
static void messages_of_lognormal(void **state)
{
    (void)state;
    static const double sigmas[] = {0, 0.001, 0.003, 0.5, 1.5, 5};
    for (size_t i = 0; i < sizeof(sigmas) / sizeof(sigmas[0]); i++) {
        check_lognormal(false, sigmas[i]);
        check_lognormal(true, sigmas[i]);
    }
}

/* --- real messages --- */

static const char *const real[] = {
    "Subject: plain\r\n\r\nA line\r\n.\r\n..\r\n.with dots\r\n",
    "Subject: eight\r\n\r\nGr\xc3\xbc\xc3\x9f!\r\n",
    "Subject: no body\r\n",
    "\r\nno header section\r\n\r\n",
    "X-Load-Id: of another\r\nX-Load-Sum: 00000000\r\n\r\n.\r\n",
};
enum { REAL_COUNT = sizeof(real) / sizeof(real[0]) };

static void check_corpus(const char *folder, bool bdat)
{
    struct mail_options options = options_default();
    struct mail_draft draft;
    options.sizes = MAIL_SIZES_CORPUS;
    options.corpus = folder;
    options.bdat = bdat;
    options.chunk = bdat ? 7 : 0;
    struct mail *mail = mail_new(&options);
    assert_int_equal(mail_left_out(mail), 0);
    double sum = 0;
    for (uint64_t i = 0; i < REAL_COUNT * 2; i++) {
        char front[128];
        const char *text = real[i % REAL_COUNT];
        const char *blank = text[0] == '\r' ? NULL : strstr(text, "\r\n\r\n");
        const char *body = blank != NULL ? blank + 4 : text[0] == '\r' ? text + 2 : "";
        mail_draft(mail, i, i * UINT64_C(0x9e3779b97f4a7c15), &draft);
        struct stored stored = content_of(mail, &options, &draft);
        uint32_t crc = crc32(0, body, strlen(body));
        snprintf(front, sizeof front, "X-Load-Sum: %08x\r\nX-Load-Id: 0123abcd-%010u\r\n", crc,
                 (unsigned)i);
        assert_int_equal(stored.len, strlen(front) + strlen(text));
        assert_memory_equal(stored.text, front, strlen(front));
        assert_memory_equal(stored.text + strlen(front), text, strlen(text));
        assert_int_equal(draft.size, stored.len);
        assert_int_equal(draft.sum, crc);
        sum += i < REAL_COUNT ? (double)stored.len : 0;
        free(stored.text);
        bool eight_bit = i % REAL_COUNT == 1;
        commands_are(mail, &draft, 0, 1,
                     eight_bit ? "MAIL FROM:<load@sender.example> BODY=8BITMIME\r\n"
                               : "MAIL FROM:<load@sender.example>\r\n",
                     1);
    }
    assert_true(mail_size_mean(mail) == sum / REAL_COUNT);
    mail_free(mail);
}

static void messages_of_corpus(void **state)
{
    (void)state;
    for (unsigned i = 0; i < REAL_COUNT; i++) {
        char name[32];
        snprintf(name, sizeof name, "%u.eml", i);
        tree_put(name, real[i]);
    }
    check_corpus(tree_path(""), false);
    check_corpus(tree_path(""), true);
}

/* A sender of one's own: in MAIL, From and the domain of Message-ID. */
static void sender(void **state)
{
    (void)state;
    struct mail_options options = options_default();
    struct mail_draft draft;
    char value[256];
    options.from = "a.b@mx.example.net";
    struct mail *mail = mail_new(&options);
    mail_draft(mail, 7, 0, &draft);
    commands_are(mail, &draft, 0, 1, "MAIL FROM:<a.b@mx.example.net>\r\n", 1);
    struct stored stored = content_of(mail, &options, &draft);
    field_of(&stored, "From", value, sizeof value);
    assert_string_equal(value, "Load <a.b@mx.example.net>");
    field_of(&stored, "Message-ID", value, sizeof value);
    assert_string_equal(value, "<0123abcd-0000000007@mx.example.net>");
    assert_int_equal(stored.len, options.size);
    free(stored.text);
    mail_free(mail);
}

/* Runs after one another with the same messages, and no id twice. */
static void renamed(void **state)
{
    (void)state;
    struct mail_options options = options_default();
    struct mail_draft draft;
    char line[MAIL_ACKED_MAX], value[256];
    struct mail *mail = mail_new(&options);
    mail_rename(mail, 0xfedcba98);
    mail_draft(mail, 7, 0, &draft);
    assert_true(mail_acked(mail, &draft, 1, line) > MAIL_ID_LEN);
    assert_memory_equal(line, "fedcba98-0000000007 ", MAIL_ID_LEN + 1);
    struct stored stored = content_of(mail, &options, &draft);
    field_of(&stored, "X-Load-Id", value, sizeof value);
    assert_string_equal(value, "fedcba98-0000000007");
    free(stored.text);
    mail_free(mail);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes),
        cmocka_unit_test(chunks),
        cmocka_unit_test(dots),
        cmocka_unit_test(header_section),
        cmocka_unit_test(longest_names),
        cmocka_unit_test(sender),
        cmocka_unit_test(renamed),
        cmocka_unit_test(acked_lines),
        cmocka_unit_test(commands_of_one_recipient),
        cmocka_unit_test(commands_of_many_recipients),
        cmocka_unit_test(quantiles_of_normal),
        cmocka_unit_test(sizes_of_lognormal),
        cmocka_unit_test(messages_of_lognormal),
        TREE_TEST(messages_of_corpus),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
