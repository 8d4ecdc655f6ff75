/* hearth events [-f] */

#include "cli/command.h"
#include "cli/lines.h"
#include "cli/output.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

struct events {
    struct cli *cli;
    struct text_list kinds;
    const char *workspace_id;
    long after, limit;
    bool follow;
    bool failed; /* of its output */
    struct hearth_failure failure;
};

/* "2026-11-25T12:00:00.123Z  exec.ended  ws_…  exit_code=0 …" */
static void print_event(const cJSON *event)
{
    char when[32];
    double at = json_number(event, "at", 0);
    time_t seconds = (time_t)at;
    struct tm parts;
    strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%S", gmtime_r(&seconds, &parts));
    printf("%s.%03dZ  %s  %s", when, (int)((at - (double)seconds) * 1000),
           json_text(event, "kind", ""), json_text(event, "workspace_id", "-"));
    const cJSON *fact;
    cJSON_ArrayForEach(fact, json_member(event, "data"))
    {
        auto_free char *text = cJSON_IsString(fact) ? NULL : cJSON_PrintUnformatted(fact);
        printf("  %s=", fact->string);
        output_text(cJSON_IsString(fact) ? fact->valuestring : text ? text : "");
    }
    putchar('\n');
}

static int on_object(void *arg, const cJSON *object, const char *text)
{
    struct events *events = arg;
    if (events->cli->json)
        output_json(text);
    else if (strcmp(json_text(object, "type", "event"), "gap") == 0)
        fprintf(stderr, "hearth: events %.0f to %.0f are lost\n", json_number(object, "first", 0),
                json_number(object, "last", 0));
    else
        print_event(object);
    events->after = (long)json_number(object, "id", json_number(object, "last", 0));
    if (fflush(stdout) != 0)
        return hearth_fail(&events->failure, HEARTH_EIO, "output_closed",
                           "output cannot be written");
    return 0;
}

static bool make_path(const struct events *events, struct buf *path)
{
    bool good =
        cli_path(path, "/v1/events", NULL) && cli_query(path, "workspace_id", events->workspace_id);
    for (size_t i = 0; good && i < events->kinds.count; i++)
        good = cli_query(path, "kind", events->kinds.items[i]);
    return good && cli_query_number(path, "after", events->after) &&
           cli_query_number(path, "limit", events->follow ? -1 : events->limit);
}

/* Goes on where a stream ended: the daemon ends each after a while, or with itself. */
static int follow(struct events *events)
{
    for (;;) {
        auto_buf struct buf path = {0};
        auto_lines struct lines lines = {
            .on_object = on_object, .arg = events, .failure = &events->failure};
        if (!make_path(events, &path))
            return cli_out_of_memory(events->cli);
        const struct http_request request = {.method = "GET",
                                             .path = path.data,
                                             .accept = NDJSON_MEDIA_TYPE,
                                             .write = lines_write,
                                             .write_arg = &lines,
                                             .own_failure = &events->failure};
        int status = cli_call(events->cli, &request, NULL, NULL);
        if (status)
            return status;
    }
}

static int list(struct events *events)
{
    auto_buf struct buf path = {0}, body = {0};
    auto_json cJSON *result = NULL;
    if (!make_path(events, &path))
        return cli_out_of_memory(events->cli);
    int status = cli_call_json(events->cli, "GET", path.data, NULL, &body, &result);
    if (status)
        return status;
    if (events->cli->json) {
        output_json(body.data);
        return 0;
    }
    const cJSON *event;
    cJSON_ArrayForEach(event, json_member(result, "events")) print_event(event);
    static const char *const names[] = {"count", "next_after", NULL};
    output_summary("events", result, names);
    return 0;
}

static int events(struct cli *cli, int argc, char **argv)
{
    struct events events = {.cli = cli, .after = -1, .limit = -1};
    const struct option options[] = {
        {"follow", OPTION_FLAG, &events.follow, "f", "go on as they happen"},
        {"kind", OPTION_LIST, &events.kinds, "KIND",
         "only these: exec.ended, or exec for all of it; may be given again"},
        {"workspace", OPTION_TEXT, &events.workspace_id, "WORKSPACE_ID",
         "only those of this workspace"},
        {"after", OPTION_INTEGER, &events.after, "ID", "only those after this one"},
        {"limit", OPTION_INTEGER, &events.limit, "NUMBER", "at most so many, without --follow"},
        {0},
    };
    const struct usage usage = {.line = "events [-f] [--kind KIND]... [--workspace WORKSPACE_ID]",
                                .summary = "Prints what has happened, oldest first.",
                                .options = options};
    struct words words;
    int status = options_parse(&usage, argc, argv, &cli->json, &words);
    if (status == OPTIONS_PARSED)
        status = events.follow ? follow(&events) : list(&events);
    text_list_free(&events.kinds);
    return status;
}

const struct command events_commands[] = {
    {"events", NULL, "print or follow what happens", events},
    {0},
};
