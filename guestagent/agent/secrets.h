/* The workspace's secrets in its guest: files in /run/hearth/secrets, values for variables, and
 * their redaction from all that is kept of what commands write. */
#pragma once

#include "agent.pb-c.h"
#include "base/redact.h"

struct agent;
struct secrets;

/* These and no others from now on, as files too where the agent is the first process of its guest.
 * 0, or a negative errno: then there are none. */
int secrets_set(struct agent *agent, Hearth__Agent__V1__Secret *const *secrets, size_t count);
void secrets_free(struct agent *agent);
/* NULL where there is none of the name; secrets may be NULL. */
const char *secrets_value(const struct secrets *secrets, const char *name);
/* Are they all there? Else the call is refused. */
struct link_call;
bool secrets_known_or_refuse(struct agent *agent, struct link_call *call,
                             Hearth__Agent__V1__SecretVariable *const *variables, size_t count);
/* For one stream of output; NULL where there is nothing to redact. */
struct redact_stream *secrets_stream(struct agent *agent);
/* Redacts a short text in place; it may be cut to size. */
void secrets_clean(struct agent *agent, char *text, size_t size);
/* A copy of a part of a text, without secrets that are in it or lie over its borders. NULL without
 * memory. */
char *secrets_clean_part(struct agent *agent, const char *text, size_t text_length, size_t from,
                         size_t length, size_t *ret_length);
