/* SPDX-License-Identifier: MIT */

#include <fcntl.h>
#include <sodium.h>
#include <strings.h>
#include <sys/mman.h>

#include "image-type.h"
#include "json-util.h"
#include "responses-files.h"
#include "responses-input.h"

#define NAME_SIZE_MAX 1024U
#define TYPE_SIZE_MAX 100U
#define URL_SIZE_MAX KIB(8)

void request_files_done(RequestFiles *f) {
        for (size_t i = 0; i < f->n; i++) {
                free(f->files[i].name);
                free(f->files[i].type);
                safe_close(f->files[i].fd);
        }
        *f = (RequestFiles) {};
}

static int refuse(ApiError *reterr, const char *param, const char *member, const char *why) {
        _cleanup_free_ char *field = strjoin(param, ".", member);

        return api_error_set(reterr, 400, "invalid_value", field ?: param, "Invalid '%s': %s", field ?: param, why);
}

static int refuse_unsupported(ApiError *reterr, const char *param, const char *member, const char *instead) {
        _cleanup_free_ char *field = strjoin(param, ".", member);

        return api_error_set(reterr, 400, "unsupported_value", field ?: param,
                             "Unsupported value: '%s' is not supported here, give %s.", field ?: param, instead);
}

/* data:TYPE;base64,… or nothing but base64. *ret_data is borrowed from text. */
static int data_url_split(const char *text, char **ret_type, const char **ret_data) {
        const char *p, *comma;
        size_t n;

        *ret_type = NULL;
        if (strncasecmp(text, "data:", 5) != 0) {
                *ret_data = text;
                return 0;
        }
        p = text + 5;
        comma = strchr(p, ',');
        if (!comma || comma - p < 7 || strncasecmp(comma - 7, ";base64", 7) != 0)
                return -EBADMSG;
        n = strcspn(p, ";,");
        if (n > TYPE_SIZE_MAX)
                return -EBADMSG;
        *ret_data = comma + 1;
        if (n == 0)
                return 0;
        *ret_type = strndup(p, n);
        if (!*ret_type)
                return -ENOMEM;
        for (char *c = *ret_type; *c; c++)
                if (*c >= 'A' && *c <= 'Z')
                        *c = (char) (*c - 'A' + 'a');
        return 0;
}

static int memory_file(const void *data, size_t size) {
        _cleanup_close_ int fd = memfd_create("puffo-input", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        size_t written = 0;

        if (fd < 0)
                return -errno;
        while (written < size) {
                ssize_t n = write(fd, (const char*) data + written, size - written);

                if (n < 0 && errno != EINTR)
                        return -errno;
                written += n > 0 ? (size_t) n : 0;
        }
        if (fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) < 0)
                return -errno;
        return TAKE_FD(fd);
}

/* -EBADMSG: no base64; -EFBIG. */
static int decode(const char *text, int *ret_fd) {
        _cleanup_free_ unsigned char *data = NULL;
        size_t length = strlen(text), size;
        const char *end;
        int r;

        /* Whoever pads less than he should is understood, too, and who ends with a line feed as base64(1) does. */
        while (length > 0 && strchr("= \t\r\n", text[length - 1]))
                length--;
        if (length / 4 * 3 > REQUEST_FILE_SIZE_MAX + KIB(512))
                return -EFBIG;
        data = malloc(length / 4 * 3 + 4);
        if (!data)
                return -ENOMEM;
        if (sodium_base642bin(data, length / 4 * 3 + 4, text, length, " \t\r\n", &size, &end,
                              sodium_base64_VARIANT_ORIGINAL_NO_PADDING) < 0 || end != text + length)
                return -EBADMSG;
        if (size > REQUEST_FILE_SIZE_MAX)
                return -EFBIG;
        r = memory_file(data, size);
        if (r < 0)
                return r;
        *ret_fd = r;
        return 0;
}

/* To the last place, where it does not count yet. */
static int content_take(RequestFiles *f, const char *data, const char *param, const char *member, ApiError *reterr) {
        int r;

        if (f->n >= REQUEST_FILES_MAX)
                return refuse(reterr, param, member, "at most 10 files and images in one request.");
        r = decode(data, &f->files[f->n].fd);
        if (r == -EFBIG)
                return refuse(reterr, param, member, "larger than 8 MiB.");
        return r == -EBADMSG ? refuse(reterr, param, member, "it is not base64.") : r;
}

/* Takes name and type. */
static int content_keep(RequestFiles *f, char *name, char *type, bool image) {
        RequestFile *file = f->files + f->n++;

        file->name = name;
        file->type = type;
        file->image = image;
        f->n_images += image;
        return name && type ? 0 : -ENOMEM;
}

static int file_take(RequestFiles *f, json_object *part, const char *param, bool keep, ApiError *reterr) {
        const char *data = json_get_string(part, "file_data"), *name = json_get_string(part, "filename"), *content;
        _cleanup_free_ char *type = NULL;
        int r;

        if (json_get(part, "file_id"))
                return refuse_unsupported(reterr, param, "file_id", "'file_data'");
        if (json_get(part, "file_url"))
                return refuse_unsupported(reterr, param, "file_url", "'file_data'");
        if (!data) {
                _cleanup_free_ char *field = strjoin(param, ".file_data");

                if (json_get(part, "file_data"))
                        return refuse(reterr, param, "file_data", "expected a string.");
                return api_error_set(reterr, 400, "missing_required_parameter", field ?: param,
                                     "Missing required parameter: '%s'.", field ?: param);
        }
        if (json_get(part, "filename") && (!name || strlen(name) > NAME_SIZE_MAX))
                return refuse(reterr, param, "filename", "expected a file's name.");
        r = data_url_split(data, &type, &content);
        if (r == -EBADMSG)
                return refuse(reterr, param, "file_data", "expected base64, or a data: URL of it.");
        if (r < 0)
                return r;
        if (keep) {
                r = content_take(f, content, param, "file_data", reterr);
                if (r >= 0)
                        r = content_keep(f, strdup(isempty(name) ? "file" : name),
                                         strdup(type ?: "application/octet-stream"), false);
                if (r < 0)
                        return r;
        }
        json_object_object_del(part, "file_data");
        return 0;
}

static const char* image_extension(const char *type) {
        static const struct {
                const char *type, *extension;
        } known[] = {
                { "image/png", "png" }, { "image/jpeg", "jpg" }, { "image/gif", "gif" }, { "image/webp", "webp" },
        };

        for (size_t i = 0; i < ELEMENTSOF(known); i++)
                if (streq_ptr(known[i].type, type))
                        return known[i].extension;
        return NULL;
}

static int image_at_address(const char *url, const char *param, bool keep, StrBuf *text, ApiError *reterr) {
        int r;

        if (strncasecmp(url, "https://", 8) != 0 && strncasecmp(url, "http://", 7) != 0)
                return refuse(reterr, param, "image_url", "expected an http, https or data: URL.");
        if (strlen(url) > URL_SIZE_MAX || url[strcspn(url, " \t\r\n\"<>")] != 0)
                return refuse(reterr, param, "image_url", "it is no proper URL.");
        if (!keep)
                return 0;
        r = text->size > 0 ? strbuf_puts(text, "\n") : 0;
        return r < 0 ? r : strbuf_printf(text, "[image: %s]", url);
}

/* What it is by its content: what its sender calls it need not be true, and providers refuse what is not. */
static int image_keep(RequestFiles *f, const char *name, const char *data, const char *param, ApiError *reterr) {
        char head[IMAGE_HEAD_SIZE];
        const char *type;
        ssize_t n;
        int r;

        r = content_take(f, data, param, "image_url", reterr);
        if (r < 0)
                return r;
        n = pread(f->files[f->n].fd, head, sizeof(head), 0);
        type = n >= 0 ? image_type_of(head, (size_t) n) : NULL;
        if (type)
                return content_keep(f, isempty(name) ? asprintf_new("image-%zu.%s", f->n_images + 1,
                                                                    image_extension(type)) : strdup(name),
                                    strdup(type), true);
        r = n < 0 ? -errno : refuse(reterr, param, "image_url", "it is no PNG, JPEG, GIF or WebP image.");
        f->files[f->n].fd = safe_close(f->files[f->n].fd);
        return r;
}

static int image_take(RequestFiles *f, json_object *part, const char *param, bool keep, StrBuf *text,
                      ApiError *reterr) {
        const char *url = json_get_string(part, "image_url"), *name = json_get_string(part, "filename"), *content;
        _cleanup_free_ char *type = NULL;
        int r;

        if (json_get(part, "file_id"))
                return refuse_unsupported(reterr, param, "file_id", "'image_url'");
        if (!url) {
                _cleanup_free_ char *field = strjoin(param, ".image_url");

                if (json_get(part, "image_url"))
                        return refuse(reterr, param, "image_url", "expected a string.");
                return api_error_set(reterr, 400, "missing_required_parameter", field ?: param,
                                     "Missing required parameter: '%s'.", field ?: param);
        }
        if (strncasecmp(url, "data:", 5) != 0)
                return image_at_address(url, param, keep, text, reterr);
        if (json_get(part, "filename") && (!name || strlen(name) > NAME_SIZE_MAX))
                return refuse(reterr, param, "filename", "expected a file's name.");
        r = data_url_split(url, &type, &content);
        if (r == -ENOMEM)
                return r;
        if (r < 0 || !image_extension(type))
                return refuse(reterr, param, "image_url",
                              "a data: URL must be the base64 of a PNG, JPEG, GIF or WebP image.");
        if (keep) {
                r = image_keep(f, name, content, param, reterr);
                if (r < 0)
                        return r;
        }
        return json_put_null(part, "image_url");
}

int request_files_take(RequestFiles *f, json_object *part, const char *type, const char *param, bool keep,
                       StrBuf *text, ApiError *reterr) {
        return streq(type, "input_image") ? image_take(f, part, param, keep, text, reterr)
                                          : file_take(f, part, param, keep, reterr);
}
