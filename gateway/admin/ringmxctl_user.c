/* The words of `ringmxctl user`, and passwords from a terminal or standard input. The file itself
 * is ringmxctl_file.c. */
#include "gateway/admin/ringmxctl_user.h"

#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "gateway/admin/ringmxctl_file.h"
#include "gateway/admin/ringmxctl_refuse.h"
#include "gateway/policy/password.h"
#include "parser/sasl.h"
#include "tls/crypto.h"

enum {
    INTERRUPTED = 130,
    BCRYPT_PASSWORD_MAX = 72, /* it looks at no more */
};

struct wish {
    const char *verb;
    struct bytes name;
    const char *path;
    enum password_scheme scheme;
    bool json;
};

enum { OPTION_SCHEME = 256, OPTION_JSON, OPTION_HELP };

static const struct option long_options[] = {
    {"file",   required_argument, NULL, 'f'          },
    {"scheme", required_argument, NULL, OPTION_SCHEME},
    {"json",   no_argument,       NULL, OPTION_JSON  },
    {"help",   no_argument,       NULL, OPTION_HELP  },
    {NULL,     0,                 NULL, 0            },
};

static const char help[] =
    "usage: ringmxctl user add|passwd NAME [--scheme SCHEME] [-f FILE]\n"
    "       ringmxctl user remove NAME [-f FILE]\n"
    "       ringmxctl user list [--json] [-f FILE]\n"
    "\n"
    "  add      a user who was not there      remove  take the user out\n"
    "  passwd   give another password         list    names, and how passwords are hashed\n"
    "\n"
    "The password is asked for, twice and without echo; from anything but a terminal the first\n"
    "line of standard input is taken. The gateway knows of a change after `ringmxctl reload`.\n"
    "\n"
    "      --scheme SCHEME  SCRAM-SHA-256 (default), ARGON2ID, BLF-CRYPT, SHA512-CRYPT or CRYPT\n"
    "                       (yescrypt); with all but the first one no client can use SCRAM\n"
    "  -f, --file FILE      what auth.users names (default: /etc/ringmx/users)\n"
    "\n"
    "Exit codes: 0 done, 1 there is no such user (add: there is one), 64 wrong arguments,\n"
    "65 a password that can't be taken, 66 no such file, 74 it can't be written, 77 no "
    "permission\n";

/* --- passwords --- */

static volatile sig_atomic_t interrupted;

static void interrupt(int number)
{
    (void)number;
    interrupted = 1;
}

/* read_line reads a line without its end to `out` of SASL_PASSWORD_MAX octets; octet by octet,
 * so that no buffer has a copy. `open` (NULL: all are) are signals that may come while it waits.
 * Returns its length, or -1: too long, none, or interrupted. */
static ssize_t read_line(char *out, const sigset_t *open)
{
    struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
    size_t len = 0;
    char octet = '\0';
    while (!interrupted) {
        if (open != NULL && ppoll(&input, 1, NULL, open) < 0)
            continue;
        ssize_t got = read(STDIN_FILENO, &octet, 1);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0 || octet == '\n')
            break;
        if (len == SASL_PASSWORD_MAX)
            return -1;
        out[len++] = octet;
    }
    if (len > 0 && out[len - 1] == '\r')
        len--;
    return interrupted || len == 0 ? -1 : (ssize_t)len;
}

/* ask reads a line from the terminal, which does not show it. */
static ssize_t ask(const char *question, char *out)
{
    struct termios shown, hidden;
    struct sigaction catch = {.sa_handler = interrupt}, before[3];
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
    sigset_t all, open;
    if (tcgetattr(STDIN_FILENO, &shown) != 0)
        return -1;
    sigemptyset(&all);
    for (int i = 0; i < 3; i++)
        sigaddset(&all, signals[i]);
    sigprocmask(SIG_BLOCK, &all, &open);
    for (int i = 0; i < 3; i++)
        sigaction(signals[i], &catch, &before[i]);
    hidden = shown;
    hidden.c_lflag &= ~(tcflag_t)ECHO;
    ssize_t len = -1;
    if (tcsetattr(STDIN_FILENO, TCSAFLUSH, &hidden) == 0) {
        fputs(question, stderr);
        len = read_line(out, &open);
    }
    tcsetattr(STDIN_FILENO, TCSAFLUSH, &shown);
    fputc('\n', stderr);
    for (int i = 0; i < 3; i++)
        sigaction(signals[i], &before[i], NULL);
    sigprocmask(SIG_SETMASK, &open, NULL);
    return len;
}

/* get_password reads a password to `out` of SASL_PASSWORD_MAX octets. Returns its length, or -1
 * with *exit_code; it was said why. */
static ssize_t get_password(const struct wish *wish, char *out, int *exit_code)
{
    char again[SASL_PASSWORD_MAX];
    bool terminal = isatty(STDIN_FILENO);
    ssize_t len = terminal ? ask("Password: ", out) : read_line(out, NULL);
    ssize_t repeated = terminal && len > 0 ? ask("The same again: ", again) : len;
    bool same = !terminal || (len > 0 && len == repeated && memcmp(out, again, (size_t)len) == 0);
    crypto_wipe(again, sizeof(again));
    *exit_code = interrupted ? INTERRUPTED : EX_DATAERR;
    if (interrupted)
        return -1;
    if (len <= 0)
        ringmxctl_refuse(0, "a password has 1 to %d octets", SASL_PASSWORD_MAX);
    else if (!same)
        ringmxctl_refuse(0, "they differ");
    else if (memchr(out, 0, (size_t)len) != NULL)
        ringmxctl_refuse(0, "a password has no NUL");
    else if (wish->scheme == PASSWORD_BLF_CRYPT && len > BCRYPT_PASSWORD_MAX)
        ringmxctl_refuse(0, "BLF-CRYPT looks at %d octets, and this password has more",
                         BCRYPT_PASSWORD_MAX);
    else
        return len;
    return -1;
}

/* --- verbs --- */

static int say_error(const struct wish *wish, int error)
{
    return ringmxctl_refuse(ringmxctl_exit_code(error), "%s: %s", wish->path, strerror(error));
}

/* open_for opens the file, and checks that the user is not there (add) or is. Returns 0, or an exit
 * code; it was said why. */
static int open_for(const struct wish *wish, bool add, struct user_file **file)
{
    int error = user_file_open(wish->path, add, file);
    if (error != 0)
        return say_error(wish, error);
    if (user_file_has(*file, wish->name) != add)
        return 0;
    user_file_close(*file);
    return ringmxctl_refuse(1, "%s: %.*s: %s", wish->path, (int)wish->name.len,
                            (const char *)wish->name.data,
                            add ? "is there already" : "no such user");
}

/* set_password adds a user, or changes one. Others may change the file while the password is asked
 * for, so it is looked at again. */
static int set_password(const struct wish *wish, bool add)
{
    char password[SASL_PASSWORD_MAX], stored[PASSWORD_TEXT_MAX];
    struct user_file *file;
    int exit_code = open_for(wish, add, &file);
    if (exit_code != 0)
        return exit_code;
    user_file_close(file);
    ssize_t len = get_password(wish, password, &exit_code);
    bool made = len > 0 && password_make(wish->scheme, bytes_make(password, (size_t)len), stored);
    crypto_wipe(password, sizeof(password));
    if (len <= 0)
        return exit_code;
    if (!made)
        return ringmxctl_refuse(EX_OSERR, "the password can't be hashed: out of memory");
    exit_code = open_for(wish, add, &file);
    if (exit_code != 0)
        return exit_code;
    bool locked = user_file_locked(file, wish->name);
    int error = user_file_set(file, wish->name, bytes_of_string(stored));
    user_file_close(file);
    if (error == 0 && locked)
        ringmxctl_refuse(0, "%.*s has another password and stays locked: \"!\" is before it in %s",
                         (int)wish->name.len, (const char *)wish->name.data, wish->path);
    return error == 0 ? 0 : say_error(wish, error);
}

static int take_out(const struct wish *wish)
{
    struct user_file *file;
    int exit_code = open_for(wish, false, &file);
    if (exit_code != 0)
        return exit_code;
    int error = user_file_set(file, wish->name, bytes_make(NULL, 0));
    user_file_close(file);
    return error == 0 ? 0 : say_error(wish, error);
}

static void show(void *user, struct bytes name, struct bytes stored)
{
    const struct wish *wish = user;
    struct bytes hash;
    const char *error;
    bool locked = stored.len > 0 && (stored.data[0] == '!' || stored.data[0] == '*');
    enum password_scheme scheme = locked ? PASSWORD_UNKNOWN : password_read(stored, &hash, &error);
    const char *word = locked                       ? "locked"
                       : scheme == PASSWORD_UNKNOWN ? "wrong"
                                                    : password_scheme_name(scheme);
    if (!wish->json) {
        printf("%-32.*s %s\n", (int)name.len, (const char *)name.data, word);
        return;
    }
    json_t *row = json_pack("{s:s%, s:s}", "user", name.data, name.len, "scheme", word);
    if (row != NULL && json_dumpf(row, stdout, JSON_COMPACT) == 0)
        putchar('\n');
    json_decref(row);
}

static int list(struct wish *wish)
{
    struct user_file *file;
    int error = user_file_open(wish->path, false, &file);
    if (error != 0)
        return say_error(wish, error);
    user_file_each(file, show, wish);
    user_file_close(file);
    return fflush(stdout) == 0 ? 0 : EX_IOERR;
}

/* --- the command line --- */

static bool name_allowed(struct bytes name)
{
    return sasl_name_valid(name) && bytes_find(name, ':') == name.len && name.data[0] != '#' &&
           name.data[0] != ' ' && name.data[name.len - 1] != ' ';
}

static int act(struct wish *wish, int words)
{
    if (strcmp(wish->verb, "list") == 0 && words == 1)
        return list(wish);
    if (words != 2)
        return ringmxctl_refuse(EX_USAGE, "user add, passwd or remove NAME, or user list?");
    if (!name_allowed(wish->name))
        return ringmxctl_refuse(EX_USAGE, "a name has 1 to %d octets of UTF-8, and no colon",
                                SASL_NAME_MAX);
    if (strcmp(wish->verb, "add") == 0 || strcmp(wish->verb, "passwd") == 0)
        return set_password(wish, wish->verb[0] == 'a');
    if (strcmp(wish->verb, "remove") == 0)
        return take_out(wish);
    return ringmxctl_refuse(EX_USAGE, "unknown: user %s", wish->verb);
}

int user_command(int count, char **values)
{
    struct wish wish = {.path = "/etc/ringmx/users", .scheme = PASSWORD_SCRAM_SHA_256};
    int option;
    while ((option = getopt_long(count, values, "f:", long_options, NULL)) != -1) {
        switch (option) {
        case 'f': wish.path = optarg; break;
        case OPTION_JSON: wish.json = true; break;
        case OPTION_HELP: fputs(help, stdout); return 0;
        case OPTION_SCHEME:
            wish.scheme = password_scheme_find(bytes_of_string(optarg));
            if (wish.scheme == PASSWORD_UNKNOWN)
                return ringmxctl_refuse(EX_USAGE, "unknown scheme: %s", optarg);
            break;
        default: return EX_USAGE; /* getopt has said why */
        }
    }
    int words = count - optind;
    if (words == 0)
        return ringmxctl_refuse(EX_USAGE, "user add, passwd, remove or list?");
    wish.verb = values[optind];
    if (words > 1)
        wish.name = bytes_of_string(values[optind + 1]);
    return act(&wish, words);
}
