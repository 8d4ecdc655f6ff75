/* IDs: a prefix (`ws_`, `vm_`, `sh_`, `ex_`, `sn_`, `up_`), the node tag (two characters) and 14
 * more of lowercase base32 (RFC 4648 alphabet) from the system's random source: 70 bits nobody can
 * guess. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ID_SIZE 24 /* "ws_" + 16 + NUL, with room */
#define ID_NODE_TAG_LENGTH 2

/* Fills out (ID_SIZE bytes) with a new ID. prefix is "ws", "ex", …; node_tag two base32 characters.
 * Aborts the process if the kernel's random source fails: there is no safe way on. */
void id_make(char out[ID_SIZE], const char *prefix, const char *node_tag);

/* Does text have the form of an ID with this prefix? What does not is a 404 and never a path. */
bool id_valid(const char *text, const char *prefix);
bool id_node_tag_valid(const char *text);

/* Fills out with length lowercase base32 characters and a NUL. */
void id_random_text(char *out, size_t length);
void id_random_bytes(void *out, size_t length);
