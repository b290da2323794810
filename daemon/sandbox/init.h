/* SPDX-License-Identifier: MIT */
#pragma once

#include "launch.h"
#include "profile.h"

/* As shells and sysexits(3) say. */
#define EXIT_REFUSED 78
/* What the CLI may only read was replaced while it ran, and with that could be written. */
#define EXIT_REPLACED 79
#define EXIT_NOT_EXECUTABLE 126
#define EXIT_NOT_FOUND 127
#define EXIT_SIGNAL 128

typedef struct InitSpec {
        const Sandbox *sandbox;
        Launch *launch;         /* NULL: there is no CLI, run() is called in its place */
        int (*run)(const Sandbox *s, char *const *missing, void *userdata);
        void *userdata;
        char **missing;         /* what was found before; kept by process 1 */
        int parent_fd;          /* hangs up when the parent is gone */
} InitSpec;

/* Process 1 of the sandbox: makes the rest of it, checks it, starts the CLI and looks after everything in it until the
 * CLI has ended. Returns the exit status; with it everything else in the sandbox ends. */
int init_run(InitSpec *spec);

/* Of waitpid(2) to what a shell would say. */
int exit_status_of(int status);
/* One line on standard error; returns EXIT_REFUSED. */
int refuse(const char *format, ...) _printf_(1, 2);
