/* See login.h. */
#include "bench/load/login.h"

#include "bench/words.h"
#include "parser/base64.h"
#include "parser/sasl.h"
#include "tls/crypto.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    PLAIN_MAX = 1 + SASL_NAME_MAX + 1 + SASL_PASSWORD_MAX,
    LINE_MAX_OCTETS = 32 + (PLAIN_MAX + 2) / 3 * 4,
};

/* A line: `verb`, and `octets` in base64. */
static void line_add(struct login *login, const char *verb, struct bytes octets)
{
    char line[LINE_MAX_OCTETS];
    size_t len = strlen(verb);
    memcpy(line, verb, len);
    len += base64_encode(octets, line + len);
    memcpy(line + len, "\r\n", sizeof "\r\n");
    char *copy = strdup(line);
    if (copy == NULL)
        words_die("no memory");
    login->lines[login->count++] = copy;
    crypto_wipe(line, sizeof line);
}

static void plain_compose(struct login *login, struct bytes user, struct bytes password)
{
    uint8_t message[PLAIN_MAX];
    message[0] = 0;
    memcpy(message + 1, user.data, user.len);
    message[1 + user.len] = 0;
    memcpy(message + user.len + 2, password.data, password.len);
    line_add(login, "AUTH PLAIN ", bytes_make(message, user.len + password.len + 2));
    crypto_wipe(message, sizeof message);
}

static void login_compose(struct login *login, struct bytes user, struct bytes password)
{
    line_add(login, "AUTH LOGIN", bytes_make(NULL, 0));
    line_add(login, "", user);
    line_add(login, "", password);
}

/* Takes USER:PASSWORD; `where` is what a message calls it. */
static void user_add(struct logins *logins, char *text, enum login_mechanism mechanism,
                     const char *where)
{
    char *colon = strchr(text, ':');
    if (colon == NULL || colon == text || colon[1] == '\0')
        words_die("--auth: %s is not USER:PASSWORD", where);
    struct bytes user = bytes_make((const uint8_t *)text, (size_t)(colon - text));
    struct bytes password = bytes_make((const uint8_t *)colon + 1, strlen(colon + 1));
    if (user.len > SASL_NAME_MAX || password.len > SASL_PASSWORD_MAX)
        words_die("--auth: %s: a name has at most %d octets, a password %d", where, SASL_NAME_MAX,
                  SASL_PASSWORD_MAX);
    struct login *list = reallocarray(logins->list, logins->count + 1, sizeof(*list));
    if (list == NULL)
        words_die("no memory");
    logins->list = list;
    list += logins->count++;
    *list = (struct login){0};
    if (mechanism == LOGIN_PLAIN)
        plain_compose(list, user, password);
    else
        login_compose(list, user, password);
    memset(colon + 1, '*', password.len);
}

static void file_read(struct logins *logins, const char *path, enum login_mechanism mechanism)
{
    char *line = NULL, where[32];
    size_t size = 0;
    ssize_t len;
    unsigned number = 0;
    FILE *file = fopen(path, "re");
    if (file == NULL)
        words_die("--auth: %s: %s", path, strerror(errno));
    while ((len = getline(&line, &size, file)) >= 0) {
        line[strcspn(line, "\r\n")] = '\0';
        snprintf(where, sizeof where, "line %u of the file", ++number);
        if (line[0] != '\0')
            user_add(logins, line, mechanism, where);
        crypto_wipe(line, (size_t)len);
    }
    if (ferror(file))
        words_die("--auth: %s: it cannot be read", path);
    free(line);
    fclose(file);
    if (logins->count == 0)
        words_die("--auth: %s: nobody in it", path);
}

void logins_read(struct logins *logins, char *text, enum login_mechanism mechanism)
{
    *logins = (struct logins){0};
    if (text[0] == '@')
        file_read(logins, text + 1, mechanism);
    else
        user_add(logins, text, mechanism, "the value");
}

void logins_free(struct logins *logins)
{
    for (uint32_t i = 0; i < logins->count; i++)
        for (uint32_t k = 0; k < logins->list[i].count; k++) {
            crypto_wipe(logins->list[i].lines[k], strlen(logins->list[i].lines[k]));
            free(logins->list[i].lines[k]);
        }
    free(logins->list);
    *logins = (struct logins){0};
}
