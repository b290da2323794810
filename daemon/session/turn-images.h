/* SPDX-License-Identifier: MIT */
#pragma once

#include "model.h"
#include "turn-files.h"

/* The images among the files of a turn, for a model that is called directly. A call carries those of the turn and, as
 * far as there is room, those of the turns before it, newest first: a question about a picture is seldom the last one,
 * and providers remember nothing. What a model is not shown it is told about. */

/* What may still come into a call. */
typedef struct ImageRoom {
        const ModelImageLimits *limits; /* NULL: none at all, and nothing is said of it */
        size_t n;
        uint64_t size;
} ImageRoom;
ImageRoom image_room(const ModelImageLimits *limits);

typedef struct TurnImages {
        ModelImage *images;             /* owned, as their descriptors */
        size_t n;
        const char *remarks[TURN_FILES_MAX];    /* on each file of the list, for turn_files_list(); NULL: nothing */
} TurnImages;

/* Opens those of a stored list (TurnRow.files) that there is room for, in the inbox of this workspace: the paths of a
 * list may be those of an agent that this one is a copy of. again: they have been in a call before. What cannot be
 * shown is no error. -EUCLEAN: no list; -ENOMEM. */
int turn_images_open(const char *list, const char *workspace, bool again, ImageRoom *room, TurnImages *ret);
void turn_images_free(ModelImage *images, size_t n);
