/* Aliases from the configuration and from files, `from: to, to` a line: see config_aliases.h and
 * docs/routing.md. */
#include "gateway/config_aliases.h"

#include <stdlib.h>
#include <string.h>

#include "gateway/config_file.h"

enum {
    SHOWN_MAX = 80, /* octets of a bad address that are shown */
    WAY_MAX = 1024, /* octets of a chain of aliases that are shown */
};

/* What is done with aliases on one walk through them. */
struct walk {
    struct directory *directory; /* to be filled; NULL: looking for `wanted` */
    struct bytes wanted;         /* the alias whose place is to be told */
    const char *mistake;         /* what is wrong with it, */
    const char *way;             /* and where it leads */
    bool told;
};

static int shown(struct bytes text)
{
    return (int)(text.len < SHOWN_MAX ? text.len : SHOWN_MAX);
}

static void add(struct walk *walk, struct bytes from, struct bytes to, int line,
                struct config_errors *errors)
{
    const char *mistake;
    if (!directory_add_alias(walk->directory, from, to, &mistake))
        config_error(errors, line, "alias \"%.*s\" to \"%.*s\": %s", shown(from),
                     (const char *)from.data, shown(to), (const char *)to.data, mistake);
}

/* look tells the mistake at the place where the wanted alias is made, once. */
static void look(struct walk *walk, struct bytes from, int line, struct config_errors *errors)
{
    if (walk->told || !bytes_equal_nocase(from, walk->wanted))
        return;
    config_error(errors, line, "%s: %s", walk->mistake, walk->way);
    walk->told = true;
}

/* end_of returns where `text` has its first `mark` outside of quotes (RFC 5321 Quoted-string), or
 * its length. */
static size_t end_of(struct bytes text, uint8_t mark)
{
    bool quoted = false;
    for (size_t i = 0; i < text.len; i++) {
        if (quoted && text.data[i] == '\\')
            i++;
        else if (text.data[i] == '"')
            quoted = !quoted;
        else if (!quoted && text.data[i] == mark)
            return i;
    }
    return text.len;
}

/* A line of a file; `user` is the walk. */
static void read_line(void *user, struct bytes text, int line, struct config_errors *errors)
{
    struct walk *walk = user;
    size_t end = end_of(text, ':');
    if (end == text.len)
        end = end_of(text, bytes_find(text, '\t') < end_of(text, ' ') ? '\t' : ' ');
    struct bytes from = config_file_trimmed(bytes_slice(text, 0, end));
    struct bytes rest = bytes_skip(text, end + 1);
    if (walk->directory == NULL) {
        look(walk, from, line, errors);
        return;
    }
    if (config_file_trimmed(rest).len == 0) {
        config_error(errors, line, "\"%.*s\" is no alias: FROM: TO, TO ...", shown(text),
                     (const char *)text.data);
        return;
    }
    do {
        size_t comma = end_of(rest, ',');
        add(walk, from, config_file_trimmed(bytes_slice(rest, 0, comma)), line, errors);
        rest = bytes_skip(rest, comma + 1);
    } while (config_file_trimmed(rest).len > 0);
}

static void walk_section(struct walk *walk, cfg_t *section, struct config_errors *errors)
{
    struct bytes from = bytes_of_string(cfg_title(section));
    unsigned count = cfg_size(section, "to");
    if (walk->directory == NULL) {
        look(walk, from, section->line, errors);
        return;
    }
    if (count == 0)
        config_error(errors, section->line, "alias \"%s\" has no to", cfg_title(section));
    for (unsigned i = 0; i < count; i++) {
        const struct config_value *to = config_value_at(section, "to", i);
        add(walk, from, bytes_of_string(to->text), to->line, errors);
    }
}

static void walk_all(struct walk *walk, cfg_t *root, const char *folder,
                     struct config_errors *errors)
{
    for (unsigned i = 0; i < cfg_size(root, "alias"); i++)
        walk_section(walk, cfg_getnsec(root, "alias", i), errors);
    for (unsigned i = 0; i < cfg_size(root, "aliases") && !walk->told; i++) {
        const struct config_value *value = config_value_at(root, "aliases", i);
        if (value->text[0] == '@')
            config_file_lines(value, "aliases", folder, read_line, walk, errors);
        else if (walk->directory != NULL)
            config_error(errors, value->line, "aliases: \"%s\" is no file: write \"@FILE\"",
                         value->text);
    }
}

/* tell_place tells a mistake of the alias that `way` ("a@x -> b@y") begins with, where it was made.
 */
static void tell_place(const char *mistake, const char *way, cfg_t *root, const char *folder,
                       struct config_errors *errors)
{
    const char *first_end = strstr(way, " -> ");
    struct walk looking = {
        .wanted = bytes_make(way, first_end != NULL ? (size_t)(first_end - way) : strlen(way)),
        .mistake = mistake,
        .way = way,
    };
    walk_all(&looking, root, folder, errors);
    if (!looking.told)
        config_error(errors, 0, "%s: %s", mistake, way);
}

void config_aliases_fill(struct directory *directory, cfg_t *root, const char *folder,
                         struct config_errors *errors)
{
    char way[WAY_MAX];
    struct walk filling = {.directory = directory};
    if (cfg_size(root, "alias") + cfg_size(root, "aliases") == 0)
        return;
    walk_all(&filling, root, folder, errors);
    if (directory_alias_loop(directory, way, sizeof(way)))
        tell_place("aliases lead in a circle", way, root, folder, errors);
    else if (directory_alias_missing(directory, way, sizeof(way)))
        tell_place("an alias leads to nobody", way, root, folder, errors);
    else if (directory_alias_copy(directory, way, sizeof(way)))
        tell_place("an alias keeps a copy in a domain that has no deliver", way, root, folder,
                   errors);
}
