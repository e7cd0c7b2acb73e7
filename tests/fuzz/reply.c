/* Fuzzes reply_read: the first octet says how the rest is cut. However it is cut, the same comes
 * out; what comes out keeps what reply.h promises; and a reply that was read reads the same again
 * when it is written anew. */
#include "parser/reply.h"

#include "gateway/base/check.h"
#include "parser/octet.h"

#include <stdio.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What was made of an input. */
struct outcome {
    struct reply_read reply;
    enum reply_result result;
    size_t taken;
    uint32_t lines;
    uint32_t sum; /* of what the lines had */
};

static void note(void *user, uint32_t index, struct bytes text)
{
    struct outcome *outcome = user;
    CHECK(index == outcome->lines && index < REPLY_LINES_MAX);
    outcome->lines++;
    for (size_t i = 0; i < text.len; i++) {
        CHECK(text.data[i] != '\n');
        outcome->sum = outcome->sum * 31 + text.data[i];
    }
}

static void read_cut(struct outcome *outcome, struct bytes in, size_t part)
{
    memset(outcome, 0, sizeof(*outcome));
    while (outcome->result == REPLY_MORE && outcome->taken < in.len) {
        struct bytes rest = bytes_skip(in, outcome->taken);
        size_t taken;
        rest.len = rest.len < part ? rest.len : part;
        outcome->result = reply_read(&outcome->reply, rest, &taken, note, outcome);
        CHECK(taken > 0 && taken <= rest.len);
        CHECK(outcome->result != REPLY_MORE || taken == rest.len);
        outcome->taken += taken;
    }
}

static void check_text(const struct reply_read *reply)
{
    struct bytes text = bytes_make(reply->text, reply->text_len);
    CHECK(text.len <= REPLY_TEXT_MAX && reply->text[text.len] == '\0');
    while (text.len > 0) {
        size_t len = octet_utf8_len(text);
        CHECK(len > 0 || (text.data[0] >= ' ' && text.data[0] < 0x7f));
        text = bytes_skip(text, len > 0 ? len : 1);
    }
}

static void check_status(const struct reply_read *reply)
{
    const struct reply_status *status = &reply->status;
    CHECK(status->class == 0 || status->class == reply->code / 100);
    CHECK(status->class != 3 && status->subject < 1000 && status->detail < 1000);
    CHECK(status->class != 0 || (status->subject == 0 && status->detail == 0));
}

/* check_again writes a reply in one line and reads that. */
static void check_again(const struct reply_read *reply)
{
    static struct outcome again;
    char line[REPLY_TEXT_MAX + 64];
    int len = snprintf(line, sizeof(line), "%u %u.%u.%u %s\r\n", reply->code, reply->status.class,
                       reply->status.subject, reply->status.detail, reply->text);
    read_cut(&again, bytes_make(line, (size_t)len), sizeof(line));
    CHECK(again.result == REPLY_WHOLE && again.taken == (size_t)len);
    CHECK(again.reply.code == reply->code && again.lines == 1);
    if (reply->status.class == 0)
        return;
    CHECK(memcmp(&again.reply.status, &reply->status, sizeof(reply->status)) == 0);
    size_t blanks = 0; /* those behind the status belong to it */
    while (reply->text[blanks] == ' ')
        blanks++;
    CHECK(strcmp(again.reply.text, reply->text + blanks) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct outcome whole, cut;
    if (size < 1)
        return 0;
    struct bytes in = bytes_make(data + 1, size - 1);
    read_cut(&whole, in, SIZE_MAX);
    read_cut(&cut, in, 1 + data[0] % 64u);
    CHECK(whole.result == cut.result);
    if (whole.result != REPLY_WHOLE)
        return 0;
    CHECK(whole.taken == cut.taken && whole.lines == cut.lines && whole.sum == cut.sum);
    CHECK(whole.reply.code == cut.reply.code && whole.reply.text_len == cut.reply.text_len);
    CHECK(strcmp(whole.reply.text, cut.reply.text) == 0);
    CHECK(in.data[whole.taken - 1] == '\n');
    CHECK(whole.reply.code >= 200 && whole.reply.code <= 599);
    check_text(&whole.reply);
    check_status(&whole.reply);
    check_again(&whole.reply);
    return 0;
}
