/* SPDX-License-Identifier: MIT */
#pragma once

#include "macro.h"

/* So much of the beginning of a file is looked at. */
#define IMAGE_HEAD_SIZE 16U

/* What a file is by its first bytes, whatever its name or sender says: image/png, image/jpeg, image/gif or image/webp,
 * the ones that every model provider knows. NULL: none of them. Static. */
const char* image_type_of(const void *head, size_t size);
