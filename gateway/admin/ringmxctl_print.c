/* Tables and sentences: see ringmxctl_print.h. A list is shown as it comes, in columns of fixed
 * width, since there may be a million lines; the others are short, and wait for the last line. */
#include "gateway/admin/ringmxctl_print.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <time.h>

#include "gateway/admin/ringmxctl_trace.h"
#include "gateway/admin/sheet.h"

static const struct sheet_column summary_columns[] = {
    {"RECIPIENTS",  true },
    {"ENTRIES",     true },
    {"SIZE",        true },
    {"OLDEST",      true },
    {"STATE",       false},
    {"DESTINATION", false},
    {"REASON",      false},
};
static const struct sheet_column destination_columns[] = {
    {"DESTINATION", false},
    {"STATE",       false},
    {"QUEUED",      true },
    {"CONNECTIONS", true },
    {"BUSY",        true },
    {"DELIVERED",   true },
    {"DEFERRED",    true },
    {"REFUSED",     true },
    {"RETRY",       true },
    {"REASON",      false},
};
enum {
    SUMMARY_COLUMNS = sizeof(summary_columns) / sizeof(summary_columns[0]),
    DESTINATION_COLUMNS = sizeof(destination_columns) / sizeof(destination_columns[0]),
};

struct print {
    const struct options *options;
    struct sheet *sheet; /* NULL: shown as it comes */
    uint64_t now_s;
    size_t rows;
    char *last_id; /* of show: entries of one message come one after another */
    bool no_memory;
};

struct print *print_new(const struct options *options)
{
    struct print *print = calloc(1, sizeof(*print));
    if (print == NULL)
        return NULL;
    print->options = options;
    print->now_s = (uint64_t)time(NULL);
    if (options->view == OPTIONS_SUMMARY)
        print->sheet = sheet_new(summary_columns, SUMMARY_COLUMNS);
    else if (options->view == OPTIONS_DESTINATIONS)
        print->sheet = sheet_new(destination_columns, DESTINATION_COLUMNS);
    else
        return print;
    if (print->sheet == NULL) {
        free(print);
        return NULL;
    }
    return print;
}

void print_free(struct print *print)
{
    if (print == NULL)
        return;
    sheet_free(print->sheet);
    free(print->last_id);
    free(print);
}

/* --- values of an object --- */

static uint64_t number(const json_t *object, const char *key)
{
    json_int_t value = json_integer_value(json_object_get(object, key));
    return value < 0 ? 0 : (uint64_t)value;
}

static const char *text(const json_t *object, const char *key)
{
    const char *value = json_string_value(json_object_get(object, key));
    return value == NULL ? "" : value;
}

/* Cells that numbers become. */
struct figure {
    char text[SHEET_FIGURE_SIZE + 8];
};

static struct figure count_of(const json_t *object, const char *key)
{
    struct figure figure;
    snprintf(figure.text, sizeof(figure.text), "%llu", (unsigned long long)number(object, key));
    return figure;
}

static struct figure size_of(const json_t *object, const char *key)
{
    struct figure figure;
    sheet_size(number(object, key), figure.text);
    return figure;
}

static struct figure age_of(const struct print *print, const json_t *object, const char *key)
{
    struct figure figure = {""};
    uint64_t time_s = number(object, key);
    if (time_s > 0)
        sheet_age(time_s < print->now_s ? print->now_s - time_s : 0, figure.text);
    return figure;
}

/* "in 4m", "now", or nothing. */
static struct figure time_until(const struct print *print, const json_t *object, const char *key)
{
    struct figure figure = {""};
    char age[SHEET_FIGURE_SIZE];
    uint64_t time_s = number(object, key);
    if (time_s > print->now_s)
        snprintf(figure.text, sizeof(figure.text), "in %s", sheet_age(time_s - print->now_s, age));
    else if (time_s > 0)
        snprintf(figure.text, sizeof(figure.text), "now");
    return figure;
}

/* print_clean writes a text without what a terminal would obey. */
static void print_clean(const char *value)
{
    char *copy = strdup(value);
    fputs(copy == NULL ? "?" : sheet_clean(copy), stdout);
    free(copy);
}

static void print_address(const char *address)
{
    print_clean(address[0] == '\0' ? "<>" : address);
}

/* --- list --- */

static void print_recipients(const json_t *row, size_t most)
{
    const json_t *to = json_object_get(row, "to");
    size_t shown = json_array_size(to) < most ? json_array_size(to) : most;
    uint64_t all = number(row, "recipients");
    for (size_t i = 0; i < shown; i++) {
        fputs(i == 0 ? "" : ", ", stdout);
        print_clean(json_string_value(json_array_get(to, i)));
    }
    if (shown == 0)
        printf("%llu recipients", (unsigned long long)all);
    else if (all > shown)
        printf(" (+%llu)", (unsigned long long)(all - shown));
}

/* What the message asks for besides delivery, if anything, on a line that begins with `label`. */
static void print_terms(const struct print *print, const json_t *row, int width, const char *label)
{
    json_int_t priority = json_integer_value(json_object_get(row, "priority"));
    const struct figure release = time_until(print, row, "release");
    const struct figure by = time_until(print, row, "by");
    bool returned = json_is_true(json_object_get(row, "by_return"));
    const char *between = "";
    if (release.text[0] == '\0' && by.text[0] == '\0' && priority == 0)
        return;
    printf("%-*s", width, label);
    if (release.text[0] != '\0') {
        printf("released %s", release.text);
        between = ", ";
    }
    if (by.text[0] != '\0') {
        printf("%s%s %s", between, returned ? "returned" : "sender told", by.text);
        between = ", ";
    }
    if (priority != 0)
        printf("%spriority %lld", between, (long long)priority);
    putchar('\n');
}

static void print_row(struct print *print, const json_t *row)
{
    enum { INDENT = 13 + 2 + 4 + 2 + 5 + 2 + 7 + 2 + 5 + 2 + 7 + 2, RECIPIENTS = 2 };
    const char *reason = text(row, "reason");
    const char *destination = text(row, "destination");
    if (print->rows++ == 0)
        printf("%-13s  %4s  %5s  %-7s  %5s  %-7s  %s\n", "ID", "AGE", "SIZE", "STATE", "TRIES",
               "NEXT", "FROM > TO");
    printf("%-13.13s  %4s  %5s  %-7.7s  %5s  %-7s  ", text(row, "id"),
           age_of(print, row, "arrived").text, size_of(row, "size").text, text(row, "state"),
           count_of(row, "attempts").text, time_until(print, row, "next").text);
    if (json_is_null(json_object_get(row, "from")))
        fputs("?", stdout);
    else
        print_address(text(row, "from"));
    fputs(" > ", stdout);
    print_recipients(row, RECIPIENTS);
    putchar('\n');
    print_terms(print, row, INDENT, "");
    if (reason[0] == '\0' && (destination[0] == '\0' || strncmp(destination, "mx:", 3) == 0))
        return;
    printf("%*s", INDENT, "");
    print_clean(destination);
    fputs(destination[0] != '\0' && reason[0] != '\0' ? ": " : "", stdout);
    print_clean(reason);
    putchar('\n');
}

/* --- show --- */

static void print_header(const char *header)
{
    const char *at = header;
    fputs("header\n", stdout);
    while (*at != '\0') {
        size_t len = strcspn(at, "\r\n");
        char *line = strndup(at, len);
        for (char *tab = line; tab != NULL && (tab = strchr(tab, '\t')) != NULL;)
            *tab = ' ';
        fputs("    ", stdout);
        print_clean(line == NULL ? "?" : line);
        putchar('\n');
        free(line);
        at += len;
        at += strspn(at, "\r");
        at += *at == '\n';
    }
}

static void print_message(struct print *print, const json_t *row)
{
    char date[64] = "";
    struct tm time;
    time_t arrived = (time_t)number(row, "arrived");
    if (localtime_r(&arrived, &time) != NULL)
        strftime(date, sizeof(date), "%Y-%m-%d %H:%M:%S %z", &time);
    printf("%s%s\n", print->last_id == NULL ? "" : "\n", text(row, "id"));
    fputs("from    ", stdout);
    print_address(text(row, "from"));
    printf("\narrived %s (%s ago)\nsize    %s\n", date, age_of(print, row, "arrived").text,
           size_of(row, "size").text);
    print_terms(print, row, 8, "asks");
    if (text(row, "envid")[0] != '\0') {
        fputs("envid   ", stdout);
        print_clean(text(row, "envid"));
        putchar('\n');
    }
    if (json_object_get(row, "header") != NULL)
        print_header(text(row, "header"));
}

static void print_shown(struct print *print, const json_t *row)
{
    const json_t *to = json_object_get(row, "to");
    uint64_t attempts = number(row, "attempts");
    struct figure next = time_until(print, row, "next");
    if (print->last_id == NULL || strcmp(print->last_id, text(row, "id")) != 0) {
        print_message(print, row);
        free(print->last_id);
        print->last_id = strdup(text(row, "id"));
    }
    fputs("to      ", stdout);
    print_clean(text(row, "destination")[0] == '\0' ? "(not sorted yet)"
                                                    : text(row, "destination"));
    printf(": %s", text(row, "state"));
    if (attempts > 0)
        printf(", %llu attempt%s", (unsigned long long)attempts, attempts == 1 ? "" : "s");
    if (next.text[0] != '\0')
        printf(", next %s", next.text);
    putchar('\n');
    if (text(row, "reason")[0] != '\0') {
        fputs("        ", stdout);
        print_clean(text(row, "reason"));
        putchar('\n');
    }
    for (size_t i = 0; i < json_array_size(to); i++) {
        fputs("    ", stdout);
        print_clean(json_string_value(json_array_get(to, i)));
        putchar('\n');
    }
    print->rows++;
}

/* --- the rest --- */

static void keep_group(struct print *print, const json_t *row)
{
    bool others = text(row, "state")[0] == '\0';
    const struct figure recipients = count_of(row, "recipients"), rows = count_of(row, "rows");
    const struct figure size = size_of(row, "octets"), oldest = age_of(print, row, "oldest");
    const char *const cells[SUMMARY_COLUMNS] = {
        recipients.text,     rows.text,          size.text,
        oldest.text,         text(row, "state"), others ? "(others)" : text(row, "destination"),
        text(row, "reason"),
    };
    print->no_memory |= !sheet_add(print->sheet, cells);
    print->rows++;
}

static void keep_destination(struct print *print, const json_t *row)
{
    const struct figure queued = count_of(row, "queued"),
                        connections = count_of(row, "connections");
    const struct figure busy = count_of(row, "busy"), delivered = count_of(row, "delivered");
    const struct figure deferred = count_of(row, "deferred"), refused = count_of(row, "refused");
    const struct figure retry = time_until(print, row, "retry");
    const char *const cells[DESTINATION_COLUMNS] = {
        text(row, "destination"),
        text(row, "state"),
        queued.text,
        connections.text,
        busy.text,
        delivered.text,
        deferred.text,
        refused.text,
        retry.text,
        text(row, "reason"),
    };
    print->no_memory |= !sheet_add(print->sheet, cells);
    print->rows++;
}

void print_object(struct print *print, const json_t *object)
{
    const char *trouble = text(object, "trouble");
    if (trouble[0] != '\0') {
        fprintf(stderr, "%s: %s\n", text(object, "id"),
                strcmp(trouble, "busy") == 0 ? "is under way right now: try again"
                                             : "is not in the queue");
        return;
    }
    switch (print->options->view) {
    case OPTIONS_LIST: print_row(print, object); break;
    case OPTIONS_SHOW: print_shown(print, object); break;
    case OPTIONS_SUMMARY: keep_group(print, object); break;
    case OPTIONS_DESTINATIONS: keep_destination(print, object); break;
    case OPTIONS_TRACE: print_trace(object); break;
    case OPTIONS_RELOAD:
        print_clean(text(object, "line"));
        putchar('\n');
        break;
    default: break;
    }
}

static void print_status(const json_t *status)
{
    static const char *const keys[] = {"version",   "queued",      "held",
                                       "delivered", "deferred",    "refused",
                                       "bounces",   "connections", "duplicates_possible"};
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        const json_t *value = json_object_get(status, keys[i]);
        printf("%-20s", keys[i]);
        if (json_is_string(value))
            print_clean(json_string_value(value));
        else
            printf("%llu", (unsigned long long)number(status, keys[i]));
        putchar('\n');
    }
}

static const char *past(const char *action)
{
    static const char *const forms[][2] = {
        {"retry",   "due now" },
        {"hold",    "on hold" },
        {"release", "released"},
        {"remove",  "removed" },
    };
    for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++)
        if (strcmp(forms[i][0], action) == 0)
            return forms[i][1];
    return action;
}

static int print_acted(const struct print *print, const json_t *end)
{
    uint64_t rows = number(end, "rows"), recipients = number(end, "recipients");
    uint64_t busy = number(end, "busy"), missing = number(end, "missing");
    printf("%llu recipient%s in %llu entr%s: %s\n", (unsigned long long)recipients,
           recipients == 1 ? "" : "s", (unsigned long long)rows, rows == 1 ? "y" : "ies",
           past(print->options->action));
    if (busy > 0)
        printf("%llu under way right now: try again\n", (unsigned long long)busy);
    bool durable = !json_is_false(json_object_get(end, "durable"));
    if (!durable)
        puts("not on disk yet: a crash now could undo it");
    if (busy + missing > 0)
        return 1;
    return durable ? 0 : EX_TEMPFAIL;
}

static int print_reloaded(const json_t *end)
{
    int code = (int)number(end, "code");
    if (code == 0)
        puts("reloaded");
    else if (code == EX_TEMPFAIL)
        puts("reloaded, but for what is named here");
    return code;
}

int print_end(struct print *print, const json_t *end)
{
    int missing = number(end, "missing") > 0;
    switch (print->options->view) {
    case OPTIONS_STATUS: print_status(end); return 0;
    case OPTIONS_TRACE: return 0;
    case OPTIONS_DRAIN: puts("draining"); return 0;
    case OPTIONS_RELOAD: return print_reloaded(end);
    case OPTIONS_ACT: return print_acted(print, end);
    case OPTIONS_SHOW:
        if (print->rows == 0 && !missing)
            fputs("no such message is in the queue\n", stderr);
        return print->rows == 0 || missing;
    case OPTIONS_LIST:
        if (json_is_true(json_object_get(end, "more")))
            puts("... and perhaps more: --limit");
        break;
    default:
        if (print->rows > 0)
            sheet_print(print->sheet, stdout);
        if (print->options->view == OPTIONS_SUMMARY && print->rows > 0)
            printf("%s recipients in %s entries\n", count_of(end, "recipients").text,
                   count_of(end, "rows").text);
    }
    if (print->rows == 0)
        puts(print->options->view == OPTIONS_DESTINATIONS ? "no destinations are known"
                                                          : "nothing is queued");
    if (print->no_memory)
        fputs("ringmxctl: out of memory: the table has gaps\n", stderr);
    return missing;
}
