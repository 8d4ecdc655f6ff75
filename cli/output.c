#include "cli/output.h"

#include "base/buf.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define COLUMNS_MAX 8
#define DEPTH_MAX 4

const cJSON *json_member(const cJSON *object, const char *name)
{
    return cJSON_GetObjectItemCaseSensitive(object, name);
}

const char *json_text(const cJSON *object, const char *name, const char *otherwise)
{
    const cJSON *member = json_member(object, name);
    return cJSON_IsString(member) ? member->valuestring : otherwise;
}

double json_number(const cJSON *object, const char *name, double otherwise)
{
    const cJSON *member = json_member(object, name);
    return cJSON_IsNumber(member) ? member->valuedouble : otherwise;
}

void output_json(const char *text)
{
    puts(text);
}

/* Appends text with control characters (C0, DEL, and C1 as UTF-8) left out, but for those in kept:
 * they could move the cursor or rename the window. */
static void append_safe(struct buf *out, const char *text, const char *kept)
{
    for (const char *at = text; *at; at++) {
        unsigned char byte = (unsigned char)*at;
        if (byte == 0xc2 && (unsigned char)at[1] >= 0x80 && (unsigned char)at[1] < 0xa0)
            at++;
        else if ((byte >= 0x20 && byte != 0x7f) || strchr(kept, byte))
            buf_char(out, *at);
    }
}

void output_text(const char *text)
{
    auto_buf struct buf safe = {0};
    append_safe(&safe, text, "\n\t");
    fputs(safe.length ? safe.data : "", stdout);
}

void output_words(FILE *out, const char *text, size_t length)
{
    auto_buf struct buf words = {0}, safe = {0};
    if (buf_append(&words, text, length))
        return;
    append_safe(&safe, words.data, "");
    fputs(safe.length ? safe.data : "", out);
}

static bool is_time(const char *name)
{
    size_t length = strlen(name);
    return length > 3 && !strcmp(name + length - 3, "_at");
}

static void append_time(struct buf *out, double seconds)
{
    time_t whole = (time_t)seconds;
    struct tm parts;
    char text[32];
    if (gmtime_r(&whole, &parts) && strftime(text, sizeof text, "%Y-%m-%d %H:%M:%SZ", &parts))
        buf_text(out, text);
}

/* A value as a person wants it. */
static void append_value(struct buf *out, const char *name, const cJSON *value)
{
    if (!value || cJSON_IsNull(value)) {
        buf_text(out, "-");
    } else if (cJSON_IsString(value)) {
        append_safe(out, value->valuestring, "");
    } else if (cJSON_IsBool(value)) {
        buf_text(out, cJSON_IsTrue(value) ? "yes" : "no");
    } else if (cJSON_IsNumber(value) && is_time(name)) {
        append_time(out, value->valuedouble);
    } else if (cJSON_IsNumber(value)) {
        buf_printf(out, value->valuedouble == floor(value->valuedouble) ? "%.0f" : "%g",
                   value->valuedouble);
    } else {
        char *text = cJSON_PrintUnformatted(value);
        if (text)
            append_safe(out, text, "");
        cJSON_free(text);
    }
}

static const char *text_of(const struct buf *buf)
{
    return buf->data ? buf->data : "";
}

/* "name=value" of each member that says something, in one line. */
static void append_pairs(struct buf *out, const cJSON *object, const char *between)
{
    const cJSON *member;
    cJSON_ArrayForEach(member, object)
    {
        if (cJSON_IsNull(member))
            continue;
        buf_printf(out, "%s%s=", out->length ? between : "", member->string);
        append_value(out, member->string, member);
    }
}

static void print_list(const char *name, const cJSON *list, int depth)
{
    bool rows = cJSON_IsObject(list->child);
    const cJSON *each;
    printf("%*s%s:", depth * 2, "", name);
    cJSON_ArrayForEach(each, list)
    {
        auto_buf struct buf line = {0};
        if (rows)
            append_pairs(&line, each, "  ");
        else
            append_value(&line, name, each);
        if (rows)
            printf("\n%*s- %s", depth * 2 + 2, "", text_of(&line));
        else
            printf("%s %s", each == list->child ? "" : ",", text_of(&line));
    }
    putchar('\n');
}

static void print_fields(const cJSON *object, int depth)
{
    const cJSON *member;
    cJSON_ArrayForEach(member, object)
    {
        bool nested = cJSON_IsObject(member) || cJSON_IsArray(member);
        auto_buf struct buf value = {0};
        if (nested && !member->child) {
            printf("%*s%s: -\n", depth * 2, "", member->string);
        } else if (cJSON_IsArray(member)) {
            print_list(member->string, member, depth);
        } else if (nested && depth < DEPTH_MAX) {
            printf("%*s%s:\n", depth * 2, "", member->string);
            print_fields(member, depth + 1);
        } else {
            append_value(&value, member->string, member);
            printf("%*s%s: %s\n", depth * 2, "", member->string, text_of(&value));
        }
    }
}

void output_fields(const cJSON *object)
{
    print_fields(object, 0);
}

void output_table(const cJSON *array, const struct column *columns)
{
    size_t widths[COLUMNS_MAX] = {0}, count = 0;
    for (; count < COLUMNS_MAX && columns[count].title; count++)
        widths[count] = strlen(columns[count].title);
    const cJSON *row;
    cJSON_ArrayForEach(row, array)
    {
        for (size_t i = 0; i < count; i++) {
            auto_buf struct buf value = {0};
            append_value(&value, columns[i].member, json_member(row, columns[i].member));
            if (value.length > widths[i])
                widths[i] = value.length;
        }
    }

    for (size_t i = 0; i < count; i++)
        printf("%-*s%s", i + 1 < count ? (int)widths[i] : 0, columns[i].title,
               i + 1 < count ? "  " : "\n");
    cJSON_ArrayForEach(row, array)
    {
        for (size_t i = 0; i < count; i++) {
            auto_buf struct buf value = {0};
            append_value(&value, columns[i].member, json_member(row, columns[i].member));
            printf("%-*s%s", i + 1 < count ? (int)widths[i] : 0, text_of(&value),
                   i + 1 < count ? "  " : "\n");
        }
    }
}

void output_summary(const char *verb, const cJSON *object, const char *const *names)
{
    auto_buf struct buf line = {0};
    for (size_t i = 0; names[i]; i++) {
        const cJSON *value = json_member(object, names[i]);
        if (!value || cJSON_IsNull(value))
            continue;
        if (cJSON_IsObject(value)) { /* its members stand for themselves */
            append_pairs(&line, value, " ");
            continue;
        }
        buf_printf(&line, "%s%s=", line.length ? " " : "", names[i]);
        append_value(&line, names[i], value);
    }
    fprintf(stderr, "[%s]%s%s\n", verb, line.length ? " " : "", text_of(&line));
}

void output_count(const char *verb, const cJSON *array)
{
    fprintf(stderr, "[%s] count=%d\n", verb, cJSON_GetArraySize(array));
}
