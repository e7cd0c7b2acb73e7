/* One message: see sink_message.h. Its text is read where it lies. */
#include "bench/sink_message.h"
#include "gateway/spool/crc.h"

#include "parser/octet.h"

/* --- the envelope --- */

/* parameters_of finds what stands behind the path of a MAIL or RCPT command. */
static struct bytes parameters_of(const struct command *command)
{
    struct bytes text = command->argument;
    struct bytes path = command->address.text;
    size_t behind = path.len > 0 ? (size_t)(path.data + path.len - text.data)
                                 : bytes_find(text, '<') + 1; /* MAIL FROM:<> */
    text = bytes_skip(text, behind);
    if (text.len > 0 && *text.data == '>')
        text = bytes_skip(text, 1);
    while (text.len > 0 && *text.data == ' ')
        text = bytes_skip(text, 1);
    return text;
}

/* path_write writes path and parameters; `path` has room for path_size octets of text. */
static size_t path_size(const struct command *command)
{
    return command->address.text.len + 3 + parameters_of(command).len;
}

static void path_write(struct sink_path *path, const struct command *command)
{
    struct bytes address = command->address.text;
    struct bytes parameters = parameters_of(command);
    size_t at = 0;
    path->text[at++] = '<';
    if (address.len > 0)
        memcpy(path->text + at, address.data, address.len);
    at += address.len;
    path->text[at++] = '>';
    if (parameters.len > 0) {
        path->text[at++] = ' ';
        memcpy(path->text + at, parameters.data, parameters.len);
        at += parameters.len;
    }
    path->len = (uint16_t)at;
}

struct sink_message *sink_message_new(struct blocks *blocks, const struct command *mail)
{
    struct arena arena = {0};
    size_t size = path_size(mail);
    struct sink_message *message = arena_take(&arena, blocks, sizeof(*message));
    if (message == NULL || size > SINK_PATH_MAX) {
        arena_empty(&arena, blocks);
        return NULL;
    }
    memset(message, 0, sizeof(*message));
    message->reverse_path = arena_take(&arena, blocks, sizeof(struct sink_path) + size);
    if (message->reverse_path == NULL) {
        arena_empty(&arena, blocks);
        return NULL;
    }
    path_write(message->reverse_path, mail);
    message->binary = mail->body == COMMAND_BODY_BINARYMIME;
    message->smtputf8 = mail->smtputf8;
    message->arena = arena;
    return message;
}

void sink_message_free(struct blocks *blocks, struct sink_message *message)
{
    if (message == NULL)
        return;
    struct arena arena = message->arena; /* the message lies inside */
    arena_empty(&arena, blocks);
}

bool sink_message_propose(struct blocks *blocks, struct sink_message *message,
                          const struct command *rcpt)
{
    size_t size = path_size(rcpt);
    if (size > SINK_PATH_MAX)
        return false;
    struct sink_recipient *recipient =
        arena_take(&message->arena, blocks, sizeof(*recipient) + size);
    message->candidate = recipient;
    if (recipient == NULL)
        return false;
    recipient->next = NULL;
    recipient->fault = SINK_FAULT_NONE;
    path_write(&recipient->path, rcpt);
    return true;
}

void sink_message_accept(struct sink_message *message)
{
    struct sink_recipient *recipient = message->candidate;
    if (message->recipients_last == NULL)
        message->recipients = recipient;
    else
        message->recipients_last->next = recipient;
    message->recipients_last = recipient;
    message->candidate = NULL;
    message->recipient_count++;
}

/* --- the text --- */

/* field_keep copies the value of a header line if the line is the field `name`, colon included, and
 * the first of them: ringmx-load puts its own in front of what a message has already. */
static void field_keep(struct bytes line, struct bytes name, char *out, uint8_t *out_len)
{
    if (*out_len > 0 || line.len < name.len ||
        !bytes_equal_nocase(bytes_slice(line, 0, name.len), name))
        return;
    struct bytes value = bytes_skip(line, name.len);
    while (value.len > 0 && (*value.data == ' ' || *value.data == '\t'))
        value = bytes_skip(value, 1);
    *out_len = (uint8_t)(value.len < SINK_ID_MAX ? value.len : SINK_ID_MAX);
    memcpy(out, value.data, *out_len);
}

/* line_read looks at a header line, given without its CR LF. */
static void line_read(struct sink_message *message, struct bytes line)
{
    if (line.len == 0) {
        message->in_body = true;
        return;
    }
    if (byte_lower(line.data[0]) != 'x')
        return;
    field_keep(line, BYTES("X-Load-Id:"), message->load_id, &message->load_id_len);
    field_keep(line, BYTES("X-Load-Sum:"), message->load_sum, &message->load_sum_len);
}

/* line_gather puts a part of a header line behind what there is of it. Of a long line only the
 * beginning is kept. */
static void line_gather(struct sink_message *message, struct bytes part)
{
    size_t room = SINK_FIELD_MAX - (size_t)message->line_len;
    size_t kept = part.len < room ? part.len : room;
    memcpy(message->line + message->line_len, part.data, kept);
    message->line_len = (uint8_t)(message->line_len + kept);
    message->line_after_cr = part.data[part.len - 1] == '\r';
}

/* header_read takes header lines from the front of `in` until the body begins. Only CR LF ends a
 * line. Returns the octets taken. */
static size_t header_read(struct sink_message *message, struct bytes in)
{
    size_t start = 0;
    size_t at = 0;
    while (!message->in_body && at < in.len) {
        size_t newline = at + bytes_find(bytes_skip(in, at), '\n');
        if (newline == in.len)
            break;
        bool after_cr = newline > start ? in.data[newline - 1] == '\r' : message->line_after_cr;
        at = newline + 1;
        if (!after_cr)
            continue;
        if (message->line_len == 0) {
            line_read(message, bytes_slice(in, start, newline - 1));
        } else {
            line_gather(message, bytes_slice(in, start, newline + 1));
            bool whole = message->line_len < SINK_FIELD_MAX;
            line_read(message, bytes_make(message->line, message->line_len - (whole ? 2u : 0u)));
        }
        message->line_len = 0;
        message->line_after_cr = false;
        start = at;
    }
    if (message->in_body)
        return start;
    if (start < in.len)
        line_gather(message, bytes_skip(in, start));
    return in.len;
}

static void text_read(struct sink_message *message, struct bytes text)
{
    message->octets += text.len;
    if (!message->in_body)
        text = bytes_skip(text, header_read(message, text));
    if (text.len > 0)
        message->sum = crc32(message->sum, text.data, text.len);
}

size_t sink_message_data(struct sink_message *message, struct bytes in)
{
    struct bytes span;
    size_t taken = 0;
    while (taken < in.len && message->scan.position != SCAN_ENDED) {
        taken += scan_data(&message->scan, bytes_skip(in, taken), &span);
        if (span.len > 0)
            text_read(message, span);
    }
    return taken;
}

void sink_message_chunk(struct sink_message *message, struct bytes in)
{
    scan_text(&message->scan, in);
    if (in.len > 0)
        text_read(message, in);
}

bool sink_message_torn(const struct sink_message *message)
{
    if (message->load_sum_len == 0)
        return false;
    uint32_t sum = 0;
    for (unsigned i = 0; i < message->load_sum_len; i++) {
        unsigned digit = octet_hex_value((uint8_t)message->load_sum[i]);
        if (digit > 15 || i >= 8)
            return true;
        sum = sum << 4 | digit;
    }
    return sum != message->sum;
}
