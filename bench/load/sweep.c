/* See sweep.h. */
#include "bench/load/sweep.h"

#include "bench/load/crew.h"
#include "bench/load/report.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    INVALID_MAX = 3,
    SLOW_MAX = 2,
    WHY_MAX = 640,
    EXIT_NONE = 1,
    EXIT_CANNOT = 2,
    EXIT_INVALID = 3,
    EXIT_INTERRUPTED = 130
};

static const double width_max = 0.05; /* of the interval, as a share of the rate that held */
static const double rate_min = 1, rate_max = 1e8;
static const double achieved_min = 0.98;
static const double late_share_max = 0.1; /* of the limit, where half of the starts are later */
static const double saturated = 0.9;      /* a thread that busy may be what is slow */
static const double limits_min = 50;      /* of a step's time */
static const double arrivals_min = 1000, arrivals_seconds_max = 10;

/* ---- the search ---- */

void sweep_start(struct sweep *sweep, double rate)
{
    *sweep = (struct sweep){.rate = rate};
}

/* The lower end of the interval has been tried once more. */
static void check(struct sweep *sweep, bool held)
{
    sweep->held = held ? sweep->rate : 0;
    sweep->over = held;
    if (held)
        return;
    sweep->failed = sweep->rate;
    sweep->rate /= 1 + width_max;
    sweep->over = sweep->rate < rate_min;
}

void sweep_step(struct sweep *sweep, enum sweep_outcome outcome)
{
    switch (outcome) {
    case SWEEP_INVALID: sweep->over = sweep->at_least = ++sweep->invalid == INVALID_MAX; return;
    case SWEEP_SLOW:
        if (++sweep->slow < SLOW_MAX)
            return;
        break;
    case SWEEP_HELD:
    case SWEEP_FAILED: break;
    }
    bool held = outcome == SWEEP_HELD;
    sweep->invalid = sweep->slow = 0;
    if (sweep->checking) {
        check(sweep, held);
        return;
    }
    *(held ? &sweep->held : &sweep->failed) = sweep->rate;
    if (sweep->failed <= 0)
        sweep->rate = sweep->held * 2;
    else if (sweep->held <= 0)
        sweep->rate = sweep->failed / 2;
    else
        sweep->rate = (sweep->held + sweep->failed) / 2;
    sweep->checking = sweep->held > 0 && sweep->failed > 0 &&
                      sweep->failed - sweep->held <= width_max * sweep->held;
    if (sweep->checking)
        sweep->rate = sweep->held;
    sweep->at_least = sweep->rate > rate_max;
    sweep->over = sweep->at_least || sweep->rate < rate_min;
}

/* ---- the runs ---- */

static double greater(double one, double other)
{
    return one > other ? one : other;
}

double sweep_seconds(const struct load_options *options)
{
    double limit_s = (double)options->sweep_p99_us / 1e6, wanted_s = arrivals_min / options->rate;
    if (wanted_s > arrivals_seconds_max)
        wanted_s = arrivals_seconds_max;
    return greater(greater(options->seconds, limits_min * limit_s), wanted_s);
}

/* How many arrivals can't be answered because we broke their connection off. Before MAIL that
 * takes a connection's messages with it, if they came with it. */
static double aborted_in(const struct load_options *options, const struct tally *tally)
{
    bool connections = options->loop == LOAD_LOOP_CONNECTIONS;
    uint64_t count = 0;
    for (unsigned i = connections ? LOAD_PHASE_CONNECT : LOAD_PHASE_MAIL; i < LOAD_PHASE_QUIT; i++)
        count += tally->aborted[i];
    double all_s = options->warm_up_seconds + tally->seconds;
    return all_s > 0 ? (double)count * tally->seconds / all_s : 0;
}

/* How many messages should have been answered in the measured time: not those that came so late
 * that they may be answered after its end. */
static double messages_wanted(const struct load_options *options, const struct tally *tally)
{
    const struct words_range *each = &options->messages_per_connection;
    double whole = greater((double)tally->offered - aborted_in(options, tally), 0);
    if (options->loop == LOAD_LOOP_CONNECTIONS)
        whole *= ((double)each->min + (double)each->max) / 2;
    double limit_s = (double)options->sweep_p99_us / 1e6;
    double share = tally->seconds > limit_s ? 1 - limit_s / tally->seconds : 0;
    return achieved_min * whole * share - 1;
}

/* Whether anything failed of which this program can't be the reason. */
static bool refused(const struct tally *tally)
{
    return tally->failed + tally->lost + tally->unopened + tally->broken + tally->tls.failed +
               tally->tls.broken >
           0;
}

/* Judges a step and writes why it did not hold. */
static enum sweep_outcome judge(const struct load_options *options, const struct tally *tally,
                                char why[WHY_MAX])
{
    char reasons[WHY_MAX / 2];
    bool invalid = tally_invalid(tally, options, reasons, sizeof reasons);
    const struct histogram *latency =
        &tally->times[options->loop == LOAD_LOOP_CONNECTIONS ? TALLY_CONNECTION : TALLY_MESSAGE];
    uint64_t limit_ns = options->sweep_p99_us * 1000;
    bool slow = histogram_quantile_ns(latency, 0.99) > limit_ns;
    bool mostly_slow = histogram_quantile_ns(latency, 0.5) > limit_ns;
    why[0] = '\0';
    /* What is slow or unfinished because this program was late does not speak against the server;
     * but if half of all is slow, and half of the starts were not late, it is not this program. */
    if (invalid && slow)
        slow = mostly_slow && tally->busiest < saturated &&
               (double)histogram_quantile_ns(&tally->times[TALLY_LATENESS], 0.5) <=
                   late_share_max * (double)limit_ns;
    if (tally_failed(tally, options) && (!invalid || refused(tally))) {
        snprintf(why, WHY_MAX, "transactions or connections failed");
        return SWEEP_FAILED;
    }
    if (slow) {
        snprintf(why, WHY_MAX, "p99 is above %.3f ms", (double)limit_ns / 1e6);
        return mostly_slow ? SWEEP_FAILED : SWEEP_SLOW;
    }
    if (invalid) {
        snprintf(why, WHY_MAX, "the run is invalid: %s", reasons);
        return SWEEP_INVALID;
    }
    if (latency->count == 0 || (double)tally->counted < messages_wanted(options, tally)) {
        snprintf(why, WHY_MAX, "only %llu messages were answered in time",
                 (unsigned long long)tally->counted);
        return SWEEP_FAILED;
    }
    return SWEEP_HELD;
}

static void print_step(const struct load_options *options, const struct tally *tally,
                       enum sweep_outcome outcome, const char *why)
{
    static const char *const words[] = {
        [SWEEP_HELD] = "held",
        [SWEEP_FAILED] = "failed",
        [SWEEP_INVALID] = "invalid",
        [SWEEP_SLOW] = "failed",
    };
    const struct histogram *latency =
        &tally->times[options->loop == LOAD_LOOP_CONNECTIONS ? TALLY_CONNECTION : TALLY_MESSAGE];
    printf("%10.1f/s, %6.2f s  p50 %9.3f ms  p99 %9.3f ms  %s%s%s\n", options->rate,
           options->seconds, (double)histogram_quantile_ns(latency, 0.5) / 1e6,
           (double)histogram_quantile_ns(latency, 0.99) / 1e6, words[outcome],
           why[0] != '\0' ? ": " : "", why);
    fflush(stdout);
}

/* Makes one run; `*steps` gets its report if it is not NULL. False: it could not be made. */
static bool step(const struct load_options *options, const struct mail *mail, struct tally *tally,
                 json_t *steps, enum sweep_outcome *outcome)
{
    struct series *series;
    char why[WHY_MAX];
    bool ran = crew_run(options, mail, tally, &series) && !crew_interrupted();
    if (ran) {
        *outcome = judge(options, tally, why);
        if (steps == NULL) {
            print_step(options, tally, *outcome, why);
        } else {
            json_t *report = report_json(tally, series, options, mail);
            report_put(report, "rate", json_real(options->rate));
            report_put(report, "held", json_boolean(*outcome == SWEEP_HELD));
            report_put(report, "why", json_string(why));
            if (json_array_append_new(steps, report) != 0)
                words_die("no memory");
        }
    }
    series_free(series);
    return ran;
}

static void print_knee(const struct load_options *options, const struct sweep *sweep)
{
    double limit_ms = (double)options->sweep_p99_us / 1e3;
    const char *what = options->loop == LOAD_LOOP_CONNECTIONS ? "connections" : "messages";
    if (sweep->held > 0)
        printf("knee: %s%.1f %s a second with p99 <= %.3f ms\n",
               sweep->over && !sweep->at_least ? "" : "at least ", sweep->held, what, limit_ms);
    else
        printf("knee: none was found with p99 <= %.3f ms\n", limit_ms);
}

static void print_knee_json(const struct load_options *options, const struct sweep *sweep,
                            json_t *steps)
{
    json_t *object = json_object();
    report_put(object, "steps", steps);
    report_put(object, "knee", sweep->held > 0 ? json_real(sweep->held) : json_null());
    report_put(object, "at_least", json_boolean(!sweep->over || sweep->at_least));
    report_put(object, "p99_us", json_integer((json_int_t)options->sweep_p99_us));
    json_dumpf(object, stdout, REPORT_JSON_FLAGS);
    putchar('\n');
    json_decref(object);
}

int sweep_run(const struct load_options *options, struct mail *mail)
{
    struct sweep sweep;
    struct load_options now = *options;
    struct tally *tally = malloc(sizeof *tally);
    json_t *steps = options->json ? json_array() : NULL;
    enum sweep_outcome outcome;
    bool ran = true;
    if (tally == NULL)
        words_die("no memory");
    sweep_start(&sweep, options->rate);
    for (uint32_t run = options->mail.run; !sweep.over && ran; run++) {
        now.rate = sweep.rate;
        now.seconds = options->seconds;
        now.seconds = sweep_seconds(&now);
        mail_rename(mail, run);
        ran = step(&now, mail, tally, steps, &outcome);
        if (ran)
            sweep_step(&sweep, outcome);
    }
    free(tally);
    if (steps != NULL)
        print_knee_json(options, &sweep, steps);
    else
        print_knee(options, &sweep);
    if (!ran)
        return crew_interrupted() ? EXIT_INTERRUPTED : EXIT_CANNOT;
    return sweep.at_least ? EXIT_INVALID : sweep.held > 0 ? 0 : EXIT_NONE;
}
