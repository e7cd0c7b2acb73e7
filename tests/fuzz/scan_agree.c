/* libFuzzer: every implementation of the scanner, fed in pieces that the input chooses, must come
 * to the same text and the same state as the scalar one fed in one piece. Each piece is its own
 * allocation, so that the address sanitizer sees a read beyond it.
 *
 * Input: an octet n; n % 8 octets, the lengths of the pieces in turn; the message. */
#include <stdlib.h>

#include "parser/scan.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct outcome {
    struct scan scan;
    size_t taken;
    uint8_t *text;
    size_t text_len;
};

static void insist(bool truth)
{
    if (!truth)
        abort();
}

static void feed_data(struct outcome *outcome, struct bytes in)
{
    while (in.len > 0 && outcome->scan.position != SCAN_ENDED) {
        struct bytes span;
        size_t taken = scan_data(&outcome->scan, in, &span);
        insist(taken > 0 && taken <= in.len && span.len <= taken + 1);
        if (span.len > 0)
            memcpy(outcome->text + outcome->text_len, span.data, span.len);
        outcome->text_len += span.len;
        outcome->taken += taken;
        in = bytes_skip(in, taken);
    }
}

/* run feeds `in` in pieces of the lengths of `cuts`, over and over; in one piece when there are
 * none. */
static struct outcome run(struct bytes in, struct bytes cuts, bool stuffed, bool lengths)
{
    struct outcome outcome = {.scan.lengths = lengths, .text = malloc(in.len + 1)};
    insist(outcome.text != NULL);
    for (size_t at = 0, turn = 0; at < in.len; turn++) {
        size_t len = in.len - at;
        size_t cut = cuts.len == 0 ? len : (size_t)cuts.data[turn % cuts.len];
        if (turn % 8 == 0 && cut == 0)
            cut = 1; /* so that it comes to an end */
        len = cut < len ? cut : len;
        uint8_t *piece = malloc(len);
        insist(piece != NULL || len == 0);
        if (len > 0)
            memcpy(piece, in.data + at, len);
        if (stuffed)
            feed_data(&outcome, bytes_make(piece, len));
        else
            scan_text(&outcome.scan, bytes_make(piece, len));
        free(piece);
        at += len;
    }
    if (!stuffed)
        scan_text_end(&outcome.scan);
    return outcome;
}

/* compare: lines are not measured in every `a`. */
static void compare(struct outcome a, struct outcome b)
{
    insist(a.taken == b.taken);
    insist(a.scan.position == b.scan.position);
    insist(a.scan.seen == b.scan.seen);
    insist(a.scan.line_len == (a.scan.lengths ? b.scan.line_len : 0));
    insist(a.scan.line_max == (a.scan.lengths ? b.scan.line_max : 0));
    insist(a.text_len == b.text_len);
    insist(memcmp(a.text, b.text, a.text_len) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes in = bytes_make(data, size);
    size_t cut_count = size > 0 ? data[0] % 8 : 0;
    struct bytes cuts = bytes_skip(in, 1);
    in = bytes_skip(cuts, cut_count);
    cuts.len -= in.len;

    for (int stuffed = 0; stuffed <= 1; stuffed++) {
        scan_choose(SCAN_SCALAR);
        struct outcome wanted = run(in, bytes_make(NULL, 0), stuffed, true);
        for (enum scan_kind kind = 0; kind < SCAN_KIND_COUNT; kind++) {
            if (!scan_choose(kind))
                continue;
            for (int lengths = 0; lengths <= 1; lengths++) {
                struct outcome got = run(in, cuts, stuffed, lengths);
                compare(got, wanted);
                free(got.text);
            }
        }
        free(wanted.text);
    }
    return 0;
}
