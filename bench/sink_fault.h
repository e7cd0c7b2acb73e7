/* What the sink is told to do wrong: refuse, refuse for now, drop or delay, at a phase of the
 * conversation and at a rate. The n-th time that a phase comes the choice depends on the seed, the
 * phase and n alone, so a run with the same seed refuses the same number, whatever its threads and
 * connections are. */
#ifndef BENCH_SINK_FAULT_H
#define BENCH_SINK_FAULT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum sink_phase {
    SINK_PHASE_CONNECT = 0, /* the greeting */
    SINK_PHASE_EHLO = 1,    /* and HELO, LHLO */
    SINK_PHASE_STARTTLS = 2,
    SINK_PHASE_MAIL = 3,
    SINK_PHASE_RCPT = 4,
    SINK_PHASE_DATA = 5, /* and BDAT without LAST */
    SINK_PHASE_DOT = 6,  /* the end of the message, by BDAT LAST, too; with LMTP each recipient */
    SINK_PHASE_QUIT = 7,
    SINK_PHASE_COUNT,
};

enum sink_fault {
    SINK_FAULT_NONE = 0,
    SINK_FAULT_REFUSE = 1,   /* 5xx */
    SINK_FAULT_TEMPFAIL = 2, /* 4xx */
    SINK_FAULT_DROP = 3,     /* the end, without a reply */
    SINK_FAULT_COUNT,
};

struct sink_fault_rule {
    uint64_t shares[SINK_FAULT_COUNT]; /* of 2^32 */
    uint64_t delay_share;
    uint64_t delay_us;
};

/* The zero value does nothing wrong. Shared by all threads. */
struct sink_faults {
    uint64_t seed;
    struct sink_fault_rule rules[SINK_PHASE_COUNT];
    _Atomic uint64_t chosen[SINK_PHASE_COUNT];  /* how many choices were made */
    _Atomic uint64_t delayed[SINK_PHASE_COUNT]; /* how many times a delay was asked for */
};

extern const char *const sink_phase_names[SINK_PHASE_COUNT];
extern const char *const sink_fault_names[SINK_FAULT_COUNT];

/* sink_fault_parse reads "rcpt" (always), "rcpt=10%" or "rcpt=0.1", the value of --`name`, as the
 * rate of `fault`; sink_fault_parse_delay reads "dot=100ms" or "dot=5%:2s" (with a unit). Both exit
 * through words_die when it is none, or the rates of a phase come to more than 100%. */
void sink_fault_parse(struct sink_faults *faults, enum sink_fault fault, const char *name,
                      const char *text);
void sink_fault_parse_delay(struct sink_faults *faults, const char *name, const char *text);

/* sink_fault_choose makes the next choice for a phase. sink_fault_delay_us tells how long the reply
 * must wait, 0: not at all. Any thread. */
enum sink_fault sink_fault_choose(struct sink_faults *faults, enum sink_phase phase);
uint64_t sink_fault_delay_us(struct sink_faults *faults, enum sink_phase phase);

#endif
