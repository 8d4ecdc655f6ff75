/* hearth workspace patch apply, workspace file search|mkdir|move|delete: files changed and found.
 */

#include "cli/plain.h"

static const struct plain patch_apply = {
    .line = "workspace patch apply WORKSPACE_ID",
    .summary = "Applies the patch on standard input, whole or not at all.",
    .tool = "workspace_patch_apply",
    .words = {"workspace_id"},
    .input = "patch",
    .list = "entries",
    .columns = (const struct column[]){{"STATUS", "status"}, {"PATH", "path"}, {NULL, NULL}},
    .told = (const char *const[]){"changed", "summary", NULL},
};
PLAIN_COMMAND(patch_apply)

static const struct plain search = {
    .line = "workspace file search WORKSPACE_ID PATTERN [OPTIONS]",
    .summary = "Finds lines in a workspace's text files; .git is passed over.",
    .tool = "workspace_file_search",
    .words = {"workspace_id", "pattern"},
    .options = {{"path", OPTION_TEXT, "path", "PATH", "only below this (/workspace)"},
                {"regex", OPTION_FLAG, "regex", NULL, "the pattern is a regular expression"},
                {"ignore-case", OPTION_FLAG, "ignore_case", NULL, "capitals and small are alike"},
                {"include", OPTION_LIST, "include", "GLOB", "only such files"},
                {"exclude", OPTION_LIST, "exclude", "GLOB", "not such files and directories"},
                {"limit", OPTION_INTEGER, "limit", "N", "at most so many lines (100)"}},
    .list = "matches",
    .columns = (const struct column[]){{"PATH", "path"},
                                       {"LINE", "line"},
                                       {"COLUMN", "column"},
                                       {"TEXT", "text"},
                                       {NULL, NULL}},
    .told = (const char *const[]){"count", "truncated", "files_searched", NULL},
};
PLAIN_COMMAND(search)

static const struct plain make_directory = {
    .line = "workspace file mkdir WORKSPACE_ID PATH",
    .summary = "Makes a directory, with those above it that are missing.",
    .tool = "workspace_file_mkdir",
    .words = {"workspace_id", "path"},
    .told = (const char *const[]){"path", NULL},
};
PLAIN_COMMAND(make_directory)

static const struct plain move = {
    .line = "workspace file move WORKSPACE_ID PATH TO [OPTIONS]",
    .summary = "Moves or renames a file or directory.",
    .tool = "workspace_file_move",
    .words = {"workspace_id", "path", "to"},
    .options = {{"replace", OPTION_FLAG, "replace", NULL, "replace what is there"}},
    .told = (const char *const[]){"path", "artifact_type", NULL},
};
PLAIN_COMMAND(move)

static const struct plain delete = {
    .line = "workspace file delete WORKSPACE_ID PATH [OPTIONS]",
    .summary = "Deletes a file, a symlink or a directory.",
    .tool = "workspace_file_delete",
    .words = {"workspace_id", "path"},
    .options = {{"recursive", OPTION_FLAG, "recursive", NULL, "a directory with all in it"}},
    .told = (const char *const[]){"path", "deleted", NULL},
};
PLAIN_COMMAND(delete)

const struct command change_commands[] = {
    {"workspace patch", "apply", "apply a patch from standard input", run_patch_apply},
    {"workspace file", "search", "find lines in files", run_search},
    {"workspace file", "mkdir", "make a directory", run_make_directory},
    {"workspace file", "move", "move or rename a file", run_move},
    {"workspace file", "delete", "delete a file", run_delete},
    {0}};
