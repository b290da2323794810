/* SPDX-License-Identifier: MIT */

/* Key files: what is written, byte for byte, and what is read back. */

#include <stdio.h>
#include <sys/stat.h>

#include "base64url.h"
#include "file-util.h"
#include "key-store.h"
#include "vector.h"

/* The one file of this name in directory holds the expected text and nobody else may read it. */
static const char* compare_file(const SignedValue *c, const char *directory, const char *name) {
        _cleanup_free_ char *path = path_join(directory, name), *text = NULL;
        _cleanup_bytes_ Bytes expected = {};
        struct stat st;
        size_t size;

        if (!path || !vector_bytes(c, "file_utf8", &expected) || file_read(path, MIB(1), &text, &size) < 0)
                return "no file";
        if (stat(path, &st) < 0 || (st.st_mode & 07777) != 0600)
                return "file is not 0600";
        return bytes_equal(&expected, text, size) ? NULL : "other file";
}

static bool copy_text(const SignedValue *o, const char *key, char **field) {
        const char *text = signed_get_string(o, key);

        return !text || free_and_strdup(field, text) >= 0;
}

static bool secrets_equal(const IdentitySecrets *a, const IdentitySecrets *b) {
        return memcmp(a, b, sizeof(*a)) == 0;
}

static const char* run_identity(const SignedValue *c, const char *directory) {
        _cleanup_(identity_freep) Identity *i = NULL, *again = NULL;
        const SignedValue *o = signed_get(c, "identity");
        _cleanup_free_ char *name = NULL, *error = NULL;
        const char *slug = vector_text(o, "slug"), *problem;
        IdentitySecrets secrets;

        if (!vector_field(o, "root_secret_key", secrets.root_seed, KEY_SIZE) ||
            !vector_field(o, "device_signing_secret_key", secrets.device_seed, KEY_SIZE) ||
            !vector_field(o, "kem_secret_key", secrets.kem_secret, KEY_SIZE))
                return "incomplete";
        if (identity_new(&i, slug, vector_text(o, "device_id"), vector_text(o, "server_url"), &secrets) < 0 ||
            !copy_text(o, "slug_binding_json", &i->slug_binding_json) ||
            !copy_text(o, "identity_cert_json", &i->identity_cert_json) ||
            !copy_text(o, "identity_profile_json", &i->identity_profile_json) || identity_save(i, directory) < 0)
                return "not written";

        name = strjoin(slug, ".json");
        problem = compare_file(c, directory, name);
        if (problem)
                return problem;

        if (identity_load(&again, directory, slug, &error) < 0)
                return "not read back";
        return secrets_equal(again->secrets, &secrets) && streq(again->device_id, i->device_id) &&
               streq(again->server_url, i->server_url) &&
               streq_ptr(again->slug_binding_json, i->slug_binding_json) &&
               streq_ptr(again->identity_cert_json, i->identity_cert_json) &&
               streq_ptr(again->identity_profile_json, i->identity_profile_json) && again->excess_mode == 0
                       ? NULL : "read back as another";
}

static const char* run_session(const SignedValue *c, const char *directory) {
        _cleanup_(session_key_freep) SessionKey *k = NULL, *again = NULL;
        const SignedValue *o = signed_get(c, "session");
        const char *slug = vector_text(o, "slug"), *problem;
        _cleanup_free_ char *name = NULL, *error = NULL;
        uint8_t seed[KEY_SIZE];
        int64_t expires;

        if (!vector_field(o, "subkey_secret_key", seed, KEY_SIZE) || signed_get_int(o, "expires_at", &expires) < 0)
                return "incomplete";
        if (session_key_new(&k, slug, vector_text(o, "subkey_id"), seed, expires) < 0 ||
            session_key_save(k, directory) < 0)
                return "not written";

        name = strjoin(slug, ".session.json");
        problem = compare_file(c, directory, name);
        if (problem)
                return problem;

        if (session_key_load(&again, directory, slug, expires - 1, &error) <= 0)
                return "not read back";
        if (!streq(again->subkey_id, k->subkey_id) || memcmp(again->seed, seed, KEY_SIZE) != 0 ||
            again->expires_at_ms != expires)
                return "read back as another";
        again = session_key_free(again);
        return session_key_load(&again, directory, slug, expires, &error) == 0 ? NULL : "used past its end";
}

static const char* run_list(const SignedValue *c, const char *directory) {
        const SignedValue *expected = signed_get(c, "identities");
        _cleanup_(strv_freep) char **slugs = NULL;
        size_t n = 0;

        for (const SignedValue *f = signed_get(c, "files")->child; f; f = f->next) {
                _cleanup_free_ char *path = path_join(directory, f->text);

                if (file_write_snapshot(path, "{}", 2, 0600) < 0)
                        return "no directory";
        }
        if (key_store_list(directory, &slugs) < 0)
                return "not listed";
        for (const SignedValue *e = expected->child; e; e = e->next, n++)
                if (!slugs[n] || !streq(slugs[n], e->text))
                        return "other list";
        return slugs[n] || !streq(slugs[0], vector_text(c, "default")) ? "other list" : NULL;
}

static const char* run_decode(const SignedValue *c) {
        const SignedValue *text = signed_get(c, "encoded");
        _cleanup_bytes_ Bytes expected = {};
        uint8_t secret[KEY_SIZE];
        int r = base64url_decode_exact(text->text, text->size, secret, KEY_SIZE);

        if (signed_get(c, "error"))
                return r < 0 ? NULL : "accepted";
        return r >= 0 && vector_bytes(c, "raw_hex", &expected) && bytes_equal(&expected, secret, KEY_SIZE)
                       ? NULL : "refused or other bytes";
}

static const char* run_key_files(const SignedValue *c) {
        char directory[] = "/tmp/puffo-vectors-XXXXXX";
        const char *kind = vector_text(c, "kind"), *problem = "unknown kind";

        if (streq(kind, "decode_secret"))
                return run_decode(c);
        if (!mkdtemp(directory))
                return "no directory";

        if (streq(kind, "identity_file"))
                problem = run_identity(c, directory);
        else if (streq(kind, "session_file"))
                problem = run_session(c, directory);
        else if (streq(kind, "list_identities"))
                problem = run_list(c, directory);
        (void) directory_remove(directory);
        return problem;
}

const VectorFile vector_files_keys[] = {
        { "keystore.json", run_key_files },
        {},
};
