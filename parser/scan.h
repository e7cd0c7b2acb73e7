/* The law of lines (RFC 5321 2.3.8, 4.1.1.4, 4.5.2): one scanner decides, once, where the text of a
 * message ends, which dots were stuffed, and whether every line ends in CR LF. It looks at the
 * bytes where they lie, copies nothing, and can stop and go on at any byte. Everything after it
 * sees canonical lines.
 *
 * Only CR LF "." CR LF ends DATA; the scanner starts as if a CR LF had just passed, so that "." CR
 * LF as the very first line is an empty message. A bare CR or a bare LF never ends anything: it is
 * noted in `seen`. */
#ifndef PARSER_SCAN_H
#define PARSER_SCAN_H

#include "parser/bytes.h"

/* Where the scanner stands between two bytes. */
enum scan_position {
    SCAN_LINE_START = 0, /* after CR LF, or at the very beginning */
    SCAN_IN_LINE = 1,
    SCAN_AFTER_CR = 2,     /* a CR that may turn out to be bare */
    SCAN_AFTER_DOT = 3,    /* CR LF "."; the dot is not yet given out */
    SCAN_AFTER_DOT_CR = 4, /* CR LF "." CR; neither the dot nor the CR is yet given out */
    SCAN_ENDED = 5,
};

/* What has been seen so far, as bits of scan.seen. */
enum scan_seen {
    SCAN_SEEN_BARE_CR = 1 << 0, /* CR without LF after it */
    SCAN_SEEN_BARE_LF = 1 << 1, /* LF without CR before it */
    SCAN_SEEN_NUL = 1 << 2,
    SCAN_SEEN_8BIT = 1 << 3, /* an octet above 127 */
};

/* The zero value is a scanner at the beginning of a message. */
struct scan {
    uint8_t position;  /* enum scan_position */
    uint8_t seen;      /* enum scan_seen bits */
    bool lengths;      /* set by the caller, at the beginning: measure lines, in twice the time */
    uint32_t line_len; /* octets of the present line so far, its CR LF not counted */
    uint32_t line_max; /* the longest line that ended or is running, stuffed dots not counted */
};

/* scan_data reads message text as DATA sends it. It takes bytes from the front of `in`, returns how
 * many (always > 0 when in.len > 0 and the scan has not ended), and sets `span` to the piece of
 * message text that it found among them: a slice of `in`, or a constant of its own, two octets,
 * when a held-back CR turned out to be text. The span may be empty. Call again with the rest until
 * all is taken or scan->position is SCAN_ENDED; bytes after the end are left untouched. The CR LF
 * before the final dot belongs to the text, the final dot and its CR LF do not, and a stuffed dot
 * is left out (RFC 5321 4.5.2). When a bare CR follows a dot at the start of a line, the dot is
 * stuffed and the CR is text. */
size_t scan_data(struct scan *scan, struct bytes in, struct bytes *span);

/* scan_text reads text that is not dot-stuffed (BDAT, RFC 3030): the whole of `in` is text; only
 * `seen` and, if wanted, the line lengths are kept. A CR at the very end of the message is bare:
 * call scan_text_end when it is over. */
void scan_text(struct scan *scan, struct bytes in);
void scan_text_end(struct scan *scan);

/* The implementations. All give the same answers; SCAN_SCALAR is the reference. */
enum scan_kind { SCAN_SCALAR, SCAN_SSE2, SCAN_AVX2, SCAN_AVX512, SCAN_NEON, SCAN_KIND_COUNT };

/* scan_choose makes `kind` the one that scan_data and scan_text use. False when this machine cannot
 * run it (nothing changes then). Not thread-safe: call before threads start. The default before any
 * call is SCAN_SCALAR. */
bool scan_choose(enum scan_kind kind);

/* scan_choose_best takes the fastest that this machine can run and returns it. */
enum scan_kind scan_choose_best(void);

/* scan_kind_name returns "scalar", "sse2", "avx2", "avx512" or "neon"; constant. */
const char *scan_kind_name(enum scan_kind kind);

#endif
