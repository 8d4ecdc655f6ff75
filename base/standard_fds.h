/* Standard input, output and error where whoever started the program has closed them. */
#pragma once

/* Puts something in their place, so that no socket or file that is opened later gets their numbers,
 * and what is meant for a terminal goes into it. Reading and writing there fails, as where nothing
 * is. First thing. */
void standard_fds_hold(void);
