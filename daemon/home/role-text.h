/* SPDX-License-Identifier: MIT */
#pragma once

#include "macro.h"

/* What the generated files of a role agent say (agent-proxy §4.1), built in or from the user's templates. */

typedef enum RoleFile {
        ROLE_FILE_SOUL,
        ROLE_FILE_AGENTS,
        ROLE_FILE_MEMORY,
} RoleFile;

typedef struct RoleText {
        const char *id, *role, *name;   /* name NULL for a bare role */
        const char *workspace, *base_url;
        const char *templates;          /* directory with <role>/SOUL.md and <role>/AGENTS.md; NULL: none */
} RoleText;

/* Codex reads no more than 32 KiB, together with what projects have of their own. */
#define ROLE_TEXT_MAX KIB(8)

/* -EFBIG, -EINVAL for a template that is no UTF-8. */
int role_text_render(const RoleText *t, RoleFile file, char **ret);
