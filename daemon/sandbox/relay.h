/* SPDX-License-Identifier: MIT */
#pragma once

#include <systemd/sd-event.h>

#include "macro.h"

/* A TCP port on 127.0.0.1 whose connections are carried to a Unix socket, each half closed by itself. */
typedef struct Relay Relay;

#define RELAY_CONNECTIONS_MAX 128U

/* The port is the kernel's choice. Errors of bind(2) and listen(2), -ENAMETOOLONG. */
int relay_new(Relay **ret, sd_event *event, const char *socket_path);
Relay* relay_free(Relay *r);
DEFINE_TRIVIAL_CLEANUP_FUNC(Relay*, relay_free);

/* Where it listens. */
uint16_t relay_port(const Relay *r);
/* How many are being carried. */
unsigned relay_n_connections(const Relay *r);
