#include "supervisord/file_change.h"
#include "api/operations/families.h"
#include "api/operations/file_read.h"
#include "api/operations/views.h"

struct changing {
    struct call *call;
    const char *path, *execution_mode;
    bool removal;
};

static const struct field changed_output[] = {
    {.name = "path", .type = FIELD_STRING, .description = "Path in the guest, as it is now."},
    {.name = "artifact_type", .type = FIELD_STRING, .description = "What it is."},
    {.name = "execution_mode",
     .type = FIELD_STRING,
     .flags = FIELD_NULLABLE,
     .description = "How it was done."},
    {0},
};
static const struct field deleted_output[] = {
    {.name = "path", .type = FIELD_STRING, .description = "Path in the guest that is gone."},
    {.name = "deleted", .type = FIELD_BOOLEAN, .description = "It is gone."},
    {.name = "execution_mode",
     .type = FIELD_STRING,
     .flags = FIELD_NULLABLE,
     .description = "How it was done."},
    {0},
};

static void changed(void *arg, int error, const struct hearth_failure *failure, const char *path,
                    enum file_type type)
{
    struct changing *changing = arg;
    struct buf body = {0};
    struct json_writer json = JSON_WRITER(&body);
    char removed[FILES_ABSOLUTE_SIZE];
    if (error) {
        call_fail(changing->call, failure);
        return;
    }
    files_absolute(changing->path, removed);
    json_object_begin(&json, NULL);
    json_string(&json, "path", changing->removal ? removed : path);
    if (changing->removal)
        json_boolean(&json, "deleted", true);
    else
        json_string(&json, "artifact_type", file_type_name(type));
    json_string(&json, "execution_mode", changing->execution_mode);
    json_object_end(&json);
    reply_with(changing->call, &body, &json);
}

static struct changing *begin(struct call *call, const char *workspace_id, const char *path,
                              struct workspace **ret_workspace, struct file_asker *ret_asker)
{
    struct workspace *workspace = workspace_or_fail(call, workspace_id);
    struct changing *changing = workspace ? call_allocate_or_fail(call, sizeof *changing) : NULL;
    if (!changing)
        return NULL;
    *changing = (struct changing){
        .call = call, .path = path, .execution_mode = execution_mode_of(workspace)};
    *ret_workspace = workspace;
    *ret_asker = (struct file_asker){call_principal(call), call_request_id(call)};
    return changing;
}

#define PATH_FIELD(input_struct, text)                                                             \
    {                                                                                              \
        .name = "path", .type = FIELD_STRING, .flags = FIELD_REQUIRED, .maximum = 4095,            \
        .description = text, .offset = offsetof(struct input_struct, path)                         \
    }

struct mkdir_input {
    const char *workspace_id, *path;
    bool parents;
};
static const struct field mkdir_input[] = {
    WORKSPACE_ID_FIELD(mkdir_input),
    PATH_FIELD(mkdir_input, "Directory to make; relative paths are under /workspace."),
    {.name = "parents",
     .type = FIELD_BOOLEAN,
     .default_json = "true",
     .description = "Make directories above it that are missing; one that is there is no error.",
     .offset = offsetof(struct mkdir_input, parents)},
    {0},
};

static void make_directory(struct call *call, const void *arg)
{
    const struct mkdir_input *input = arg;
    struct workspace *workspace;
    struct file_asker asker;
    struct changing *changing = begin(call, input->workspace_id, input->path, &workspace, &asker);
    if (changing)
        file_make_directory(workspace, &asker, input->path, input->parents, 0, changed, changing);
}

struct move_input {
    const char *workspace_id, *path, *to;
    bool replace, create_parents;
};
static const struct field move_input[] = {
    WORKSPACE_ID_FIELD(move_input),
    PATH_FIELD(move_input, "File or directory to move; relative paths are under /workspace."),
    {.name = "to",
     .type = FIELD_STRING,
     .flags = FIELD_REQUIRED,
     .maximum = 4095,
     .description = "Its new path, not the directory to put it in.",
     .offset = offsetof(struct move_input, to)},
    {.name = "replace",
     .type = FIELD_BOOLEAN,
     .default_json = "false",
     .description = "Replace a file that is there.",
     .offset = offsetof(struct move_input, replace)},
    {.name = "create_parents",
     .type = FIELD_BOOLEAN,
     .default_json = "true",
     .description = "Make directories that are missing.",
     .offset = offsetof(struct move_input, create_parents)},
    {0},
};

static void move(struct call *call, const void *arg)
{
    const struct move_input *input = arg;
    struct workspace *workspace;
    struct file_asker asker;
    struct changing *changing = begin(call, input->workspace_id, input->path, &workspace, &asker);
    if (changing)
        file_move(workspace, &asker, input->path, input->to, input->replace, input->create_parents,
                  changed, changing);
}

struct delete_input {
    const char *workspace_id, *path;
    bool recursive;
};
static const struct field delete_input[] = {
    WORKSPACE_ID_FIELD(delete_input),
    {.name = "path",
     .type = FIELD_STRING,
     .place = PLACE_QUERY,
     .flags = FIELD_REQUIRED,
     .maximum = 4095,
     .description = "File, symlink or directory to delete; relative paths are under /workspace.",
     .offset = offsetof(struct delete_input, path)},
    {.name = "recursive",
     .type = FIELD_BOOLEAN,
     .place = PLACE_QUERY,
     .default_json = "false",
     .description = "A directory with all that is in it.",
     .offset = offsetof(struct delete_input, recursive)},
    {0},
};

static void delete_(struct call *call, const void *arg)
{
    const struct delete_input *input = arg;
    struct workspace *workspace;
    struct file_asker asker;
    struct changing *changing = begin(call, input->workspace_id, input->path, &workspace, &asker);
    if (!changing)
        return;
    changing->removal = true;
    file_remove(workspace, &asker, input->path, input->recursive, changed, changing);
}

/* search */

struct search_input {
    const char *workspace_id, *path, *pattern;
    bool regex, ignore_case;
    struct string_list include, exclude;
    int64_t limit;
};
static const struct field search_input[] = {
    WORKSPACE_ID_FIELD(search_input),
    {.name = "pattern",
     .type = FIELD_STRING,
     .flags = FIELD_REQUIRED,
     .minimum = 1,
     .maximum = 4096,
     .description = "Text to find in a line, or a regular expression with regex.",
     .offset = offsetof(struct search_input, pattern)},
    {.name = "path",
     .type = FIELD_STRING,
     .maximum = 4095,
     .default_json = "\"/workspace\"",
     .description = "Directory or file to search; relative paths are under /workspace.",
     .offset = offsetof(struct search_input, path)},
    {.name = "regex",
     .type = FIELD_BOOLEAN,
     .default_json = "false",
     .description = "pattern is a regular expression (PCRE2), held against one line at a time.",
     .offset = offsetof(struct search_input, regex)},
    {.name = "ignore_case",
     .type = FIELD_BOOLEAN,
     .default_json = "false",
     .description = "Capitals and small letters are alike.",
     .offset = offsetof(struct search_input, ignore_case)},
    {.name = "include",
     .type = FIELD_STRING_LIST,
     .maximum = 64,
     .description = "Only files that one of these globs fits, such as *.py or src/**/*.c.",
     .offset = offsetof(struct search_input, include)},
    {.name = "exclude",
     .type = FIELD_STRING_LIST,
     .maximum = 64,
     .description = "No files or directories that one of these globs fits; else .git alone.",
     .offset = offsetof(struct search_input, exclude)},
    {.name = "limit",
     .type = FIELD_INTEGER,
     .minimum = 1,
     .maximum = 1000,
     .default_json = "100",
     .description = "Matching lines to give at most.",
     .offset = offsetof(struct search_input, limit)},
    {0},
};
static const struct field match_fields[] = {
    {.name = "path", .type = FIELD_STRING, .description = "File in the guest."},
    {.name = "line", .type = FIELD_INTEGER, .description = "Line, from 1."},
    {.name = "column", .type = FIELD_INTEGER, .description = "Byte in the line, from 1."},
    {.name = "text",
     .type = FIELD_STRING,
     .description = "The line, or the part around the match."},
    {.name = "text_column",
     .type = FIELD_INTEGER,
     .description = "Byte of the line that text begins with, from 1."},
    {0},
};
static const struct field search_output[] = {
    {.name = "count", .type = FIELD_INTEGER, .description = "Matching lines given."},
    {.name = "matches",
     .type = FIELD_OBJECT_LIST,
     .description = "In the order of paths and lines.",
     .fields = match_fields},
    {.name = "truncated", .type = FIELD_BOOLEAN, .description = "There may be more matches."},
    {.name = "files_searched", .type = FIELD_INTEGER, .description = "Files that were read."},
    {.name = "files_binary", .type = FIELD_INTEGER, .description = "Passed over: not text."},
    {.name = "files_large", .type = FIELD_INTEGER, .description = "Passed over: over 16 MiB."},
    {.name = "files_unreadable", .type = FIELD_INTEGER, .description = "Could not be read."},
    {.name = "lines_too_costly",
     .type = FIELD_INTEGER,
     .description = "Lines on which the expression took too long and was given up."},
    {.name = "timed_out", .type = FIELD_BOOLEAN, .description = "The search ended at its time."},
    {.name = "execution_mode",
     .type = FIELD_STRING,
     .flags = FIELD_NULLABLE,
     .description = "How it was done."},
    {0},
};

static void searched(void *arg, int error, const struct hearth_failure *failure,
                     const struct file_search_result *result)
{
    struct changing *searching = arg;
    struct buf body = {0};
    struct json_writer json = JSON_WRITER(&body);
    if (error) {
        call_fail(searching->call, failure);
        return;
    }
    json_object_begin(&json, NULL);
    json_unsigned(&json, "count", result->count);
    json_array_begin(&json, "matches");
    for (size_t i = 0; i < result->count; i++) {
        const struct file_match *match = &result->matches[i];
        json_object_begin(&json, NULL);
        json_string(&json, "path", match->path);
        json_unsigned(&json, "line", match->line);
        json_unsigned(&json, "column", match->column);
        json_bytes(&json, "text", match->text ? match->text : "", match->length);
        json_unsigned(&json, "text_column", match->text_column);
        json_object_end(&json);
    }
    json_array_end(&json);
    json_boolean(&json, "truncated", result->more || result->timed_out);
    json_unsigned(&json, "files_searched", result->files_searched);
    json_unsigned(&json, "files_binary", result->files_binary);
    json_unsigned(&json, "files_large", result->files_large);
    json_unsigned(&json, "files_unreadable", result->files_unreadable);
    json_unsigned(&json, "lines_too_costly", result->lines_too_costly);
    json_boolean(&json, "timed_out", result->timed_out);
    json_string(&json, "execution_mode", searching->execution_mode);
    json_object_end(&json);
    reply_with(searching->call, &body, &json);
}

static void search(struct call *call, const void *arg)
{
    static const char *const git[] = {".git"};
    const struct search_input *input = arg;
    struct workspace *workspace;
    struct file_asker asker;
    struct changing *searching = begin(call, input->workspace_id, input->path, &workspace, &asker);
    if (!searching)
        return;
    const struct file_search_spec spec = {
        .path = input->path,
        .pattern = input->pattern,
        .regex = input->regex,
        .ignore_case = input->ignore_case,
        .include = input->include.items,
        .include_count = input->include.count,
        .exclude = input->exclude.count ? input->exclude.items : git,
        .exclude_count = input->exclude.count ? input->exclude.count : 1,
        .limit = (unsigned)input->limit,
    };
    file_search(workspace, &spec, searched, searching);
}

static const char *const change_errors[] = {"workspace_not_found", "path_outside_workspace",
                                            "file_not_found",      "already_exists",
                                            "wrong_file_type",     "bad_path",
                                            "guest_full",          NULL};
static const char *const search_errors[] = {"workspace_not_found", "path_outside_workspace",
                                            "file_not_found",      "wrong_file_type",
                                            "bad_pattern",         NULL};

const struct operation_entry file_change_operations[] = {
    {
        .name = "workspace_file_search",
        .family = "file",
        .title = "Search in files",
        .summary = "Finds lines in the files of a workspace.",
        .description =
            "Searches the text files of a workspace for a text or regular expression and gives "
            "file, line, column and the line. Binary files and .git are passed over. Does not "
            "count as activity.",
        .method = "POST",
        .path = "/v1/workspaces/{workspace_id}/files/search",
        .profile = PROFILE_FULL,
        .surfaces = SURFACE_REST | SURFACE_TOOL,
        .flags = OPERATION_WAKES | OPERATION_READ_ONLY | OPERATION_IDEMPOTENT,
        .status = 200,
        .input = search_input,
        .input_size = sizeof(struct search_input),
        .output = search_output,
        .errors = search_errors,
        .handler = search,
    },
    {
        .name = "workspace_file_mkdir",
        .family = "file",
        .title = "Make a directory",
        .summary = "Makes a directory in the workspace.",
        .description = "Makes a directory in a workspace, with those above it that are missing. "
                       "workspace_file_write makes its directories by itself.",
        .method = "POST",
        .path = "/v1/workspaces/{workspace_id}/files/directories",
        .profile = PROFILE_FULL,
        .surfaces = SURFACE_REST | SURFACE_TOOL,
        .flags = OPERATION_WAKES | OPERATION_IDEMPOTENT | OPERATION_ACTIVITY,
        .status = 200,
        .input = mkdir_input,
        .input_size = sizeof(struct mkdir_input),
        .output = changed_output,
        .errors = change_errors,
        .handler = make_directory,
    },
    {
        .name = "workspace_file_move",
        .family = "file",
        .title = "Move a file",
        .summary = "Moves or renames a file or directory of the workspace.",
        .description = "Moves or renames a file, symlink or directory of a workspace in one step. "
                       "Nothing is replaced unless replace says so.",
        .method = "POST",
        .path = "/v1/workspaces/{workspace_id}/files/move",
        .profile = PROFILE_FULL,
        .surfaces = SURFACE_REST | SURFACE_TOOL,
        .flags = OPERATION_WAKES | OPERATION_DESTRUCTIVE | OPERATION_ACTIVITY,
        .status = 200,
        .input = move_input,
        .input_size = sizeof(struct move_input),
        .output = changed_output,
        .errors = change_errors,
        .handler = move,
    },
    {
        .name = "workspace_file_delete",
        .family = "file",
        .title = "Delete a file",
        .summary = "Deletes a file or directory of the workspace.",
        .description = "Deletes a file, a symlink (not what it points to) or a directory of a "
                       "workspace; one that is not empty with recursive alone.",
        .method = "DELETE",
        .path = "/v1/workspaces/{workspace_id}/files",
        .profile = PROFILE_FULL,
        .surfaces = SURFACE_REST | SURFACE_TOOL,
        .flags = OPERATION_WAKES | OPERATION_DESTRUCTIVE | OPERATION_ACTIVITY,
        .status = 200,
        .input = delete_input,
        .input_size = sizeof(struct delete_input),
        .output = deleted_output,
        .errors = change_errors,
        .handler = delete_,
    },
    {0},
};
