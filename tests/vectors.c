/* ringmx-vectors: one JSON object a line in, one JSON object a line out, so that a suite in any
 * language can put its test vectors to the pure functions of parser/ and to SRS. docs/vectors.md
 * describes the objects. This file reads lines, finds the function that a line asks for, and moves
 * bytes between JSON and memory. */
#include "tests/vectors.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "parser/octet.h"

#ifndef RINGMX_VERSION
#define RINGMX_VERSION "unknown"
#endif

/* The member `name` (text) or `name`_hex chooses the function and is its input. */
static const struct function {
    const char *name;
    json_t *(*answer)(struct request *request);
    const char *options; /* the other members it knows, each between spaces */
} functions[] = {
    {"address", vectors_address, " utf8 path "                                          },
    {"domain",  vectors_domain,  " utf8 "                                               },
    {"command", vectors_command, " utf8 lenient "                                       },
    {"header",  vectors_header,  " splits "                                             },
    {"scan",    vectors_scan,    " splits kind bdat "                                   },
    {"srs",     vectors_srs,     " of secret now reverse max_age hash_length separator "},
};
enum { FUNCTION_COUNT = sizeof(functions) / sizeof(functions[0]) };

static const char help[] =
    "usage: ringmx-vectors < requests > answers\n"
    "\n"
    "Reads one JSON object a line and writes one JSON object a line: what ringmx makes of\n"
    "  {\"address\": \"user@example.org\"}      options: utf8, path (mailbox, path, reverse, "
    "forward)\n"
    "  {\"domain\": \"[IPv6:::1]\"}             options: utf8\n"
    "  {\"command\": \"MAIL FROM:<>\"}          options: utf8, lenient\n"
    "  {\"header\": \"From: a\\r\\n\\r\\n\"}        options: splits\n"
    "  {\"scan\": \"text\\r\\n.\\r\\n\"}            options: splits, kind, bdat\n"
    "  {\"srs\": \"user@example.com\"}          options: of, secret, now, reverse, max_age, "
    "hash_length,\n"
    "                                       separator\n"
    "Bytes that are not UTF-8 come as \"address_hex\", \"command_hex\" and so on. A member \"id\" "
    "is\n"
    "given back. A line that is no such request is answered with {\"error\": \"...\"}.\n"
    "\n"
    "  --help     this text\n"
    "  --version  the version\n";

static void *need(void *memory)
{
    if (memory == NULL) {
        fputs("ringmx-vectors: out of memory\n", stderr);
        exit(70);
    }
    return memory;
}

void vectors_put(json_t *object, const char *name, json_t *value)
{
    need(value);
    if (json_object_set_new(object, name, value) != 0)
        need(NULL);
}

void vectors_put_hex(json_t *object, const char *name, struct bytes value)
{
    static const char digits[] = "0123456789abcdef";
    char *text = need(malloc(2 * value.len + 1));
    for (size_t i = 0; i < value.len; i++) {
        text[2 * i] = digits[value.data[i] >> 4];
        text[2 * i + 1] = digits[value.data[i] & 15];
    }
    vectors_put(object, name, json_stringn_nocheck(text, 2 * value.len));
    free(text);
}

void vectors_put_bytes(json_t *object, const char *name, struct bytes value)
{
    json_t *text = json_stringn(value.len == 0 ? "" : (const char *)value.data, value.len);
    if (text != NULL) {
        vectors_put(object, name, text);
        return;
    }
    char name_hex[64];
    snprintf(name_hex, sizeof(name_hex), "%s_hex", name);
    vectors_put_hex(object, name_hex, value);
}

bool vectors_flag(struct request *request, const char *name)
{
    const json_t *value = json_object_get(request->object, name);
    if (value != NULL && !json_is_boolean(value))
        snprintf(request->error, sizeof(request->error), "\"%s\" must be true or false", name);
    return json_is_true(value);
}

size_t vectors_piece_count(struct request *request)
{
    const json_t *splits = json_object_get(request->object, "splits");
    if (splits == NULL)
        return 1;
    json_int_t last = 0;
    bool rising = json_is_array(splits);
    for (size_t i = 0; rising && i < json_array_size(splits); i++) {
        const json_t *split = json_array_get(splits, i);
        rising = json_is_integer(split) && json_integer_value(split) >= last &&
                 json_integer_value(split) <= (json_int_t)request->input.len;
        last = json_integer_value(split);
    }
    if (rising)
        return json_array_size(splits) + 1;
    snprintf(request->error, sizeof(request->error), "\"splits\" must be rising offsets");
    return 0;
}

struct bytes vectors_piece(const struct request *request, size_t index)
{
    const json_t *splits = json_object_get(request->object, "splits");
    size_t start = 0;
    size_t end = request->input.len;
    if (index > 0)
        start = (size_t)json_integer_value(json_array_get(splits, index - 1));
    if (index < json_array_size(splits))
        end = (size_t)json_integer_value(json_array_get(splits, index));
    return bytes_slice(request->input, start, end);
}

/* Returns the number of bytes written to `out`, or -1 when `text` is not hexadecimal. */
static ssize_t decode_hex(struct bytes text, uint8_t *out)
{
    if (text.len % 2 != 0)
        return -1;
    for (size_t i = 0; i < text.len; i += 2) {
        unsigned high = octet_hex_value(text.data[i]);
        unsigned low = octet_hex_value(text.data[i + 1]);
        if (high > 15 || low > 15)
            return -1;
        out[i / 2] = (uint8_t)(high * 16 + low);
    }
    return (ssize_t)(text.len / 2);
}

/* Every member must be the input, "id", or an option of the function: a misspelt option would test
 * nothing. */
static bool members_known(struct request *request, const struct function *function,
                          const char *input)
{
    const char *name;
    json_t *value;
    json_object_foreach(request->object, name, value)
    {
        char word[64];
        int len = snprintf(word, sizeof(word), " %s ", name);
        if (strcmp(name, input) == 0 || strcmp(name, "id") == 0 ||
            (len < (int)sizeof(word) && strstr(function->options, word) != NULL))
            continue;
        snprintf(request->error, sizeof(request->error), "\"%s\" has no option \"%.60s\"",
                 function->name, name);
        return false;
    }
    return true;
}

/* Fills `memory`, which holds as many bytes as the text, when the input is given in hexadecimal. */
static json_t *answer_with(struct request *request, const struct function *function,
                           const char *input, const json_t *value, uint8_t *memory)
{
    if (!members_known(request, function, input))
        return NULL;
    request->input = bytes_make(json_string_value(value), json_string_length(value));
    if (strcmp(input, function->name) != 0) {
        ssize_t len = decode_hex(request->input, memory);
        if (len < 0) {
            snprintf(request->error, sizeof(request->error), "\"%s\" is not hexadecimal", input);
            return NULL;
        }
        request->input = bytes_make(memory, (size_t)len);
    }
    return need(function->answer(request));
}

static json_t *answer_request(struct request *request)
{
    for (size_t i = 0; i < FUNCTION_COUNT; i++) {
        char name_hex[64];
        snprintf(name_hex, sizeof(name_hex), "%s_hex", functions[i].name);
        const char *input = functions[i].name;
        const json_t *value = json_object_get(request->object, input);
        if (value == NULL) {
            input = name_hex;
            value = json_object_get(request->object, input);
        }
        if (value == NULL)
            continue;
        if (!json_is_string(value)) {
            snprintf(request->error, sizeof(request->error), "\"%s\" must be a string", input);
            return NULL;
        }
        uint8_t *memory = need(malloc(json_string_length(value) + 1));
        json_t *answer = answer_with(request, &functions[i], input, value, memory);
        free(memory);
        return answer;
    }
    snprintf(request->error, sizeof(request->error),
             "no function: address, domain, command, "
             "header, scan or srs");
    return NULL;
}

/* Returns the answer to one line, a new object. */
static json_t *answer_line(const char *line, size_t len)
{
    json_error_t error;
    struct request request = {.object = json_loadb(line, len, JSON_ALLOW_NUL, &error)};
    json_t *answer = NULL;
    if (json_is_object(request.object))
        answer = answer_request(&request);
    else
        snprintf(request.error, sizeof(request.error), "not a JSON object");
    if (request.error[0] != '\0') {
        json_decref(answer);
        answer = need(json_object());
        vectors_put(answer, "error", json_string(request.error));
    }
    json_t *id = json_object_get(request.object, "id");
    if (id != NULL)
        vectors_put(answer, "id", json_incref(id));
    json_decref(request.object);
    return answer;
}

int main(int argument_count, char **arguments)
{
    if (argument_count == 2 && strcmp(arguments[1], "--help") == 0)
        return fputs(help, stdout) < 0;
    if (argument_count == 2 && strcmp(arguments[1], "--version") == 0)
        return puts("ringmx-vectors " RINGMX_VERSION) < 0;
    if (argument_count != 1) {
        fputs(help, stderr);
        return 64;
    }
    char *line = NULL;
    size_t line_room = 0;
    ssize_t len;
    while ((len = getline(&line, &line_room, stdin)) >= 0) {
        json_t *answer = answer_line(line, (size_t)len);
        if (json_dumpf(answer, stdout, JSON_COMPACT) != 0 || putchar('\n') == EOF ||
            fflush(stdout) != 0) {
            perror("ringmx-vectors");
            return 74;
        }
        json_decref(answer);
    }
    free(line);
    return 0;
}
