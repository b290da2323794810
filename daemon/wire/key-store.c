/* SPDX-License-Identifier: MIT */

#include <dirent.h>
#include <fcntl.h>
#include <sodium.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "base64url.h"
#include "certificate.h"
#include "file-util.h"
#include "key-store.h"
#include "secret-buffer.h"
#include "signed-json.h"

#define KEY_FILE_MAX MIB(1)
#define SLUG_MAX 200U
#define FILE_MODE 0600

bool slug_is_valid(const char *slug) {
        return !isempty(slug) && !streq(slug, ".") && !streq(slug, "..") && !strchr(slug, '/') &&
               strlen(slug) <= SLUG_MAX;
}

static char* key_file_path(const char *directory, const char *slug, const char *suffix) {
        return strjoin(directory, "/", slug, suffix);
}

static void wipe_free(char *text, size_t size) {
        if (text)
                sodium_memzero(text, size);
        free(text);
}

/* --- reading --- */

static int refuse(char **reterr, int error, const char *path, const char *what) {
        char *text = what ? asprintf_new("%s: %s", path, what) : asprintf_new("%s: %s", path, strerror(-error));

        if (!text)
                return -ENOMEM;
        *reterr = text;
        return error;
}

/* The file as a tree that wipes itself; the text that it came from is gone by then. */
static int key_file_read(const char *path, SignedDocument **ret, mode_t *ret_excess, char **reterr) {
        _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK | O_NOFOLLOW);
        _cleanup_(signed_document_freep) SignedDocument *d = NULL;
        char *text = NULL;
        struct stat st;
        size_t size;
        int r;

        if (fd < 0 || fstat(fd, &st) < 0)
                return refuse(reterr, -errno, path, errno == ELOOP ? "a symbolic link is not followed here" : NULL);
        r = file_read_fd(fd, KEY_FILE_MAX, &text, &size);
        if (r < 0)
                return refuse(reterr, r, path, NULL);

        r = signed_document_parse(&d, text, size);
        wipe_free(text, size);
        if (r == -ENOMEM)
                return r;
        if (r < 0)
                return refuse(reterr, r, path, "not JSON");
        if (signed_document_root(d)->type != SIGNED_OBJECT)
                return refuse(reterr, -EBADMSG, path, "not a JSON object");

        *ret = TAKE_PTR(d);
        *ret_excess = st.st_mode & 07777 & ~FILE_MODE;
        return 0;
}

static int refuse_member(char **reterr, const char *path, const char *key, const char *what) {
        _cleanup_free_ char *text = asprintf_new("'%s' %s", key, what);

        return text ? refuse(reterr, -EBADMSG, path, text) : -ENOMEM;
}

static int read_text(const SignedValue *o, const char *key, const char *path, char **ret, char **reterr) {
        const char *text = signed_get_string(o, key);

        if (!text)
                return refuse_member(reterr, path, key, signed_get(o, key) ? "is no text" : "is missing");
        return free_and_strdup(ret, text) < 0 ? -ENOMEM : 0;
}

static int read_optional_text(const SignedValue *o, const char *key, const char *path, char **ret, char **reterr) {
        return signed_is_null(signed_get(o, key)) ? 0 : read_text(o, key, path, ret, reterr);
}

static int read_secret(const SignedValue *o, const char *key, const char *path, uint8_t ret[KEY_SIZE], char **reterr) {
        const SignedValue *v = signed_get(o, key);
        int r;

        if (!v || v->type != SIGNED_STRING)
                return refuse_member(reterr, path, key, v ? "is no text" : "is missing");

        r = base64url_decode_exact(v->text, v->size, ret, KEY_SIZE);
        if (r == -EMSGSIZE)
                return refuse_member(reterr, path, key, "is not 32 bytes long");
        if (r == -EBADMSG)
                return refuse_member(reterr, path, key, "is not base64url");
        return r;
}

/* --- writing --- */

static int write_member(StrBuf *b, SignedDocument *d, const char *key, SignedValue *value) {
        int r;

        if (!value)
                return -ENOMEM;
        r = strbuf_puts(b, b->size > 2 ? ",\n  \"" : "  \"");
        if (r >= 0)
                r = strbuf_puts(b, key);
        if (r >= 0)
                r = strbuf_puts(b, "\": ");
        return r < 0 ? r : signed_value_format(value, b);
}

static int write_text(StrBuf *b, SignedDocument *d, const char *key, const char *text) {
        return text ? write_member(b, d, key, signed_string(d, text)) : 0;
}

static int write_secret(StrBuf *b, SignedDocument *d, const char *key, const uint8_t secret[KEY_SIZE]) {
        char *text = base64url_encode(secret, KEY_SIZE);
        int r = text ? write_text(b, d, key, text) : -ENOMEM;

        wipe_free(text, text ? strlen(text) : 0);
        return r;
}

static int key_file_write(StrBuf *b, const char *directory, const char *slug, const char *suffix) {
        _cleanup_free_ char *path = key_file_path(directory, slug, suffix);
        int r;

        if (!path)
                return -ENOMEM;
        r = strbuf_puts(b, "\n}");
        if (r >= 0)
                r = directory_make(directory, 0700);
        return r < 0 ? r : file_write_atomic(path, b->text, b->size, FILE_MODE);
}

/* Each byte may become "\u1234". */
static size_t escaped_size(const char *text) {
        return 6 * strlen(strempty(text)) + 64;
}

/* --- identities --- */

int identity_new(Identity **ret, const char *slug, const char *device_id, const char *server_url,
                 const IdentitySecrets *secrets) {
        _cleanup_(identity_freep) Identity *i = NULL;

        assert(ret && slug && secrets);

        if (!slug_is_valid(slug))
                return -EINVAL;

        i = new0(Identity, 1);
        if (!i)
                return -ENOMEM;
        i->secrets = sodium_malloc(sizeof(IdentitySecrets));
        if (!i->secrets)
                return -ENOMEM;
        *i->secrets = *secrets;

        if (free_and_strdup(&i->slug, slug) < 0 || free_and_strdup(&i->device_id, device_id) < 0 ||
            free_and_strdup(&i->server_url, server_url) < 0)
                return -ENOMEM;

        *ret = TAKE_PTR(i);
        return 0;
}

Identity* identity_free(Identity *i) {
        if (!i)
                return NULL;

        sodium_free(i->secrets);
        free(i->slug);
        free(i->device_id);
        free(i->server_url);
        free(i->slug_binding_json);
        free(i->identity_cert_json);
        free(i->identity_profile_json);
        return mfree(i);
}

static int identity_read(Identity *i, const SignedValue *o, const char *path, char **reterr) {
        int r = read_text(o, "slug", path, &i->slug, reterr);

        if (r >= 0)
                r = read_text(o, "device_id", path, &i->device_id, reterr);
        if (r >= 0)
                r = read_text(o, "server_url", path, &i->server_url, reterr);
        if (r >= 0)
                r = read_secret(o, "root_secret_key", path, i->secrets->root_seed, reterr);
        if (r >= 0)
                r = read_secret(o, "device_signing_secret_key", path, i->secrets->device_seed, reterr);
        if (r >= 0)
                r = read_secret(o, "kem_secret_key", path, i->secrets->kem_secret, reterr);
        if (r >= 0)
                r = read_optional_text(o, "slug_binding_json", path, &i->slug_binding_json, reterr);
        if (r >= 0)
                r = read_optional_text(o, "identity_cert_json", path, &i->identity_cert_json, reterr);
        if (r >= 0)
                r = read_optional_text(o, "identity_profile_json", path, &i->identity_profile_json, reterr);
        return r;
}

int identity_load(Identity **ret, const char *directory, const char *slug, char **reterr) {
        _cleanup_(signed_document_freep) SignedDocument *d = NULL;
        _cleanup_(identity_freep) Identity *i = NULL;
        _cleanup_free_ char *path = NULL;
        int r;

        assert(ret && directory && reterr);

        if (!slug_is_valid(slug))
                return refuse(reterr, -EINVAL, directory, "a slug is not empty and has no '/'");
        path = key_file_path(directory, slug, ".json");
        i = new0(Identity, 1);
        if (!path || !i)
                return -ENOMEM;
        i->secrets = sodium_malloc(sizeof(IdentitySecrets));
        if (!i->secrets)
                return -ENOMEM;

        r = key_file_read(path, &d, &i->excess_mode, reterr);
        if (r >= 0)
                r = identity_read(i, signed_document_root(d), path, reterr);
        if (r < 0)
                return r;
        if (!streq(i->slug, slug))
                return refuse(reterr, -EBADMSG, path, "'slug' is another than the file's name");

        *ret = TAKE_PTR(i);
        return 0;
}

int identity_save(const Identity *i, const char *directory) {
        _cleanup_(signed_document_freep) SignedDocument *d = NULL;
        _cleanup_(secret_buffer_done) StrBuf b = {};
        int r;

        assert(i && directory);

        r = secret_buffer_init(&b, escaped_size(i->slug) + escaped_size(i->device_id) + escaped_size(i->server_url) +
                                   escaped_size(i->slug_binding_json) + escaped_size(i->identity_cert_json) +
                                   escaped_size(i->identity_profile_json) + 4 * 128);
        if (r >= 0)
                r = signed_document_new(&d);
        if (r >= 0)
                r = strbuf_puts(&b, "{\n");
        if (r >= 0)
                r = write_text(&b, d, "slug", i->slug);
        if (r >= 0)
                r = write_text(&b, d, "device_id", i->device_id);
        if (r >= 0)
                r = write_secret(&b, d, "root_secret_key", i->secrets->root_seed);
        if (r >= 0)
                r = write_secret(&b, d, "device_signing_secret_key", i->secrets->device_seed);
        if (r >= 0)
                r = write_secret(&b, d, "kem_secret_key", i->secrets->kem_secret);
        if (r >= 0)
                r = write_text(&b, d, "server_url", i->server_url);
        if (r >= 0)
                r = write_text(&b, d, "slug_binding_json", i->slug_binding_json);
        if (r >= 0)
                r = write_text(&b, d, "identity_cert_json", i->identity_cert_json);
        if (r >= 0)
                r = write_text(&b, d, "identity_profile_json", i->identity_profile_json);
        return r < 0 ? r : key_file_write(&b, directory, i->slug, ".json");
}

/* Where the original's command line keeps its keys. NULL with errno. */
static char* foreign_directory(void) {
        const char *data = getenv("XDG_DATA_HOME"), *home = getenv("HOME");

        if (!isempty(data) && data[0] == '/')
                return strjoin(data, "/puffo/puffo-cli/keys");
        if (isempty(home)) {
                errno = ENXIO;
                return NULL;
        }
        return strjoin(home, "/.local/share/puffo/puffo-cli/keys");
}

int identity_import(const char *directory, const char *slug, char **reterr) {
        _cleanup_(identity_freep) Identity *i = NULL;
        _cleanup_free_ char *path = NULL, *foreign = NULL, *error = NULL;
        int r;

        assert(directory && reterr);

        if (!slug_is_valid(slug))
                return refuse(reterr, -EINVAL, directory, "a slug is not empty and has no '/'");
        path = key_file_path(directory, slug, ".json");
        if (!path)
                return -ENOMEM;
        if (faccessat(AT_FDCWD, path, F_OK, AT_SYMLINK_NOFOLLOW) >= 0)
                return 0;
        foreign = foreign_directory();
        if (!foreign)
                return errno == ENXIO ? 0 : -ENOMEM;

        r = identity_load(&i, foreign, slug, &error);
        if (r == -ENOENT)
                return 0;
        if (r >= 0)
                r = identity_save(i, directory);
        if (r >= 0)
                return 1;
        *reterr = TAKE_PTR(error);
        return *reterr || r == -ENOMEM ? r : refuse(reterr, r, path, NULL);
}

static bool is_identity_file(const char *name) {
        return endswith(name, ".json") && !streq(name, ".json") && !endswith(name, ".session.json") &&
               !startswith(name, "pending-") && !streq(name, "registered-agents.json");
}

int key_store_list(const char *directory, char ***ret) {
        _cleanup_(strv_freep) char **slugs = NULL;
        struct dirent *entry;
        int r = 0;
        DIR *d;

        assert(directory && ret);

        d = opendir(directory);
        if (!d && errno != ENOENT)
                return -errno;

        while (d && r >= 0 && (r = directory_next(d, &entry)) > 0) {
                _cleanup_free_ char *slug = NULL;

                if (!is_identity_file(entry->d_name))
                        continue;
                slug = memdup0(entry->d_name, strlen(entry->d_name) - strlen(".json"));
                r = slug ? strv_extend(&slugs, slug) : -ENOMEM;
        }
        if (d)
                (void) closedir(d);
        if (r < 0)
                return r;

        if (!slugs) {
                slugs = new0(char*, 1);
                if (!slugs)
                        return -ENOMEM;
        }
        strv_sort(slugs);
        *ret = TAKE_PTR(slugs);
        return 0;
}

/* --- subkeys --- */

int session_key_new(SessionKey **ret, const char *slug, const char *subkey_id, const uint8_t seed[KEY_SIZE],
                    int64_t expires_at_ms) {
        _cleanup_(session_key_freep) SessionKey *k = NULL;

        assert(ret && seed);

        if (!slug_is_valid(slug))
                return -EINVAL;
        k = new0(SessionKey, 1);
        if (!k)
                return -ENOMEM;
        k->seed = sodium_malloc(KEY_SIZE);
        if (!k->seed || free_and_strdup(&k->slug, slug) < 0 || free_and_strdup(&k->subkey_id, subkey_id) < 0)
                return -ENOMEM;
        memcpy(k->seed, seed, KEY_SIZE);
        k->expires_at_ms = expires_at_ms < 0 ? -1 : expires_at_ms;

        *ret = TAKE_PTR(k);
        return 0;
}

SessionKey* session_key_free(SessionKey *k) {
        if (!k)
                return NULL;

        sodium_free(k->seed);
        free(k->slug);
        free(k->subkey_id);
        return mfree(k);
}

static int session_key_read(SessionKey *k, const SignedValue *o, const char *path, char **reterr) {
        int r = read_text(o, "slug", path, &k->slug, reterr);

        if (r >= 0)
                r = read_text(o, "subkey_id", path, &k->subkey_id, reterr);
        if (r >= 0)
                r = read_secret(o, "subkey_secret_key", path, k->seed, reterr);
        if (r < 0)
                return r;

        r = signed_get_int(o, "expires_at", &k->expires_at_ms);
        if (r == -ENOENT)
                k->expires_at_ms = -1;
        else if (r < 0 || k->expires_at_ms < 0)
                return refuse_member(reterr, path, "expires_at", "is no time in milliseconds");
        return 0;
}

/* > 0: read; 0: there is no file, or its key has expired. */
static int session_key_read_file(SessionKey **ret, const char *path, int64_t now_ms, bool *ret_expired,
                                 char **reterr) {
        _cleanup_(signed_document_freep) SignedDocument *d = NULL;
        _cleanup_(session_key_freep) SessionKey *k = NULL;
        int r;

        *ret_expired = false;
        k = new0(SessionKey, 1);
        if (!k)
                return -ENOMEM;
        k->seed = sodium_malloc(KEY_SIZE);
        if (!k->seed)
                return -ENOMEM;

        r = key_file_read(path, &d, &k->excess_mode, reterr);
        if (r == -ENOENT) {
                *reterr = mfree(*reterr);
                return 0;
        }
        if (r >= 0)
                r = session_key_read(k, signed_document_root(d), path, reterr);
        if (r < 0)
                return r;

        *ret_expired = subkey_is_expired(k->expires_at_ms, now_ms);
        if (*ret_expired)
                return 0;
        *ret = TAKE_PTR(k);
        return 1;
}

int session_key_load(SessionKey **ret, const char *directory, const char *slug, int64_t now_ms, char **reterr) {
        _cleanup_close_ int lock_fd = -EBADF;
        _cleanup_free_ char *path = NULL;
        bool expired;
        int r;

        assert(ret && directory && reterr);

        if (!slug_is_valid(slug))
                return refuse(reterr, -EINVAL, directory, "a slug is not empty and has no '/'");
        path = key_file_path(directory, slug, ".session.json");
        if (!path)
                return -ENOMEM;

        r = session_key_read_file(ret, path, now_ms, &expired, reterr);
        if (r != 0 || !expired)
                return r;

        /* Whoever holds the lock is about to replace it. Before we had it, somebody may have: then that one is it. */
        lock_fd = key_store_lock(directory, slug);
        if (lock_fd < 0)
                return 0;
        r = session_key_read_file(ret, path, now_ms, &expired, reterr);
        if (r == 0 && expired)
                (void) unlink(path);
        return r;
}

int session_key_save(const SessionKey *k, const char *directory) {
        _cleanup_(signed_document_freep) SignedDocument *d = NULL;
        _cleanup_(secret_buffer_done) StrBuf b = {};
        int r;

        assert(k && directory);

        r = secret_buffer_init(&b, escaped_size(k->slug) + escaped_size(k->subkey_id) + 4 * 128);
        if (r >= 0)
                r = signed_document_new(&d);
        if (r >= 0)
                r = strbuf_puts(&b, "{\n");
        if (r >= 0)
                r = write_text(&b, d, "slug", k->slug);
        if (r >= 0)
                r = write_text(&b, d, "subkey_id", k->subkey_id);
        if (r >= 0)
                r = write_secret(&b, d, "subkey_secret_key", k->seed);
        if (r >= 0)
                r = write_member(&b, d, "expires_at",
                                 k->expires_at_ms < 0 ? signed_constant(d, SIGNED_NULL)
                                                      : signed_int(d, k->expires_at_ms));
        return r < 0 ? r : key_file_write(&b, directory, k->slug, ".session.json");
}

int key_store_lock(const char *directory, const char *slug) {
        _cleanup_close_ int fd = -EBADF;
        _cleanup_free_ char *path = NULL;

        assert(directory);

        if (!slug_is_valid(slug))
                return -EINVAL;
        path = key_file_path(directory, slug, ".lock");
        if (!path)
                return -ENOMEM;

        fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NOFOLLOW, FILE_MODE);
        if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0)
                return -errno;
        return TAKE_FD(fd);
}
