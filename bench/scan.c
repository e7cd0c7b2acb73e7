/* How fast the scanner reads, in GB/s: each implementation on each kind of mail, beside memcpy and
 * memchr over the same bytes. The inputs are small enough to stay in cache, so this measures the
 * scanner and not the memory.
 *
 *     bench/scan [milliseconds a cell, default 100] [directory of mails, a file each]... */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "parser/scan.h"

/* One kind of mail: messages as DATA sends them, each with its final dot, one after the other. */
struct corpus {
    char name[48];
    uint8_t *data;
    size_t len, room;
    size_t *ends; /* where each message ends */
    size_t count, count_room;
};

static void *grow(void *memory, size_t len)
{
    memory = realloc(memory, len);
    if (memory == NULL) {
        perror("bench/scan");
        exit(1);
    }
    return memory;
}

static void corpus_octet(struct corpus *corpus, uint8_t octet)
{
    if (corpus->len == corpus->room) {
        corpus->room = corpus->room * 2 + 4096;
        corpus->data = grow(corpus->data, corpus->room);
    }
    corpus->data[corpus->len++] = octet;
}

static void corpus_string(struct corpus *corpus, const char *string)
{
    while (*string != '\0')
        corpus_octet(corpus, (uint8_t)*string++);
}

static void corpus_end_message(struct corpus *corpus)
{
    corpus_string(corpus, ".\r\n");
    if (corpus->count == corpus->count_room) {
        corpus->count_room = corpus->count_room * 2 + 64;
        corpus->ends = grow(corpus->ends, corpus->count_room * sizeof(*corpus->ends));
    }
    corpus->ends[corpus->count++] = corpus->len;
}

/* corpus_made is 64 KiB of messages of about `message_len` octets with lines of `columns` octets
 * that begin with `start` and go on with `octet` and letters. */
static struct corpus corpus_made(const char *name, size_t message_len, size_t columns,
                                 const char *start, uint8_t octet)
{
    struct corpus corpus = {0};
    snprintf(corpus.name, sizeof(corpus.name), "%s", name);
    while (corpus.len < 65536) {
        size_t from = corpus.len;
        while (corpus.len - from + columns + 5 <= message_len) {
            size_t line_end = corpus.len + columns;
            corpus_string(&corpus, start);
            for (unsigned i = 0; corpus.len < line_end; i++)
                corpus_octet(&corpus, i % 2 == 0 ? octet : (uint8_t)('a' + i * 7 % 26));
            corpus_string(&corpus, "\r\n");
        }
        corpus_end_message(&corpus);
    }
    return corpus;
}

/* corpus_file adds a mail as a client would send it: lines end in CR LF, dots at their start are
 * doubled. */
static void corpus_file(struct corpus *corpus, const char *path)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL)
        return;
    int last = '\n';
    for (int c; (c = fgetc(file)) != EOF; last = c) {
        if (c == '.' && last == '\n')
            corpus_octet(corpus, '.');
        if (c == '\n' && last != '\r')
            corpus_octet(corpus, '\r');
        corpus_octet(corpus, (uint8_t)c);
    }
    if (last != '\n')
        corpus_string(corpus, "\r\n");
    corpus_end_message(corpus);
    fclose(file);
}

static struct corpus corpus_directory(const char *directory)
{
    struct corpus corpus = {0};
    size_t name_len = strlen(directory);
    snprintf(corpus.name, sizeof(corpus.name), "%s",
             directory + (name_len > 40 ? name_len - 40 : 0));
    DIR *entries = opendir(directory);
    struct dirent *entry;
    while (entries != NULL && (entry = readdir(entries)) != NULL && corpus.len < 1 << 20) {
        if (entry->d_name[0] == '.' || entry->d_type == DT_DIR)
            continue;
        char path[4096];
        snprintf(path, sizeof(path), "%s/%s", directory, entry->d_name);
        corpus_file(&corpus, path);
    }
    if (entries != NULL)
        closedir(entries);
    return corpus;
}

/* The things that are measured: each goes once over all messages and returns something that depends
 * on them. */

static size_t run_data(const struct corpus *corpus)
{
    size_t text_len = 0, start = 0;
    for (size_t i = 0; i < corpus->count; i++) {
        struct bytes in = bytes_make(corpus->data + start, corpus->ends[i] - start);
        start = corpus->ends[i];
        struct scan scan = {0};
        while (in.len > 0 && scan.position != SCAN_ENDED) {
            struct bytes span;
            in = bytes_skip(in, scan_data(&scan, in, &span));
            text_len += span.len;
        }
        if (scan.position != SCAN_ENDED) {
            fprintf(stderr, "bench/scan: %s: message %zu did not end\n", corpus->name, i);
            exit(1);
        }
    }
    return text_len;
}

static size_t run_text(const struct corpus *corpus)
{
    size_t sum = 0, start = 0;
    for (size_t i = 0; i < corpus->count; i++) {
        struct scan scan = {0};
        scan_text(&scan, bytes_make(corpus->data + start, corpus->ends[i] - start));
        sum += scan.line_max;
        start = corpus->ends[i];
    }
    return sum;
}

static size_t run_memcpy(const struct corpus *corpus)
{
    static uint8_t *copy;
    static size_t room;
    if (room < corpus->len) {
        room = corpus->len;
        copy = grow(copy, room);
    }
    size_t start = 0;
    for (size_t i = 0; i < corpus->count; i++) {
        memcpy(copy + start, corpus->data + start, corpus->ends[i] - start);
        start = corpus->ends[i];
    }
    __asm__ volatile("" : : "r"(copy) : "memory");
    return copy[0];
}

/* run_memchr asks for each LF: how a line-by-line reader spends its time, without doing anything
 * yet. */
static size_t run_memchr(const struct corpus *corpus)
{
    size_t lines = 0;
    struct bytes in = bytes_make(corpus->data, corpus->len);
    for (size_t at; (at = bytes_find(in, '\n')) < in.len; in = bytes_skip(in, at + 1))
        lines++;
    return lines;
}

static double seconds_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static volatile size_t answer; /* so that no work can be left out */

/* measure returns the best of twenty parts of the time, in GB/s: noise only ever takes away. */
static double measure(const struct corpus *corpus, size_t (*run)(const struct corpus *),
                      double seconds)
{
    double best = 0;
    answer = run(corpus);
    for (int part = 0; part < 20; part++) {
        double begin = seconds_now(), end = begin;
        size_t bytes = 0;
        while (end - begin < seconds / 20) {
            for (size_t done = 0; done < 1 << 18; done += corpus->len)
                bytes += corpus->len, answer = answer + run(corpus);
            end = seconds_now();
        }
        double rate = (double)bytes / (end - begin) / 1e9;
        best = rate > best ? rate : best;
    }
    return best;
}

static void print_corpus(const struct corpus *corpus, double seconds)
{
    if (corpus->count == 0) {
        printf("%-42s skipped: no files there\n", corpus->name);
        return;
    }
    printf("%-42s", corpus->name);
    for (enum scan_kind kind = 0; kind < SCAN_KIND_COUNT; kind++)
        if (scan_choose(kind))
            printf(" %8.2f", measure(corpus, run_data, seconds));
    scan_choose_best();
    printf(" %8.2f", measure(corpus, run_text, seconds));
    printf(" %8.2f", measure(corpus, run_memcpy, seconds));
    printf(" %8.2f\n", measure(corpus, run_memchr, seconds));
    fflush(stdout);
}

int main(int argc, char **argv)
{
    double seconds = argc > 1 ? strtod(argv[1], NULL) / 1000 : 0.1;
    printf("%-42s", "GB/s (best of 20)");
    for (enum scan_kind kind = 0; kind < SCAN_KIND_COUNT; kind++)
        if (scan_choose(kind))
            printf(" %8s", scan_kind_name(kind));
    printf(" %8s %8s %8s\n", "text", "memcpy", "memchr");

    const struct corpus made[] = {
        corpus_made("70 columns, 64 KiB messages", 65536, 70, "", 'e'),
        corpus_made("70 columns, 16 KiB messages", 16384, 70, "", 'e'),
        corpus_made("70 columns, 4 KiB messages", 4096, 70, "", 'e'),
        corpus_made("70 columns, 200 octet messages", 200, 70, "", 'e'),
        corpus_made("76 columns of base64, 64 KiB", 65536, 76, "", 'A'),
        corpus_made("70 columns, half of it 8-bit, 4 KiB", 4096, 70, "", 0xc3),
        corpus_made("70 columns with NUL, 4 KiB", 4096, 70, "", 0),
        corpus_made("70 columns with bare LF, 4 KiB", 4096, 70, "", '\n'),
        corpus_made("20 columns, 4 KiB", 4096, 20, "", 'e'),
        corpus_made("empty lines, 4 KiB", 4096, 0, "", 'e'),
        corpus_made("70 columns, each with a stuffed dot, 4 KiB", 4096, 70, "..", 'e'),
        corpus_made("lines of one stuffed dot, 4 KiB", 4096, 2, "..", 'e'),
    };
    for (size_t i = 0; i < sizeof(made) / sizeof(made[0]); i++)
        print_corpus(&made[i], seconds);
    for (int i = 2; i < argc; i++) {
        struct corpus real = corpus_directory(argv[i]);
        print_corpus(&real, seconds);
        free(real.data);
        free(real.ends);
    }
    for (size_t i = 0; i < sizeof(made) / sizeof(made[0]); i++) {
        free(made[i].data);
        free(made[i].ends);
    }
    return 0;
}
