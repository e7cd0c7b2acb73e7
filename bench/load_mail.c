/* See load_mail.h. Bodies are lines of 70 columns of printable text from a small generator; one
 * line in 64 begins with a dot (more than in real mail), so that dot-stuffing is part of the work.
 */
#include "bench/load_mail.h"

#include "gateway/spool/crc.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LINE_COLUMNS = 70, DOT_EVERY = 64, SHARED_BODY_MAX = 64 << 10 };

static void *take_memory(size_t size)
{
    void *memory = malloc(size);
    if (memory == NULL) {
        fprintf(stderr, "ringmx-load: no memory for %zu bytes\n", size);
        exit(1);
    }
    return memory;
}

/* Fills exactly `len` octets; the last two are CRLF, and a last line may be short. */
static void body_fill(char *body, size_t len, uint32_t seed)
{
    static const char letters[] =
        "abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ 0123456789";
    const size_t line_len = LINE_COLUMNS + 2;
    const size_t dot_line = seed * 4 % DOT_EVERY;
    for (size_t i = 0; i < len; i++) {
        size_t column = i % line_len;
        seed = seed * 1664525u + 1013904223u;
        if (column >= LINE_COLUMNS)
            body[i] = column == LINE_COLUMNS ? '\r' : '\n';
        else if (column == 0 && i / line_len % DOT_EVERY == dot_line)
            body[i] = '.';
        else
            body[i] = letters[(seed >> 20) % (sizeof letters - 1)];
    }
    if (len >= 3 && body[len - 3] == '\r')
        body[len - 3] = '-';
    memcpy(body + len - 2, "\r\n", 2);
}

/* Returns the length of the body as it goes over the wire with DATA (RFC 5321 section 4.5.2). */
static size_t body_stuff(char *wire, const char *body, size_t len)
{
    size_t at = 0;
    bool line_start = true;
    for (size_t i = 0; i < len; i++) {
        if (line_start && body[i] == '.')
            wire[at++] = '.';
        wire[at++] = body[i];
        line_start = body[i] == '\n';
    }
    memcpy(wire + at, ".\r\n", 3);
    return at + 3;
}

static void body_start(struct mail_body *body, size_t len, uint32_t seed, bool bdat)
{
    char *plain = take_memory(len);
    body_fill(plain, len, seed);
    body->crc32 = crc32(0, plain, len);
    body->wire = plain;
    body->wire_len = len;
    if (bdat)
        return;
    char *wire = take_memory(len + len / LINE_COLUMNS + 16);
    body->wire_len = body_stuff(wire, plain, len);
    body->wire = wire;
    free(plain);
}

static void command_add(struct mail *mail, size_t *at, size_t room, const char *text)
{
    mail->starts[mail->command_count++] = *at;
    *at += (size_t)snprintf(mail->commands + *at, room - *at, "%s\r\n", text);
    mail->starts[mail->command_count] = *at;
}

static void commands_start(struct mail *mail)
{
    const struct mail_options *options = &mail->options;
    char text[512];
    size_t at = 0;
    size_t room =
        1024 + options->recipients * (strlen(options->user) + strlen(options->domain) + 40);
    mail->commands = take_memory(room);
    mail->starts = take_memory((options->recipients + 3) * sizeof *mail->starts);
    command_add(mail, &at, room, "MAIL FROM:<load@sender.example>");
    for (uint32_t i = 0; i < options->recipients; i++) {
        if (options->recipients == 1)
            snprintf(text, sizeof text, "RCPT TO:<%s@%s>", options->user, options->domain);
        else
            snprintf(text, sizeof text, "RCPT TO:<%s%u@%s>", options->user, i, options->domain);
        command_add(mail, &at, room, text);
    }
    snprintf(text, sizeof text, "BDAT %zu LAST", mail->header_len + mail->bodies[0].wire_len);
    command_add(mail, &at, room, options->bdat ? text : "DATA");
}

static const char *const id_blank = "0000000000000000000";

/* The id stands in two places; both are of constant width, so mail_header only copies it there. */
static void headers_start(struct mail *mail)
{
    for (uint32_t i = 0; i < mail->body_count; i++) {
        struct mail_body *body = &mail->bodies[i];
        mail->header_len = (size_t)snprintf(body->header, sizeof body->header,
                                            "From: Load <load@sender.example>\r\n"
                                            "To: <%.60s@%.120s>\r\n"
                                            "Subject: one of many\r\n"
                                            "Date: Thu, 1 Jan 2026 00:00:00 +0000\r\n"
                                            "X-Load-Sum: %08x\r\n"
                                            "X-Load-Id: %s\r\n"
                                            "Message-ID: <%s@sender.example>\r\n\r\n",
                                            mail->options.user, mail->options.domain, body->crc32,
                                            id_blank, id_blank);
    }
    const char *header = mail->bodies[0].header;
    const char *first = strstr(header, "X-Load-Id: ") + strlen("X-Load-Id: ");
    const char *second = strstr(first, "Message-ID: <") + strlen("Message-ID: <");
    mail->id_places[0] = (size_t)(first - header);
    mail->id_places[1] = (size_t)(second - header);
}

void mail_start(struct mail *mail, const struct mail_options *options)
{
    *mail = (struct mail){.options = *options, .body_count = 1};
    headers_start(mail);
    size_t least = mail->header_len + 8;
    size_t body_len = (options->size > least ? options->size : least) - mail->header_len;
    mail->body_count = body_len <= SHARED_BODY_MAX ? MAIL_BODIES_MAX : 1;
    for (uint32_t i = 0; i < mail->body_count; i++)
        body_start(&mail->bodies[i], body_len, i + 1, options->bdat);
    headers_start(mail);
    mail->options.size = mail->header_len + body_len;
    commands_start(mail);
}

void mail_id(const struct mail *mail, uint64_t number, char id[MAIL_ID_LEN])
{
    static const char digits[] = "0123456789abcdef";
    for (unsigned i = 0; i < 8; i++)
        id[i] = digits[mail->options.run >> (28 - 4 * i) & 15];
    id[8] = '-';
    for (unsigned i = MAIL_ID_LEN; i-- > 9; number /= 10)
        id[i] = digits[number % 10];
}

const struct mail_body *mail_header(const struct mail *mail, uint64_t number,
                                    char header[MAIL_HEADER_MAX])
{
    const struct mail_body *body = &mail->bodies[number % mail->body_count];
    memcpy(header, body->header, mail->header_len);
    mail_id(mail, number, header + mail->id_places[0]);
    memcpy(header + mail->id_places[1], header + mail->id_places[0], MAIL_ID_LEN);
    return body;
}
