/* What every command shares: the daemon it talks to, opened on first use, and how it ends. A
 * command gives the program's exit status: 0, 1 for an error (told in one line on stderr), 2 for
 * wrong words, or what the command inside the workspace exited with. */
#pragma once

#include "cli/http.h"
#include "cli/options.h"

#include <cjson/cJSON.h>

struct cli {
    bool json; /* results as the daemon's JSON, problems as objects */
    struct http *http;
};

struct command {
    const char *noun, *verb; /* verb NULL: the noun is the command */
    const char *summary;
    int (*run)(struct cli *cli, int argc, char **argv); /* the words after noun and verb */
};

extern const struct command run_commands[], workspace_commands[], exec_commands[], file_commands[],
    tree_commands[], shell_commands[], disk_commands[], env_commands[], tenant_commands[],
    doctor_commands[], events_commands[], mcp_commands[], sync_commands[], change_commands[],
    service_commands[], network_commands[], vm_commands[]; /* each ended by a NULL noun */

#define EXIT_PROBLEM 1

/* Tells a failure: "hearth: detail (hint)", or with --json the problem object. Gives 1. */
int cli_fail(const struct cli *cli, const struct hearth_failure *failure,
             const struct buf *problem);

/* Finds the daemon, or starts one; cli->http is there after. */
int cli_open(struct cli *cli, struct hearth_failure *failure);

/* A failure of ours as the problem object that the daemon would have sent; the caller deletes it.
 */
cJSON *cli_problem(const struct hearth_failure *failure);

/* One request; 0, or 1 with the failure told. Where ret_result is not NULL it gets the reply's JSON
 * (the caller deletes it). ret_body keeps the reply's bytes; NULL if they are not wanted. */
int cli_call(struct cli *cli, const struct http_request *request, struct buf *ret_body,
             cJSON **ret_result);

/* A request whose body is `body` (deleted here; NULL: none) and whose reply is a JSON object. */
int cli_call_json(struct cli *cli, const char *method, const char *path, cJSON *body,
                  struct buf *ret_body, cJSON **ret_result);

/* A path made of parts, each percent-encoded: cli_path(&path, "/v1/workspaces/", id, "/exec", NULL)
 * with literal and encoded parts by turns. False where memory ran out. */
bool cli_path(struct buf *path, const char *literal, ...) __attribute__((sentinel));
/* "?name=value", "&name=value"; nothing where value is NULL. */
bool cli_query(struct buf *path, const char *name, const char *value);
/* The same; nothing where number is negative. */
bool cli_query_number(struct buf *path, const char *name, long number);
int cli_out_of_memory(const struct cli *cli);

/* The path as it is told to others, who have another directory: absolute, without links. The path
 * itself where it names nothing, or by no text. Owned by the caller. */
char *cli_absolute(const char *path);

/* Add a member; nothing where value is NULL or negative. */
void cli_add_text(cJSON *object, const char *name, const char *value);
void cli_add_number(cJSON *object, const char *name, long value);
/* Adds {"k": "v", …} from "k=v" texts as member name. False where one has no "=" (told). */
bool cli_add_pairs(cJSON *object, const char *name, const struct text_list *pairs,
                   const struct usage *usage);
/* Several words as one shell line, quoted where they need it; one word is a shell line as it is. */
char *cli_shell_line(const struct words *words);

static inline void cleanup_json(cJSON **json)
{
    cJSON_Delete(*json);
}
#define auto_json __attribute__((cleanup(cleanup_json)))
