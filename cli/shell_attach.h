/* The two commands about shells that are no one tool's call. */
#pragma once

#include "cli/command.h"

int shell_attach(struct cli *cli, int argc, char **argv);
int shell_record(struct cli *cli, int argc, char **argv);
