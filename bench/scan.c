/* How fast the scanner and the parsers are: each implementation of the scanner on each kind of mail
 * beside memcpy and memchr, in the processor's cache and from memory; commands and addresses a
 * second (docs/benchmarks.md).
 *
 *   ringmx-bench-scan [--json] [--cpu N] [--turns N] [--milliseconds N] [--memory SIZE] [FILE]...
 */
#include "parser/scan.h"
#include "bench/load/corpus.h"
#include "bench/scan_lines.h"
#include "bench/scan_mail.h"
#include "bench/scan_measure.h"
#include "bench/scan_report.h"
#include "bench/words.h"

#include <getopt.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    BASE_OCTETS = 8 << 20, /* of mail that is made; larger sets repeat it */
    PIECE_OCTETS = 1 << 18,
};

struct options {
    struct measure_options measure;
    bool json;
    int cpu;
    size_t cache, memory; /* octets of the two sets; memory 0: leave it out */
    const char *corpus;   /* or NULL */
};

static const char usage[] =
    "usage: ringmx-bench-scan [options]\n"
    "  --corpus PATH     one more kind of mail: a folder of messages, searched through, or an "
    "mbox\n"
    "  --cpu N           run on this CPU\n"
    "  --turns N         measure each so often, in turns (15)\n"
    "  --milliseconds N  of each turn (4)\n"
    "  --cache SIZE      octets of the set that stays in the cache (a quarter of L2)\n"
    "  --memory SIZE     octets of the set that does not (twice L3); 0: leave it out\n"
    "  --json            report in JSON\n";

/* --- what is measured --- */

/* A set of mail that is read round and round. One for all measures of a row: where one stops the
 * next goes on, so that nobody finds in the cache what another has just read. */
struct reader {
    struct scan_mail mail;
    size_t next;   /* message */
    uint8_t *copy; /* as large as the mail */
};

/* One column: what is to be done with the messages. */
struct column {
    struct reader *reader;
    enum scan_kind kind;
    size_t (*read)(struct reader *reader, struct bytes message);
};

static volatile size_t answer; /* so that no work can be left out */

static uint64_t read_some(void *user)
{
    struct column *column = user;
    struct reader *reader = column->reader;
    const struct scan_mail *mail = &reader->mail;
    uint64_t octets = 0;
    scan_choose(column->kind);
    while (octets < PIECE_OCTETS) {
        size_t start = reader->next == 0 ? 0 : mail->ends[reader->next - 1];
        struct bytes message = bytes_make(mail->data + start, mail->ends[reader->next] - start);
        answer = answer + column->read(reader, message);
        octets += message.len;
        reader->next = (reader->next + 1) % mail->count;
    }
    return octets;
}

static size_t read_data(struct reader *reader, struct bytes message)
{
    (void)reader;
    struct scan scan = {0};
    size_t text_len = 0;
    while (message.len > 0 && scan.position != SCAN_ENDED) {
        struct bytes span;
        message = bytes_skip(message, scan_data(&scan, message, &span));
        text_len += span.len;
    }
    if (scan.position != SCAN_ENDED || message.len > 0)
        words_die("a message does not end where it should");
    return text_len;
}

static size_t read_text(struct reader *reader, struct bytes message)
{
    (void)reader;
    struct scan scan = {0};
    scan_text(&scan, message);
    return (size_t)scan.seen + scan.position;
}

static size_t read_memcpy(struct reader *reader, struct bytes message)
{
    uint8_t *copy = reader->copy + (message.data - reader->mail.data);
    memcpy(copy, message.data, message.len);
    __asm__ volatile("" : : "r"(copy) : "memory");
    return copy[0];
}

/* read_memchr asks for each LF: how a reader of lines spends its time before it has done anything.
 */
static size_t read_memchr(struct reader *reader, struct bytes message)
{
    (void)reader;
    size_t lines = 0;
    for (size_t at; (at = bytes_find(message, '\n')) < message.len; lines++)
        message = bytes_skip(message, at + 1);
    return lines;
}

/* --- rows --- */

static void add_column(struct scan_row *row, struct column *columns, struct column column,
                       const char *name)
{
    columns[row->count] = column;
    row->measures[row->count] =
        (struct measure){.name = name, .run = read_some, .user = &columns[row->count]};
    row->count++;
}

static void measure_row(struct scan_row *row, struct reader *reader, const struct options *options)
{
    struct column columns[SCAN_COLUMNS];
    row->octets = reader->mail.len;
    row->messages = reader->mail.count;
    row->count = 0;
    row->best = scan_choose_best();
    for (enum scan_kind kind = 0; kind < SCAN_KIND_COUNT; kind++)
        if (scan_choose(kind))
            add_column(row, columns, (struct column){reader, kind, read_data},
                       scan_kind_name(kind));
    add_column(row, columns, (struct column){reader, row->best, read_text}, "text");
    add_column(row, columns, (struct column){reader, row->best, read_memcpy}, "memcpy");
    add_column(row, columns, (struct column){reader, row->best, read_memchr}, "memchr");
    measure_all(row->measures, row->count, &options->measure);
}

static void run_set(const char *name, const char *set, const struct scan_mail *base, size_t len,
                    const struct options *options, json_t *report)
{
    static struct scan_row row;
    static bool head_printed;
    struct reader reader = {.mail = scan_mail_cut(base, len)};
    reader.copy = scan_mail_pages(reader.mail.len);
    row.mail = name;
    row.set = set;
    measure_row(&row, &reader, options);
    scan_report_row(report, &row);
    if (!options->json && !head_printed)
        scan_print_head(&row, options->measure.turns);
    head_printed = true;
    if (!options->json)
        scan_print_row(&row);
    free(reader.copy);
    scan_mail_free(&reader.mail);
}

static void run_mail(const char *name, const struct scan_mail *base, const struct options *options,
                     json_t *report)
{
    run_set(name, "cache", base, options->cache, options, report);
    if (options->memory > 0)
        run_set(name, "memory", base, options->memory, options, report);
}

static void run_lines(const struct options *options, json_t *report)
{
    static struct measure measures[32];
    size_t count;
    struct scan_lines *sets = scan_lines_sets(&count);
    for (size_t i = 0; i < count; i++)
        measures[i] =
            (struct measure){.name = sets[i].name, .run = scan_lines_run, .user = &sets[i]};
    measure_all(measures, count, &options->measure);
    if (!options->json)
        scan_print_lines_head();
    for (size_t i = 0; i < count; i++) {
        scan_report_lines(report, &sets[i], &measures[i]);
        if (!options->json)
            scan_print_lines(&sets[i], &measures[i]);
    }
}

static void run_corpus(const struct options *options, json_t *report)
{
    struct corpus corpus = {0};
    struct scan_mail mail = {0};
    corpus_read(&corpus, options->corpus);
    for (size_t i = 0; i < corpus.count; i++)
        scan_mail_add(&mail, bytes_make(corpus.messages[i].text, corpus.messages[i].len));
    corpus_free(&corpus);
    run_mail("corpus", &mail, options, report);
    scan_mail_free(&mail);
}

/* --- options --- */

static size_t cache_octets(int name, size_t otherwise)
{
    long octets = sysconf(name);
    return octets > 0 ? (size_t)octets : otherwise;
}

/* memory_octets is twice the last cache, as long as that, and as much for the copies, takes no more
 * than half of the machine's memory. */
static size_t memory_octets(void)
{
    size_t twice = 2 * cache_octets(_SC_LEVEL3_CACHE_SIZE, 64 << 20);
    size_t quarter = (size_t)sysconf(_SC_PHYS_PAGES) * (size_t)sysconf(_SC_PAGESIZE) / 4;
    return twice < quarter ? twice : quarter;
}

static void pin(int cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((size_t)cpu, &set);
    if (sched_setaffinity(0, sizeof(set), &set) != 0)
        words_die("can't run on CPU %d", cpu);
}

static struct options read_options(int argc, char **argv)
{
    static const struct option names[] = {
        {"corpus",       required_argument, NULL, 'C'},
        {"cpu",          required_argument, NULL, 'c'},
        {"turns",        required_argument, NULL, 't'},
        {"milliseconds", required_argument, NULL, 'm'},
        {"cache",        required_argument, NULL, 'k'},
        {"memory",       required_argument, NULL, 'M'},
        {"json",         no_argument,       NULL, 'j'},
        {"help",         no_argument,       NULL, 'h'},
        {NULL,           0,                 NULL, 0  },
    };
    struct options options = {
        .measure = {.turns = 15, .seconds = 0.004},
        .cpu = -1,
        .cache = cache_octets(_SC_LEVEL2_CACHE_SIZE, 1 << 20) / 4,
        .memory = memory_octets(),
    };
    for (int name; (name = getopt_long(argc, argv, "", names, NULL)) != -1;) {
        switch (name) {
        case 'c': options.cpu = (int)words_count("cpu", optarg, 0, CPU_SETSIZE - 1); break;
        case 't':
            options.measure.turns = (uint32_t)words_count("turns", optarg, 1, MEASURE_TURNS_MAX);
            break;
        case 'm':
            options.measure.seconds = words_number("milliseconds", optarg, 0.1, 1e5) / 1000;
            break;
        case 'k': options.cache = words_size("cache", optarg, 4096, SIZE_MAX / 4); break;
        case 'M': options.memory = words_size("memory", optarg, 0, SIZE_MAX / 4); break;
        case 'C': options.corpus = optarg; break;
        case 'j': options.json = true; break;
        case 'h': fputs(usage, stdout); exit(0);
        default: fputs(usage, stderr); exit(2);
        }
    }
    if (optind < argc)
        words_die("what is %s? --help tells the options", argv[optind]);
    return options;
}

int main(int argc, char **argv)
{
    words_program("ringmx-bench-scan");
    struct options options = read_options(argc, argv);
    if (options.cpu >= 0)
        pin(options.cpu);
    json_t *report = scan_report_begin(&options.measure, options.cpu);
    for (enum scan_mail_kind kind = 0; kind < SCAN_MAIL_KINDS; kind++) {
        struct scan_mail base = scan_mail_make(kind, BASE_OCTETS);
        run_mail(scan_mail_kind_name(kind), &base, &options, report);
        scan_mail_free(&base);
    }
    if (options.corpus != NULL)
        run_corpus(&options, report);
    run_lines(&options, report);
    if (options.json) {
        if (json_dumpf(report, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(6)) != 0)
            words_die("can't write the report");
        putchar('\n');
    }
    json_decref(report);
    return 0;
}
