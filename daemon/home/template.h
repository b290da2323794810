/* SPDX-License-Identifier: MIT */
#pragma once

#include "macro.h"

/* Texts for models that differ by what an agent can do (primer.md, skills/). Line by line:
 *
 *   @if NAME, @if !NAME … @else … @end     the lines between them, when there is such a fact, or is none
 *   @if NAME: TEXT                         a single line
 *   @name@                                 a fact's value
 *
 * Of empty lines in a row one stays. */
typedef struct TemplateFact {
        const char *name;               /* [a-z_]+ */
        const char *value;              /* NULL: there is none */
} TemplateFact;

/* facts ends with a NULL name; unknown names count as facts that there are not. -EINVAL: the text is no template, or
 * needs a value that is not there. */
int template_render(const char *text, const TemplateFact *facts, char **ret);
