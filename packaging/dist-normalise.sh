#!/bin/sh
# Run by `meson dist` on the tree it packs: every time is the commit's and modes do not depend on
# the umask, so that the same commit gives the same bytes.
set -eu
epoch=$(git -C "$MESON_SOURCE_ROOT" log -1 --format=%ct)
chmod -R u=rwX,go=rX "$MESON_DIST_ROOT"
find "$MESON_DIST_ROOT" -depth -exec touch --no-dereference --date="@$epoch" {} +
