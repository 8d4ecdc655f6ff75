/* A hearthd of one's own: state, images and socket in the user's directories, started where none
 * runs, ending by itself when it has had nothing to do for ten minutes. */
#pragma once

#include "base/failure.h"

struct private_paths {
    char *state_dir;   /* $XDG_STATE_HOME/hearth */
    char *image_dir;   /* $HEARTHD_IMAGE_DIR, or $XDG_DATA_HOME/hearth/images */
    char *runtime_dir; /* $XDG_RUNTIME_DIR/hearth, or /tmp/hearth-UID */
    char *socket_path; /* runtime_dir/hearthd.sock */
};

/* Names them; nothing is made. */
int private_paths_find(struct private_paths *ret_paths, struct hearth_failure *failure);
void private_paths_free(struct private_paths *paths);

/* Does the runtime directory exist and belong to this user alone? What somebody else put in /tmp is
 * not trusted. */
bool private_paths_trusted(const struct private_paths *paths);

/* Returns when a daemon answers on the socket: the one that was there, the one that another hearth
 * started in the meantime, or our own once it has said that it is ready. */
int private_daemon_ensure(const struct private_paths *paths, struct hearth_failure *failure);
