/* ringmx-load: sends mail to an SMTP or LMTP server, tells how fast it was taken, and proves
 * afterwards that nothing is lost (docs/load.md). This file only calls the others. */
#include "bench/load/crew.h"
#include "bench/load/report.h"
#include "bench/load/sweep.h"
#include "bench/load/verify.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    EXIT_WELL = 0,
    EXIT_FAILED = 1,
    EXIT_CANNOT = 2,
    EXIT_INVALID = 3,
    EXIT_INTERRUPTED = 130,
    FILES_OTHER = 64,        /* standard ones, libraries, what is open for a moment */
    FILES_EACH_THREAD = 128, /* ring, events, connections that are being closed */
};

/* Returns the exit code. */
static int print(const struct tally *tally, struct series *series,
                 const struct load_options *options, const struct mail *mail, FILE *histogram)
{
    char reasons[512];
    if (options->json) {
        json_t *object = report_json(tally, series, options, mail);
        json_dumpf(object, stdout, REPORT_JSON_FLAGS);
        putchar('\n');
        json_decref(object);
    } else {
        report_print(tally, series, options, mail);
    }
    if (histogram != NULL && !report_histograms(tally, histogram, options->histogram))
        return EXIT_CANNOT;
    if (crew_interrupted())
        return EXIT_INTERRUPTED;
    if (tally_failed(tally, options))
        return EXIT_FAILED;
    return tally_invalid(tally, options, reasons, sizeof reasons) ? EXIT_INVALID : EXIT_WELL;
}

static int run_once(const struct load_options *options, const struct mail *mail)
{
    struct series *series;
    struct tally *tally = malloc(sizeof *tally);
    FILE *histogram = NULL;
    if (tally == NULL)
        words_die("no memory");
    if (options->histogram != NULL) {
        histogram = fopen(options->histogram, "we"); /* a wrong path is told before the run */
        if (histogram == NULL)
            words_die("%s: %s", options->histogram, strerror(errno));
    }
    bool ran = crew_run(options, mail, tally, &series);
    int code = ran ? print(tally, series, options, mail, histogram) : EXIT_CANNOT;
    if (!ran && histogram != NULL)
        fclose(histogram);
    series_free(series);
    free(tally);
    return code;
}

int main(int argc, char **argv)
{
    static struct load_options options;
    words_program("ringmx-load");
    if (argc > 1 && strcmp(argv[1], "verify") == 0)
        return verify_main(argc - 1, argv + 1);
    options_read(&options, argc, argv);
    words_files((rlim_t)options.connections + options.idle + options.slow + FILES_OTHER +
                (rlim_t)options.threads * FILES_EACH_THREAD);
    struct mail *mail = mail_new(&options.mail);
    int code = options.sweep_p99_us > 0 ? sweep_run(&options, mail) : run_once(&options, mail);
    mail_free(mail);
    return code;
}
