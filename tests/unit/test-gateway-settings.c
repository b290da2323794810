/* SPDX-License-Identifier: MIT */
#define TEST_SUITE "gateway-settings"

#include <sys/stat.h>

#include "file-util.h"
#include "gateway-settings.h"
#include "string-util.h"
#include "tests.h"

TEST(parse) {
        static const struct {
                const char *text;
                const char *error;      /* how the message ends; NULL: fine */
                uint64_t sync_seconds;
                bool interrupt, strict;
                size_t n_hosts, n_keys;
        } t[] = {
                { "", NULL, 290, true, false, 0, 0 },
                { "sync_timeout: 60\non_disconnect: continue\nstrict_tools: true\nport: 7011\n", NULL, 60, false,
                  true, 0, 0 },
                { "host_names: [a.example, b]\napi_key: one,two\n", NULL, 290, true, false, 2, 2 },
                { "host_names: a.example\nsync_timeout:\n", NULL, 290, true, false, 1, 0 },
                { "sync_timeout: 0\n", "c.yaml:1: sync_timeout: expected seconds, 1 to 3600", 0, 0, 0, 0, 0 },
                { "x: 1\non_disconnect: maybe\n", "c.yaml:2: on_disconnect: expected 'interrupt' or 'continue'", 0, 0,
                  0, 0, 0 },
                { "buffer_until_item_done: x\n", "c.yaml:1: buffer_until_item_done: expected true or false", 0, 0, 0, 0,
                  0 },
                { "strict_tools: 3\n", "c.yaml:1: strict_tools: expected true or false", 0, 0, 0, 0, 0 },
                { "host_names: ['a:80']\n", "c.yaml:1: host_names: expected a list of host names without port", 0, 0,
                  0, 0, 0 },
                { "api_key: {}\n", "c.yaml:1: api_key: expected a text", 0, 0, 0, 0, 0 },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_(gateway_settings_freep) GatewaySettings *s = NULL;
                _cleanup_free_ char *error = NULL;

                ASSERT_OK(gateway_settings_new(&s));
                if (t[i].error) {
                        ASSERT_ERROR(gateway_settings_parse(s, "c.yaml", t[i].text, strlen(t[i].text), true, &error),
                                EBADMSG);
                        ASSERT_STREQ(error, t[i].error);
                        continue;
                }
                ASSERT_OK(gateway_settings_parse(s, "c.yaml", t[i].text, strlen(t[i].text), true, &error));
                ASSERT_EQ(s->sync_timeout_usec, t[i].sync_seconds * USEC_PER_SEC);
                ASSERT_EQ(s->interrupt_on_disconnect, t[i].interrupt);
                ASSERT_EQ(s->strict_tools, t[i].strict);
                ASSERT_EQ(strv_length(s->host_names), t[i].n_hosts);
                ASSERT_EQ(s->keys.n, t[i].n_keys);
        }
}

static GatewaySettings* load(void) {
        _cleanup_free_ char *error = NULL;
        GatewaySettings *s = NULL;

        ASSERT_OK(gateway_settings_load(&s, SCOPE_USER, &error));
        return s;
}

/* The credential, then the environment, then the file beside the configuration, then the configuration. */
TEST(where_keys_come_from) {
        char root[] = "/tmp/test-settings-XXXXXX";
        _cleanup_free_ char *directory = NULL, *config = NULL, *file = NULL, *credential = NULL, *error = NULL;
        GatewaySettings *s = NULL;

        ASSERT_NOT_NULL(mkdtemp(root));
        directory = strjoin(root, "/.state");
        config = strjoin(directory, "/config.yaml");
        file = strjoin(directory, "/api-key");
        credential = strjoin(root, "/api-key");
        ASSERT_OK(directory_make(directory, 0700));
        ASSERT_EQ(setenv("AGENT_PROXY_HOME", root, 1), 0);
        (void) unsetenv("AGENT_PROXY_API_KEY");
        (void) unsetenv("CREDENTIALS_DIRECTORY");

        s = load();
        ASSERT_EQ(s->keys.n, 0);
        gateway_settings_free(s);

        ASSERT_OK(file_write_atomic(config, "api_key: a\n", 11, 0600));
        s = load();
        ASSERT_EQ(api_keys_check(&s->keys, "Bearer a"), API_KEY_OK);
        gateway_settings_free(s);

        ASSERT_OK(file_write_atomic(file, "b\n", 2, 0600));
        s = load();
        ASSERT_EQ(s->keys.n, 1);
        ASSERT_EQ(api_keys_check(&s->keys, "Bearer b"), API_KEY_OK);
        gateway_settings_free(s);

        ASSERT_EQ(setenv("AGENT_PROXY_API_KEY", "c", 1), 0);
        s = load();
        ASSERT_EQ(s->keys.n, 1);
        ASSERT_EQ(api_keys_check(&s->keys, "Bearer c"), API_KEY_OK);
        ASSERT_NULL(getenv("AGENT_PROXY_API_KEY"));
        gateway_settings_free(s);

        ASSERT_EQ(setenv("AGENT_PROXY_API_KEY", "c", 1), 0);
        ASSERT_EQ(setenv("CREDENTIALS_DIRECTORY", root, 1), 0);
        ASSERT_OK(file_write_atomic(credential, "d", 1, 0600));
        s = load();
        ASSERT_EQ(s->keys.n, 1);
        ASSERT_EQ(api_keys_check(&s->keys, "Bearer d"), API_KEY_OK);
        gateway_settings_free(s);

        /* A key that is there and cannot be read is no reason to serve without one. */
        ASSERT_EQ(unlink(credential), 0);
        ASSERT_EQ(mkdir(credential, 0700), 0);
        s = NULL;
        ASSERT_TRUE(gateway_settings_load(&s, SCOPE_USER, &error) < 0);
        ASSERT_NOT_NULL(error);
        ASSERT_OK(directory_remove(root));
}

TEST_MAIN();
