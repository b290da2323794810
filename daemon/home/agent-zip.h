/* SPDX-License-Identifier: MIT */
#pragma once

#include <archive.h>
#include <archive_entry.h>
#include <locale.h>

#include "macro.h"

/* What export and import have in common. */

DEFINE_VOID_CLEANUP_FUNC(struct archive_entry*, archive_entry_free);
static inline void archive_write_freep(struct archive **a) {
        if (*a)
                (void) archive_write_free(*a);
}
static inline void archive_read_freep(struct archive **a) {
        if (*a)
                (void) archive_read_free(*a);
}

/* libarchive converts names from and to the locale's character set, and a daemon's is "C": ASCII only. */
typedef struct ZipLocale {
        locale_t utf8, before;
} ZipLocale;

static inline ZipLocale zip_locale_set(void) {
        ZipLocale l = { .utf8 = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t) 0) };

        if (l.utf8)
                l.before = uselocale(l.utf8);
        return l;
}

static inline void zip_locale_restore(ZipLocale *l) {
        if (!l->utf8)
                return;
        (void) uselocale(l->before);
        freelocale(l->utf8);
}

/* Where the parts of an agent are in the archive, below its id: as in an agent dir whose paths are all defaults, or
 * as a role agent's in system mode. */
typedef struct ExportLayout {
        const char *profile, *memory, *workspace;
} ExportLayout;

static inline ExportLayout export_layout(bool role) {
        return role ? (ExportLayout) { "workspace/SOUL.md", "workspace/memory", "workspace" } :
                      (ExportLayout) { "profile.md", "memory", "workspace" };
}
