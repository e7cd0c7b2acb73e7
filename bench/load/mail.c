/* Commands and drafts: see mail.h. The text of all commands is laid out once, twice if there are
 * messages with octets above 127, so that a group of commands is a part of it. */
#include "bench/load/mail.h"

#include "bench/load/body.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { COMMAND_ROOM = 64 }; /* octets of a command besides user and domain */

/* MAIL, one RCPT for each recipient that there can be, DATA. starts[i] is where the i-th begins,
 * and the last of them the end. */
struct mail_commands {
    char *text;
    size_t *starts;
};

struct mail {
    struct mail_options options;
    struct bodies bodies;
    struct mail_commands commands[2]; /* without and with BODY=8BITMIME (RFC 6152) */
    char run[8];                      /* as ids begin */
};

/* --- made once --- */

static void commands_make(struct mail_commands *commands, const struct mail_options *options,
                          bool eight_bit)
{
    const struct words_range *recipients = &options->recipients;
    size_t room =
        (recipients->max + 2) * (strlen(options->user) + strlen(options->domain) + COMMAND_ROOM) +
        strlen(options->from);
    commands->text = malloc(room);
    commands->starts = malloc((recipients->max + 3) * sizeof *commands->starts);
    if (commands->text == NULL || commands->starts == NULL)
        words_die("no memory for %u recipients", recipients->max);
    bool numbered = recipients->max > 1;
    char number[16] = "";
    size_t at = (size_t)snprintf(commands->text, room, "MAIL FROM:<%s>%s\r\n", options->from,
                                 eight_bit ? " BODY=8BITMIME" : "");
    commands->starts[0] = 0;
    for (uint32_t i = 0; i < recipients->max; i++) {
        if (numbered)
            snprintf(number, sizeof number, "%u", i);
        commands->starts[1 + i] = at;
        at += (size_t)snprintf(commands->text + at, room - at, "RCPT TO:<%s%s@%s>\r\n",
                               options->user, number, options->domain);
    }
    commands->starts[1 + recipients->max] = at;
    if (!options->bdat)
        at += (size_t)snprintf(commands->text + at, room - at, "DATA\r\n");
    commands->starts[2 + recipients->max] = at;
}

struct mail *mail_new(const struct mail_options *options)
{
    struct mail *mail = calloc(1, sizeof *mail);
    if (mail == NULL)
        words_die("no memory");
    mail->options = *options;
    bodies_make(&mail->bodies, options);
    for (unsigned i = 0; i < 2; i++)
        commands_make(&mail->commands[i], options, i == 1);
    mail_rename(mail, options->run);
    return mail;
}

void mail_rename(struct mail *mail, uint32_t run)
{
    static const char digits[] = "0123456789abcdef";
    for (unsigned i = 0; i < 8; i++)
        mail->run[i] = digits[run >> (28 - 4 * i) & 15];
}

void mail_free(struct mail *mail)
{
    if (mail == NULL)
        return;
    for (unsigned i = 0; i < 2; i++) {
        free(mail->commands[i].text);
        free(mail->commands[i].starts);
    }
    bodies_free(&mail->bodies);
    free(mail);
}

double mail_size_mean(const struct mail *mail)
{
    double sum = 0;
    for (uint32_t i = 0; i < mail->bodies.count; i++)
        sum += (double)body_size(&mail->bodies.all[i]);
    return sum / mail->bodies.count;
}

uint64_t mail_left_out(const struct mail *mail)
{
    return mail->bodies.left_out;
}

/* --- messages --- */

static void id_write(const struct mail *mail, uint64_t number, char id[MAIL_ID_LEN])
{
    memcpy(id, mail->run, 8);
    id[8] = '-';
    for (unsigned i = MAIL_ID_LEN; i-- > 9; number /= 10)
        id[i] = (char)('0' + number % 10);
}

/* part_of chooses evenly among `count` by 32 random bits. */
static uint32_t part_of(uint32_t chance, uint32_t count)
{
    return (uint32_t)((uint64_t)chance * count >> 32);
}

void mail_draft(const struct mail *mail, uint64_t number, uint64_t chance, struct mail_draft *draft)
{
    const struct bodies *bodies = &mail->bodies;
    const struct words_range *recipients = &mail->options.recipients;
    uint64_t choice =
        bodies->by_chance ? part_of((uint32_t)chance, bodies->count) : number % bodies->count;
    const struct mail_body *body = &bodies->all[choice];
    draft->number = number;
    draft->body = body;
    draft->recipients =
        recipients->min + part_of((uint32_t)(chance >> 32), recipients->max - recipients->min + 1);
    draft->header_len = body->header_len;
    draft->size = body_size(body);
    draft->sum = body->sum;
    draft->chunks = 1;
    if (mail->options.bdat && mail->options.chunk > 0)
        draft->chunks = (uint32_t)((draft->size + mail->options.chunk - 1) / mail->options.chunk);
    memcpy(draft->header, body->header, body->header_len);
    char id[MAIL_ID_LEN];
    id_write(mail, number, id);
    for (uint32_t i = 0; i < body->id_count; i++)
        memcpy(draft->header + body->id_places[i], id, MAIL_ID_LEN);
}

uint32_t mail_command_count(const struct mail *mail, const struct mail_draft *draft)
{
    return draft->recipients + (mail->options.bdat ? 1 : 2);
}

static uint32_t piece_add(struct iovec *pieces, uint32_t count, const char *data, size_t len)
{
    if (len == 0)
        return count;
    pieces[count] = (struct iovec){(void *)(uintptr_t)data, len};
    return count + 1;
}

uint32_t mail_commands(const struct mail *mail, const struct mail_draft *draft, uint32_t first,
                       uint32_t count, struct iovec *pieces)
{
    const struct mail_commands *commands = &mail->commands[draft->body->eight_bit];
    uint32_t all = mail->options.recipients.max, used = 0;
    uint32_t end = first + count;
    /* Behind the last RCPT of this message there may be others before DATA. */
    bool data = !mail->options.bdat && end == draft->recipients + 2;
    if (data && draft->recipients < all) {
        uint32_t rcpt_end = draft->recipients + 1;
        if (first < rcpt_end)
            used = piece_add(pieces, used, commands->text + commands->starts[first],
                             commands->starts[rcpt_end] - commands->starts[first]);
        return piece_add(pieces, used, commands->text + commands->starts[all + 1],
                         commands->starts[all + 2] - commands->starts[all + 1]);
    }
    return piece_add(pieces, used, commands->text + commands->starts[first],
                     commands->starts[end] - commands->starts[first]);
}

uint32_t mail_content(const struct mail *mail, struct mail_draft *draft, uint32_t chunk,
                      struct iovec *pieces)
{
    const struct mail_body *body = draft->body;
    const struct iovec parts[] = {
        {draft->header,                 draft->header_len},
        {(void *)(uintptr_t)body->wire, body->wire_len   },
        {(void *)(uintptr_t)body->tail, body->tail_len   },
    };
    uint32_t used = 0;
    size_t skip = 0, left = draft->header_len + body->wire_len + body->tail_len;
    if (mail->options.bdat) {
        skip = chunk * mail->options.chunk;
        left -= skip;
        bool last = chunk + 1 == draft->chunks;
        if (!last)
            left = mail->options.chunk;
        int len = snprintf(draft->chunk_line, sizeof draft->chunk_line, "BDAT %zu%s\r\n", left,
                           last ? " LAST" : "");
        used = piece_add(pieces, used, draft->chunk_line, (size_t)len);
    }
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        size_t skipped = skip < parts[i].iov_len ? skip : parts[i].iov_len;
        size_t len = parts[i].iov_len - skipped < left ? parts[i].iov_len - skipped : left;
        skip -= skipped;
        left -= len;
        used = piece_add(pieces, used, (const char *)parts[i].iov_base + skipped, len);
    }
    return used;
}

size_t mail_acked(const struct mail *mail, const struct mail_draft *draft, uint32_t recipients,
                  char line[MAIL_ACKED_MAX])
{
    char rest[MAIL_ACKED_MAX - MAIL_ID_LEN + 1];
    id_write(mail, draft->number, line);
    int len = snprintf(rest, sizeof rest, " %08x %u\n", draft->sum, recipients);
    memcpy(line + MAIL_ID_LEN, rest, (size_t)len);
    return MAIL_ID_LEN + (size_t)len;
}
