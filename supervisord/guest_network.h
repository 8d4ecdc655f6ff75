/* What guests with outbound network may reach, and what they were denied: STATE_DIR/network has a
 * policy and a log for each, which hearth-net holds open (net/policy.h, net/log.h). Both are small
 * files that nobody need wait for: the rows are what is durable, and a start writes every policy
 * anew. Loop thread. */
#pragma once

#include "supervisord/net/log.h"
#include "supervisord/tenant.h"

struct sandbox;
struct workspace;

#define TENANT_ENTRIES_MAX 128
/* tenant::network: "open\n" or "listed\n", then entries, a line each. HEARTH_EINVALID
 * `bad_network_entry`, field /allow/N. The caller frees ret_text. */
int guest_network_text(char **ret_text, bool listed, const char *const *entries, size_t count,
                       struct hearth_failure *failure);

/* Start-up, once all guests are known: removes the files of others, writes the policies. */
void guest_network_recover(struct supervisor *supervisor);
/* Before a guest with a network starts. HEARTH_EUNSUPPORTED `network_unavailable`. */
int guest_network_write(const struct sandbox *sandbox, struct hearth_failure *failure);
/* The tenant's setting is another: so are its guests' policies. */
void guest_network_changed(struct tenant *tenant);
/* The guest is gone for good. */
void guest_network_forget(struct sandbox *sandbox);

/* The workspace's log, since its guest was made; empty where it has no network. The caller gives
 * the room. */
void guest_network_log(const struct workspace *workspace, struct net_log *ret_log,
                       size_t *ret_count);
/* Denials since the start, of guests that are there also before it. */
uint64_t guest_network_denied(struct supervisor *supervisor);
