/* SPDX-License-Identifier: MIT */
#pragma once

#include <systemd/sd-bus.h>

#include "macro.h"

typedef struct Session Session;

/* ai.puffo.Private1.Session on one connection (dbus/ai.puffo.Private1.Session.xml). */
typedef struct SessionBus SessionBus;

/* bus and session are borrowed and must outlive it. */
int session_bus_new(SessionBus **ret, sd_bus *bus, Session *session);
/* Backups that are under way end without a reply. */
SessionBus* session_bus_free(SessionBus *b);
DEFINE_TRIVIAL_CLEANUP_FUNC(SessionBus*, session_bus_free);
