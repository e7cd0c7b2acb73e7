/* The program `ringmx-load verify`: its options, the places, what it prints. */
#include "bench/load/verify.h"

#include "bench/load/verify_table.h"
#include "bench/words.h"

#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { EXIT_GOOD = 0, EXIT_BAD = 1 };

static const char usage[] =
    "usage: ringmx-load verify --acked FILE [options] PLACE...\n"
    "Compares what was acknowledged with what is stored. A PLACE is a Maildir or a folder of\n"
    "Maildirs, the spool of a ringmx that is stopped (it is only read), or the log of "
    "ringmx-sink.\n"
    "  --acked FILE   that ringmx-load --acked has written; may be given again\n"
    "  --copies N     each message should be there N times in all (not: in a Maildir for each\n"
    "                 recipient)\n"
    "  --strict       more copies than that are an error, too\n"
    "  --json         print an object\n"
    "  --help\n"
    "Exit code: 0 when nothing is lost or torn, 1 when something is, 2 when it could not look.\n";

struct verify_options {
    uint32_t copies; /* 0: as many as there are recipients */
    bool strict, json;
};

static const struct option long_options[] = {
    {"acked",  required_argument, NULL, 'a'},
    {"copies", required_argument, NULL, 'c'},
    {"strict", no_argument,       NULL, 's'},
    {"json",   no_argument,       NULL, 'j'},
    {"help",   no_argument,       NULL, 'h'},
    {NULL,     0,                 NULL, 0  },
};

static void options_take(struct verify_options *options, struct verify *verify, int argc,
                         char **argv)
{
    bool acked = false;
    opterr = 0;
    optind = 0;
    for (int option; (option = getopt_long(argc, argv, ":", long_options, NULL)) != -1;) {
        switch (option) {
        case 'a':
            verify_table_read(verify, optarg);
            acked = true;
            break;
        case 'c': options->copies = (uint32_t)words_count("copies", optarg, 1, 1000000); break;
        case 's': options->strict = true; break;
        case 'j': options->json = true; break;
        case 'h': fputs(usage, stdout); exit(0);
        case ':':
            words_die("%s: the value is missing (ringmx-load verify --help lists the options)",
                      argv[optind - 1]);
        default:
            words_die("unknown option %s (ringmx-load verify --help lists them)", argv[optind - 1]);
        }
    }
    if (!acked)
        words_die("--acked is missing: what should be there?");
    if (optind == argc)
        words_die("no place to look at: a Maildir, a spool, or the log of ringmx-sink");
}

static void place_read(struct verify *verify, const char *path)
{
    struct stat status;
    char error[512];
    if (stat(path, &status) < 0)
        words_die("%s: %s", path, strerror(errno));
    bool good;
    if (!S_ISDIR(status.st_mode))
        good = verify_sink(verify, path, error, sizeof error);
    else if (verify_is_spool(path))
        good = verify_spool(verify, path, error, sizeof error);
    else
        good = verify_maildir(verify, path, error, sizeof error);
    if (!good)
        words_die("%s", error);
}

static void print_json(const struct verify *verify, bool good)
{
    json_t *object = json_pack("{s:b, s:I, s:I}", "good", good, "acknowledged",
                               (json_int_t)verify->count, "messages", (json_int_t)verify->messages);
    json_t *listed = json_object();
    for (unsigned i = 0; i < VERIFY_FINDING_COUNT; i++) {
        const struct verify_list *list = &verify->lists[i];
        json_object_set_new(object, verify_finding_names[i], json_integer((json_int_t)list->count));
        json_t *array = json_array();
        for (unsigned j = 0; j < list->count && j < VERIFY_LISTED_MAX; j++)
            json_array_append_new(array, json_pack("{s:s, s:s}", "id", list->first[j].id, "place",
                                                   list->first[j].place));
        json_object_set_new(listed, verify_finding_names[i], array);
    }
    json_object_set_new(object, "first", listed);
    if (json_dumpf(object, stdout, JSON_INDENT(2)) < 0)
        words_die("no memory");
    putchar('\n');
    json_decref(object);
}

static void print_table(const struct verify *verify)
{
    printf("%-14s%12zu\n", "acknowledged", verify->count);
    printf("%-14s%12llu\n", "messages", (unsigned long long)verify->messages);
    for (unsigned i = 0; i < VERIFY_FINDING_COUNT; i++)
        printf("%-14s%12llu\n", verify_finding_names[i],
               (unsigned long long)verify->lists[i].count);
    for (unsigned i = 0; i < VERIFY_FINDING_COUNT; i++) {
        const struct verify_list *list = &verify->lists[i];
        for (unsigned j = 0; j < list->count && j < VERIFY_LISTED_MAX; j++)
            printf("%s %s %s\n", verify_finding_names[i], list->first[j].id, list->first[j].place);
    }
}

int verify_main(int argc, char **argv)
{
    static struct verify verify;
    struct verify_options options = {0};
    words_program("ringmx-load verify");
    options_take(&options, &verify, argc, argv);
    if (verify.count == 0)
        words_die("nothing was acknowledged: nothing to verify");
    verify_table_index(&verify);
    for (int i = optind; i < argc; i++)
        place_read(&verify, argv[i]);
    verify_table_judge(&verify, options.copies);
    bool good = verify.lists[VERIFY_LOST].count == 0 && verify.lists[VERIFY_TORN].count == 0 &&
                (!options.strict || verify.lists[VERIFY_DOUBLED].count == 0);
    if (options.json)
        print_json(&verify, good);
    else
        print_table(&verify);
    verify_table_free(&verify);
    return good ? EXIT_GOOD : EXIT_BAD;
}
