#include "supervisord/environment_sources.h"

#include "base/path_at.h"
#include "base/text.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define SPACES " \t\r"
#define FILE_MAX ((size_t)64 << 10)
#define WORDS_MAX 16

struct words {
    const char *word[WORDS_MAX];
    size_t count;
};

/* Cuts text into its first words. */
static void split(struct words *words, char *text)
{
    words->count = 0;
    for (char *word; words->count < WORDS_MAX && (word = strsep(&text, SPACES "\n"));)
        if (*word)
            words->word[words->count++] = word;
}

static bool has(const struct words *words, const char *wanted)
{
    for (size_t i = 0; i < words->count; i++)
        if (strcmp(words->word[i], wanted) == 0)
            return true;
    return false;
}

static bool is_debian_uri(const char *uri)
{
    if (!text_starts_with(uri, "http://") && !text_starts_with(uri, "https://"))
        return false;
    size_t length = strlen(uri);
    while (length && uri[length - 1] == '/')
        length--;
    size_t start = length;
    while (start && uri[start - 1] != '/')
        start--;
    const char *last = uri + start;
    length -= start;
    return (length == 6 && memcmp(last, "debian", 6) == 0) ||
           (length == 15 && memcmp(last, "debian-security", 15) == 0);
}

static bool is_suite_of(const char *word, const char *suite)
{
    size_t length = strlen(suite);
    return strncmp(word, suite, length) == 0 &&
           (!word[length] || strcmp(word + length, "-updates") == 0 ||
            strcmp(word + length, "-security") == 0);
}

static int add(struct buf *out, const char *uri, const char *suite)
{
    char line[1024];
    if (snprintf(line, sizeof line, "deb %s %s main\n", uri, suite) >= (int)sizeof line ||
        (out->data && strstr(out->data, line)))
        return 0;
    return buf_text(out, line);
}

/* "deb [option=value …] URI suite component…" */
static int add_line(struct buf *out, char *line, const char *suite)
{
    struct words words;
    line[strcspn(line, "#")] = '\0';
    for (char *open = strchr(line, '['), *close; open && (close = strchr(open, ']'));
         open = strchr(close, '['))
        memset(open, ' ', (size_t)(close - open) + 1);
    split(&words, line);
    if (words.count < 4 || strcmp(words.word[0], "deb") != 0 || !has(&words, "main") ||
        !is_debian_uri(words.word[1]) || !is_suite_of(words.word[2], suite))
        return 0;
    return add(out, words.word[1], words.word[2]);
}

struct stanza {
    struct words types, uris, suites, components;
    bool disabled;
};

static int end_stanza(struct buf *out, struct stanza *stanza, const char *suite)
{
    int error = 0;
    bool wanted =
        has(&stanza->types, "deb") && has(&stanza->components, "main") && !stanza->disabled;
    for (size_t i = 0; wanted && i < stanza->uris.count; i++)
        for (size_t j = 0; !error && j < stanza->suites.count; j++)
            if (is_debian_uri(stanza->uris.word[i]) && is_suite_of(stanza->suites.word[j], suite))
                error = add(out, stanza->uris.word[i], stanza->suites.word[j]);
    *stanza = (struct stanza){0};
    return error;
}

static void take_field(struct stanza *stanza, char *line)
{
    char *value = strchr(line, ':');
    if (*line == '#' || !value)
        return;
    *value++ = '\0';
    if (strcasecmp(line, "Types") == 0)
        split(&stanza->types, value);
    else if (strcasecmp(line, "URIs") == 0)
        split(&stanza->uris, value);
    else if (strcasecmp(line, "Suites") == 0)
        split(&stanza->suites, value);
    else if (strcasecmp(line, "Components") == 0)
        split(&stanza->components, value);
    else if (strcasecmp(line, "Enabled") == 0)
        stanza->disabled = strncasecmp(value + strspn(value, SPACES), "no", 2) == 0;
}

int environment_sources_add(struct buf *out, char *text, bool deb822, const char *suite)
{
    struct stanza stanza = {0};
    int error = 0;
    for (char *line; !error && (line = strsep(&text, "\n"));) {
        if (!deb822)
            error = add_line(out, line, suite);
        else if (line[strspn(line, SPACES)])
            take_field(&stanza, line);
        else
            error = end_stanza(out, &stanza, suite);
    }
    return error || !deb822 ? error : end_stanza(out, &stanza, suite);
}

static int add_file(struct buf *out, int dir_fd, const char *path, const char *suite)
{
    auto_free char *text = malloc(FILE_MAX);
    const char *suffix = strrchr(path, '.');
    bool deb822 = suffix && strcmp(suffix, ".sources") == 0;
    if (!text)
        return -1;
    if ((!deb822 && !(suffix && strcmp(suffix, ".list") == 0)) ||
        path_read_small(dir_fd, path, text, FILE_MAX) < 0)
        return 0;
    return environment_sources_add(out, text, deb822, suite);
}

int environment_sources_read(struct buf *out, const char *directory, const char *suite)
{
    char path[320];
    auto_close int dir_fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct dirent **files = NULL;
    int error = dir_fd < 0 ? 0 : add_file(out, dir_fd, "sources.list", suite);
    int count = dir_fd < 0 ? 0 : scandirat(dir_fd, "sources.list.d", &files, NULL, alphasort);
    for (int i = 0; i < count; i++) {
        snprintf(path, sizeof path, "sources.list.d/%s", files[i]->d_name);
        if (!error)
            error = add_file(out, dir_fd, path, suite);
        free(files[i]);
    }
    free(files);
    return error;
}
