/* Work on a workspace's whole tree (snapshot, diff, reset …): one after the other for a workspace,
 * each with the tenant's store and what is known of the tree at hand. The struct is embedded in the
 * work's own. Loop thread. */
#pragma once

#include "base/list.h"
#include "supervisord/tree/agent_tree.h"
#include "supervisord/tree/known.h"

struct supervisor;
struct workspace;
struct sandbox;

struct tree_work {
    struct supervisor *supervisor;
    struct workspace *workspace; /* NULL once it is gone */
    struct sandbox *sandbox;     /* another than the workspace's own: a reset's; else NULL */
    struct list link;            // workspace::tree_works; the first is under way
    bool began;
    const struct tenant_store *store; /* NULL: it could not be opened */
    struct known known;               /* while it is under way */
    bool known_changed;               /* it differs from its file */
    char tenant_id[64], known_name[64];
    struct hearth_failure failure;
    /* Called when its turn has come, the store open and known loaded; or with the failure set. Ends
     * by tree_work_end. */
    void (*start)(struct tree_work *work);
    /* The scan's. */
    const struct tree_list *hints;
    struct buf messages;
    const char **paths;
    size_t path_count;
    size_t *indexes;
    void (*scanned)(struct tree_work *work);
};

/* Queues; start comes later. */
void tree_work_begin(struct tree_work *work, struct workspace *workspace,
                     void (*start)(struct tree_work *work));
/* Hands known back and lets the next one begin. The struct is the caller's to free after. */
void tree_work_end(struct tree_work *work);
/* The workspace is gone: works under way go on without it, and those that wait fail. */
void tree_work_detach_all(struct workspace *workspace);
/* What is known is of another guest now (a reset), or of none. */
void tree_work_forget_known(struct workspace *workspace);

/* Brings work->known up to date; scanned is called after, with work->failure set on error. hints:
 * see scan_parse; borrowed until then. */
void tree_work_scan(struct tree_work *work, const struct tree_list *hints,
                    void (*scanned)(struct tree_work *work));
/* The link to the guest that the work is about; NULL, with work->failure set, where there is none.
 */
struct agentlink *tree_work_link(struct tree_work *work);
/* The file beside the packs that holds what is known of a workspace. */
void tree_known_name(char out[64], const char *workspace_id);
