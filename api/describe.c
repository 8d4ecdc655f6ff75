/* The table for people and for golden files. */
#include "api/call_internal.h"

#include <stdio.h>
#include <string.h>

static const char *type_name(enum field_type type)
{
    static const char *const names[] = {"string",  "integer",         "number",
                                        "boolean", "list of strings", "map",
                                        "object",  "list of objects", "any"};
    return names[type];
}

static void print_flags(FILE *out, unsigned flags)
{
    static const struct {
        unsigned flag;
        const char *name;
    } names[] = {
        {OPERATION_READ_ONLY, "read-only"},
        {OPERATION_DESTRUCTIVE, "destructive"},
        {OPERATION_IDEMPOTENT, "idempotent"},
        {OPERATION_LONG, "long"},
        {OPERATION_STREAMS, "streams"},
        {OPERATION_RAW_BODY, "raw body"},
        {OPERATION_ACTIVITY, "counts as activity"},
        {OPERATION_ADMIN, "admin"},
        {OPERATION_OPEN_WORLD, "open world"},
        {OPERATION_RELAY, "answered by the guest"},
        {OPERATION_UPGRADE, "upgrades the connection"},
    };
    const char *comma = "";
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (flags & names[i].flag) {
            fprintf(out, "%s%s", comma, names[i].name);
            comma = ", ";
        }
}

static void print_text(FILE *out, const struct operation_entry *entry)
{
    fprintf(out, "%s  %s %s  %s  [", entry->name, entry->method, entry->path,
            optable_profile_name(entry->profile));
    print_flags(out, entry->flags);
    fprintf(out, "]\n");
    for (const struct field *field = entry->input; field->name; field++)
        fprintf(out, "  > %s: %s%s%s%s\n", field->name, type_name(field->type),
                field->flags & FIELD_REQUIRED ? ", needed" : "", field->default_json ? " = " : "",
                field->default_json ? field->default_json : "");
    for (const struct field *field = entry->output; field->name; field++)
        fprintf(out, "  < %s: %s%s%s\n", field->name, type_name(field->type),
                field->flags & FIELD_NULLABLE ? " or null" : "",
                field->flags & FIELD_SOMETIMES ? ", sometimes" : "");
}

static void print_markdown_fields(FILE *out, const struct field *fields, const char *title,
                                  bool output)
{
    if (!fields->name)
        return;
    fprintf(out, "\n| %s | type | %s | |\n| --- | --- | --- | --- |\n", title,
            output ? "null" : "default");
    for (const struct field *field = fields; field->name; field++) {
        const char *third = output ? field->flags & FIELD_NULLABLE ? "may be" : ""
                            : field->flags & FIELD_REQUIRED ? "needed"
                            : field->default_json           ? field->default_json
                                                            : "";
        fprintf(out, "| `%s` | %s | %s%s%s | %s |\n", field->name, type_name(field->type),
                !output && field->default_json ? "`" : "", third,
                !output && field->default_json ? "`" : "", field->description);
    }
}

static void print_markdown(FILE *out, const struct operation_entry *entry)
{
    fprintf(out, "\n## %s\n\n`%s %s`: %s\n\n", entry->name,
            entry->flags & OPERATION_RELAY ? "ANY" : entry->method, entry->path, entry->summary);
    if (entry->profile != PROFILE_NONE)
        fprintf(out, "Tool from profile `%s` on. ", optable_profile_name(entry->profile));
    fputs("Answers ", out);
    fprintf(out, "%d", entry->status);
    if (entry->flags) {
        fputs("; ", out);
        print_flags(out, entry->flags);
    }
    fputs(".\n", out);
    print_markdown_fields(out, entry->input, "argument", false);
    print_markdown_fields(out, entry->output, "result", true);
    if (entry->errors) {
        fputs("\nIts own problems:", out);
        for (const char *const *code = entry->errors; *code; code++)
            fprintf(out, "%s `%s`", code == entry->errors ? "" : ",", *code);
        fputs(".\n", out);
    }
}

int optable_describe(FILE *out, const char *format)
{
    size_t count;
    const struct operation_entry *const *table = optable(&count);
    bool markdown = strcmp(format, "markdown") == 0;
    if (strcmp(format, "json") == 0) {
        auto_buf struct buf text = {0};
        if (openapi_write(&text))
            return -1;
        fprintf(out, "%s\n", text.data);
        return 0;
    }
    if (!markdown && strcmp(format, "text") != 0)
        return -1;
    if (markdown)
        fputs("# API\n\nPrinted from the operation table by `hearthd --describe=markdown`; do not "
              "edit. What is common to\n"
              "all operations (tokens, problems, pages, idempotency) is in "
              "[api-guide.md](api-guide.md).\n",
              out);
    for (size_t i = 0; i < count; i++)
        (markdown ? print_markdown : print_text)(out, table[i]);
    return 0;
}
