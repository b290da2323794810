/* SPDX-License-Identifier: MIT */
#pragma once

/* What the end of a file's name says of its type; application/octet-stream when it says nothing. Static. */
const char* mime_type_of(const char *filename);
