/* The words of `ringmxctl dkim`, key files, and the DNS record of a key (RFC 6376 3.6.1, 8463 4).
 */
#include "gateway/admin/ringmxctl_dkim.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "gateway/admin/ringmxctl_refuse.h"
#include "parser/address.h"
#include "parser/base64.h"
#include "tls/signature.h"

enum {
    PATH_SIZE = 4096,
    SELECTOR_SIZE = 64, /* of one that nobody has chosen */
    KEY_FILE_MAX = 65536,
    STRING_MAX = 255, /* octets of one string of a TXT record (RFC 1035 3.3) */
    NAME_MAX_LEN = 253,
    RECORD_SIZE = 64 + (SIGNATURE_PUBLIC_MAX + 2) / 3 * 4,
    BITS_DEFAULT = 2048,
    BITS_MIN = 1024,
    BITS_MAX = 4096,
};

struct wish {
    const char *domain;
    const char *selector; /* NULL: none was chosen */
    const char *folder;
    enum signature_kind kind;
    unsigned bits; /* 0: none were chosen */
    bool make;     /* a new key; else the record of one that is there */
    bool json;
};

enum { OPTION_SELECTOR = 256, OPTION_TYPE, OPTION_BITS, OPTION_JSON, OPTION_HELP };

static const struct option long_options[] = {
    {"selector",  required_argument, NULL, OPTION_SELECTOR},
    {"type",      required_argument, NULL, OPTION_TYPE    },
    {"bits",      required_argument, NULL, OPTION_BITS    },
    {"directory", required_argument, NULL, 'd'            },
    {"json",      no_argument,       NULL, OPTION_JSON    },
    {"help",      no_argument,       NULL, OPTION_HELP    },
    {NULL,        0,                 NULL, 0              },
};

static const char help[] =
    "usage: ringmxctl dkim key DOMAIN [--selector S] [--type rsa|ed25519] [--bits N] [-d DIR]\n"
    "       ringmxctl dkim record DOMAIN --selector S [-d DIR]\n"
    "\n"
    "  key     makes a key that signs the mail of the domain, DIR/DOMAIN.SELECTOR.key, which must\n"
    "          not be there yet, and shows its DNS record, as zone files have it\n"
    "  record  shows the record of a key that is there\n"
    "\n"
    "      --selector S      the key's name (default: r or e, year and month: r202611)\n"
    "      --type T          rsa (default) or ed25519; a domain does well to have both\n"
    "      --bits N          of RSA: 1024 to 4096 (default: 2048)\n"
    "  -d, --directory DIR   where keys are (default: /etc/ringmx/dkim)\n"
    "      --json            a JSON object: name and text of the record, and the key's file\n"
    "\n"
    "A key is for its owner alone, or, in a folder that a group may read, for this group, too.\n"
    "The gateway signs with it once the configuration names it, and it was reloaded; not before\n"
    "the record can be seen in DNS.\n"
    "\n"
    "Exit codes: 0 done, 1 there is such a key already, 64 wrong arguments, 65 the file has no\n"
    "key, 66 there is none, 71 no memory, 74 it can't be written, 77 no permission\n";

static int code_of(int error)
{
    return error == EEXIST ? 1 : error == EISDIR ? EX_NOINPUT : ringmxctl_exit_code(error);
}

/* --- words --- */

static bool is_name(const char *text)
{
    enum address_domain_kind kind;
    return address_domain(bytes_of_string(text), false, &kind) == ADDRESS_OK &&
           kind == ADDRESS_NAME;
}

static bool take_bits(const char *text, unsigned *bits)
{
    char *end;
    unsigned long value = strtoul(text, &end, 10);
    *bits = (unsigned)value;
    return text[0] >= '0' && text[0] <= '9' && *end == '\0' && value >= BITS_MIN &&
           value <= BITS_MAX;
}

static bool take_option(int option, const char *argument, struct wish *wish)
{
    switch (option) {
    case 'd': wish->folder = argument; return true;
    case OPTION_SELECTOR: wish->selector = argument; return is_name(argument);
    case OPTION_BITS: return take_bits(argument, &wish->bits);
    case OPTION_JSON: wish->json = true; return true;
    case OPTION_TYPE:
        wish->kind = strcmp(argument, "ed25519") == 0 ? SIGNATURE_ED25519 : SIGNATURE_RSA;
        return wish->kind == SIGNATURE_ED25519 || strcmp(argument, "rsa") == 0;
    default: return false;
    }
}

/* Returns 0, or the exit code; help was shown: -1. */
static int take_words(int count, char **values, struct wish *wish)
{
    int option;
    while ((option = getopt_long(count, values, "d:", long_options, NULL)) != -1) {
        if (option == OPTION_HELP) {
            fputs(help, stdout);
            return -1;
        }
        if (option == '?')
            return EX_USAGE; /* getopt has said why */
        if (!take_option(option, optarg, wish))
            return ringmxctl_refuse(EX_USAGE, "%s can't be that (ringmxctl dkim --help)", optarg);
    }
    const char *verb = count - optind == 2 ? values[optind] : "";
    wish->make = strcmp(verb, "key") == 0;
    if (!wish->make && strcmp(verb, "record") != 0)
        return ringmxctl_refuse(EX_USAGE,
                                "dkim key DOMAIN, or dkim record DOMAIN? (ringmxctl dkim --help)");
    if (wish->kind == SIGNATURE_ED25519 && wish->bits != 0)
        return ringmxctl_refuse(EX_USAGE,
                                "--bits is for RSA: Ed25519 has one size (ringmxctl dkim --help)");
    wish->domain = values[optind + 1];
    if (!is_name(wish->domain))
        return ringmxctl_refuse(EX_USAGE, "%s is no domain name as DNS has it", wish->domain);
    if (!wish->make && wish->selector == NULL)
        return ringmxctl_refuse(EX_USAGE, "record needs --selector");
    return 0;
}

/* lower copies a name in the case that it has in the gateway: "A.example" is "a.example", and has
 * the same file. False: it is too long. */
static bool lower(const char **name, char copy[NAME_MAX_LEN + 1])
{
    size_t len = strlen(*name);
    if (len > NAME_MAX_LEN)
        return false;
    for (size_t i = 0; i <= len; i++)
        copy[i] = (char)byte_lower((uint8_t)(*name)[i]);
    *name = copy;
    return true;
}

/* --- files --- */

/* share gives a key to the group of its folder, if this group may read there: so that a gateway
 * that is no longer root can read it. */
static bool share(int file, const char *folder)
{
    struct stat at;
    if (stat(folder, &at) != 0)
        return false;
    if ((at.st_mode & S_IRGRP) == 0 || (at.st_mode & S_IRWXO) != 0)
        return true;
    return fchown(file, geteuid() == 0 ? at.st_uid : (uid_t)-1, at.st_gid) == 0 &&
           fchmod(file, 0640) == 0;
}

static bool write_whole(int file, const char *text, size_t len)
{
    for (size_t at = 0; at < len;) {
        ssize_t written = write(file, text + at, len - at);
        if (written < 0 && errno != EINTR)
            return false;
        at += written > 0 ? (size_t)written : 0;
    }
    return fsync(file) == 0;
}

/* write_key: 0, or the exit code; then there is no file. */
static int write_key(const struct wish *wish, const char *path, const struct signature_key *key)
{
    char *pem = signature_key_pem(key);
    if (pem == NULL)
        return ringmxctl_refuse(EX_OSERR, "no memory");
    int file = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    int error = file < 0 ? errno : 0;
    if (file >= 0 && !(share(file, wish->folder) && write_whole(file, pem, strlen(pem)))) {
        error = errno;
        unlink(path);
    }
    if (file >= 0)
        close(file);
    crypto_wipe(pem, strlen(pem));
    free(pem);
    return error == 0 ? 0 : ringmxctl_refuse(code_of(error), "%s: %s", path, strerror(error));
}

/* read_key returns a key, or sets *exit_code. */
static struct signature_key *read_key(const char *path, int *exit_code)
{
    static char text[KEY_FILE_MAX];
    char error[256];
    FILE *file = fopen(path, "re");
    size_t len = file == NULL ? 0 : fread(text, 1, sizeof(text), file);
    if (file == NULL || ferror(file)) {
        *exit_code = ringmxctl_refuse(code_of(errno), "%s: %s", path, strerror(errno));
        if (file != NULL)
            fclose(file);
        return NULL;
    }
    fclose(file);
    struct signature_key *key = signature_key_read(text, len, error, sizeof(error));
    crypto_wipe(text, sizeof(text));
    if (key == NULL)
        *exit_code = ringmxctl_refuse(EX_DATAERR, "%s: %s", path, error);
    return key;
}

/* --- the record --- */

static void show_json(const char *name, const char *text, const char *path)
{
    json_t *object = json_pack("{s:s, s:s, s:s}", "name", name, "text", text, "path", path);
    char *line = object == NULL ? NULL : json_dumps(object, JSON_COMPACT);
    if (line != NULL)
        puts(line);
    free(line);
    json_decref(object);
}

static void show_zone(const char *name, const char *text)
{
    printf("%s. IN TXT (", name);
    for (size_t at = 0; text[at] != '\0'; at += strnlen(text + at, STRING_MAX))
        printf("%s\"%.*s\"", at == 0 ? " " : "\n\t", STRING_MAX, text + at);
    puts(" )");
}

/* The configuration looks for relative files in its own folder. */
static void show_words(const struct wish *wish, const char *path)
{
    char *whole = realpath(path, NULL);
    const char *known = whole != NULL ? whole : path;
    fprintf(stderr, "%s is the key. When DNS has the record: dkim \"%s\" { keys = {\"%s:%s\"} }\n",
            known, wish->domain, wish->selector, known);
    free(whole);
}

/* A record begins with v= if it has one, and what follows is in the order of the examples. */
static int show_record(const struct wish *wish, const struct signature_key *key, const char *path)
{
    uint8_t public[SIGNATURE_PUBLIC_MAX];
    char name[NAME_MAX_LEN + 1], text[RECORD_SIZE];
    bool rsa = signature_key_kind(key) == SIGNATURE_RSA;
    snprintf(name, sizeof(name), "%s._domainkey.%s", wish->selector, wish->domain);
    size_t public_len = signature_key_public(key, public);
    if (public_len == 0)
        return ringmxctl_refuse(EX_OSERR, "no memory");
    int len = snprintf(text, sizeof(text), "v=DKIM1; k=%s; p=", rsa ? "rsa" : "ed25519");
    text[(size_t)len + base64_encode(bytes_make(public, public_len), text + len)] = '\0';
    if (wish->json)
        show_json(name, text, path);
    else
        show_zone(name, text);
    if (wish->make && !wish->json)
        show_words(wish, path);
    return fflush(stdout) == 0 ? 0 : EX_IOERR;
}

int dkim_command(int count, char **values)
{
    struct wish wish = {.folder = "/etc/ringmx/dkim"};
    char path[PATH_SIZE], chosen[SELECTOR_SIZE];
    char domain[NAME_MAX_LEN + 1], selector[NAME_MAX_LEN + 1];
    time_t now = time(NULL);
    struct tm date;
    int code = take_words(count, values, &wish);
    if (code != 0)
        return code < 0 ? 0 : code;
    if (wish.selector == NULL && gmtime_r(&now, &date) != NULL) {
        snprintf(chosen, sizeof(chosen), "%c%04d%02d", wish.kind == SIGNATURE_RSA ? 'r' : 'e',
                 date.tm_year + 1900, date.tm_mon + 1);
        wish.selector = chosen;
    }
    if (!lower(&wish.domain, domain) || !lower(&wish.selector, selector) ||
        strlen(wish.selector) + strlen("._domainkey.") + strlen(wish.domain) > NAME_MAX_LEN)
        return ringmxctl_refuse(EX_USAGE,
                                "selector and domain are too long for the name of a DNS record");
    if (snprintf(path, sizeof(path), "%s/%s.%s.key", wish.folder, wish.domain, wish.selector) >=
        (int)sizeof(path))
        return ringmxctl_refuse(EX_USAGE, "the name of the folder is too long");
    struct signature_key *key =
        wish.make ? signature_key_make(wish.kind, wish.bits == 0 ? BITS_DEFAULT : wish.bits)
                  : read_key(path, &code);
    if (key == NULL)
        return wish.make ? ringmxctl_refuse(EX_OSERR, "no memory") : code;
    if (wish.make)
        code = write_key(&wish, path, key);
    if (code == 0)
        code = show_record(&wish, key, path);
    signature_key_free(key);
    return code;
}
