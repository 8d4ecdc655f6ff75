/* The status of a hearth-archive that found a symlink that leads out of the root it was given. */
#pragma once

#define ARCHIVE_LEADS_OUT 3
