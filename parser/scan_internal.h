/* What scan.c and the instruction-set files share. The law of the dots and of the end of data is
 * written once, in scan.c, for all; an implementation only runs over text and notes what it sees on
 * the way. */
#ifndef PARSER_SCAN_INTERNAL_H
#define PARSER_SCAN_INTERNAL_H

#include "parser/scan.h"

/* One implementation. Both functions begin at SCAN_LINE_START, SCAN_IN_LINE or SCAN_AFTER_CR, end
 * at one of these, and keep `seen` and, with scan.lengths, the line lengths; neither reads outside
 * of `in`. */
struct scan_code {
    /* data stops before a dot at the start of a line and returns its index; in.len when there is
     * none. */
    size_t (*data)(struct scan *scan, struct bytes in);
    /* text does not know dots: it takes all of `in`. */
    void (*text)(struct scan *scan, struct bytes in);
};

/* Each exists only where its file is compiled for that processor. */
extern const struct scan_code scan_sse2_code;
extern const struct scan_code scan_avx2_code;
extern const struct scan_code scan_avx512_code;
extern const struct scan_code scan_neon_code;

#endif
