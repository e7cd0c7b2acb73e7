/* Tables and JSON: see scan_report.h. */
#include "bench/scan_report.h"

#include "bench/words.h"

#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

/* --- JSON --- */

static json_t *rate(const struct measure *measure)
{
    return json_pack("{s:f, s:f, s:f}", "best", measure->best, "median", measure->median, "worst",
                     measure->worst);
}

static void add(json_t *object, const char *name, json_t *value)
{
    if (object == NULL || json_object_set_new(object, name, value) != 0)
        words_die("no memory");
}

/* add_to appends to the array of that name, which it makes the first time. */
static void add_to(json_t *object, const char *name, json_t *value)
{
    if (json_object_get(object, name) == NULL)
        add(object, name, json_array());
    if (json_array_append_new(json_object_get(object, name), value) != 0)
        words_die("no memory");
}

/* processor_name copies what /proc/cpuinfo calls the processor; empty when it does not say. */
static void processor_name(char *out, size_t size)
{
    static const char key[] = "model name\t: ";
    char line[256];
    FILE *file = fopen("/proc/cpuinfo", "re");
    out[0] = '\0';
    while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
        if (strncmp(line, key, sizeof(key) - 1) != 0)
            continue;
        snprintf(out, size, "%.*s", (int)strcspn(line + sizeof(key) - 1, "\n"),
                 line + sizeof(key) - 1);
        break;
    }
    if (file != NULL)
        fclose(file);
}

json_t *scan_report_begin(const struct measure_options *options, int cpu)
{
    struct utsname system;
    char processor[128];
    uname(&system);
    processor_name(processor, sizeof(processor));
    json_t *report = json_object();
    add(report, "machine",
        json_pack("{s:s, s:s, s:s, s:I, s:I, s:i}", "processor", processor, "architecture",
                  system.machine, "kernel", system.release, "l2_octets",
                  (json_int_t)sysconf(_SC_LEVEL2_CACHE_SIZE), "l3_octets",
                  (json_int_t)sysconf(_SC_LEVEL3_CACHE_SIZE), "cpu", cpu));
    add(report, "turns", json_integer(options->turns));
    add(report, "turn_seconds", json_real(options->seconds));
    return report;
}

static const struct measure *named(const struct scan_row *row, const char *name)
{
    for (size_t i = 0; i < row->count; i++)
        if (strcmp(row->measures[i].name, name) == 0)
            return &row->measures[i];
    return NULL;
}

/* ratio compares the medians of the best implementation and of another measure of the same row. */
static double ratio(const struct scan_row *row, const char *other)
{
    return named(row, scan_kind_name(row->best))->median / named(row, other)->median;
}

void scan_report_row(json_t *report, const struct scan_row *row)
{
    json_t *rates = json_object();
    for (size_t i = 0; i < row->count; i++)
        add(rates, row->measures[i].name, rate(&row->measures[i]));
    add_to(report, "scanner",
           json_pack("{s:s, s:s, s:I, s:I, s:s, s:f, s:f, s:o}", "mail", row->mail, "set", row->set,
                     "octets", (json_int_t)row->octets, "messages", (json_int_t)row->messages,
                     "chosen", scan_kind_name(row->best), "of_memcpy", ratio(row, "memcpy"),
                     "of_memchr", ratio(row, "memchr"), "octets_per_second", rates));
}

void scan_report_lines(json_t *report, const struct scan_lines *lines,
                       const struct measure *measure)
{
    add_to(report, lines->parser == SCAN_LINES_COMMAND ? "commands" : "addresses",
           json_pack("{s:s, s:f, s:f, s:o}", "lines", lines->name, "octets_mean",
                     (double)lines->octets / SCAN_LINES, "good", lines->good, "per_second",
                     rate(measure)));
}

/* --- tables --- */

void scan_print_head(const struct scan_row *row, uint32_t turns)
{
    printf("The scanner, GB/s, median of %u turns (best).", turns);
    printf(" memchr finds each LF; the last columns compare %s.\n\n", scan_kind_name(row->best));
    printf("%-16s %9s", "mail", "KiB");
    for (size_t i = 0; i < row->count; i++)
        printf(" %14s", row->measures[i].name);
    printf(" %8s %8s\n", "/memcpy", "/memchr");
}

void scan_print_row(const struct scan_row *row)
{
    printf("%-16s %9zu", row->mail, row->octets / 1024);
    for (size_t i = 0; i < row->count; i++)
        printf(" %6.2f (%5.2f)", row->measures[i].median / 1e9, row->measures[i].best / 1e9);
    printf(" %8.2f %8.2f\n", ratio(row, "memcpy"), ratio(row, "memchr"));
    fflush(stdout);
}

void scan_print_lines_head(void)
{
    printf("\n%-28s %8s %6s %20s %16s\n", "The parsers: lines", "octets", "good",
           "million/s (best)", "ns each (best)");
}

void scan_print_lines(const struct scan_lines *lines, const struct measure *measure)
{
    printf("%-28s %8.1f %5.0f%% %11.2f (%6.2f) %8.1f (%5.1f)\n", lines->name,
           (double)lines->octets / SCAN_LINES, lines->good * 100, measure->median / 1e6,
           measure->best / 1e6, 1e9 / measure->median, 1e9 / measure->best);
    fflush(stdout);
}
