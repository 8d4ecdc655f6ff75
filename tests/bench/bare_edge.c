/* The HTTP edge with nothing above it: what routing, operations and storage add is the rest of
 * hearthd's figure. GET / is anonymous, GET /token wants one (supervisor_double.h), and GET /later
 * is answered after a turn of the loop. bare_edge [PORT] prints its URL and serves until its input
 * ends. */
#include "../unit/supervisor_double.h"
#include "api/http.h"
#include "base/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct loop *loop;

static int on_head(void *arg, struct http_request *request, struct http_plan *ret_plan,
                   struct hearth_failure *failure)
{
    *ret_plan = (struct http_plan){.anonymous = !strcmp(http_request_path(request), "/")};
    return 0;
}

static void answer(void *arg)
{
    struct buf body = {0};
    buf_text(&body, "{\"ok\":true}");
    http_reply(arg, 200, "application/json", &body);
}

static void on_request(void *arg, struct http_request *request)
{
    if (!strcmp(http_request_path(request), "/later"))
        loop_post(loop, answer, request);
    else
        answer(request);
}

static void on_gone(void *arg, struct http_request *request)
{
    abort(); /* answer would use it: a client of this must stay */
}

static void on_input(void *arg)
{
    char data[64];
    if (read(STDIN_FILENO, data, sizeof data) <= 0)
        loop_stop(loop);
}

int main(int argc, char **argv)
{
    static const struct http_handler handler = {on_head, on_request, .on_gone = on_gone};
    struct hearth_failure failure;
    char listen[64];
    snprintf(listen, sizeof listen, "127.0.0.1:%s", argc > 1 ? argv[1] : "0");
    if (loop_new(&loop, &failure) < 0)
        return 1;
    struct http_config config = {.supervisor = supervisor_double(loop), .listen = listen};
    struct http_server *server;
    struct watch input;
    if (http_server_new(&server, &config, &handler, NULL, &failure) < 0) {
        fprintf(stderr, "%s\n", failure.detail);
        return 1;
    }
    if (watch_init(&input, loop, STDIN_FILENO, on_input, NULL) < 0)
        return 1;
    puts(http_server_url(server));
    fflush(stdout);
    loop_run(loop);
    watch_free(&input);
    http_server_free(server);
    loop_free(loop);
    return 0;
}
