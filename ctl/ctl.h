/* SPDX-License-Identifier: MIT */
#pragma once

#include <systemd/sd-bus.h>

#include "ctl-option.h"
#include "ctl-table.h"
#include "json-util.h"
#include "scope.h"

/* One run of puffoctl or agent-proxy: how it was called, and its connection once it has one. */

#define EXIT_USAGE 2
#define EXIT_NOT_RUNNING 3

typedef struct Verb Verb;
typedef struct Ctl Ctl;

typedef struct Program {
        const char *name;
        const char *purpose;            /* first line of the help */
        const Option *options;          /* in front of and behind every verb */
        const Verb *verbs;              /* ends with {} */
} Program;

/* Returns an exit status and has said on stderr what went wrong. */
typedef int (*VerbHandler)(Ctl *c, const Arguments *a);

struct Verb {
        const char *section;            /* heading in the help; NULL: as the one before */
        const char *name;               /* one word, or two ("agent list") */
        const char *operands;           /* for the usage line */
        const char *help;               /* one line */
        size_t min_operands, max_operands;
        size_t text_after;              /* operands after which everything is text; 0: never */
        const Option *options;
        VerbHandler run;
};

struct Ctl {
        const Program *program;
        const Verb *verb;
        Scope scope;
        const char *host, *machine;     /* borrowed from argv */
        bool json, no_pager, no_legend, quiet;
        sd_bus *bus;                    /* connected by the first call */
        pid_t pager, polkit_agent;
};

/* The whole life of a program. Exit status. */
int ctl_run(const Program *program, int argc, char *argv[]);

/* "PROGRAM: <text>" on stderr, made safe for the terminal. Return EXIT_FAILURE and EXIT_USAGE. */
int ctl_fail(const Ctl *c, const char *format, ...) _printf_(2, 3);
int ctl_refuse(const Ctl *c, const char *format, ...) _printf_(2, 3);
int ctl_oom(const Ctl *c);
/* Same with EXIT_FAILURE, and what the bus (or, without an error there, errno r) says, and what to do about it. */
int ctl_fail_bus(const Ctl *c, int r, const sd_bus_error *e, const char *format, ...) _printf_(4, 5);

/* A line on stdout that is for people only: not with --json or --quiet. */
void ctl_say(const Ctl *c, const char *format, ...) _printf_(2, 3);
/* Prints a JSON value as one line, or indented for a terminal. EXIT_SUCCESS or failure, reported. */
int ctl_print_json(const Ctl *c, json_object *o);
/* A table in the style that fits stdout and the options. Same result. */
int ctl_print_table(const Ctl *c, const Table *t);
/* The result of a verb that acts: with --json an object {"agent": id, and further string members, NULL-terminated},
 * else the text (NULL: nothing). */
int ctl_print_done(const Ctl *c, const char *agent, const char *text);

/* From here on stdout goes through a pager, when it is a terminal and nobody said no. */
void ctl_open_pager(Ctl *c);
