/* Tables for people: see sheet.h. */
#include "gateway/admin/sheet.h"

#include <stdlib.h>
#include <string.h>

#include "gateway/base/characters.h"

enum { GAP = 2 /* blanks between columns */ };

struct sheet {
    const struct sheet_column *columns;
    size_t column_count;
    char **cells; /* row by row; each owned */
    size_t row_count, row_max;
    size_t widths[SHEET_COLUMNS_MAX];
};

struct sheet *sheet_new(const struct sheet_column *columns, size_t count)
{
    struct sheet *sheet = count > SHEET_COLUMNS_MAX ? NULL : calloc(1, sizeof(*sheet));
    if (sheet == NULL)
        return NULL;
    sheet->columns = columns;
    sheet->column_count = count;
    for (size_t i = 0; i < count; i++)
        sheet->widths[i] = sheet_width(columns[i].head);
    return sheet;
}

void sheet_free(struct sheet *sheet)
{
    if (sheet == NULL)
        return;
    for (size_t i = 0; i < sheet->row_count * sheet->column_count; i++)
        free(sheet->cells[i]);
    free(sheet->cells);
    free(sheet);
}

static bool grow(struct sheet *sheet)
{
    size_t row_max = sheet->row_max == 0 ? 64 : sheet->row_max * 2;
    char **larger = realloc(sheet->cells, row_max * sheet->column_count * sizeof(*sheet->cells));
    if (larger == NULL)
        return false;
    sheet->cells = larger;
    sheet->row_max = row_max;
    return true;
}

bool sheet_add(struct sheet *sheet, const char *const *cells)
{
    if (sheet->row_count == sheet->row_max && !grow(sheet))
        return false;
    char **row = &sheet->cells[sheet->row_count * sheet->column_count];
    for (size_t i = 0; i < sheet->column_count; i++) {
        row[i] = strdup(cells[i]);
        if (row[i] == NULL) {
            while (i-- > 0)
                free(row[i]);
            return false;
        }
        size_t width = sheet_width(sheet_clean(row[i]));
        if (width > sheet->widths[i])
            sheet->widths[i] = width;
    }
    sheet->row_count++;
    return true;
}

static void print_row(const struct sheet *sheet, const char *const *cells, FILE *out)
{
    for (size_t i = 0; i < sheet->column_count; i++) {
        bool last = i + 1 == sheet->column_count;
        int missing = (int)(sheet->widths[i] - sheet_width(cells[i]));
        if (sheet->columns[i].right)
            fprintf(out, "%*s%s", missing, "", cells[i]);
        else
            fprintf(out, "%s%*s", cells[i], last ? 0 : missing, "");
        if (!last)
            fprintf(out, "%*s", GAP, "");
    }
    fputc('\n', out);
}

void sheet_print(const struct sheet *sheet, FILE *out)
{
    const char *heads[SHEET_COLUMNS_MAX];
    for (size_t i = 0; i < sheet->column_count; i++)
        heads[i] = sheet->columns[i].head;
    print_row(sheet, heads, out);
    for (size_t i = 0; i < sheet->row_count; i++)
        print_row(sheet, (const char *const *)&sheet->cells[i * sheet->column_count], out);
}

char *sheet_age(uint64_t time_s, char *out)
{
    uint64_t number = time_s;
    char unit = 's';
    if (time_s >= 2 * 86400) {
        number = time_s / 86400;
        unit = 'd';
    } else if (time_s >= 2 * 3600) {
        number = time_s / 3600;
        unit = 'h';
    } else if (time_s >= 2 * 60) {
        number = time_s / 60;
        unit = 'm';
    }
    snprintf(out, SHEET_FIGURE_SIZE, "%llu%c", (unsigned long long)number, unit);
    return out;
}

char *sheet_size(uint64_t octets, char *out)
{
    static const char units[] = "kMGTPE";
    uint64_t tenths = octets;
    size_t unit = 0;
    if (octets < 1024) {
        snprintf(out, SHEET_FIGURE_SIZE, "%u", (unsigned)octets);
        return out;
    }
    for (; tenths >= 1024 * 1024 && unit + 2 < sizeof(units); unit++)
        tenths /= 1024;
    tenths = tenths * 10 / 1024;
    if (tenths < 100)
        snprintf(out, SHEET_FIGURE_SIZE, "%u.%u%c", (unsigned)(tenths / 10),
                 (unsigned)(tenths % 10), units[unit]);
    else
        snprintf(out, SHEET_FIGURE_SIZE, "%u%c", (unsigned)(tenths / 10), units[unit]);
    return out;
}

/* sequence returns how many octets a well-formed character of UTF-8 has at `text` (RFC 3629 4), or
 * 0. */
static size_t sequence(const uint8_t *text)
{
    static const struct {
        uint8_t first_min, first_max, second_min, second_max;
        size_t len;
    } forms[] = {
        {0xc2, 0xdf, 0x80, 0xbf, 2},
        {0xe0, 0xe0, 0xa0, 0xbf, 3},
        {0xe1, 0xec, 0x80, 0xbf, 3},
        {0xed, 0xed, 0x80, 0x9f, 3},
        {0xee, 0xef, 0x80, 0xbf, 3},
        {0xf0, 0xf0, 0x90, 0xbf, 4},
        {0xf1, 0xf3, 0x80, 0xbf, 4},
        {0xf4, 0xf4, 0x80, 0x8f, 4},
    };
    if (text[0] < 0x80)
        return 1;
    for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
        bool fits = text[0] >= forms[i].first_min && text[0] <= forms[i].first_max &&
                    text[1] >= forms[i].second_min && text[1] <= forms[i].second_max;
        for (size_t k = 2; fits && k < forms[i].len; k++)
            fits = (text[k] & 0xc0) == 0x80;
        if (fits)
            return forms[i].len;
    }
    return 0;
}

char *sheet_clean(char *text)
{
    uint8_t *to = (uint8_t *)text;
    const uint8_t *from = (const uint8_t *)text;
    while (*from != '\0') {
        size_t len = sequence(from);
        bool bad = len == 0 || *from < 0x20 || *from == 0x7f || (*from == 0xc2 && from[1] < 0xa0) ||
                   character_misleads(character_number(from, len));
        if (bad)
            *to++ = '?';
        else
            for (size_t i = 0; i < len; i++)
                *to++ = from[i];
        from += len == 0 ? 1 : len;
    }
    *to = '\0';
    return text;
}

size_t sheet_width(const char *text)
{
    size_t width = 0;
    for (const char *at = text; *at != '\0'; at++)
        width += ((uint8_t)*at & 0xc0) != 0x80;
    return width;
}
