/* SPDX-License-Identifier: MIT */
#pragma once

#include <json-c/json.h>
#include <sys/types.h>

#include "model.h"

/* Images in the body of a request. In the JSON there is a marker in the place of each: what is sent is read from the
 * files and made into base64 as the connection takes it, so that no image is ever in memory as a whole. Inside this
 * room only. */

#define IMAGE_MARKER_SIZE 35U           /* 32 hex digits that nobody can know before, "-", two digits */
#define IMAGE_CHUNK_SIZE KIB(3)         /* of a file; a multiple of three */

/* Said instead of an image that a model or server does not take. */
#define IMAGE_DROPPED_TEXT "[an image was attached here, but this model or its server did not take it]"

typedef struct ModelImages {
        char *secret;                   /* the hex digits of the markers */
        struct {
                int fd;                 /* our own */
                uint64_t size;
                size_t position;        /* of the marker in the text */
        } files[MODEL_IMAGES_MAX];
        size_t n;

        /* What is being sent. */
        const char *text;               /* borrowed */
        size_t size, offset;
        size_t next;                    /* the image whose marker comes next */
        uint64_t read;                  /* so much of it has been read */
        char chunk[IMAGE_CHUNK_SIZE / 3 * 4];
        size_t chunk_size, chunk_offset;
} ModelImages;

/* *ret: prefix and the marker. Called in the order in which the images are in the body. -EINVAL: too many. */
int model_image_place(ModelImages *l, const ModelImage *image, const char *prefix, json_object **ret);
/* A body that has all the markers in it; borrowed until it is sent. *ret_size: what it comes to with the images. */
int model_images_begin(ModelImages *l, const char *text, size_t size, size_t *ret_size);
void model_images_rewind(ModelImages *l);
/* The next bytes, 0 at the end. -EIO: a file has become shorter. */
ssize_t model_images_read(ModelImages *l, char *buffer, size_t size);
void model_images_done(ModelImages *l);
