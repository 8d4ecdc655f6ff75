#include "supervisord/disk_internal.h"

#include "base/text.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool take_number(const char **text, unsigned base, uint64_t most, uint64_t *ret_value)
{
    char *end;
    if (!isdigit((unsigned char)**text))
        return false;
    unsigned long long value = strtoull(*text, &end, (int)base);
    *text = end;
    *ret_value = value;
    return value <= most;
}

static bool take_time(const char **text, int64_t *ret_us)
{
    uint64_t seconds, nanoseconds;
    bool negative = **text == '-';
    *text += negative;
    if (!take_number(text, 10, UINT64_C(1) << 40, &seconds) || *(*text)++ != '.' ||
        !take_number(text, 10, 999999999, &nanoseconds))
        return false;
    *ret_us = (int64_t)seconds * US_PER_S * (negative ? -1 : 1) + (int64_t)nanoseconds / 1000;
    return true;
}

static bool take_space(const char **text)
{
    return *(*text)++ == ' ';
}

/* "TYPE MODE SIZE SECONDS.NANOSECONDS PATH" */
static bool take_record(const char *text, struct file_entry *entry)
{
    static const struct {
        char letter;
        enum file_type type;
    } types[] = {
        {'f', FILE_REGULAR}, {'d', FILE_DIRECTORY}, {'l', FILE_SYMLINK}, {'o', FILE_OTHER}};
    uint64_t mode;
    size_t type = 0;
    while (type < sizeof types / sizeof *types && types[type].letter != *text)
        type++;
    if (type == sizeof types / sizeof *types)
        return false;
    text++;
    if (!take_space(&text) || !take_number(&text, 8, 07777, &mode) || !take_space(&text) ||
        !take_number(&text, 10, INT64_MAX, &entry->size) || !take_space(&text) ||
        !take_time(&text, &entry->mtime_us) || !take_space(&text) || *text != '/')
        return false;
    entry->type = types[type].type;
    entry->mode = (uint32_t)mode;
    entry->path = text;
    return true;
}

bool disk_parse_list(char *output, size_t length, struct file_entry **ret_entries,
                     size_t *ret_count, bool *ret_more)
{
    auto_free struct file_entry *entries = calloc(DISK_ENTRIES_MAX, sizeof *entries);
    size_t count = 0;
    char *end = output + length;
    for (char *at = output; entries && at < end;) {
        char *next = memchr(at, '\0', (size_t)(end - at));
        if (!next)
            return false;
        next++;
        if (strncmp(at, "end ", 4) == 0) {
            if (next != end || (strcmp(at + 4, "0") != 0 && strcmp(at + 4, "1") != 0))
                return false;
            *ret_more = at[4] == '1';
            *ret_count = count;
            *ret_entries = steal_pointer(entries);
            return true;
        }
        char *target = next, *target_end = memchr(target, '\0', (size_t)(end - target));
        if (!target_end || count == DISK_ENTRIES_MAX || !take_record(at, &entries[count]))
            return false;
        entries[count].link_target = entries[count].type == FILE_SYMLINK ? target : NULL;
        count++;
        at = target_end + 1;
    }
    return false;
}

bool disk_parse_size(const char *line, uint64_t *ret_size)
{
    const char *text = line + strlen("good ");
    return text_starts_with(line, "good ") && take_number(&text, 10, INT64_MAX, ret_size) &&
           *text == '\n';
}

bool disk_parse_read(const char *output, size_t length, size_t max_bytes, uint64_t *ret_size,
                     const char **ret_content, size_t *ret_length)
{
    const char *text = output + strlen("good ");
    uint64_t told;
    if (!text_starts_with(output, "good ") || !take_number(&text, 10, INT64_MAX, ret_size) ||
        !take_space(&text) || !take_number(&text, 10, max_bytes, &told) || *text++ != '\n' ||
        told != length - (size_t)(text - output))
        return false;
    *ret_content = text;
    *ret_length = (size_t)told;
    return true;
}

void disk_parse_refusal(const char *output, const char *errors, struct hearth_failure *failure)
{
    static const struct {
        const char *code;
        enum hearth_error error;
    } kinds[] = {
        {"file_not_found", HEARTH_ENOTFOUND},
        {"wrong_file_type", HEARTH_ECONFLICT},
        {"no_space", HEARTH_ENOSPACE},
        {"disk_unreadable", HEARTH_EIO},
    };
    char said[300];
    const char *text = *output ? output : errors;
    snprintf(said, sizeof said, "%.*s", (int)strcspn(text, "\n"), text);
    for (char *at = said; *at; at++)
        if (*at < ' ' || *at > '~')
            *at = '?';
    size_t kind = sizeof kinds / sizeof *kinds - 1;
    char *detail = said;
    if (text_starts_with(said, "refused ") && (detail = strchr(said + 8, ' '))) {
        *detail++ = '\0';
        for (size_t i = 0; i < kind; i++)
            if (strcmp(said + 8, kinds[i].code) == 0)
                kind = i;
    } else {
        detail = said;
    }
    hearth_fail(failure, kinds[kind].error, kinds[kind].code, "%s%s",
                kinds[kind].error == HEARTH_EIO ? "the workspace's disk cannot be read: " : "",
                *detail ? detail : "no reason is known");
    if (kinds[kind].error == HEARTH_ENOTFOUND || kinds[kind].error == HEARTH_ECONFLICT) {
        hearth_failure_field(failure, "/path");
        hearth_failure_hint(failure, "workspace_disk_list tells what is on the disk.");
    }
}
