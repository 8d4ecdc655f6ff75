#include "echo_service.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct echo_call {
    struct echo_service *service;
    char method[16];
    size_t total;
    unsigned long count, size;
};

static int is(const struct echo_call *echo, const char *method)
{
    return strcmp(echo->method, method) == 0;
}

static void repeat(struct link_call *call, struct echo_call *echo)
{
    while (echo->count > 0 && link_call_queued(call) < LINK_SEND_LOW_WATER) {
        void *bytes = malloc(echo->size + 1);
        if (!bytes)
            abort();
        memset(bytes, (int)(echo->count & 0xff), echo->size);
        int error = link_call_send_bytes(call, bytes, echo->size);
        free(bytes);
        if (error) {
            link_call_end(call, LINK_STATUS_INTERNAL, "cannot send");
            return;
        }
        echo->count--;
        echo->service->sent += echo->size;
        if (link_call_queued(call) > echo->service->queued_most)
            echo->service->queued_most = link_call_queued(call);
    }
    if (echo->count == 0)
        link_call_end(call, LINK_STATUS_OK, NULL);
}

static void on_message(struct link_call *call, void *arg, const uint8_t *data, size_t length)
{
    struct echo_call *echo = arg;
    echo->total += length;
    echo->service->received += length;
    if (is(echo, "Unary") || is(echo, "Chat")) {
        if (link_call_send_bytes(call, data, length))
            link_call_end(call, LINK_STATUS_INTERNAL, "cannot send");
        else if (is(echo, "Unary"))
            link_call_end(call, LINK_STATUS_OK, NULL);
    } else if (is(echo, "Drop")) {
        link_call_cancel(call);
    } else if (is(echo, "Repeat")) {
        char text[64];
        snprintf(text, sizeof text, "%.*s", (int)length, (const char *)data);
        if (sscanf(text, "%lu %lu", &echo->count, &echo->size) == 2 &&
            echo->size <= LINK_MESSAGE_MAX)
            repeat(call, echo);
        else
            link_call_end(call, LINK_STATUS_INVALID_ARGUMENT, "not \"COUNT SIZE\"");
    }
}

static void on_writable(struct link_call *call, void *arg)
{
    struct echo_call *echo = arg;
    if (is(echo, "Repeat"))
        repeat(call, echo);
}

static void on_half_closed(struct link_call *call, void *arg)
{
    struct echo_call *echo = arg;
    char text[32];
    echo->service->half_closed++;
    if (is(echo, "Collect")) {
        int length = snprintf(text, sizeof text, "%zu", echo->total);
        if (link_call_send_bytes(call, text, (size_t)length))
            abort();
    }
    if (is(echo, "Collect") || is(echo, "Chat"))
        link_call_end(call, LINK_STATUS_OK, NULL);
}

static void on_end(struct link_call *call, void *arg, enum link_status status, const char *message)
{
    struct echo_call *echo = arg;
    echo->service->ended++;
    echo->service->last_status = status;
    if (status == LINK_STATUS_CANCELLED)
        echo->service->cancelled++;
    free(echo);
}

static const struct link_call_events events = {
    .on_message = on_message,
    .on_writable = on_writable,
    .on_half_closed = on_half_closed,
    .on_end = on_end,
};

void echo_on_call(struct link *link, void *arg, struct link_call *call, const char *path)
{
    static const char *const methods[] = {"Unary", "Chat", "Collect", "Repeat",
                                          "Never", "Drop", "Fail"};
    struct echo_service *service = arg;
    service->started++;
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++) {
        if (strncmp(path, ECHO_PATH, strlen(ECHO_PATH)) != 0 ||
            strcmp(path + strlen(ECHO_PATH), methods[i]) != 0)
            continue;
        struct echo_call *echo = calloc(1, sizeof *echo);
        if (!echo)
            abort();
        echo->service = service;
        service->accepted++;
        snprintf(echo->method, sizeof echo->method, "%s", methods[i]);
        link_call_accept(call, &events, echo);
        if (is(echo, "Fail"))
            link_call_end(call, LINK_STATUS_INVALID_ARGUMENT, ECHO_FAILURE);
        return;
    }
    link_call_end(call, LINK_STATUS_UNIMPLEMENTED, "no such method");
}
