/* SPDX-License-Identifier: MIT */

#include <sodium.h>

#include "aad.h"
#include "attachment.h"
#include "base64url.h"

#define BOUNDARY_LINE_MAX 256U

const char* attachment_error_to_string(AttachmentError e) {
        static const char *const names[_ATTACHMENT_ERROR_MAX] = {
                [ATTACHMENT_OK] = "ok",
                [ATTACHMENT_META_MALFORMED] = "meta_malformed",
                [ATTACHMENT_BAD_KEY_LENGTH] = "bad_key_length",
                [ATTACHMENT_BAD_NONCE_LENGTH] = "bad_nonce_length",
                [ATTACHMENT_OPEN_FAILED] = "open_failed",
        };

        return e < _ATTACHMENT_ERROR_MAX ? names[e] : NULL;
}

static int refuse(AttachmentError *reterr, AttachmentError e) {
        *reterr = e;
        return -EBADMSG;
}

static int read_field(const SignedValue *meta, const char *name, uint8_t *field, size_t size,
                      AttachmentError wrong_size, AttachmentError *reterr) {
        const char *text = signed_get_string(meta, name);
        int r;

        if (!text)
                return refuse(reterr, ATTACHMENT_META_MALFORMED);
        r = base64url_decode_exact(text, strlen(text), field, size);
        if (r < 0)
                return refuse(reterr, r == -EMSGSIZE ? wrong_size : ATTACHMENT_META_MALFORMED);
        return 0;
}

/* An integer, or digits in a string, as upstream's conversion takes it. */
static int read_size(const SignedValue *meta, uint64_t *ret) {
        const char *digits = signed_get_string(meta, "size");
        int64_t n;

        if (digits)
                return parse_u64(digits, ret);
        if (signed_get_int(meta, "size", &n) < 0 || n < 0)
                return -EINVAL;
        *ret = (uint64_t) n;
        return 0;
}

int attachment_read(const SignedValue *meta, Attachment *ret, AttachmentError *reterr) {
        Attachment a = {
                .blob_id = signed_get_string(meta, "blob_id"),
                .filename = signed_get_string(meta, "filename"),
                .mime_type = signed_get_string(meta, "mime_type"),
        };
        int r;

        if (!a.blob_id || !a.filename || !a.mime_type || read_size(meta, &a.size) < 0)
                return refuse(reterr, ATTACHMENT_META_MALFORMED);
        r = read_field(meta, "key", a.key, KEY_SIZE, ATTACHMENT_BAD_KEY_LENGTH, reterr);
        if (r >= 0)
                r = read_field(meta, "nonce", a.nonce, AEAD_NONCE_SIZE, ATTACHMENT_BAD_NONCE_LENGTH, reterr);
        if (r < 0)
                return r;

        *ret = a;
        return 0;
}

int attachment_seal_with(const Attachment *a, const void *plain, size_t size, uint8_t **ret, size_t *ret_size) {
        _cleanup_(strbuf_done) StrBuf aad = {};
        uint8_t *sealed;
        int r;

        if (size > ATTACHMENT_SIZE_MAX)
                return -E2BIG;
        r = aad_attachment(&aad, field_of(a->mime_type), field_of(a->filename));
        if (r < 0)
                return r;
        sealed = malloc(size + AEAD_TAG_SIZE);
        if (!sealed)
                return -ENOMEM;

        aead_seal(a->key, a->nonce, aad.text, aad.size, plain, size, sealed);
        *ret = sealed;
        *ret_size = size + AEAD_TAG_SIZE;
        return 0;
}

int attachment_seal(Attachment *a, const void *plain, size_t size, uint8_t **ret, size_t *ret_size) {
        randombytes_buf(a->key, sizeof(a->key));
        randombytes_buf(a->nonce, sizeof(a->nonce));
        a->size = size;
        return attachment_seal_with(a, plain, size, ret, ret_size);
}

int attachment_open(const Attachment *a, const void *sealed, size_t size, uint8_t **ret, size_t *ret_size,
                    AttachmentError *reterr) {
        _cleanup_(strbuf_done) StrBuf aad = {};
        _cleanup_free_ uint8_t *plain = NULL;
        const uint8_t *part;
        size_t part_size;
        int r;

        r = aad_attachment(&aad, field_of(a->mime_type), field_of(a->filename));
        if (r < 0)
                return r == -ENOMEM ? r : refuse(reterr, ATTACHMENT_META_MALFORMED);
        if (size < AEAD_TAG_SIZE)
                return refuse(reterr, ATTACHMENT_OPEN_FAILED);
        plain = malloc(size);
        if (!plain)
                return -ENOMEM;
        r = aead_open(a->key, a->nonce, aad.text, aad.size, sealed, size, plain);
        if (r < 0)
                return refuse(reterr, ATTACHMENT_OPEN_FAILED);

        attachment_strip_multipart(plain, size - AEAD_TAG_SIZE, &part, &part_size);
        memmove(plain, part, part_size);
        *ret_size = part_size;
        *ret = TAKE_PTR(plain);
        return 0;
}

static const uint8_t* find(const uint8_t *data, size_t size, const void *needle, size_t n) {
        return memmem(data, size, needle, n);
}

/* One piece between boundaries → its body, when it has a header part. */
static bool piece_body(const uint8_t *piece, size_t size, const uint8_t **ret, size_t *ret_size) {
        const uint8_t *blank;

        if (size >= 2 && memcmp(piece, "\r\n", 2) == 0) {
                piece += 2;
                size -= 2;
        }
        blank = find(piece, size, "\r\n\r\n", 4);
        if (!blank)
                return false;

        *ret = blank + 4;
        *ret_size = size - (size_t) (blank + 4 - piece);
        if (*ret_size >= 2 && memcmp(*ret + *ret_size - 2, "\r\n", 2) == 0)
                *ret_size -= 2;
        return true;
}

void attachment_strip_multipart(const uint8_t *data, size_t size, const uint8_t **ret, size_t *ret_size) {
        const uint8_t *line_end, *boundary = data, *p;
        size_t boundary_size;
        bool found = false;

        *ret = data;
        *ret_size = size;

        if (size < 2 || memcmp(data, "--", 2) != 0)
                return;
        line_end = find(data, size, "\r\n", 2);
        if (!line_end || line_end - data > (ptrdiff_t) BOUNDARY_LINE_MAX)
                return;
        boundary_size = (size_t) (line_end - data); /* the two dashes included: that is what it is split at */
        if (boundary_size == 2 || memchr(data, '\r', boundary_size) || memchr(data, '\n', boundary_size))
                return;

        p = data + boundary_size; /* the piece before the first boundary is empty */
        for (const uint8_t *end = data + size; p < end; ) {
                const uint8_t *next = find(p, (size_t) (end - p), boundary, boundary_size), *piece = p, *body;
                size_t piece_size = (size_t) ((next ?: end) - p), body_size;

                p = next ? next + boundary_size : end;
                if (piece_size == 0 || (piece_size >= 2 && memcmp(piece, "--", 2) == 0))
                        continue;
                if (piece_body(piece, piece_size, &body, &body_size) && (!found || body_size > *ret_size)) {
                        *ret = body;
                        *ret_size = body_size;
                        found = true;
                }
        }
}

static bool is_no_name(const char *s) {
        return isempty(s) || streq(s, ".") || streq(s, "..");
}

/* Last component that is not "" or ".". */
static char* last_component(const char *path) {
        const char *end = path + strlen(path), *begin;

        for (;;) {
                while (end > path && end[-1] == '/')
                        end--;
                begin = end;
                while (begin > path && begin[-1] != '/')
                        begin--;
                if (end - begin == 1 && *begin == '.' && begin > path) {
                        end = begin;
                        continue;
                }
                return memdup0(begin, (size_t) (end - begin));
        }
}

char* attachment_safe_name(const char *filename, const char *blob_id) {
        _cleanup_free_ char *name = last_component(filename);

        if (!name)
                return NULL;
        if (!is_no_name(name))
                return TAKE_PTR(name);

        free(name);
        name = strdup(blob_id);
        if (!name)
                return NULL;
        /* A character outside the set becomes one '_', however many bytes it has. */
        char *w = name;
        for (const char *p = name; *p; p++) {
                bool keep = (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || (*p >= '0' && *p <= '9') ||
                            strchr("._-", *p);

                if ((*p & 0xc0) != 0x80)
                        *w++ = keep ? *p : '_';
        }
        *w = 0;
        return is_no_name(name) ? strdup("attachment") : TAKE_PTR(name);
}
