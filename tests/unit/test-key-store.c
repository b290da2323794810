/* SPDX-License-Identifier: MIT */

#include <sched.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "file-util.h"
#include "key-store.h"
#include "string-util.h"
#include "tests.h"

#define SECRET "wNMMMvsyYqZjCPFOKENf6j7hLe9PdZtOkUFMdUjs7ow"
#define REST ",\"device_signing_secret_key\":\"" SECRET "\",\"kem_secret_key\":\"" SECRET "\""
#define NAMES "\"slug\":\"rob-1\",\"device_id\":\"dev_1\",\"server_url\":\"https://s\""

static char *directory;

static void directory_begin(void) {
        directory = strdup("/tmp/test-key-store-XXXXXX");
        ASSERT_OK(crypto_init());
        ASSERT_NOT_NULL(mkdtemp(directory));
}

static void directory_end(char **p) {
        (void) directory_remove(directory);
        directory = mfree(directory);
}
#define FRESH_DIRECTORY() \
        directory_begin(); \
        _cleanup_(directory_end) _unused_ char *directory_guard = NULL

static void put(const char *name, const char *text, mode_t mode) {
        _cleanup_free_ char *path = path_join(directory, name);

        ASSERT_OK(file_write_atomic(path, text, strlen(text), mode));
}

static bool is_there(const char *name) {
        _cleanup_free_ char *path = path_join(directory, name);

        return access(path, F_OK) == 0;
}

TEST(refused_identities) {
        static const struct {
                const char *text, *problem;
        } t[] = {
                { "", "not JSON" },
                { "{", "not JSON" },
                { "[]", "not a JSON object" },
                { "{\"device_id\":\"d\"}", "'slug' is missing" },
                { "{\"slug\":7}", "'slug' is no text" },
                { "{\"slug\":\"rob-1\",\"device_id\":\"d\"}", "'server_url' is missing" },
                { "{" NAMES "}", "'root_secret_key' is missing" },
                { "{" NAMES ",\"root_secret_key\":5}", "'root_secret_key' is no text" },
                { "{" NAMES ",\"root_secret_key\":\"AAAA\"}", "'root_secret_key' is not 32 bytes long" },
                { "{" NAMES ",\"root_secret_key\":\"A!\"}", "'root_secret_key' is not base64url" },
                { "{" NAMES ",\"root_secret_key\":\"" SECRET "\"}", "'device_signing_secret_key' is missing" },
                { "{" NAMES ",\"root_secret_key\":\"" SECRET "\"" REST ",\"identity_cert_json\":{}}",
                  "'identity_cert_json' is no text" },
                { "{\"slug\":\"bob\",\"device_id\":\"d\",\"server_url\":\"\",\"root_secret_key\":\"" SECRET "\"" REST "}",
                  "'slug' is another" },
        };
        FRESH_DIRECTORY();

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_(identity_freep) Identity *identity = NULL;
                _cleanup_free_ char *error = NULL;

                put("rob-1.json", t[i].text, 0600);
                ASSERT_ERROR(identity_load(&identity, directory, "rob-1", &error), EBADMSG);
                if (!error || !strstr(error, t[i].problem) || !strstr(error, "rob-1.json: "))
                        fail_msg("'%s' gives '%s'", t[i].text, error);
                ASSERT_NULL(strstr(error, SECRET));
        }
}

TEST(identity_with_wide_mode_and_unknown_members) {
        _cleanup_(identity_freep) Identity *i = NULL;
        _cleanup_free_ char *error = NULL;
        FRESH_DIRECTORY();

        put("rob-1.json", "{\"later\":[1],\"kind\":null," NAMES ",\"slug_binding_json\":null,\"root_secret_key\":\"" SECRET
            "=\"" REST "}", 0644);
        ASSERT_OK(identity_load(&i, directory, "rob-1", &error));
        ASSERT_EQ(i->excess_mode, 0044);
        ASSERT_NULL(i->slug_binding_json);
        ASSERT_EQ(i->secrets->root_seed[0], 0xc0);
}

TEST(what_is_no_regular_file) {
        _cleanup_free_ char *path = NULL, *error = NULL, *error2 = NULL, *error3 = NULL;
        Identity *i;
        FRESH_DIRECTORY();

        ASSERT_ERROR(identity_load(&i, directory, "rob-1", &error), ENOENT);
        ASSERT_NOT_NULL(strstr(error, "No such file"));

        path = path_join(directory, "rob-1.json");
        ASSERT_OK(symlink("/dev/null", path));
        ASSERT_ERROR(identity_load(&i, directory, "rob-1", &error2), ELOOP);
        ASSERT_NOT_NULL(strstr(error2, "symbolic link"));
        ASSERT_OK(unlink(path));
        ASSERT_OK(mkdir(path, 0700));
        ASSERT_ERROR(identity_load(&i, directory, "rob-1", &error3), EISDIR);
}

TEST(slugs_never_leave_the_directory) {
        static const char *const bad[] = { "", ".", "..", "../x", "a/b", "/" };
        IdentitySecrets secrets = {};
        SessionKey *k;
        Identity *i;
        FRESH_DIRECTORY();

        for (size_t n = 0; n < ELEMENTSOF(bad); n++) {
                _cleanup_free_ char *error = NULL, *error2 = NULL, *error3 = NULL;

                ASSERT_ERROR(identity_load(&i, directory, bad[n], &error), EINVAL);
                ASSERT_ERROR(session_key_load(&k, directory, bad[n], 0, &error2), EINVAL);
                ASSERT_ERROR(identity_import(directory, bad[n], &error3), EINVAL);
                ASSERT_ERROR(identity_new(&i, bad[n], "d", "u", &secrets), EINVAL);
                ASSERT_ERROR(key_store_lock(directory, bad[n]), EINVAL);
        }
}

TEST(session_keys) {
        static const struct {
                const char *text;
                int64_t now;
                int result;
                bool kept;
        } t[] = {
                { "{\"slug\":\"rob-1\",\"subkey_id\":\"sk\",\"subkey_secret_key\":\"" SECRET "\",\"expires_at\":5}",
                  4, 1, true },
                { "{\"slug\":\"rob-1\",\"subkey_id\":\"sk\",\"subkey_secret_key\":\"" SECRET "\",\"expires_at\":5}",
                  5, 0, false },
                { "{\"slug\":\"rob-1\",\"subkey_id\":\"sk\",\"subkey_secret_key\":\"" SECRET "\",\"expires_at\":null}",
                  INT64_MAX, 1, true },
                { "{\"slug\":\"rob-1\",\"subkey_id\":\"sk\",\"subkey_secret_key\":\"" SECRET "\"}", 1, 1, true },
                { "{\"slug\":\"rob-1\",\"subkey_id\":\"sk\",\"subkey_secret_key\":\"" SECRET "\",\"expires_at\":-5}",
                  1, -EBADMSG, true },
                { "{\"slug\":\"rob-1\",\"subkey_id\":\"sk\",\"subkey_secret_key\":\"" SECRET "\",\"expires_at\":\"5\"}",
                  1, -EBADMSG, true },
                { "{\"slug\":\"rob-1\",\"subkey_id\":null}", 1, -EBADMSG, true },
                { "nonsense", 1, -EBADMSG, true },
        };
        FRESH_DIRECTORY();

        for (size_t n = 0; n < ELEMENTSOF(t); n++) {
                _cleanup_(session_key_freep) SessionKey *k = NULL;
                _cleanup_free_ char *error = NULL;

                put("rob-1.session.json", t[n].text, 0600);
                ASSERT_EQ(session_key_load(&k, directory, "rob-1", t[n].now, &error), t[n].result);
                ASSERT_EQ(is_there("rob-1.session.json"), t[n].kept);
                ASSERT_EQ(!!error, t[n].result < 0);
        }
        {
                _cleanup_(session_key_freep) SessionKey *k = NULL;
                _cleanup_free_ char *error = NULL;

                ASSERT_EQ(session_key_load(&k, directory, "nobody-1", 1, &error), 0);
                ASSERT_NULL(error);
        }
}

TEST(never_expiring_key_survives_writing) {
        _cleanup_(session_key_freep) SessionKey *k = NULL, *again = NULL;
        _cleanup_free_ char *error = NULL;
        uint8_t seed[KEY_SIZE] = { 1, 2, 3 };
        FRESH_DIRECTORY();

        ASSERT_OK(session_key_new(&k, "rob-1", "sk_1", seed, -1));
        ASSERT_OK(session_key_save(k, directory));
        ASSERT_EQ(session_key_load(&again, directory, "rob-1", INT64_MAX, &error), 1);
        ASSERT_TRUE(again->expires_at_ms < 0);
        assert_memory_equal(again->seed, seed, KEY_SIZE);
}

TEST(lock_is_exclusive) {
        _cleanup_close_ int first = -EBADF;
        FRESH_DIRECTORY();

        first = ASSERT_OK(key_store_lock(directory, "rob-1"));
        ASSERT_ERROR(key_store_lock(directory, "rob-1"), EAGAIN);
        first = safe_close(first);
        first = ASSERT_OK(key_store_lock(directory, "rob-1"));
}

#define SESSION(expires) \
        "{\"slug\":\"rob-1\",\"subkey_id\":\"sk\",\"subkey_secret_key\":\"" SECRET "\",\"expires_at\":" expires "}"

TEST(expired_key_is_left_to_who_replaces_it) {
        _cleanup_(session_key_freep) SessionKey *k = NULL;
        _cleanup_close_ int rotation = -EBADF;
        _cleanup_free_ char *error = NULL;
        FRESH_DIRECTORY();

        put("rob-1.session.json", SESSION("5"), 0600);
        rotation = ASSERT_OK(key_store_lock(directory, "rob-1"));
        ASSERT_EQ(session_key_load(&k, directory, "rob-1", 5, &error), 0);
        ASSERT_TRUE(is_there("rob-1.session.json"));
        rotation = safe_close(rotation);
        ASSERT_EQ(session_key_load(&k, directory, "rob-1", 5, &error), 0);
        ASSERT_FALSE(is_there("rob-1.session.json"));
}

/* Replaces an expired key by a fresh one, again and again; the exit status says whether each was still there. */
static void rotate_often(const char *path) {
        for (unsigned i = 0; i < 500; i++) {
                int fd;

                while ((fd = key_store_lock(directory, "rob-1")) == -EAGAIN)
                        (void) sched_yield();
                put("rob-1.session.json", SESSION("5"), 0600);
                (void) usleep(i % 50);
                put("rob-1.session.json", SESSION("7"), 0600);
                close(fd);
                (void) usleep(50);
                if (access(path, F_OK) < 0)
                        _exit(1);
        }
        _exit(0);
}

TEST(new_key_of_another_process_is_never_deleted) {
        _cleanup_free_ char *path = NULL;
        int status;
        pid_t pid;
        FRESH_DIRECTORY();

        path = path_join(directory, "rob-1.session.json");
        pid = ASSERT_OK(fork());
        if (pid == 0)
                rotate_often(path);
        for (;;) {
                _cleanup_(session_key_freep) SessionKey *k = NULL;
                _cleanup_free_ char *error = NULL;

                ASSERT_OK(session_key_load(&k, directory, "rob-1", 6, &error));
                if (ASSERT_OK(waitpid(pid, &status, WNOHANG)) > 0)
                        break;
        }
        ASSERT_EQ(status, 0);
}

TEST(import_from_the_originals_command_line) {
        _cleanup_free_ char *data = NULL, *keys = NULL, *file = NULL, *error = NULL, *error2 = NULL, *error3 = NULL,
                            *mine = NULL;
        static const char text[] = "{" NAMES ",\"root_secret_key\":\"" SECRET "\"" REST "}";
        _cleanup_(identity_freep) Identity *i = NULL;
        FRESH_DIRECTORY();

        data = path_join(directory, "data");
        keys = path_join(data, "puffo/puffo-cli/keys");
        mine = path_join(directory, "keys");
        ASSERT_OK(setenv("XDG_DATA_HOME", data, 1));
        ASSERT_EQ(identity_import(mine, "rob-1", &error), 0);

        ASSERT_OK(directory_make(keys, 0700));
        file = path_join(keys, "rob-1.json");
        ASSERT_OK(file_write_atomic(file, "{}", 2, 0600));
        ASSERT_ERROR(identity_import(mine, "rob-1", &error2), EBADMSG);
        ASSERT_NOT_NULL(strstr(error2, "puffo-cli/keys/rob-1.json"));
        ASSERT_FALSE(is_there("keys/rob-1.json"));

        ASSERT_OK(file_write_atomic(file, text, strlen(text), 0644));
        ASSERT_EQ(identity_import(mine, "rob-1", &error3), 1);
        ASSERT_OK(identity_load(&i, mine, "rob-1", &error3));
        ASSERT_EQ(i->excess_mode, 0);
        /* Once is enough: what is there is never replaced. */
        ASSERT_EQ(identity_import(mine, "rob-1", &error3), 0);
        ASSERT_OK(unsetenv("XDG_DATA_HOME"));
}

TEST(list_of_a_missing_directory) {
        _cleanup_(strv_freep) char **slugs = NULL;

        ASSERT_OK(key_store_list("/nonexistent/keys", &slugs));
        ASSERT_EQ(strv_length(slugs), 0);
}

#define TEST_SUITE "key-store"
TEST_MAIN();
