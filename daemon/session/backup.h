/* SPDX-License-Identifier: MIT */
#pragma once

#include <systemd/sd-event.h>

#include "database.h"

/* A consistent copy of a live database, made and written out in small steps from the event loop. */
typedef struct Backup Backup;

/* destination (a file, pipe or socket) is taken over in any case. done is called once from the loop, unless the
 * backup is freed before; it may free it. */
int backup_new(Backup **ret, sd_event *event, Database *db, int destination,
               void (*done)(Backup *b, int error, void *userdata), void *userdata);
Backup* backup_free(Backup *b);
DEFINE_TRIVIAL_CLEANUP_FUNC(Backup*, backup_free);

/* Removes what a killed process left of one. */
void backup_clean(const char *database_path);
