/* One look at every octet: where the header ends, where the first octet stands that forbids an
 * encoding, and which boundaries are taken. */
#include "gateway/deliver/original.h"

#include <stdio.h>

#include "gateway/base/check.h"
#include "parser/header.h"
#include "parser/octet.h"

enum { NUMBER_DIGITS = 18 /* of a boundary in the original that are looked at */ };

struct survey {
    struct header_watch watch;
    uint64_t at; /* octets looked at */
    uint64_t line_start;
    uint64_t cut;             /* the last start of a line that ORIGINAL_HEADER_MAX allows for */
    uint64_t empty_line;      /* where the first one begins; UINT64_MAX: none yet */
    uint64_t first_eight_bit; /* UINT64_MAX: none */
    uint64_t first_odd;       /* what neither 7bit nor 8bit may have (RFC 2045 2.7, 2.8) */
    uint8_t before;           /* the last octet */
    /* Lines that begin with "--", `stem` and digits. Ours will have a greater number, so that no
     * such line begins with it. */
    const char *stem;
    size_t stem_len;
    uint64_t taken;  /* the greatest number found */
    uint64_t number; /* on this line */
    bool like_stem;  /* this line is, up to here */
};

static void note(uint64_t *first, uint64_t at)
{
    if (at < *first)
        *first = at;
}

static void look_for_stem(struct survey *survey, uint64_t column, uint8_t c)
{
    if (column == 0) {
        survey->like_stem = true;
        survey->number = 0;
    }
    if (!survey->like_stem)
        return;
    if (column < survey->stem_len) {
        survey->like_stem = c == (uint8_t)survey->stem[column];
    } else if (column < survey->stem_len + NUMBER_DIGITS && octet_is_digit(c)) {
        survey->number = survey->number * 10 + (uint64_t)(c - '0');
        if (survey->number > survey->taken)
            survey->taken = survey->number;
    } else {
        survey->like_stem = false;
    }
}

static void look_at_octet(struct survey *survey, uint8_t c)
{
    uint64_t column = survey->at - survey->line_start;
    bool line_end = survey->before == '\r' && c == '\n';

    if (survey->before == '\r' && !line_end)
        note(&survey->first_odd, survey->at - 1);
    if ((c == '\n' && !line_end) || c == '\0')
        note(&survey->first_odd, survey->at);
    if (c > 127)
        note(&survey->first_eight_bit, survey->at);
    /* Two more are for CR LF. */
    if (column >= ORIGINAL_LINE_MAX && !line_end && !(column == ORIGINAL_LINE_MAX && c == '\r'))
        note(&survey->first_odd, survey->line_start);
    look_for_stem(survey, column, c);
    survey->at++;
    if (line_end) {
        if (column == 1)
            note(&survey->empty_line, survey->line_start);
        survey->line_start = survey->at;
        if (survey->at <= ORIGINAL_HEADER_MAX)
            survey->cut = survey->at;
    }
    survey->before = c;
}

static void look_at(struct survey *survey, struct bytes text)
{
    header_watch_text(&survey->watch, text);
    for (size_t i = 0; i < text.len; i++)
        look_at_octet(survey, text.data[i]);
}

/* header_len: without the empty line; of one that is too long, whole lines. */
static uint64_t header_len(const struct survey *survey)
{
    uint64_t len = survey->at;
    if (survey->watch.ended)
        len = survey->watch.len < survey->empty_line ? survey->watch.len : survey->empty_line;
    return len <= ORIGINAL_HEADER_MAX ? len : survey->cut;
}

int original_survey(struct original *original, struct bytes added, const struct delivery_text *text,
                    bool whole, const char *id)
{
    char stem[ORIGINAL_BOUNDARY_SIZE - NUMBER_DIGITS - 4];
    int stem_len = snprintf(stem, sizeof stem, "--=_ringmx-%.20s-", id);
    CHECK(stem_len > 0 && (size_t)stem_len < sizeof stem);
    struct survey survey = {.empty_line = UINT64_MAX,
                            .first_eight_bit = UINT64_MAX,
                            .first_odd = UINT64_MAX,
                            .stem = stem,
                            .stem_len = (size_t)stem_len};
    *original = (struct original){.form = ORIGINAL_NONE};
    if (text != NULL) {
        struct bytes piece = added;
        int error = text->rewind(text->user);
        while (error == 0) {
            look_at(&survey, piece);
            if (!whole && (survey.watch.ended || survey.at > ORIGINAL_HEADER_MAX))
                break;
            error = text->next(text->user, &piece);
            if (error == 0 && piece.len == 0)
                break;
        }
        if (error != 0)
            return error;
        if (survey.before == '\r')
            note(&survey.first_odd, survey.at - 1);
        uint64_t len = header_len(&survey);
        original->header_eight_bit = survey.first_eight_bit < len;
        bool goes_whole = whole && survey.first_odd == UINT64_MAX;
        original->form = goes_whole ? ORIGINAL_WHOLE : ORIGINAL_HEADER;
        original->len = goes_whole ? survey.at : len;
        original->eight_bit = goes_whole && survey.first_eight_bit != UINT64_MAX;
        original->quoted = !goes_whole && (survey.first_eight_bit < len || survey.first_odd < len);
    }
    /* The stem's "--" stands before a boundary, and is no part of it. */
    snprintf(original->boundary, sizeof original->boundary, "%s%llu", stem + 2,
             (unsigned long long)survey.taken + 1);
    return 0;
}

int original_write(const struct original *original, struct bytes added,
                   const struct delivery_text *text, struct draft *draft)
{
    uint64_t left = original->len;
    struct bytes piece = added;
    int error = text->rewind(text->user);
    while (error == 0 && draft->error == 0) {
        if (piece.len > left)
            piece.len = (size_t)left;
        left -= piece.len;
        if (original->quoted)
            draft_quoted(draft, piece);
        else
            draft_put(draft, piece);
        if (left == 0)
            break;
        error = text->next(text->user, &piece);
        if (error == 0 && piece.len == 0)
            break;
    }
    if (original->quoted)
        draft_quoted_end(draft);
    return error;
}
