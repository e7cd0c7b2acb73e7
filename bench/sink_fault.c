/* The choices: see sink_fault.h. */
#include "bench/sink_fault.h"

#include "bench/words.h"

#include <string.h>

static const uint64_t whole = UINT64_C(1) << 32;

const char *const sink_phase_names[SINK_PHASE_COUNT] = {
    [SINK_PHASE_CONNECT] = "connect",   [SINK_PHASE_EHLO] = "ehlo",
    [SINK_PHASE_STARTTLS] = "starttls", [SINK_PHASE_MAIL] = "mail",
    [SINK_PHASE_RCPT] = "rcpt",         [SINK_PHASE_DATA] = "data",
    [SINK_PHASE_DOT] = "dot",           [SINK_PHASE_QUIT] = "quit",
};

const char *const sink_fault_names[SINK_FAULT_COUNT] = {
    [SINK_FAULT_NONE] = "none",
    [SINK_FAULT_REFUSE] = "refused",
    [SINK_FAULT_TEMPFAIL] = "tempfailed",
    [SINK_FAULT_DROP] = "dropped",
};

/* --- reading --- */

enum { PART_MAX = 32 };

/* part_copy copies the octets in front of `end` to `out`. */
static void part_copy(const char *name, const char *text, const char *end, char out[PART_MAX])
{
    size_t len = (size_t)(end - text);
    if (len >= PART_MAX)
        words_die("--%s: \"%s\" is too long", name, text);
    memcpy(out, text, len);
    out[len] = '\0';
}

/* rule_read finds the rule of the phase that stands in front of `end`. */
static struct sink_fault_rule *rule_read(struct sink_faults *faults, const char *name,
                                         const char *text, const char *end)
{
    static const char *words[SINK_PHASE_COUNT + 1];
    memcpy(words, sink_phase_names, sizeof sink_phase_names);
    char phase[PART_MAX];
    part_copy(name, text, end, phase);
    return &faults->rules[words_choice(name, phase, words)];
}

static uint64_t share_read(const char *name, const char *text)
{
    return (uint64_t)(words_rate(name, text) * (double)whole + 0.5);
}

void sink_fault_parse(struct sink_faults *faults, enum sink_fault fault, const char *name,
                      const char *text)
{
    const char *end = strchrnul(text, '=');
    struct sink_fault_rule *rule = rule_read(faults, name, text, end);
    rule->shares[fault] = *end == '=' ? share_read(name, end + 1) : whole;
    uint64_t sum = 0;
    for (size_t i = 0; i < SINK_FAULT_COUNT; i++)
        sum += rule->shares[i];
    if (sum > whole)
        words_die("--%s %s: all rates of a phase together are at most 100%%", name, text);
}

void sink_fault_parse_delay(struct sink_faults *faults, const char *name, const char *text)
{
    const char *end = strchr(text, '=');
    if (end == NULL)
        words_die("--%s: \"%s\" is not PHASE=TIME or PHASE=RATE:TIME, as dot=100ms or rcpt=1%%:5s",
                  name, text);
    struct sink_fault_rule *rule = rule_read(faults, name, text, end);
    const char *colon = strchr(end, ':');
    const char *time = colon != NULL ? colon + 1 : end + 1;
    rule->delay_share = whole;
    if (colon != NULL) {
        char rate[PART_MAX];
        part_copy(name, end + 1, colon, rate);
        rule->delay_share = share_read(name, rate);
    }
    rule->delay_us = words_duration_us(name, time);
    /* A bare number could be meant as a rate. */
    if (rule->delay_us == 0 || strpbrk(time, "smh") == NULL)
        words_die("--%s: \"%s\" is no time with a unit, as 100ms or 5s", name, time);
}

/* --- choosing --- */

/* draw gives 32 bits for the n-th choice of a kind: SplitMix64 (Steele, Lea, Flood 2014), entered
 * at any point of its sequence. */
static uint64_t draw(const struct sink_faults *faults, unsigned kind, uint64_t n)
{
    uint64_t word = faults->seed * UINT64_C(0xd1342543de82ef95) + (uint64_t)kind * (whole << 24) +
                    (n + 1) * UINT64_C(0x9e3779b97f4a7c15);
    word = (word ^ word >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    word = (word ^ word >> 27) * UINT64_C(0x94d049bb133111eb);
    return (word ^ word >> 31) >> 32;
}

enum sink_fault sink_fault_choose(struct sink_faults *faults, enum sink_phase phase)
{
    const struct sink_fault_rule *rule = &faults->rules[phase];
    uint64_t limit = 0;
    for (unsigned i = 0; i < SINK_FAULT_COUNT; i++)
        limit += rule->shares[i];
    if (limit == 0)
        return SINK_FAULT_NONE;
    uint64_t n = atomic_fetch_add_explicit(&faults->chosen[phase], 1, memory_order_relaxed);
    uint64_t drawn = draw(faults, phase, n);
    limit = 0;
    for (unsigned i = SINK_FAULT_NONE + 1; i < SINK_FAULT_COUNT; i++) {
        limit += rule->shares[i];
        if (drawn < limit)
            return (enum sink_fault)i;
    }
    return SINK_FAULT_NONE;
}

uint64_t sink_fault_delay_us(struct sink_faults *faults, enum sink_phase phase)
{
    const struct sink_fault_rule *rule = &faults->rules[phase];
    if (rule->delay_share == 0)
        return 0;
    uint64_t n = atomic_fetch_add_explicit(&faults->delayed[phase], 1, memory_order_relaxed);
    return draw(faults, SINK_PHASE_COUNT + phase, n) < rule->delay_share ? rule->delay_us : 0;
}
