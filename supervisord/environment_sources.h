/* The host's own Debian package sources, so that a build takes its packages from where the host
 * does. Pure but for environment_sources_read. */
#pragma once

#include "base/buf.h"

#include <stdbool.h>

/* Appends to out, a line each in sources.list(5)'s one-line style, those entries of text (a file
 * in that style, or in deb822 style) that are of Debian's archive for this suite, its updates or
 * its security suite. Options, such as keys, are dropped. text is written over. */
int environment_sources_add(struct buf *out, char *text, bool deb822, const char *suite);

/* All of /etc/apt, or of directory. Appends nothing where there is none: whoever builds has a
 * default of its own. */
int environment_sources_read(struct buf *out, const char *directory, const char *suite);
