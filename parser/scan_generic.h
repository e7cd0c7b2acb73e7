/* The scan, 64 octets a step, written once for every instruction set. Each set's file includes this
 * after it has defined, for itself:
 *
 *     struct scan_block             64 octets of input, in registers
 *     scan_load(at)                 64 octets from `at`
 *     scan_load_short(at, len)      `len` < 64 octets from `at` and no more, then spaces
 *     scan_equal(block, octet)      a bit for each octet of the block; bit 0 is the first
 *     scan_high(block)              the same for the octets above 127
 *     struct scan_octets            a summary of all octets that passed
 *     scan_octets_none()            of none so far
 *     scan_octets_add(all, block)   of all so far and this block
 *     scan_octets_seen(all)         what it says: SCAN_SEEN_NUL, SCAN_SEEN_8BIT
 *
 * The only branches on what is read are for a dot that begins a line and for a bare CR or LF. NUL
 * and 8-bit octets are gathered without asking, so mail full of them is as fast as any other. */
#ifndef PARSER_SCAN_GENERIC_H
#define PARSER_SCAN_GENERIC_H

#include "parser/scan_internal.h"

#define SCAN_INLINE static inline __attribute__((always_inline))

enum { SCAN_BLOCK = 64 };

/* A line that begins and ends in one block has at most 61 octets: before it is an LF, after it CR
 * LF. */
enum { SCAN_INNER_LINE_MAX = SCAN_BLOCK - 3 };

/* Further back than any line begins. */
#define SCAN_FAR ((ptrdiff_t)1 << 62)

/* What one call keeps from block to block, all of it in registers. line_start is the index of the
 * line's first octet; it is below 0 when that came in an earlier call. */
struct scan_run {
    uint64_t after_cr;   /* 1: the octet before this block is a CR */
    uint64_t after_crlf; /* 1: this block begins a line */
    ptrdiff_t line_start;
    ptrdiff_t line_max;
};

/* The line ends of one block, a bit for each octet. */
struct scan_ends {
    uint64_t cr;       /* here is a CR */
    uint64_t lf;       /* here is an LF */
    uint64_t after_cr; /* the octet before is a CR */
    uint64_t crlf;     /* here is an LF, and the octet before is a CR */
};

SCAN_INLINE struct scan_ends scan_ends(const struct scan_run *run, uint64_t cr, uint64_t lf)
{
    uint64_t after_cr = cr << 1 | run->after_cr;
    return (struct scan_ends){cr, lf, after_cr, lf & after_cr};
}

/* scan_cut leaves the first `len` octets, 1 to 64, of a block. */
SCAN_INLINE struct scan_ends scan_cut(struct scan_ends ends, size_t len)
{
    uint64_t valid = ~UINT64_C(0) >> (SCAN_BLOCK - len);
    return (struct scan_ends){ends.cr & valid, ends.lf & valid, ends.after_cr & valid,
                              ends.crlf & valid};
}

/* scan_inner_lines measures the lines that begin and end in one block, given as its CR LF. */
static inline ptrdiff_t scan_inner_lines(uint64_t crlf, ptrdiff_t line_max)
{
    for (uint64_t rest = crlf & (crlf - 1); rest != 0; crlf = rest, rest &= rest - 1) {
        ptrdiff_t len = __builtin_ctzll(rest) - __builtin_ctzll(crlf) - 2;
        line_max = len > line_max ? len : line_max;
    }
    return line_max;
}

/* scan_note_bare: an LF that no CR precedes, or a CR that no LF follows. */
static inline void scan_note_bare(struct scan *scan, struct scan_ends ends)
{
    scan->seen |= (ends.after_cr != ends.crlf ? SCAN_SEEN_BARE_CR : 0) |
                  (ends.lf != ends.crlf ? SCAN_SEEN_BARE_LF : 0);
}

/* scan_measure measures the lines that end in the `len` octets, 1 to 64, that begin at index `at`,
 * and the one that goes on behind them. */
SCAN_INLINE void scan_measure(struct scan_run *run, struct scan_ends ends, ptrdiff_t at, size_t len)
{
    /* The line that runs into this block ends before its first CR LF. Without one it has at least
     * the octets up to here but the last two: never too much, so the maximum may take it, and no
     * branch has to ask. */
    ptrdiff_t first = __builtin_ctzll(ends.crlf | UINT64_C(1) << (len - 1));
    ptrdiff_t line_len = at + first - 1 - run->line_start;
    run->line_max = line_len > run->line_max ? line_len : run->line_max;
    if (__builtin_expect(run->line_max < SCAN_INNER_LINE_MAX, 0))
        run->line_max = scan_inner_lines(ends.crlf, run->line_max);
    ptrdiff_t last = 63 ^ __builtin_clzll(ends.crlf | 1);
    ptrdiff_t start = at + last + 1 - (ptrdiff_t)(ends.crlf == 0) * SCAN_FAR;
    run->line_start = start > run->line_start ? start : run->line_start;
}

/* scan_note takes in the line ends of the `len` octets, 1 to 64, that begin at index `at`. */
SCAN_INLINE void scan_note(struct scan *scan, struct scan_run *run, struct scan_ends ends,
                           ptrdiff_t at, size_t len, bool lengths)
{
    if (__builtin_expect(ends.lf != ends.after_cr, 0))
        scan_note_bare(scan, ends);
    run->after_cr = ends.cr >> (len - 1);
    run->after_crlf = ends.crlf >> (len - 1);
    if (lengths)
        scan_measure(run, ends, at, len);
}

SCAN_INLINE struct scan_run scan_begin(const struct scan *scan)
{
    bool after_cr = scan->position == SCAN_AFTER_CR;
    return (struct scan_run){
        .after_cr = after_cr,
        .after_crlf = scan->position == SCAN_LINE_START,
        /* A CR that waits is there, but not in line_len. */
        .line_start = -(ptrdiff_t)scan->line_len - after_cr,
        .line_max = scan->line_max,
    };
}

/* scan_finish writes back what `run` has found up to index `end`. */
SCAN_INLINE void scan_finish(struct scan *scan, const struct scan_run *run, size_t end,
                             bool lengths)
{
    scan->position = run->after_cr     ? SCAN_AFTER_CR
                     : run->after_crlf ? SCAN_LINE_START
                                       : SCAN_IN_LINE;
    if (!lengths)
        return;
    ptrdiff_t line_len = (ptrdiff_t)end - run->line_start - (ptrdiff_t)run->after_cr;
    ptrdiff_t line_max = line_len > run->line_max ? line_len : run->line_max;
    scan->line_len = line_len > UINT32_MAX ? UINT32_MAX : (uint32_t)line_len;
    scan->line_max = line_max > UINT32_MAX ? UINT32_MAX : (uint32_t)line_max;
}

/* A block and what is known of it. `skip` octets at its front belong to the block before. */
struct scan_view {
    struct scan_block block;
    unsigned skip;
    struct scan_ends ends;
    uint64_t dots; /* here is a dot at the start of a line */
};

/* scan_look finds what matters in a block, and takes nothing in yet. */
SCAN_INLINE struct scan_view scan_look(const struct scan_run *run, struct scan_block block,
                                       unsigned skip, bool stuffed)
{
    struct scan_view view = {.block = block, .skip = skip};
    view.ends = scan_ends(run, scan_equal(block, '\r') >> skip, scan_equal(block, '\n') >> skip);
    uint64_t starts = view.ends.crlf << 1 | run->after_crlf;
    view.dots = stuffed ? scan_equal(block, '.') >> skip & starts : 0;
    return view;
}

/* scan_stop takes in the first `len` < 64 octets of the block at index `at`, and ends the run. */
SCAN_INLINE size_t scan_stop(struct scan *scan, struct scan_run run, struct scan_view view,
                             size_t at, size_t len, bool lengths)
{
    if (len > 0) {
        unsigned past = (unsigned)(SCAN_BLOCK - len);
        uint64_t nul = scan_equal(view.block, '\0') >> view.skip << past;
        uint64_t high = scan_high(view.block) >> view.skip << past;
        scan->seen |= (nul != 0 ? SCAN_SEEN_NUL : 0) | (high != 0 ? SCAN_SEEN_8BIT : 0);
        scan_note(scan, &run, scan_cut(view.ends, len), (ptrdiff_t)at, len, lengths);
    }
    scan_finish(scan, &run, at + len, lengths);
    return at + len;
}

/* scan_rest loads the fewer than 64 octets from index `at` to the end of `in`. */
SCAN_INLINE struct scan_view scan_rest(const struct scan_run *run, struct bytes in, size_t at,
                                       bool stuffed)
{
    if (in.len < SCAN_BLOCK)
        return scan_look(run, scan_load_short(in.data, in.len), 0, stuffed);
    unsigned skip = (unsigned)(at + SCAN_BLOCK - in.len);
    return scan_look(run, scan_load(in.data + at - skip), skip, stuffed);
}

/* scan_generic is scan_code.data when `stuffed`, otherwise scan_code.text; `lengths` is
 * scan->lengths. Both are constants where it is called: measuring lines is as much work as all the
 * rest. */
SCAN_INLINE size_t scan_generic(struct scan *scan, struct bytes in, bool stuffed, bool lengths)
{
    struct scan_run run = scan_begin(scan);
    struct scan_octets octets = scan_octets_none();
    struct scan_view view;
    size_t at = 0, len;
    for (; (len = in.len - at) >= SCAN_BLOCK; at += SCAN_BLOCK) {
        view = scan_look(&run, scan_load(in.data + at), 0, stuffed);
        if (__builtin_expect(view.dots != 0, 0))
            break;
        scan_note(scan, &run, view.ends, (ptrdiff_t)at, SCAN_BLOCK, lengths);
        octets = scan_octets_add(octets, view.block);
    }
    scan->seen |= scan_octets_seen(octets);
    if (len < SCAN_BLOCK && len > 0)
        view = scan_rest(&run, in, at, stuffed);
    if (len > 0 && view.dots != 0)
        len = (size_t)__builtin_ctzll(view.dots);
    return scan_stop(scan, run, view, at, len, lengths);
}

#endif
