/* The text format: see exposition.h. Label values are quoted here, and are well-formed UTF-8
 * whatever they were before. */
#include "gateway/admin/exposition.h"

#include <inttypes.h>
#include <stdarg.h>
#include <string.h>

enum { LE_LEN = 32 };

void exposition_family(struct exposition *exposition, const char *name, enum exposition_type type,
                       const char *help)
{
    static const char *const types[] = {"counter", "gauge", "histogram"};
    exposition->name = name;
    fprintf(exposition->out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, types[type]);
}

/* A name of a stranger's domain may hold anything: what is not printable ASCII becomes \xNN, so
 * that different names stay different. */
static void write_value(FILE *out, const char *value)
{
    for (; *value != '\0'; value++) {
        unsigned char octet = (unsigned char)*value;
        if (octet == '\n')
            fputs("\\n", out);
        else if (octet == '"' || octet == '\\')
            fprintf(out, "\\%c", octet);
        else if (octet < ' ' || octet > '~')
            fprintf(out, "\\\\x%02x", octet);
        else
            fputc(octet, out);
    }
}

static void write_label(FILE *out, char before, const char *label, const char *value)
{
    fprintf(out, "%c%s=\"", before, label);
    write_value(out, value);
    fputc('"', out);
}

static void write_labels(FILE *out, va_list labels)
{
    char before = '{';
    const char *label;
    while ((label = va_arg(labels, const char *)) != NULL) { /* as many as the caller gave */
        write_label(out, before, label, va_arg(labels, const char *));
        before = ',';
    }
    if (before == ',')
        fputc('}', out);
}

static void write_seconds(FILE *out, uint64_t us)
{
    fprintf(out, " %" PRIu64 ".%06" PRIu64 "\n", us / 1000000, us % 1000000);
}

void exposition_count(struct exposition *exposition, uint64_t value, ...)
{
    va_list labels;
    fputs(exposition->name, exposition->out);
    va_start(labels, value);
    write_labels(exposition->out, labels);
    va_end(labels);
    fprintf(exposition->out, " %" PRIu64 "\n", value);
}

void exposition_seconds(struct exposition *exposition, uint64_t us, ...)
{
    va_list labels;
    fputs(exposition->name, exposition->out);
    va_start(labels, us);
    write_labels(exposition->out, labels);
    va_end(labels);
    write_seconds(exposition->out, us);
}

void exposition_single(struct exposition *exposition, const char *name, enum exposition_type type,
                       const char *help, uint64_t value)
{
    exposition_family(exposition, name, type, help);
    exposition_count(exposition, value, NULL);
}

static void write_bucket(const struct exposition *exposition, const char *label, const char *value,
                         uint64_t bound_us, uint64_t count)
{
    char le[LE_LEN] = "+Inf";
    char before = '{';
    if (bound_us != UINT64_MAX)
        snprintf(le, sizeof(le), "%.9g", (double)bound_us / 1e6);
    fprintf(exposition->out, "%s_bucket", exposition->name);
    if (label != NULL) {
        write_label(exposition->out, before, label, value);
        before = ',';
    }
    write_label(exposition->out, before, "le", le);
    fprintf(exposition->out, "} %" PRIu64 "\n", count);
}

/* write_total begins the line of a sum or a count. */
static void write_total(const struct exposition *exposition, const char *what, const char *label,
                        const char *value)
{
    fprintf(exposition->out, "%s%s", exposition->name, what);
    if (label == NULL)
        return;
    write_label(exposition->out, '{', label, value);
    fputc('}', exposition->out);
}

void exposition_histogram(struct exposition *exposition, const struct histogram_snapshot *snapshot,
                          const char *label, const char *value)
{
    uint64_t count = 0;
    for (uint32_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        count += snapshot->counts[i];
        write_bucket(exposition, label, value, histogram_bound_us(i), count);
    }
    write_total(exposition, "_sum", label, value);
    write_seconds(exposition->out, snapshot->sum_us);
    write_total(exposition, "_count", label, value);
    fprintf(exposition->out, " %" PRIu64 "\n", count);
}
