/* SPDX-License-Identifier: MIT */
#pragma once

#include <json-c/json.h>

#include "api-error.h"

/* Files and images in a request (responses-api §3.1): taken out of the JSON as soon as they are seen, so that neither
 * the stored input items nor a second copy in memory have them. */

#define REQUEST_FILES_MAX 10U
#define REQUEST_FILE_SIZE_MAX MIB(8)

typedef struct RequestFile {
        char *name, *type;
        bool image;
        int fd;                 /* the content, in memory */
} RequestFile;

typedef struct RequestFiles {
        RequestFile files[REQUEST_FILES_MAX];
        size_t n, n_images;
} RequestFiles;

void request_files_done(RequestFiles *f);

/* Takes the content out of an input_file or input_image part; param names the part. keep false: it is not for the
 * agent (any more). An image at an address becomes a line of text; others are what their content says, and may have a
 * filename as files do. -EBADMSG with *reterr, -ENOMEM and errors of the system. */
int request_files_take(RequestFiles *f, json_object *part, const char *type, const char *param, bool keep,
                       StrBuf *text, ApiError *reterr);
