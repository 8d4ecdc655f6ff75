/* Members as messages for the agent (TreeItem of agent.proto), each behind its length in four
 * bytes, big-endian. One thread. */
#pragma once

#include "supervisord/archive/reader.h"

#include <stdio.h>

struct frames {
    FILE *out; /* borrowed until frames_close, which closes it */
    unsigned char *message;
};
/* For struct reader_visitor, with the frames as arg. */
bool frames_member(void *frames, const struct member_header *member);
bool frames_data(void *frames, const void *data, size_t length);
/* 0 or -ENOMEM. */
int frames_open(struct frames *frames, FILE *out);
/* False where something could not be written. */
bool frames_close(struct frames *frames);
