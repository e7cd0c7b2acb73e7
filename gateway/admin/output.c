/* Lines of JSON for a client: see output.h. */
#include "gateway/admin/output.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum { OUTPUT_MIN = 16384 };

/* room makes sure that `more` octets fit behind what is there. */
static bool room(struct output *output, size_t more)
{
    if (output->sent > 0 && output->sent == output->len)
        output->sent = output->len = 0;
    if (output->capacity - output->len >= more)
        return true;
    size_t capacity = output->capacity < OUTPUT_MIN ? OUTPUT_MIN : output->capacity;
    while (capacity - output->len < more)
        capacity *= 2;
    char *larger = realloc(output->data, capacity);
    if (larger == NULL)
        return false;
    output->data = larger;
    output->capacity = capacity;
    return true;
}

void output_add(struct output *output, json_t *object)
{
    size_t size = object == NULL ? 0 : json_dumpb(object, NULL, 0, JSON_COMPACT);
    if (size == 0 || !room(output, size + 1)) {
        output->failed = true;
    } else {
        json_dumpb(object, output->data + output->len, size, JSON_COMPACT);
        output->len += size;
        output->data[output->len++] = '\n';
    }
    json_decref(object);
}

bool output_send(struct output *output, int descriptor)
{
    while (output->sent < output->len) {
        ssize_t sent = send(descriptor, output->data + output->sent, output->len - output->sent,
                            MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0)
            return errno == EAGAIN || errno == EWOULDBLOCK;
        output->sent += (size_t)sent;
    }
    return true;
}

size_t output_waiting(const struct output *output)
{
    return output->len - output->sent;
}

void output_free(struct output *output)
{
    free(output->data);
    *output = (struct output){0};
}

json_t *output_text(struct bytes text)
{
    /* A NUL would be good JSON, but most readers end a text there, or refuse it. */
    bool whole = text.len == 0 || memchr(text.data, '\0', text.len) == NULL;
    json_t *string =
        whole ? json_stringn(text.len > 0 ? (const char *)text.data : "", text.len) : NULL;
    char *copy = string == NULL ? malloc(text.len + 1) : NULL;
    if (copy == NULL)
        return string;
    for (size_t i = 0; i < text.len; i++)
        copy[i] = (char)(text.data[i] == '\0' ? '?' : text.data[i]);
    string = json_stringn(copy, text.len);
    for (size_t i = 0; string == NULL && i < text.len; i++)
        copy[i] = text.data[i] < 0x80 ? copy[i] : '?';
    if (string == NULL)
        string = json_stringn(copy, text.len);
    free(copy);
    return string;
}

void output_terms(json_t *object, const struct envelope_terms *terms)
{
    if (terms->release_s != 0)
        json_object_set_new(object, "release", json_integer(terms->release_s));
    if (terms->by_s != 0) {
        json_object_set_new(object, "by", json_integer(terms->by_s));
        json_object_set_new(object, "by_return", json_boolean(terms->by_mode & ENVELOPE_BY_RETURN));
    }
    if (terms->priority != 0)
        json_object_set_new(object, "priority", json_integer(terms->priority));
}
