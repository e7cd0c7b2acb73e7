/* The text form of message ids. 13 characters hold 65 bits: the last one carries the four low bits
 * of the id and one zero bit. */
#include "gateway/base/id.h"

static const char alphabet[] = "abcdefghijklmnopqrstuvwxyz234567";

static int value_of(char c);

void id_format(uint64_t id, char out[ID_TEXT_LEN + 1])
{
    for (unsigned i = 0; i < ID_TEXT_LEN - 1; i++)
        out[i] = alphabet[(id >> (59 - 5 * i)) & 31];
    out[ID_TEXT_LEN - 1] = alphabet[(id & 15) << 1];
    out[ID_TEXT_LEN] = '\0';
}

bool id_parse(const char *text, size_t len, uint64_t *id)
{
    if (len != ID_TEXT_LEN)
        return false;
    uint64_t bits = 0;
    for (unsigned i = 0; i < ID_TEXT_LEN - 1; i++) {
        int value = value_of(text[i]);
        if (value < 0)
            return false;
        bits = bits << 5 | (uint64_t)value;
    }
    int last = value_of(text[ID_TEXT_LEN - 1]);
    if (last < 0 || (last & 1) != 0)
        return false;
    *id = bits << 4 | (uint64_t)last >> 1;
    return true;
}

static int value_of(char c)
{
    if (c >= 'a' && c <= 'z')
        return c - 'a';
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= '2' && c <= '7')
        return c - '2' + 26;
    return -1;
}
