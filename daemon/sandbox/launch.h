/* SPDX-License-Identifier: MIT */
#pragma once

#include "macro.h"

/* What a coding CLI is started with, as the session writes it in front of the CLI's own input: eight lower-case hex
 * digits with the size of a JSON object, a newline, the object. */
#define LAUNCH_HEAD_SIZE 9U
#define LAUNCH_SIZE_MAX MIB(1)

typedef struct Launch {
        char **argv;            /* the first one is an absolute path */
        char **environment;     /* "NAME=value"; the whole of it, nothing is inherited */
        char *cwd;              /* absolute */
        char *model_socket, *proxy_socket;      /* absolute; NULL: not relayed */
        size_t port_argument;   /* of argv, "NAME=value" as well; 0: none */
} Launch;

/* Everything in it is wiped: there are tokens among the values. */
Launch* launch_free(Launch *l);
DEFINE_TRIVIAL_CLEANUP_FUNC(Launch*, launch_free);

/* All of these: -EBADMSG with *reterr_reason saying what is wrong, as one line; -ENOMEM. */

/* The head, LAUNCH_HEAD_SIZE bytes, to the size of the object. */
int launch_parse_head(const char *head, size_t *ret_size, char **reterr_reason);
int launch_parse(const char *text, size_t size, Launch **ret, char **reterr_reason);
/* Reads not one byte more than the launch: what follows is the CLI's. Other errors are those of read(2). */
int launch_read(int fd, Launch **ret, char **reterr_reason);

/* Puts the ports into the values of the environment and of that argument, in the place of {model_port} and
 * {proxy_port}. A port of 0: there is none, and whoever names it is refused. */
int launch_set_ports(Launch *l, uint16_t model_port, uint16_t proxy_port, char **reterr_reason);
