/* Making mail: see scan_mail.h. It resembles real mail in what a scanner meets: how long lines are,
 * how many there are, whether octets are above 127, and how often a dot begins a line. */
#include "bench/scan_mail.h"

#include "bench/words.h"

#include <stdlib.h>
#include <sys/mman.h>

enum { PAGE_LARGE = 2 << 20, BASE64_COLUMNS = 76, DOT_EVERY = 64 };

/* A message under construction. */
struct maker {
    struct scan_mail *mail;
    uint64_t random;
};

const char *scan_mail_kind_name(enum scan_mail_kind kind)
{
    static const char *const names[SCAN_MAIL_KINDS] = {
        [SCAN_MAIL_MIX] = "mix",           [SCAN_MAIL_TEXT] = "text",
        [SCAN_MAIL_HTML] = "HTML",         [SCAN_MAIL_ATTACHMENT] = "base64",
        [SCAN_MAIL_EMPTY] = "empty lines", [SCAN_MAIL_DOTS] = "lines of a dot",
    };
    return names[kind];
}

/* --- memory --- */

static void *grow(void *memory, size_t len)
{
    memory = realloc(memory, len);
    if (memory == NULL)
        words_die("no memory for %zu octets of mail", len);
    return memory;
}

static void append(struct scan_mail *mail, struct bytes more)
{
    if (mail->room - mail->len < more.len) {
        mail->room = mail->room * 2 + more.len + 4096;
        mail->data = grow(mail->data, mail->room);
    }
    if (more.len > 0)
        memcpy(mail->data + mail->len, more.data, more.len);
    mail->len += more.len;
}

static void message_ends(struct scan_mail *mail)
{
    if (mail->count == mail->count_room) {
        mail->count_room = mail->count_room * 2 + 64;
        mail->ends = grow(mail->ends, mail->count_room * sizeof(*mail->ends));
    }
    mail->ends[mail->count++] = mail->len;
}

void scan_mail_free(struct scan_mail *mail)
{
    free(mail->data);
    free(mail->ends);
    *mail = (struct scan_mail){0};
}

uint8_t *scan_mail_pages(size_t len)
{
    size_t room = (len + PAGE_LARGE - 1) / PAGE_LARGE * PAGE_LARGE;
    uint8_t *pages = aligned_alloc(PAGE_LARGE, room);
    if (pages == NULL)
        words_die("no memory for %zu octets of mail", room);
    (void)madvise(pages, room, MADV_HUGEPAGE); /* only a wish */
    memset(pages, ' ', room);
    return pages;
}

struct scan_mail scan_mail_cut(const struct scan_mail *from, size_t len)
{
    size_t room = len > from->ends[0] ? len : from->ends[0];
    struct scan_mail mail = {.data = scan_mail_pages(room), .room = room};
    size_t too_large = 0; /* messages in a row that did not fit */
    for (size_t i = 0; too_large < from->count; i = (i + 1) % from->count) {
        size_t start = i == 0 ? 0 : from->ends[i - 1];
        struct bytes message = bytes_make(from->data + start, from->ends[i] - start);
        too_large++;
        if (mail.count > 0 && message.len > len - mail.len)
            continue;
        append(&mail, message);
        message_ends(&mail);
        if (mail.len > len)
            break; /* the one that there is at least */
        too_large = 0;
    }
    return mail;
}

void scan_mail_add(struct scan_mail *mail, struct bytes message)
{
    while (message.len > 0) {
        size_t newline = bytes_find(message, '\n');
        size_t line_len = newline < message.len ? newline + 1 : message.len;
        if (message.data[0] == '.')
            append(mail, BYTES("."));
        append(mail, bytes_slice(message, 0, line_len));
        message = bytes_skip(message, line_len);
    }
    append(mail, BYTES(".\r\n"));
    message_ends(mail);
}

/* --- text --- */

/* chance returns a number below `below` (xorshift64; Marsaglia). */
static uint32_t chance(struct maker *maker, uint32_t below)
{
    maker->random ^= maker->random << 13;
    maker->random ^= maker->random >> 7;
    maker->random ^= maker->random << 17;
    return (uint32_t)((maker->random >> 32) * below >> 32);
}

static void say(struct maker *maker, const char *text)
{
    append(maker->mail, bytes_of_string(text));
}

static void say_word(struct maker *maker)
{
    char word[16];
    uint32_t len = 1 + chance(maker, 9);
    for (uint32_t i = 0; i < len; i++)
        word[i] = (char)('a' + chance(maker, 26));
    append(maker->mail, bytes_make(word, len));
}

static void say_header(struct maker *maker, const char *type)
{
    static const char *const names[] = {
        "Received: from ", "From: ", "To: ", "Subject: ", "Message-ID: ", "Date: "};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        say(maker, names[i]);
        for (uint32_t words = 4 + chance(maker, 6); words > 0; words--) {
            say_word(maker);
            say(maker, words > 1 ? " " : "\r\n");
        }
    }
    say(maker, "MIME-Version: 1.0\r\nContent-Type: ");
    say(maker, type);
    say(maker, "\r\n\r\n");
}

/* A line of words, up to `columns`; now and then one of `others` in place of a word. */
static void say_line(struct maker *maker, uint32_t columns, const char *const *others,
                     uint32_t other_count)
{
    size_t start = maker->mail->len;
    if (columns > 1 && chance(maker, DOT_EVERY) == 0)
        say(maker, "..");
    while (maker->mail->len - start < columns) {
        if (other_count > 0 && chance(maker, 8) == 0)
            say(maker, others[chance(maker, other_count)]);
        else
            say_word(maker);
        say(maker, " ");
    }
    if (maker->mail->len - start > columns)
        maker->mail->len = start + columns;
    say(maker, "\r\n");
}

static void make_text(struct maker *maker, size_t end)
{
    say_header(maker, "text/plain");
    while (maker->mail->len < end) {
        uint32_t kind = chance(maker, 8);
        uint32_t columns = kind == 0 ? 0 : kind < 3 ? chance(maker, 60) : 60 + chance(maker, 19);
        say_line(maker, columns, NULL, 0);
    }
}

static void make_html(struct maker *maker, size_t end)
{
    static const char *const marks[] = {
        "<td style=\"padding:0 8px;font-family:sans-serif\">",
        "</td><td>",
        "<a href=\"https://example.org/?id=3D4711&amp;x=1\">",
        "</a><br>",
        "<div>",
        "</div>",
        "gr\xc3\xbc\xc3\x9f",
        "\xe2\x82\xac 12,50",
        "&nbsp;",
    };
    say_header(maker, "text/html; charset=utf-8");
    while (maker->mail->len < end) {
        uint32_t kind = chance(maker, 10);
        uint32_t columns = kind == 0  ? 400 + chance(maker, 590)
                           : kind < 5 ? 80 + chance(maker, 160)
                                      : 1 + chance(maker, 79);
        say_line(maker, columns, marks, sizeof(marks) / sizeof(marks[0]));
    }
}

static void make_attachment(struct maker *maker, size_t end)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char line[BASE64_COLUMNS];
    say_header(maker, "application/pdf\r\nContent-Transfer-Encoding: base64");
    while (maker->mail->len < end) {
        for (size_t i = 0; i < sizeof(line); i++)
            line[i] = digits[chance(maker, 64)];
        append(maker->mail, bytes_make(line, sizeof(line)));
        say(maker, "\r\n");
    }
}

static void make_message(struct maker *maker, enum scan_mail_kind kind)
{
    static const uint8_t mix[20] = {
        SCAN_MAIL_TEXT, SCAN_MAIL_HTML, SCAN_MAIL_TEXT,       SCAN_MAIL_TEXT, SCAN_MAIL_HTML,
        SCAN_MAIL_TEXT, SCAN_MAIL_TEXT, SCAN_MAIL_ATTACHMENT, SCAN_MAIL_TEXT, SCAN_MAIL_HTML,
        SCAN_MAIL_TEXT, SCAN_MAIL_HTML, SCAN_MAIL_TEXT,       SCAN_MAIL_TEXT, SCAN_MAIL_ATTACHMENT,
        SCAN_MAIL_HTML, SCAN_MAIL_TEXT, SCAN_MAIL_TEXT,       SCAN_MAIL_HTML, SCAN_MAIL_ATTACHMENT,
    };
    size_t start = maker->mail->len;
    if (kind == SCAN_MAIL_MIX)
        kind = mix[maker->mail->count % sizeof(mix)];
    switch (kind) {
    case SCAN_MAIL_TEXT: make_text(maker, start + 1024 + chance(maker, 5 * 1024)); break;
    case SCAN_MAIL_HTML: make_html(maker, start + 8 * 1024 + chance(maker, 32 * 1024)); break;
    case SCAN_MAIL_ATTACHMENT:
        make_attachment(maker, start + 40 * 1024 + chance(maker, 120 * 1024));
        break;
    case SCAN_MAIL_EMPTY:
    case SCAN_MAIL_DOTS:
        while (maker->mail->len - start < 4096)
            say(maker, kind == SCAN_MAIL_EMPTY ? "\r\n" : "..\r\n");
        break;
    case SCAN_MAIL_MIX:
    case SCAN_MAIL_KINDS: break;
    }
    say(maker, ".\r\n");
    message_ends(maker->mail);
}

struct scan_mail scan_mail_make(enum scan_mail_kind kind, size_t len)
{
    struct scan_mail mail = {0};
    struct maker maker = {&mail, 0x9e3779b97f4a7c15};
    while (mail.len < len)
        make_message(&maker, kind);
    return mail;
}
