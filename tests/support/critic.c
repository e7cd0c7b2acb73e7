/* The client's view of a session: see critic.h. */
#include "tests/support/critic.h"

#include "gateway/base/check.h"
#include "parser/command.h"
#include "tests/support/model.h"
#include "tls/tls.h"

struct reader {
    const struct critic_dialog *dialog;
    struct bytes rest;  /* replies not yet read */
    unsigned code;      /* of the last one */
    struct bytes reply; /* the last one, all its lines */
};

/* read_reply takes the next reply: lines of three digits and CR LF, the last with a space. */
static bool read_reply(struct reader *reader)
{
    if (reader->rest.len == 0)
        return false;
    reader->reply = bytes_make(reader->rest.data, 0);
    reader->code = 0;
    for (bool last = false; !last;) {
        size_t end = bytes_find(reader->rest, '\n');
        const uint8_t *line = reader->rest.data;
        CHECK(end < reader->rest.len && end >= 4 && end < 512 && line[end - 1] == '\r');
        CHECK(line[0] >= '2' && line[0] <= '5' && line[1] >= '0' && line[1] <= '5' &&
              line[2] >= '0' && line[2] <= '9' && (line[3] == ' ' || line[3] == '-'));
        unsigned code = (line[0] - '0') * 100u + (line[1] - '0') * 10u + (line[2] - '0');
        CHECK(reader->code == 0 || reader->code == code);
        for (size_t i = 0; i < end - 1; i++)
            CHECK(line[i] >= ' ' && line[i] <= '~');
        reader->code = code;
        last = line[3] == ' ';
        reader->reply.len += end + 1;
        reader->rest = bytes_skip(reader->rest, end + 1);
    }
    return true;
}

static bool starts_with(struct bytes text, const char *start)
{
    size_t len = strlen(start);
    return text.len >= len && memcmp(text.data, start, len) == 0;
}

/* farewell: nothing may come after this reply. */
static bool farewell(const struct reader *reader)
{
    return reader->code == 421 || reader->code == 221 || starts_with(reader->reply, "554 5.5.0 ") ||
           starts_with(reader->reply, "554 5.7.0 ") ||
           starts_with(reader->reply, "554 5.5.1 Wait ");
}

/* only_records takes what comes after the 220 of STARTTLS: whole TLS records, nothing in clear. */
static void only_records(struct reader *reader)
{
    while (reader->rest.len > 0) {
        const uint8_t *head = reader->rest.data;
        CHECK(reader->rest.len >= TLS_HEADER_LEN && head[0] >= 20 && head[0] <= 23 && head[1] == 3);
        size_t len = TLS_HEADER_LEN + (size_t)head[3] * 256 + head[4];
        CHECK(len <= reader->rest.len);
        reader->rest = bytes_skip(reader->rest, len);
    }
}

/* find_line returns the octets up to and with the first CR LF; 0: there is none. */
static size_t find_line(struct bytes in)
{
    const uint8_t *at = in.len == 0 ? NULL : memmem(in.data, in.len, "\r\n", 2);
    return at == NULL ? 0 : (size_t)(at - in.data) + 2;
}

enum step { STEP_ON, STEP_INCOMPLETE, STEP_OVER };

static enum step read_answer(struct reader *reader)
{
    CHECK(read_reply(reader));
    return farewell(reader) ? STEP_OVER : STEP_ON;
}

/* read_command_answer reads what one complete line and what belongs to it must bring, and takes it
 * from `in`. */
static enum step read_command_answer(struct reader *reader, struct bytes *in, size_t line_len)
{
    static uint8_t text[1 << 20];
    size_t text_len;
    struct command command = {0};
    struct bytes line = bytes_slice(*in, 0, line_len - 2);
    *in = bytes_skip(*in, line_len);
    bool lawful = bytes_find(line, '\n') == line.len && line_len <= 512 &&
                  command_parse(line, true, true, &command) == COMMAND_OK;
    if (lawful && command.verb == VERB_BDAT) {
        if (command.size > in->len)
            return STEP_INCOMPLETE;
        *in = bytes_skip(*in, (size_t)command.size);
        return read_answer(reader);
    }
    enum step step = read_answer(reader);
    bool renamed = reader->code == 220 && command.verb == VERB_XCLIENT;
    if (renamed)
        CHECK(reader->dialog->xclient);
    else if (reader->code == 220) {
        CHECK(lawful && command.verb == VERB_STARTTLS && reader->dialog->starttls);
        only_records(reader);
        return STEP_OVER;
    }
    if (step != STEP_ON)
        return step;
    if (reader->code == 354) {
        size_t used = model_data(*in, text, &text_len);
        if (used == 0)
            return STEP_INCOMPLETE;
        *in = bytes_skip(*in, used);
        return read_answer(reader);
    }
    bool hello = command.verb == VERB_EHLO || command.verb == VERB_HELO;
    if ((hello || renamed) && starts_with(reader->rest, "554 5.5.0 "))
        return read_answer(reader);
    return STEP_ON;
}

uint32_t critic_judge(const struct critic_dialog *dialog)
{
    struct reader reader = {.dialog = dialog, .rest = dialog->replies};
    struct bytes in = dialog->said;
    enum step step = STEP_ON;
    uint32_t queued = 0;
    CHECK(read_reply(&reader));
    if (reader.code == 554) { /* octets before the greeting */
        CHECK(dialog->pause && in.len > 0 && farewell(&reader));
        step = STEP_OVER;
    } else {
        CHECK(reader.code == 220);
    }
    while (step == STEP_ON) {
        size_t line_len = find_line(in);
        step = line_len == 0 ? STEP_INCOMPLETE : read_command_answer(&reader, &in, line_len);
        queued += step != STEP_INCOMPLETE && starts_with(reader.reply, "250 2.0.0 Ok: queued as ");
        if (line_len == 0) { /* a bare LF is answered before the line is complete */
            bool bare = bytes_find(in, '\n') < in.len;
            CHECK(!bare || reader.rest.len == 0 || read_reply(&reader));
            CHECK(!bare || reader.code == 500 || reader.code == 421 || reader.rest.len == 0);
        }
    }
    CHECK(reader.rest.len == 0);
    return queued;
}
