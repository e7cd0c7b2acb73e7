/* Templates and safe names. All text that came from the network passes append_value. */
#include "gateway/deliver/folder.h"

#include <errno.h>

static bool append(struct folder *folder, char c);
static bool append_value(struct folder *folder, struct bytes value);
static bool append_user(struct folder *folder, struct bytes mailbox);
static struct bytes local_part(struct bytes mailbox, uint8_t *unquoted, size_t size);
static bool is_plain(uint8_t c);
static bool is_dots(struct bytes component);

const char *folder_template_error(const char *template)
{
    struct bytes rest = bytes_of_string(template);
    bool variable = false;

    if (rest.len == 0)
        return "the Maildir template is empty";
    if (rest.len > FOLDER_PATH_MAX / 2)
        return "the Maildir template is too long";
    while (rest.len > 0) {
        struct bytes component = bytes_slice(rest, 0, bytes_find(rest, '/'));
        for (size_t i = 0; i < component.len; i++) {
            if (component.data[i] != '%')
                continue;
            uint8_t next = ++i < component.len ? component.data[i] : 0;
            if (next != 'd' && next != 'u' && next != '%')
                return "the Maildir template knows only %d, %u and %%";
            variable = variable || next != '%';
        }
        if (variable && is_dots(component))
            return "the Maildir template has \".\" or \"..\" behind a variable";
        rest = bytes_skip(rest, component.len + 1);
    }
    return NULL;
}

int folder_make(struct folder *folder, const char *template, struct bytes domain,
                struct bytes mailbox)
{
    uint32_t component_start = 0;
    bool variable = false;

    folder->len = folder->prefix_len = 0;
    for (const char *at = template; *at != '\0'; at++) {
        bool fits = true;
        if (*at == '/') {
            component_start = folder->len + 1;
            fits = append(folder, '/');
        } else if (*at != '%') {
            fits = append(folder, *at);
        } else if (*++at == '%') {
            fits = append(folder, '%');
        } else {
            if (!variable)
                folder->prefix_len = component_start > 0 ? component_start - 1 : 0;
            variable = true;
            fits = *at == 'd' ? append_value(folder, domain) : append_user(folder, mailbox);
        }
        if (!fits || folder->len > component_start + FOLDER_NAME_MAX)
            return -ENAMETOOLONG;
    }
    if (!variable)
        folder->prefix_len = folder->len;
    folder->path[folder->len] = '\0';
    return 0;
}

static bool append(struct folder *folder, char c)
{
    if (folder->len >= FOLDER_PATH_MAX - 1)
        return false;
    folder->path[folder->len++] = c;
    return true;
}

static bool append_value(struct folder *folder, struct bytes value)
{
    static const char hex[] = "0123456789ABCDEF";

    for (size_t i = 0; i < value.len; i++) {
        uint8_t c = byte_lower(value.data[i]);
        bool fits;
        if (is_plain(c) && !(c == '.' && i == 0))
            fits = append(folder, (char)c);
        else
            fits =
                append(folder, '%') && append(folder, hex[c >> 4]) && append(folder, hex[c & 15]);
        if (!fits)
            return false;
    }
    return true;
}

static bool append_user(struct folder *folder, struct bytes mailbox)
{
    uint8_t unquoted[512];
    struct bytes user = local_part(mailbox, unquoted, sizeof unquoted);

    if (user.data == NULL)
        return false;
    if (user.len == 0) { /* <""@example.org>; no value is written like this: "em" is no octet */
        for (const char *at = "%empty"; *at != '\0'; at++)
            if (!append(folder, *at))
                return false;
        return true;
    }
    size_t plus = bytes_find(user, '+');
    if (plus > 0 && plus < user.len)
        user = bytes_slice(user, 0, plus);
    return append_value(folder, user);
}

/* The local part as unquoted text, borrowed from the mailbox or from `unquoted`; data NULL: too
 * long. */
static struct bytes local_part(struct bytes mailbox, uint8_t *unquoted, size_t size)
{
    size_t end = mailbox.len;
    while (end > 0 && mailbox.data[end - 1] != '@')
        end--;
    struct bytes local = end == 0 ? mailbox : bytes_slice(mailbox, 0, end - 1);
    if (local.len > size)
        return (struct bytes){NULL, 0};
    if (local.len < 2 || local.data[0] != '"' || local.data[local.len - 1] != '"')
        return local;
    size_t len = 0;
    for (size_t i = 1; i < local.len - 1; i++) {
        if (local.data[i] == '\\' && i + 1 < local.len - 1)
            i++;
        unquoted[len++] = local.data[i];
    }
    return bytes_make(unquoted, len);
}

static bool is_plain(uint8_t c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '+' ||
           c == '=' || c == '@' || c == '-';
}

static bool is_dots(struct bytes component)
{
    return bytes_equal(component, BYTES(".")) || bytes_equal(component, BYTES(".."));
}
