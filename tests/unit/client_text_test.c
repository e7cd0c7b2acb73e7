/* Text as pieces of loans: whatever the text and however it is cut, what comes out for DATA is what
 * a simple loop makes of it, reads back to the text, and for BDAT is the text. */
#include "gateway/deliver/client_text.h"

#include "parser/scan.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { ROOM = 1 << 20 };

/* A source that gives pieces of any size, each in memory of its own. */
struct source {
    struct bytes text;
    size_t at, piece_len;
    uint8_t *piece;
    int fail;
    uint32_t rewinds;
};

static struct blocks blocks;
static uint8_t out[ROOM], wanted[ROOM];
static size_t out_len, windows;
static uint64_t seed = 88172645463325253U;

static uint32_t random_below(uint32_t limit)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (uint32_t)((seed >> 32) * limit >> 32);
}

static int next(void *user, struct bytes *piece)
{
    struct source *source = user;
    size_t left = source->text.len - source->at;
    size_t len = source->piece_len > 0 ? source->piece_len : 1 + random_below(40);
    len = len < left ? len : left;
    free(source->piece);
    source->piece = malloc(len + 1);
    assert_non_null(source->piece);
    if (len > 0)
        memcpy(source->piece, source->text.data + source->at, len);
    source->at += len;
    *piece = bytes_make(source->piece, len);
    return source->at == source->text.len ? source->fail : 0;
}

static int rewind_source(void *user)
{
    struct source *source = user;
    source->at = 0;
    source->rewinds++;
    return 0;
}

/* send collects all windows of a delivery; returns the error. */
static int send_all(struct source *source, struct bytes head, bool dots)
{
    struct delivery delivery = {
        .head = head, .size = head.len + source->text.len, .text = {next, rewind_source, source}
    };
    struct client_text text = {0};
    int error = client_text_begin(&text, &delivery, dots, &blocks);
    out_len = windows = 0;
    while (error == 0 && !text.ended) {
        struct iovec pieces[CLIENT_TEXT_PIECES];
        uint32_t count;
        size_t before = out_len;
        error = client_text_next(&text, pieces, &count);
        assert_in_range(count, 0, CLIENT_TEXT_PIECES);
        for (uint32_t i = 0; error == 0 && i < count; i++) {
            assert_true(pieces[i].iov_len > 0);
            assert_in_range(pieces[i].iov_len, 1, ROOM - out_len);
            memcpy(out + out_len, pieces[i].iov_base, pieces[i].iov_len);
            out_len += pieces[i].iov_len;
        }
        assert_true(error != 0 || text.ended || out_len > before); /* or it would never end */
        assert_in_range(out_len - before, 0, CLIENT_TEXT_WINDOW + 2 * BLOCK_SIZE);
        windows++;
    }
    client_text_end(&text);
    free(source->piece);
    source->piece = NULL;
    assert_int_equal(blocks.used, 0);
    return error;
}

/* stuff is RFC 5321 4.5.2 as a loop. */
static size_t stuff(struct bytes head, struct bytes text)
{
    size_t len = 0, total = head.len + text.len;
    int matched = 2; /* octets of CR LF before */
    for (size_t i = 0; i < total; i++) {
        uint8_t octet = i < head.len ? head.data[i] : text.data[i - head.len];
        if (matched == 2 && octet == '.')
            wanted[len++] = '.';
        wanted[len++] = octet;
        matched = octet == '\r' ? 1 : octet == '\n' && matched == 1 ? 2 : 0;
    }
    if (matched != 2) {
        memcpy(wanted + len, "\r\n", 2);
        len += 2;
    }
    memcpy(wanted + len, ".\r\n", 3);
    return len + 3;
}

static void check(struct bytes head, struct bytes text, size_t piece_len)
{
    struct source source = {.text = text, .piece_len = piece_len};
    size_t len = stuff(head, text);
    assert_int_equal(send_all(&source, head, true), 0);
    assert_int_equal(source.rewinds, 1);
    assert_int_equal(out_len, len);
    assert_memory_equal(out, wanted, len);
    assert_int_equal(send_all(&source, head, false), 0);
    assert_int_equal(out_len, head.len + text.len);
    if (head.len > 0)
        assert_memory_equal(out, head.data, head.len);
    if (text.len > 0)
        assert_memory_equal(out + head.len, text.data, text.len);
}

static void short_texts(void **state)
{
    static const char *const texts[] = {
        "",     ".",        "..",         ".\r\n",        "a",          "a\r\n",
        "\r\n", "\r\n.",    "\r\n.\r\n",  ".\r\n.\r\n.",  "a\r\n..b",   "\r\n\r\n",
        "a\r",  "a\r\n.\r", "\r\n.\r\n.", "a\r\n.b\r\nc", ".a\r\n.b\r", "\n.\r.\r\n.",
    };
    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
        for (size_t piece_len = 0; piece_len <= 4; piece_len++) {
            check(BYTES(""), bytes_of_string(texts[i]), piece_len);
            check(BYTES("R: x\r\n"), bytes_of_string(texts[i]), piece_len);
            check(BYTES("R: x\r"), bytes_of_string(texts[i]), piece_len);
            check(bytes_of_string(texts[i]), BYTES(""), piece_len);
        }
    }
}

static struct bytes random_text(uint8_t *room, size_t len_max)
{
    static const char *const parts[] = {"\r\n", ".", "\r\n.", "\r", "\n", "abc", "."};
    size_t len = random_below((uint32_t)len_max + 1);
    uint32_t plain = random_below(40); /* long stretches without dots, or none */
    for (size_t at = 0; at < len;) {
        const char *part = parts[random_below(7)];
        size_t part_len = strlen(part) < len - at ? strlen(part) : len - at;
        memcpy(room + at, part, part_len);
        at += part_len;
        size_t fill = plain == 0 ? 0 : random_below(plain * 30);
        fill = fill < len - at ? fill : len - at;
        memset(room + at, 'x', fill);
        at += fill;
    }
    return bytes_make(room, len);
}

static void random_texts(void **state)
{
    static uint8_t room[20000], head[200];
    (void)state;
    for (int i = 0; i < 3000; i++) {
        size_t len_max = i % 10 == 0 ? sizeof(room) : 300;
        struct bytes text = random_text(room, len_max);
        check(random_text(head, i % 3 == 0 ? sizeof(head) : 0), text,
              i % 4 == 0 ? 0 : 1 + random_below((uint32_t)len_max));
    }
}

/* What comes out reads back to the text, by the scanner of the receiving side. */
static void reads_back(void **state)
{
    static uint8_t room[20000], back[20000];
    (void)state;
    for (int i = 0; i < 300; i++) {
        struct bytes text = random_text(room, sizeof(room) - 2);
        size_t len = 0, taken = 0;
        struct scan scan = {0};
        struct source source = {.text = text};
        if (text.len < 2 || memcmp(text.data + text.len - 2, "\r\n", 2) != 0) {
            memcpy(room + text.len, "\r\n", 2);
            source.text.len = text.len += 2;
        }
        assert_int_equal(send_all(&source, BYTES(""), true), 0);
        while (taken < out_len && scan.position != SCAN_ENDED) {
            struct bytes span;
            taken += scan_data(&scan, bytes_make(out + taken, out_len - taken), &span);
            if (span.len > 0)
                memcpy(back + len, span.data, span.len);
            len += span.len;
        }
        assert_int_equal(scan.position, SCAN_ENDED);
        assert_int_equal(taken, out_len);
        assert_int_equal(len, text.len);
        assert_memory_equal(back, text.data, len);
    }
}

/* A text that is all dots does not become a loan for every four of them. */
static void many_dots(void **state)
{
    enum { LINES = 100000 };
    uint8_t *room = malloc(3 * LINES);
    (void)state;
    for (size_t i = 0; i < LINES; i++)
        memcpy(room + 3 * i, ".\r\n", 3);
    check(BYTES(""), bytes_make(room, 3 * LINES), 131072);
    struct source source = {.text = bytes_make(room, 3 * LINES), .piece_len = 131072};
    assert_int_equal(send_all(&source, BYTES(""), true), 0);
    assert_in_range(windows, 4 * LINES / BLOCK_SIZE, 4 * LINES / BLOCK_SIZE + 10);
    void *taken[8]; /* without a block it goes all the same */
    for (int i = 0; i < 8; i++)
        taken[i] = blocks_take(&blocks);
    blocks.used -= 8; /* what send_all is to find */
    assert_int_equal(send_all(&source, BYTES(""), true), 0);
    assert_int_equal(out_len, stuff(BYTES(""), source.text));
    assert_memory_equal(out, wanted, out_len);
    blocks.used += 8;
    for (int i = 0; i < 8; i++)
        blocks_give(&blocks, taken[i]);
    free(room);
}

static void sources_that_fail(void **state)
{
    struct source source = {.text = BYTES("0123456789"), .piece_len = 4, .fail = -EIO};
    struct client_text text = {0};
    struct iovec pieces[CLIENT_TEXT_PIECES];
    uint32_t count;
    (void)state;
    assert_int_equal(send_all(&source, BYTES(""), true), -EIO);
    source.fail = 0;
    for (uint64_t size = 0; size < 20; size++) { /* of which 12 is right */
        struct delivery delivery = {
            .head = BYTES("h:"), .size = size, .text = {next, rewind_source, &source}
        };
        int error = client_text_begin(&text, &delivery, size % 2, &blocks);
        while (error == 0 && !text.ended)
            error = client_text_next(&text, pieces, &count);
        /* What comes behind the whole length can't be known. */
        bool whole = size == 2 || size == 6 || size == 10 || size == 12;
        assert_int_equal(error, whole ? 0 : -EBADMSG);
        client_text_end(&text);
    }
    free(source.piece);
}

static void headers(void **state)
{
    static const struct {
        const char *head, *text;
        bool ascii;
    } cases[] = {
        {"",                "",                          true },
        {"",                "A: b\r\n\r\nc\r\n",         true },
        {"",                "A: b\r\n\r\n\xc3\xbc\r\n",  true },
        {"",                "A: \xc3\xbc\r\n\r\n",       false},
        {"",                "A: b\r\nB: \xff",           false},
        {"",                "\r\n\xc3\xbc\r\n",          true },
        {"R: \xc3\xbc\r\n", "\r\n",                      false},
        {"R: a\r\n",        "B: c\r\n\r\n\xc3",          true },
        {"R: a\r\n",        "\r\n\xc3",                  true },
        {"R: a\r\n",        "B: c\r\n \r\n\xc3\r\n\r\n", false},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        for (size_t piece_len = 1; piece_len < 20; piece_len += 3) {
            struct source source = {.text = bytes_of_string(cases[i].text), .piece_len = piece_len};
            struct delivery delivery = {
                .head = bytes_of_string(cases[i].head), .text = {next, rewind_source, &source}
            };
            bool ascii;
            assert_int_equal(client_text_header_ascii(&delivery, &ascii), 0);
            assert_int_equal(ascii, cases[i].ascii);
            free(source.piece);
        }
    }
    char *endless = malloc(300000);
    memset(endless, 'a', 300000);
    struct source source = {.text = bytes_make(endless, 300000), .piece_len = 1000};
    struct delivery delivery = {
        .text = {next, rewind_source, &source}
    };
    bool ascii = true;
    assert_int_equal(client_text_header_ascii(&delivery, &ascii), 0);
    assert_false(ascii);
    source.fail = -EBADMSG;
    source.text.len = 5000;
    assert_int_equal(client_text_header_ascii(&delivery, &ascii), -EBADMSG);
    assert_false(ascii);
    free(source.piece);
    free(endless);
}

static int set_up(void **state)
{
    (void)state;
    scan_choose_best();
    return blocks_init(&blocks, 8) ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    blocks_cleanup(&blocks);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(short_texts),       cmocka_unit_test(random_texts),
        cmocka_unit_test(reads_back),        cmocka_unit_test(many_dots),
        cmocka_unit_test(sources_that_fail), cmocka_unit_test(headers),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
