/* Numbers with units, and the values that libconfuse keeps for us: see config_value.h. */
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
