/* SPDX-License-Identifier: MIT */
#pragma once

#include "macro.h"

/* runtime.json of the agent's directory (agent-home §5.6): what the existing tools read. */
typedef struct RuntimeFile {
        const char *status, *error, *health;
        uint64_t started_at, msg_count, last_event_at;  /* unix seconds, count, unix seconds */
} RuntimeFile;

/* Replaces the file. A text that is NULL is null there. Negative errno. */
int runtime_file_write(const char *path, const RuntimeFile *f);
