/* Numbers with units, words with a closed set of values, and the values that libconfuse keeps for
 * us: see config_value.h. */
#include "gateway/config_value.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct unit {
    char letter;
    uint64_t factor;
};

/* From small to large; the zero letter ends a list. */
static const struct unit units[3][5] = {
    [CONFIG_COUNT] = {{0}},
    [CONFIG_SIZE] = {      {'k', 1 << 10}, {'M', 1 << 20}, {'G', 1 << 30}},
    [CONFIG_TIME] = { {'s', 1},   {'m', 60},      {'h', 3600}, {'d', 86400}},
};

int config_value_parse(cfg_t *section, cfg_opt_t *word, const char *text, void *result)
{
    (void)word;
    size_t size = strlen(text) + 1;
    struct config_value *value = malloc(sizeof(*value) + size);
    if (value == NULL)
        return -1;
    value->line = section->line;
    memcpy(value->text, text, size);
    *(void **)result = value;
    return 0;
}

const struct config_value *config_value_at(cfg_t *section, const char *word, unsigned index)
{
    return index < cfg_size(section, word) ? cfg_getnptr(section, word, index) : NULL;
}

bool config_value_number(const char *text, enum config_unit unit, uint64_t *out)
{
    uint64_t number = 0;
    uint64_t factor = 1;
    const char *at = text;
    for (; *at >= '0' && *at <= '9'; at++)
        if (__builtin_mul_overflow(number, 10, &number) ||
            __builtin_add_overflow(number, (uint64_t)(*at - '0'), &number))
            return false;
    if (at == text)
        return false;
    for (const struct unit *known = units[unit]; known->letter != 0 && *at != '\0'; known++)
        if (at[0] == known->letter && at[1] == '\0') {
            factor = known->factor;
            at++;
        }
    return *at == '\0' && !__builtin_mul_overflow(number, factor, out);
}

int config_value_choice(const char *text, const char *const *choices, char *known,
                        size_t known_size)
{
    size_t len = 0;
    for (int i = 0; choices[i] != NULL; i++)
        if (strcmp(choices[i], text) == 0)
            return i;
    for (int i = 0; choices[i] != NULL && len < known_size; i++)
        len +=
            (size_t)snprintf(known + len, known_size - len, "%s%s", i == 0 ? "" : ", ", choices[i]);
    return -1;
}

char *config_value_path(const char *text, const char *folder)
{
    char *path = NULL;
    if (text[0] == '/')
        return strdup(text);
    if (asprintf(&path, "%s/%s", folder, text) < 0)
        return NULL;
    return path;
}

char *config_value_format(uint64_t number, enum config_unit unit, char *out)
{
    struct unit best = {0, 1};
    for (const struct unit *known = units[unit]; known->letter != 0; known++)
        if (number > 0 && number % known->factor == 0)
            best = *known;
    int len = snprintf(out, CONFIG_NUMBER_TEXT, "%llu", (unsigned long long)(number / best.factor));
    if (best.letter != 0)
        snprintf(out + len, (size_t)(CONFIG_NUMBER_TEXT - len), "%c", best.letter);
    return out;
}

const char *const config_booleans[] = {[false] = "false", [true] = "true", NULL};

/* The name of a word as people look for it: "limits.recipients", "workers". */
struct full_name {
    char text[64];
};

static struct full_name full_name(cfg_t *section, const char *word)
{
    struct full_name name;
    bool outside = strcmp(cfg_name(section), "root") == 0; /* libconfuse calls the file so */
    snprintf(name.text, sizeof(name.text), "%s%s%s", outside ? "" : cfg_name(section),
             outside ? "" : ".", word);
    return name;
}

bool config_number_checked(const struct config_value *value, const char *name,
                           const struct config_bounds *bounds, uint64_t *out,
                           struct config_errors *errors)
{
    static const char *const forms[] = {
        [CONFIG_COUNT] = "a number",
        [CONFIG_SIZE] = "a size (digits, then k, M, G or nothing)",
        [CONFIG_TIME] = "a time (digits, then s, m, h, d or nothing)",
    };
    char min[CONFIG_NUMBER_TEXT], max[CONFIG_NUMBER_TEXT];
    uint64_t number;
    if (!config_value_number(value->text, bounds->unit, &number))
        config_error(errors, value->line, "%s: \"%s\" is not %s", name, value->text,
                     forms[bounds->unit]);
    else if (number < bounds->min || number > bounds->max)
        config_error(errors, value->line, "%s: %s is not between %s and %s", name, value->text,
                     config_value_format(bounds->min, bounds->unit, min),
                     config_value_format(bounds->max, bounds->unit, max));
    else if (bounds->multiple_of == 0 && (number & (number - 1)) != 0)
        config_error(errors, value->line, "%s: %s is not a power of two", name, value->text);
    else if (bounds->multiple_of > 1 && number % bounds->multiple_of != 0)
        config_error(errors, value->line, "%s: %s is not a multiple of %s", name, value->text,
                     config_value_format(bounds->multiple_of, bounds->unit, min));
    else {
        *out = number;
        return true;
    }
    return false;
}

uint64_t config_word_number(cfg_t *section, const char *word, const struct config_bounds *bounds,
                            uint64_t fallback, struct config_errors *errors)
{
    uint64_t number = fallback;
    const struct full_name name = full_name(section, word);
    const struct config_value *value = config_value_at(section, word, 0);
    if (value == NULL || !config_number_checked(value, name.text, bounds, &number, errors))
        return fallback;
    return number;
}

int config_word_choice(cfg_t *section, const char *word, const char *const *choices, int fallback,
                       struct config_errors *errors)
{
    char known[128];
    const struct full_name name = full_name(section, word);
    const struct config_value *value = config_value_at(section, word, 0);
    if (value == NULL)
        return fallback;
    int index = config_value_choice(value->text, choices, known, sizeof(known));
    if (index >= 0)
        return index;
    config_error(errors, value->line, "%s: \"%s\" is none of %s", name.text, value->text, known);
    return fallback;
}

char *config_word_path(cfg_t *section, const char *word, const char *folder,
                       struct config_errors *errors)
{
    const struct full_name name = full_name(section, word);
    const struct config_value *value = config_value_at(section, word, 0);
    char *path = NULL;
    if (value == NULL)
        return NULL;
    if (value->text[0] == '\0')
        config_error(errors, value->line, "%s is empty", name.text);
    else if ((path = config_value_path(value->text, folder)) == NULL)
        config_error(errors, value->line, "out of memory");
    if (path != NULL)
        config_error_paths(errors, path);
    return path;
}
