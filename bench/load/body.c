/* Making bodies: see body.h. Made text is lines of 70 columns from a small generator; one line in
 * 64 begins with a dot (more than in real mail), so that dot-stuffing is part of the work. */
#include "bench/load/body.h"

#include "bench/load/lognormal.h"
#include "gateway/spool/crc.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    LINE_COLUMNS = 70,
    LINE_LEN = LINE_COLUMNS + 2,
    DOT_EVERY = 64, /* lines; and the first of them is this one, for each seed: */
    DOT_STEP = 4,
    BODY_MIN = 8,
    BODIES_FIXED = 16, /* different ones, as long as they are small */
    SHARED_MAX = 64 << 10,
    BODIES_LOGNORMAL = 256,
};

static const char id_blank[] = "0000000000000000000";
static_assert(sizeof id_blank - 1 == MAIL_ID_LEN, "room for an id");

static void *take_memory(size_t size)
{
    void *memory = malloc(size);
    if (memory == NULL)
        words_die("no memory for %zu octets of messages", size);
    return memory;
}

/* text_keep makes `text` the bodies' own. */
static char *text_keep(struct bodies *bodies, char *text)
{
    bodies->texts[bodies->text_count++] = text;
    return text;
}

static void bodies_start(struct bodies *bodies, size_t count)
{
    bodies->all = calloc(count, sizeof(*bodies->all));
    bodies->texts = take_memory(count * sizeof(*bodies->texts));
    if (bodies->all == NULL)
        words_die("no memory for %zu messages", count);
    bodies->count = (uint32_t)count;
}

/* --- text --- */

/* text_fill fills exactly `len` octets; the last two are CRLF, and a last line may be short. */
static void text_fill(char *text, size_t len, uint32_t seed)
{
    static const char letters[] =
        "abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ 0123456789";
    const size_t dot_line = seed * DOT_STEP % DOT_EVERY;
    for (size_t i = 0; i < len; i++) {
        size_t column = i % LINE_LEN;
        seed = seed * 1664525u + 1013904223u;
        if (column >= LINE_COLUMNS)
            text[i] = column == LINE_COLUMNS ? '\r' : '\n';
        else if (column == 0 && i / LINE_LEN % DOT_EVERY == dot_line)
            text[i] = '.';
        else
            text[i] = letters[(seed >> 20) % (sizeof letters - 1)];
    }
    if (len >= 3 && text[len - 3] == '\r')
        text[len - 3] = '-';
    memcpy(text + len - 2, "\r\n", 2);
}

/* text_stuff doubles dots at line starts (RFC 5321 4.5.2) and returns the length, `len` + the
 * number of lines at most. */
static size_t text_stuff(char *wire, const char *text, size_t len)
{
    size_t at = 0;
    for (size_t start = 0; start < len;) {
        const char *newline = memchr(text + start, '\n', len - start);
        size_t line_len = newline != NULL ? (size_t)(newline - text) + 1 - start : len - start;
        if (text[start] == '.')
            wire[at++] = '.';
        memcpy(wire + at, text + start, line_len);
        at += line_len;
        start += line_len;
    }
    return at;
}

static size_t line_count(const char *text, size_t len)
{
    size_t lines = 1;
    for (const char *end = text + len; (text = memchr(text, '\n', (size_t)(end - text))) != NULL;
         text++)
        lines++;
    return lines;
}

/* wire_make gives the body `text` for the wire: with BDAT as it is, with DATA stuffed and with the
 * final dot. Takes `text`. */
static void wire_make(struct bodies *bodies, struct mail_body *body, char *text, size_t len,
                      bool bdat)
{
    body->stored_len = len;
    body->tail = "";
    if (bdat) {
        body->wire = text_keep(bodies, text);
        body->wire_len = len;
        return;
    }
    char *wire = take_memory(len + line_count(text, len) + 3);
    size_t wire_len = text_stuff(wire, text, len);
    memcpy(wire + wire_len, ".\r\n", 3);
    body->wire = text_keep(bodies, wire);
    body->wire_len = wire_len + 3;
    free(text);
}

/* --- header sections --- */

static void id_place(struct mail_body *body, const char *behind)
{
    const char *found = strstr(body->header, behind);
    body->id_places[body->id_count++] = (uint32_t)(found - body->header) + (uint32_t)strlen(behind);
}

/* header_make composes the header section of made text (RFC 5322). Its length is the same for each
 * body. The id stands in two places, of constant width, so a draft only copies it there. */
static void header_make(struct mail_body *body, const struct mail_options *options, time_t now)
{
    char date[64];
    struct tm tm;
    strftime(date, sizeof date, "%a, %d %b %Y %H:%M:%S +0000", gmtime_r(&now, &tm));
    body->header_len =
        (uint32_t)snprintf(body->header, sizeof body->header,
                           "From: Load <%.120s>\r\n"
                           "To: <%.60s@%.120s>\r\n"
                           "Subject: one of many\r\n"
                           "Date: %s\r\n"
                           "X-Load-Sum: %08x\r\n"
                           "X-Load-Id: %s\r\n"
                           "Message-ID: <%s@%.120s>\r\n\r\n",
                           options->from, options->user, options->domain, date, body->sum, id_blank,
                           id_blank, strrchr(options->from, '@') + 1);
    id_place(body, "\r\nX-Load-Id: ");
    id_place(body, "\r\nMessage-ID: <");
}

/* Fields that stand in front of a message of a corpus. */
static void header_make_short(struct mail_body *body)
{
    body->header_len =
        (uint32_t)snprintf(body->header, sizeof body->header,
                           "X-Load-Sum: %08x\r\nX-Load-Id: %s\r\n", body->sum, id_blank);
    id_place(body, "\r\nX-Load-Id: ");
}

/* header_len is the length of a made header section. */
static size_t header_len(const struct mail_options *options, time_t now)
{
    struct mail_body body = {0};
    header_make(&body, options, now);
    return body.header_len;
}

static size_t text_len(size_t size, size_t header)
{
    return size > header + BODY_MIN ? size - header : BODY_MIN;
}

/* --- the three kinds --- */

static void fixed_make(struct bodies *bodies, const struct mail_options *options, time_t now)
{
    size_t len = text_len(options->size, header_len(options, now));
    bodies_start(bodies, len <= SHARED_MAX ? BODIES_FIXED : 1);
    for (uint32_t i = 0; i < bodies->count; i++) {
        struct mail_body *body = &bodies->all[i];
        char *text = take_memory(len);
        text_fill(text, len, i + 1);
        body->sum = crc32(0, text, len);
        wire_make(bodies, body, text, len, options->bdat);
        header_make(body, options, now);
    }
}

/* dots_before tells how many dots are doubled in front of octet `at` of a text made with seed 1. */
static size_t dots_before(size_t at)
{
    size_t lines = (at + LINE_LEN - 1) / LINE_LEN; /* that begin before it */
    return lines > DOT_STEP ? (lines - DOT_STEP - 1) / DOT_EVERY + 1 : 0;
}

/* part_make makes a body of the text of all: from `start`, at the beginning of a line, to where its
 * size says, with a tail of its own. `wire` is the same text, for the wire. */
static void part_make(struct mail_body *body, const char *text, const char *wire, size_t start,
                      bool bdat)
{
    static const char tails[] = "-\r\n.\r\n"; /* the dash is in place of a CR at the cut */
    size_t end = start + body->stored_len - 2;
    bool dash = text[end - 1] == '\r';
    end -= dash;
    body->tail = dash ? tails : tails + 1;
    body->tail_len = 2u + dash;
    body->sum = crc32(crc32(0, text + start, end - start), body->tail, body->tail_len);
    body->wire = wire + start;
    body->wire_len = end - start;
    if (bdat)
        return;
    body->tail_len += 3;
    body->wire += dots_before(start);
    body->wire_len += dots_before(end) - dots_before(start);
}

/* Bodies of 256 sizes are parts of one text; they begin with different lines of it. */
static void lognormal_make(struct bodies *bodies, const struct mail_options *options, time_t now)
{
    size_t header = header_len(options, now);
    bodies_start(bodies, BODIES_LOGNORMAL);
    bodies->by_chance = true;
    for (uint32_t i = 0; i < BODIES_LOGNORMAL; i++)
        bodies->all[i].stored_len = text_len(lognormal_size((double)options->size, options->sigma,
                                                            options->size_max, i, BODIES_LOGNORMAL),
                                             header);
    size_t len = bodies->all[BODIES_LOGNORMAL - 1].stored_len + BODIES_FIXED * LINE_LEN;
    char *text = take_memory(len);
    text_fill(text, len, 1);
    char *wire = text;
    if (!options->bdat) {
        wire = take_memory(len + line_count(text, len));
        text_stuff(wire, text, len);
    }
    for (uint32_t i = 0; i < BODIES_LOGNORMAL; i++) {
        part_make(&bodies->all[i], text, wire, i % BODIES_FIXED * LINE_LEN, options->bdat);
        header_make(&bodies->all[i], options, now);
    }
    text_keep(bodies, wire);
    if (wire != text)
        free(text);
}

/* The body proper begins behind the first empty line, if there is one. */
static uint32_t corpus_sum(const struct corpus_message *message)
{
    if (message->len >= 2 && memcmp(message->text, "\r\n", 2) == 0)
        return crc32(0, message->text + 2, message->len - 2);
    const uint8_t *end = memmem(message->text, message->len, "\r\n\r\n", 4);
    if (end == NULL)
        return 0;
    return crc32(0, end + 4, (size_t)(message->text + message->len - end - 4));
}

static void corpus_make(struct bodies *bodies, const struct mail_options *options)
{
    struct corpus corpus;
    corpus_read(&corpus, options->corpus);
    bodies_start(bodies, corpus.count);
    bodies->left_out = corpus.left_out;
    for (size_t i = 0; i < corpus.count; i++) {
        struct corpus_message *message = &corpus.messages[i];
        struct mail_body *body = &bodies->all[i];
        body->eight_bit = message->eight_bit;
        body->sum = corpus_sum(message);
        wire_make(bodies, body, (char *)message->text, message->len, options->bdat);
        header_make_short(body);
        message->text = NULL;
    }
    corpus_free(&corpus);
}

void bodies_make(struct bodies *bodies, const struct mail_options *options)
{
    time_t now = time(NULL);
    *bodies = (struct bodies){0};
    switch (options->sizes) {
    case MAIL_SIZES_FIXED: fixed_make(bodies, options, now); break;
    case MAIL_SIZES_LOGNORMAL: lognormal_make(bodies, options, now); break;
    case MAIL_SIZES_CORPUS: corpus_make(bodies, options); break;
    }
}

void bodies_free(struct bodies *bodies)
{
    for (size_t i = 0; i < bodies->text_count; i++)
        free(bodies->texts[i]);
    free(bodies->texts);
    free(bodies->all);
    *bodies = (struct bodies){0};
}

size_t body_size(const struct mail_body *body)
{
    return body->header_len + body->stored_len;
}
