/* SPDX-License-Identifier: MIT */
#pragma once

#include "crypto.h"
#include "signed-json.h"

/* Attachments: what a message says of a file, and the file's own encryption (wire-protocol §12). */

#define ATTACHMENTS_MAX 10U
#define ATTACHMENT_SIZE_MAX MIB(8)

typedef enum AttachmentError {
        ATTACHMENT_OK,
        ATTACHMENT_META_MALFORMED,
        ATTACHMENT_BAD_KEY_LENGTH,
        ATTACHMENT_BAD_NONCE_LENGTH,
        ATTACHMENT_OPEN_FAILED,
        _ATTACHMENT_ERROR_MAX,
} AttachmentError;

const char* attachment_error_to_string(AttachmentError e);

/* Texts are borrowed from the content that it was read from. */
typedef struct Attachment {
        const char *blob_id, *filename, *mime_type;
        uint64_t size;          /* as claimed */
        uint8_t key[KEY_SIZE], nonce[AEAD_NONCE_SIZE];
} Attachment;

/* Reads one member of content.attachments. -EBADMSG with *reterr, -ENOMEM. */
int attachment_read(const SignedValue *meta, Attachment *ret, AttachmentError *reterr);

/* Fresh key and nonce into a; *ret is the ciphertext (size + 16 bytes). -EINVAL for NUL in name or type, -E2BIG,
 * -ENOMEM. */
int attachment_seal(Attachment *a, const void *plain, size_t size, uint8_t **ret, size_t *ret_size);
/* The same with the key and nonce that a has already. */
int attachment_seal_with(const Attachment *a, const void *plain, size_t size, uint8_t **ret, size_t *ret_size);
/* Undoes it, form-data wrapping of old senders included. -EBADMSG with *reterr, -ENOMEM. */
int attachment_open(const Attachment *a, const void *sealed, size_t size, uint8_t **ret, size_t *ret_size,
                    AttachmentError *reterr);

/* The part of a plaintext that counts: old senders encrypted a multipart form body. Borrowed from data. */
void attachment_strip_multipart(const uint8_t *data, size_t size, const uint8_t **ret, size_t *ret_size);

/* A name for the file that is no path: last component of filename, else from blob_id, else "attachment". */
char* attachment_safe_name(const char *filename, const char *blob_id);
