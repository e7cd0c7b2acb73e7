/* A main for a fuzz target where libFuzzer is not to be had (another compiler, another processor
 * under an emulator): it makes random inputs of the octets that SMTP gives a meaning, without
 * learning from what happens.
 *
 *     fuzz_main [count, default 100000] [seed, default 1] */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint64_t state;

static uint32_t random_below(uint32_t limit)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)((state >> 32) * limit >> 32);
}

static size_t random_input(uint8_t *room, size_t len_max)
{
    static const char *const pieces[] = {"\r\n", "\r\n.", "\r\n.\r\n", ".",       "\r", "\n",
                                         " ",    "<",     ">",         "@",       ":",  "\"",
                                         "a",    "9",     "\\",        "\xc3\xa9"};
    size_t len = random_below((uint32_t)len_max + 1);
    uint32_t plain = random_below(100); /* how much of this input has no meaning, in percent */
    for (size_t at = 0; at < len;) {
        room[at] = (uint8_t)random_below(256);
        size_t piece_len = 1;
        if (random_below(100) < plain) {
            piece_len = random_below(80);
            piece_len = piece_len < len - at ? piece_len : len - at;
            memset(room + at, 'x', piece_len);
        } else if (random_below(20) > 0) {
            const char *piece = pieces[random_below(sizeof(pieces) / sizeof(pieces[0]))];
            piece_len = strlen(piece) < len - at ? strlen(piece) : len - at;
            memcpy(room + at, piece, piece_len);
        }
        at += piece_len;
    }
    return len;
}

int main(int argc, char **argv)
{
    static uint8_t room[1024];
    unsigned long count = argc > 1 ? strtoul(argv[1], NULL, 10) : 100000;
    state = (argc > 2 ? strtoul(argv[2], NULL, 10) : 1) * 88172645463325253U | 1;
    for (unsigned long i = 0; i < count; i++) {
        size_t len_max = i % 4 == 0 ? sizeof(room) : 160;
        uint8_t *input = malloc(len_max); /* of its own size, for the address sanitizer */
        if (input == NULL)
            return 1;
        size_t len = random_input(room, len_max);
        memcpy(input, room, len);
        LLVMFuzzerTestOneInput(input, len);
        free(input);
    }
    printf("%lu random inputs: no complaint\n", count);
    return 0;
}
