/* SPDX-License-Identifier: MIT */

#include <fcntl.h>
#include <stdio.h>

#include "model-driver.h"

int model_image_place(ModelImages *l, const ModelImage *image, const char *prefix, json_object **ret) {
        _cleanup_free_ char *text = NULL;
        int fd;

        if (l->n >= MODEL_IMAGES_MAX)
                return -EINVAL;
        if (!l->secret) {
                l->secret = random_hex(16);
                if (!l->secret)
                        return -ENOMEM;
        }
        text = asprintf_new("%s%s-%02zu", prefix, l->secret, l->n);
        *ret = text ? json_object_new_string(text) : NULL;
        if (!*ret)
                return -ENOMEM;
        fd = fcntl(image->fd, F_DUPFD_CLOEXEC, 3);
        if (fd < 0) {
                int r = -errno;

                json_object_put(*ret);
                return r;
        }
        l->files[l->n].fd = fd;
        l->files[l->n++].size = image->size;
        return 0;
}

void model_images_rewind(ModelImages *l) {
        l->offset = l->next = l->chunk_size = l->chunk_offset = 0;
        l->read = 0;
}

int model_images_begin(ModelImages *l, const char *text, size_t size, size_t *ret_size) {
        uint64_t total = size - l->n * IMAGE_MARKER_SIZE;
        size_t from = 0;

        for (size_t i = 0; i < l->n; i++) {
                char marker[IMAGE_MARKER_SIZE + 1];
                const char *p;

                (void) snprintf(marker, sizeof(marker), "%s-%02zu", l->secret, i);
                p = memmem(text + from, size - from, marker, IMAGE_MARKER_SIZE);
                if (!p)
                        return -EBADMSG;
                l->files[i].position = (size_t) (p - text);
                from = l->files[i].position + IMAGE_MARKER_SIZE;
                total += (l->files[i].size + 2) / 3 * 4;
        }
        l->text = text;
        l->size = size;
        model_images_rewind(l);
        *ret_size = total;
        return 0;
}

static size_t base64(const unsigned char *from, size_t n, char *to) {
        static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        size_t k = 0;

        for (size_t i = 0; i < n; i += 3) {
                uint32_t v = (uint32_t) from[i] << 16 | (i + 1 < n ? (uint32_t) from[i + 1] << 8 : 0) |
                             (i + 2 < n ? from[i + 2] : 0);

                to[k++] = digits[v >> 18];
                to[k++] = digits[v >> 12 & 63];
                to[k++] = i + 1 < n ? digits[v >> 6 & 63] : '=';
                to[k++] = i + 2 < n ? digits[v & 63] : '=';
        }
        return k;
}

/* The next piece of the image that it is the turn of. */
static int chunk_fill(ModelImages *l) {
        unsigned char data[IMAGE_CHUNK_SIZE];
        size_t wanted = (size_t) MIN((uint64_t) sizeof(data), l->files[l->next].size - l->read), n = 0;

        while (n < wanted) {
                ssize_t k = pread(l->files[l->next].fd, data + n, wanted - n, (off_t) (l->read + n));

                if (k < 0 && errno == EINTR)
                        continue;
                if (k <= 0)
                        return k < 0 ? -errno : -EIO;
                n += (size_t) k;
        }
        l->read += n;
        l->chunk_size = base64(data, n, l->chunk);
        l->chunk_offset = 0;
        return 0;
}

static size_t copy(char *to, size_t room, const char *from, size_t *offset, size_t end) {
        size_t n = MIN(room, end - *offset);

        memcpy(to, from + *offset, n);
        *offset += n;
        return n;
}

ssize_t model_images_read(ModelImages *l, char *buffer, size_t size) {
        size_t done = 0;
        int r;

        while (done < size) {
                size_t end = l->next < l->n ? l->files[l->next].position : l->size;

                if (l->chunk_offset < l->chunk_size)
                        done += copy(buffer + done, size - done, l->chunk, &l->chunk_offset, l->chunk_size);
                else if (l->offset < end)
                        done += copy(buffer + done, size - done, l->text, &l->offset, end);
                else if (l->next == l->n)
                        break;
                else if (l->read < l->files[l->next].size) {
                        r = chunk_fill(l);
                        if (r < 0)
                                return r;
                } else {
                        l->offset += IMAGE_MARKER_SIZE;
                        l->next++;
                        l->read = 0;
                }
        }
        return (ssize_t) done;
}

void model_images_done(ModelImages *l) {
        for (size_t i = 0; i < l->n; i++)
                safe_close(l->files[i].fd);
        free(l->secret);
        *l = (ModelImages) {};
}

bool model_error_is_images_refused(long status, ModelErrorKind kind, const char *message) {
        static const char *const signs[] = { "image", "vision", "multimodal", "multi-modal", "modalit" };

        if (status < 400 || kind == MODEL_ERROR_AUTH || kind == MODEL_ERROR_BILLING || kind == MODEL_ERROR_RATE_LIMIT)
                return false;
        /* They come in other words, too ("content must be a string"), and 413 is what proxies have to say of much. */
        if (kind == MODEL_ERROR_INVALID_REQUEST || status == 413)
                return true;
        for (size_t i = 0; message && i < ELEMENTSOF(signs); i++)
                if (strcasestr(message, signs[i]))
                        return true;
        return false;
}
