/* SPDX-License-Identifier: MIT */
#pragma once

#include <json-c/json.h>
#include <systemd/sd-bus.h>

#include "turn-store.h"

/* Files that come with a turn that was submitted: they are put into <workspace>/.puffo/inbox/<turn's id>/, where the
 * agent finds them by path. Names and types are the caller's word; names are made harmless as those of messages are
 * (message-pipeline §6.3). What is stored of them (TurnRow.files) is a JSON list:
 *     [{"name": in the inbox, "path": absolute, "type": media type, "size": bytes, "image": bool}, …]
 * and "" stands for none. */

#define INBOX_DIRECTORY ".puffo/inbox"
#define TURN_FILES_MAX 10U
#define TURN_FILE_SIZE_MAX MIB(8)

typedef struct TurnFile {
        const char *name, *type;        /* borrowed from the message, as the descriptor */
        bool image;
        int fd;
} TurnFile;

typedef struct TurnFiles {
        TurnFile files[TURN_FILES_MAX];
        size_t n;
} TurnFiles;

/* The value of "Files" in Submit, a(sssh) in a variant. */
int turn_files_read(sd_bus_message *m, TurnFiles *ret, sd_bus_error *reterr_error);
/* Writes them all; again, with the same result, when they are there already. -EFBIG: one is too large; -EXDEV and
 * other errors of writing. */
int turn_files_save(const TurnFiles *files, const char *workspace, const char *turn, char **ret_list);
/* Takes those away that no turn in the database needs (any more), as turn-store.h has them noted: of turns that are
 * forgotten, or did not come to be. How many turns' are left over: what cannot be removed is tried again next time. */
int turn_files_sweep(Database *db, const char *workspace);

/* A stored list; NULL for "". -EUCLEAN, -ENOMEM. */
int turn_files_parse(const char *list, json_object **ret);
/* What the agent is told of a stored list, NULL for "". remarks: on each of the files; it or they may be NULL. */
int turn_files_list(const char *list, const char *const remarks[], char **ret);
/* as: the names. */
int turn_files_append_names(sd_bus_message *m, const char *list);
