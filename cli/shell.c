/* hearth workspace shell …: terminals in a workspace. */

#include "cli/plain.h"
#include "cli/secret.h"
#include "cli/shell_attach.h"

static const struct plain shell_open = {
    .line = "workspace shell open WORKSPACE_ID [OPTIONS]",
    .summary = "Opens an interactive shell on a terminal of its own.",
    .tool = "shell_open",
    .words = {"workspace_id"},
    .options = {{"cwd", OPTION_TEXT, "cwd", "DIR", "begin there (/workspace)"},
                {"cols", OPTION_INTEGER, "cols", "N", "columns of the terminal (120)"},
                {"rows", OPTION_INTEGER, "rows", "N", "rows of the terminal (30)"},
                {"term", OPTION_TEXT, "term", "NAME", "kind of the terminal (xterm-256color)"},
                {"secret-env", OPTION_LIST, "secret_env", "NAME[=VAR]",
                 "set a variable to a secret's value; may be given again",
                 .add = cli_add_secret_env}},
    .text = "shell_id",
    .line_of_text = true,
    .told = (const char *const[]){"workspace_id", "shell_id", "state", NULL},
};
PLAIN_COMMAND(shell_open)

static const struct plain shell_list = {
    .line = "workspace shell list WORKSPACE_ID [OPTIONS]",
    .summary = "Lists its shells, those that have ended too.",
    .options = {{"limit", OPTION_INTEGER, "limit", "N", "at most so many (100)"},
                {"cursor", OPTION_TEXT, "cursor", "CURSOR", "go on from a page's next_cursor"}},
    .tool = "shell_list",
    .words = {"workspace_id"},
    .list = "shells",
    .columns = (const struct column[]){{"ID", "shell_id"},
                                       {"STATE", "state"},
                                       {"EXIT", "exit_code"},
                                       {"CWD", "cwd"},
                                       {"STARTED", "started_at"},
                                       {NULL, NULL}},
    .told = (const char *const[]){"count", "next_cursor", NULL},
};
PLAIN_COMMAND(shell_list)

static const struct plain shell_read = {
    .line = "workspace shell read WORKSPACE_ID SHELL_ID [OPTIONS]",
    .summary = "Prints what a shell wrote; nothing is consumed.",
    .tool = "shell_read",
    .words = {"workspace_id", "shell_id"},
    .options = {{"cursor", OPTION_INTEGER, "cursor", "N", "from this character on (0)"},
                {"max-chars", OPTION_INTEGER, "max_chars", "N", "at most so many (65536)"},
                {"plain", OPTION_FLAG, "plain", NULL, "as a person would see it"},
                {"wait-for-idle-ms", OPTION_INTEGER, "wait_for_idle_ms", "N",
                 "once nothing was written or typed for so long"}},
    .text = "output",
    .told = (const char *const[]){"state", "cursor", "next_cursor", "lost_characters", NULL},
};
PLAIN_COMMAND(shell_read)

static const struct plain shell_write = {
    .line = "workspace shell write WORKSPACE_ID SHELL_ID TEXT [OPTIONS]",
    .summary = "Types a line into a shell.",
    .tool = "shell_write",
    .words = {"workspace_id", "shell_id", "input"},
    .options = {{"no-newline", OPTION_FLAG, "append_newline", NULL,
                 "the text alone, without Enter after it", .negative = true}},
    .told = (const char *const[]){"shell_id", "state", "input_length", NULL},
};
PLAIN_COMMAND(shell_write)

static const struct plain shell_signal = {
    .line = "workspace shell signal WORKSPACE_ID SHELL_ID [OPTIONS]",
    .summary = "Sends a signal to what runs in a shell's foreground.",
    .tool = "shell_signal",
    .words = {"workspace_id", "shell_id"},
    .options = {{"signal", OPTION_TEXT, "signal_name", "NAME",
                 "HUP, INT, QUIT, TERM or KILL (INT)"}},
    .told = (const char *const[]){"shell_id", "state", "signal", NULL},
};
PLAIN_COMMAND(shell_signal)

static const struct plain shell_close = {
    .line = "workspace shell close WORKSPACE_ID SHELL_ID",
    .summary = "Ends a shell and all that runs in it.",
    .tool = "shell_close",
    .words = {"workspace_id", "shell_id"},
    .told = (const char *const[]){"shell_id", "closed", "exit_code", NULL},
};
PLAIN_COMMAND(shell_close)

const struct command shell_commands[] = {
    {"workspace shell", "open", "open a terminal in it", run_shell_open},
    {"workspace shell", "list", "list its shells", run_shell_list},
    {"workspace shell", "read", "print what one wrote", run_shell_read},
    {"workspace shell", "write", "type into one", run_shell_write},
    {"workspace shell", "signal", "signal what runs in one", run_shell_signal},
    {"workspace shell", "attach", "make this terminal one", shell_attach},
    {"workspace shell", "record", "print one as an asciicast", shell_record},
    {"workspace shell", "close", "end one", run_shell_close},
    {0},
};
