/* SPDX-License-Identifier: MIT */

#include <stdio.h>
#include <sys/stat.h>

#include "file-util.h"
#include "proxy.h"
#include "string-util.h"
#include "tests.h"

TEST(address) {
        static const struct {
                const char *ip, *port, *url;
                bool loopback, is_default;
                const char *error;
        } t[] = {
                { NULL, NULL, "http://127.0.0.1:7011", true, true, NULL },
                { "127.0.0.1", "7011", "http://127.0.0.1:7011", true, true, NULL },
                { "127.5.0.1", "80", "http://127.5.0.1:80", true, false, NULL },
                { "0.0.0.0", NULL, "http://0.0.0.0:7011", false, false, NULL },
                { "::1", "7012", "http://[::1]:7012", true, false, NULL },
                { "::", NULL, "http://[::]:7011", false, false, NULL },
                { "999.1.1.1", NULL, NULL, false, false, "'999.1.1.1' is no IP address" },
                { "localhost", NULL, NULL, false, false, "'localhost' is no IP address" },
                { "", NULL, NULL, false, false, "'' is no IP address" },
                { NULL, "0", NULL, false, false, "'0' is no port: a number from 1 to 65535 is expected" },
                { NULL, "65536", NULL, false, false, "'65536' is no port: a number from 1 to 65535 is expected" },
                { NULL, "7o11", NULL, false, false, "'7o11' is no port: a number from 1 to 65535 is expected" },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_(proxy_address_done) ProxyAddress a = {};
                _cleanup_free_ char *error = NULL, *url = NULL;
                int r = proxy_address_parse(t[i].ip, t[i].port, &a, &error);

                if (t[i].error) {
                        ASSERT_EQ(r, -EINVAL);
                        ASSERT_STREQ(error, t[i].error);
                        continue;
                }
                ASSERT_OK(r);
                url = proxy_address_url(&a);
                ASSERT_STREQ(url, t[i].url);
                ASSERT_EQ(a.loopback, t[i].loopback);
                ASSERT_EQ(proxy_address_is_default(&a), t[i].is_default);
        }
}

TEST(drop_in_texts) {
        _cleanup_(proxy_address_done) ProxyAddress four = {}, six = {};
        _cleanup_free_ char *error = NULL, *listen4 = NULL, *listen6 = NULL, *key = NULL;

        ASSERT_OK(proxy_address_parse("10.0.0.1", "7012", &four, &error));
        ASSERT_OK(proxy_address_parse("::1", NULL, &six, &error));
        listen4 = proxy_listen_drop_in(&four);
        listen6 = proxy_listen_drop_in(&six);
        key = proxy_key_drop_in("/home/100%/api-key");
        ASSERT_NOT_NULL(strstr(listen4, "[Socket]\nListenStream=\nListenStream=10.0.0.1:7012\nFreeBind=yes\n"));
        ASSERT_NOT_NULL(strstr(listen6, "ListenStream=[::1]:7011\n"));
        ASSERT_NOT_NULL(strstr(key, "[Service]\nLoadCredential=api-key:/home/100%%/api-key\n"));
}

TEST(put_drop_in) {
        _cleanup_free_ char *directory = strdup("/tmp/puffo-test-XXXXXX"), *path = NULL, *text = NULL;
        struct stat st;

        ASSERT_NOT_NULL(mkdtemp(directory));
        path = path_join(directory, "x.socket.d/10-listen.conf");
        ASSERT_EQ(proxy_put_drop_in(directory, "x.socket", "10-listen.conf", NULL), 0);
        ASSERT_EQ(proxy_put_drop_in(directory, "x.socket", "10-listen.conf", "one"), 1);
        ASSERT_EQ(proxy_put_drop_in(directory, "x.socket", "10-listen.conf", "one"), 0);
        ASSERT_EQ(proxy_put_drop_in(directory, "x.socket", "10-listen.conf", "two"), 1);
        ASSERT_OK(file_read(path, 100, &text, NULL));
        ASSERT_STREQ(text, "two");
        ASSERT_EQ(stat(path, &st), 0);
        ASSERT_EQ(st.st_mode & 0777, 0644);
        ASSERT_EQ(proxy_put_drop_in(directory, "x.socket", "10-listen.conf", NULL), 1);
        ASSERT_EQ(access(path, F_OK), -1);
        ASSERT_EQ(rmdir(directory), 0); /* its folder is gone as well */
}

TEST(settings) {
        static const struct {
                const char *text, *ip, *port;
                bool has_key;
                const char *error;
        } t[] = {
                { "", NULL, NULL, false, NULL },
                { "ip: 0.0.0.0\nport: 7012\napi_key: abc\nother: [1]\n", "0.0.0.0", "7012", true, NULL },
                { "ip: \nport: null\napi_key: ''\n", NULL, NULL, false, NULL },
                { "port: '80'\n", NULL, "80", false, NULL },
                { "port: 80\nip: [1]\n", NULL, NULL, false, "config.yaml:2: ip: expected a text" },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_(proxy_settings_done) ProxySettings s = {};
                _cleanup_free_ char *error = NULL;
                int r = proxy_settings_parse("config.yaml", t[i].text, strlen(t[i].text), &s, &error);

                if (t[i].error) {
                        ASSERT_EQ(r, -EBADMSG);
                        ASSERT_STREQ(error, t[i].error);
                        continue;
                }
                ASSERT_OK(r);
                ASSERT_TRUE(streq_ptr(s.ip, t[i].ip));
                ASSERT_TRUE(streq_ptr(s.port, t[i].port));
                ASSERT_EQ(s.has_key, t[i].has_key);
        }
}

TEST(settings_that_are_no_yaml) {
        _cleanup_(proxy_settings_done) ProxySettings s = {};
        _cleanup_free_ char *error = NULL;

        ASSERT_ERROR(proxy_settings_parse("config.yaml", "ip: [", 5, &s, &error), EBADMSG);
        ASSERT_NOT_NULL(startswith(error, "config.yaml:"));
}

TEST(linger_is_remembered_once) {
        _cleanup_free_ char *directory = strdup("/tmp/puffo-test-XXXXXX");

        ASSERT_NOT_NULL(mkdtemp(directory));
        ASSERT_FALSE(proxy_linger_is_remembered(directory));
        ASSERT_OK(proxy_linger_remember(directory));
        ASSERT_OK(proxy_linger_remember(directory));
        ASSERT_TRUE(proxy_linger_is_remembered(directory));
        ASSERT_TRUE(proxy_linger_is_remembered(directory));
        ASSERT_OK(proxy_linger_forget(directory));
        ASSERT_FALSE(proxy_linger_is_remembered(directory));
        ASSERT_OK(proxy_linger_forget(directory));
        ASSERT_EQ(rmdir(directory), 0);
}

TEST(states_of_units) {
        static const struct {
                const char *active, *sub, *text, *state;
        } t[] = {
                { "active", "running", "ready", "ready" },
                { "active", "running", "busy", "busy" },
                { "active", "running", NULL, "active" },
                { "active", "running", "no key for provider 'anthropic'", "failed" },
                { "activating", "start", NULL, "starting" },
                { "activating", "auto-restart", NULL, "restarting" },
                { "deactivating", "stop-sigterm", NULL, "stopping" },
                { "failed", "failed", NULL, "failed" },
                { "inactive", "dead", NULL, "stopped" },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++)
                ASSERT_STREQ(proxy_state_of_unit(t[i].active, t[i].sub, t[i].text), t[i].state);
}

#define TEST_SUITE "proxy"
TEST_MAIN();
