/* What a value looks like where it was encoded. redact.c's own. */
#pragma once

#include <stddef.h>

/* Gets each form of a value, some more than once. */
typedef void (*redact_form_visit)(void *arg, const char *form, size_t length);

/* Room that the longest form of a value of this length needs. */
size_t redact_form_room(size_t length);
/* scratch has that room. */
void redact_forms(const unsigned char *value, size_t length, char *scratch, redact_form_visit visit,
                  void *arg);
