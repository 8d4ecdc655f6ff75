/* Bytes both ways between a client whose connection is upgraded and a socket to a guest, each
 * direction ended by itself and held up while the other side is slow. Loop thread. */
#pragma once

#include "api/http.h"

struct bufferevent;
struct event_base;

/* Replies 101 with the headers that are set, and goes on until both sides have ended, one is broken
 * or the daemon ends. Takes guest with what it has read already. */
void tunnel_begin(struct event_base *base, struct http_request *request, struct bufferevent *guest);
