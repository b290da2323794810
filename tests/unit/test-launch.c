/* SPDX-License-Identifier: MIT */
#define TEST_SUITE "launch"

#include <pthread.h>

#include "launch.h"
#include "string-util.h"
#include "tests.h"

#define GOOD "{\"argv\":[\"/bin/true\"],\"env\":{},\"cwd\":\"/\"}"

TEST(all_of_it) {
        static const char text[] =
                "{\"argv\":[\"/abs/claude\",\"-p\",\"\"],\"env\":{\"HOME\":\"/h\",\"EMPTY\":\"\",\"EQ\":\"a=b\"},"
                "\"cwd\":\"/abs\",\"model_socket\":\"/run/puffo/model.sock\",\"proxy_socket\":null}";
        _cleanup_(launch_freep) Launch *l = NULL;
        _cleanup_free_ char *reason = NULL;

        ASSERT_OK(launch_parse(text, strlen(text), &l, &reason));
        ASSERT_EQ(strv_length(l->argv), 3);
        ASSERT_STREQ(l->argv[0], "/abs/claude");
        ASSERT_STREQ(l->argv[2], "");
        ASSERT_EQ(strv_length(l->environment), 3);
        ASSERT_STREQ(l->environment[0], "HOME=/h");
        ASSERT_STREQ(l->environment[1], "EMPTY=");
        ASSERT_STREQ(l->environment[2], "EQ=a=b");
        ASSERT_STREQ(l->cwd, "/abs");
        ASSERT_STREQ(l->model_socket, "/run/puffo/model.sock");
        ASSERT_NULL(l->proxy_socket);
        ASSERT_NULL(reason);
}

TEST(refusals) {
        static const struct { const char *text, *reason; } t[] = {
                { "", "the launch is no JSON object" },
                { "[]", "the launch is no JSON object" },
                { "null", "the launch is no JSON object" },
                { GOOD "x", "the launch is no JSON object" },
                { "{}", "argv is missing" },
                { "{\"argv\":[\"/x\"],\"cwd\":\"/\"}", "env is missing" },
                { "{\"argv\":[\"/x\"],\"env\":{}}", "cwd is missing" },
                { "{\"argv\":null}", "argv is no array" },
                { "{\"argv\":[]}", "argv is empty" },
                { "{\"argv\":[\"x\"]}", "program 'x' is no absolute path" },
                { "{\"argv\":[\"\"]}", "program '' is no absolute path" },
                { "{\"argv\":[\"/x\",1]}", "argv has something else than strings" },
                { "{\"argv\":[\"/x\",\"a\\u0000b\"]}", "argv has something else than strings" },
                { "{\"env\":[]}", "env is no object" },
                { "{\"env\":{\"\":\"\"}}", "variable '' has no valid name" },
                { "{\"env\":{\"1A\":\"\"}}", "variable '1A' has no valid name" },
                { "{\"env\":{\"A=B\":\"\"}}", "variable 'A=B' has no valid name" },
                { "{\"env\":{\"A\\nB\":\"\"}}", "variable 'A?B' has no valid name" },
                { "{\"env\":{\"A\":null}}", "variable 'A' is no string" },
                { "{\"env\":{\"A\":\"x\\u0000\"}}", "variable 'A' is no string" },
                { "{\"cwd\":null}", "cwd is no string" },
                { "{\"cwd\":\"tmp\"}", "cwd 'tmp' is no absolute path" },
                { "{\"model_socket\":\"@x\"}", "model_socket '@x' is no path of a socket" },
                { "{\"proxy_socket\":7}", "proxy_socket is no string" },
                { "{\"shell\":true}", "member 'shell' is unknown" },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_free_ char *reason = NULL;
                Launch *l = NULL;

                ASSERT_ERROR(launch_parse(t[i].text, strlen(t[i].text), &l, &reason), EBADMSG);
                ASSERT_STREQ(strempty(reason), t[i].reason);
                ASSERT_NULL(l);
        }
}

TEST(long_socket_path) {
        _cleanup_free_ char *reason = NULL, *text = NULL;
        char path[109] = "/";
        Launch *l = NULL;

        memset(path + 1, 'x', sizeof(path) - 2);
        text = strjoin("{\"model_socket\":\"", path, "\"}");
        ASSERT_ERROR(launch_parse(text, strlen(text), &l, &reason), EBADMSG);
        ASSERT_NOT_NULL(strstr(reason, "is no path of a socket"));
}

TEST(heads) {
        static const struct { const char *head; size_t size; const char *reason; } t[] = {
                { "00000000\n", 0, NULL },
                { "0000002a\n", 42, NULL },
                { "00100000\n", MIB(1), NULL },
                { "00100001\n", 0, "the launch is too large" },
                { "ffffffff\n", 0, "the launch is too large" },
                { "0000002A\n", 0, "the launch does not begin with its size" },
                { "0000002a ", 0, "the launch does not begin with its size" },
                { "-000002a\n", 0, "the launch does not begin with its size" },
                { "       2\n", 0, "the launch does not begin with its size" },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_free_ char *reason = NULL;
                size_t size = 0;
                int r = launch_parse_head(t[i].head, &size, &reason);

                ASSERT_EQ(r, t[i].reason ? -EBADMSG : 0);
                ASSERT_EQ(size, t[i].size);
                if (t[i].reason)
                        ASSERT_STREQ(strempty(reason), t[i].reason);
        }
}

/* --- from a pipe --- */

typedef struct Writer {
        int fd;
        const char *data;
        size_t size, piece;
} Writer;

static void* write_all(void *userdata) {
        Writer *w = userdata;

        for (size_t at = 0; at < w->size; at += w->piece) {
                size_t n = MIN(w->piece, w->size - at);

                if (write(w->fd, w->data + at, n) != (ssize_t) n)
                        break;
        }
        (void) close(w->fd);
        return NULL;
}

static int read_pieces(const char *data, size_t size, size_t piece, Launch **ret, char **reterr_reason, StrBuf *rest) {
        int fds[2], r;
        Writer w = { .data = data, .size = size, .piece = piece };
        pthread_t thread;
        char buffer[256];
        ssize_t n;

        assert_int_equal(pipe(fds), 0);
        w.fd = fds[1];
        assert_int_equal(pthread_create(&thread, NULL, write_all, &w), 0);
        r = launch_read(fds[0], ret, reterr_reason);
        while ((n = read(fds[0], buffer, sizeof(buffer))) > 0)
                ASSERT_OK(strbuf_append(rest, buffer, (size_t) n));
        assert_int_equal(pthread_join(thread, NULL), 0);
        (void) close(fds[0]);
        return r;
}

TEST(nothing_more_is_read) {
        static const size_t pieces[] = { 1, 3, 9, 4096 };
        _cleanup_free_ char *data = asprintf_new("%08zx\n%s%s", strlen(GOOD), GOOD, "{\"type\":\"user\"}\n");

        for (size_t i = 0; i < ELEMENTSOF(pieces); i++) {
                _cleanup_(launch_freep) Launch *l = NULL;
                _cleanup_(strbuf_done) StrBuf rest = {};
                _cleanup_free_ char *reason = NULL;

                ASSERT_OK(read_pieces(data, strlen(data), pieces[i], &l, &reason, &rest));
                ASSERT_STREQ(l->argv[0], "/bin/true");
                ASSERT_STREQ(rest.text, "{\"type\":\"user\"}\n");
        }
}

TEST(cut_off) {
        static const char *const t[] = { "", "0000", "00000010\n", "00000010\n{\"argv\":" };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_(strbuf_done) StrBuf rest = {};
                _cleanup_free_ char *reason = NULL;
                Launch *l = NULL;

                ASSERT_ERROR(read_pieces(t[i], strlen(t[i]), 64, &l, &reason, &rest), EBADMSG);
                ASSERT_STREQ(strempty(reason), "the launch is cut off");
        }
}

/* --- ports --- */

static char* with_ports(const char *value, uint16_t model, uint16_t proxy, char **reterr_reason) {
        _cleanup_(launch_freep) Launch *l = NULL;
        _cleanup_free_ char *text = NULL, *reason = NULL;

        text = strjoin("{\"argv\":[\"/x\"],\"env\":{\"V\":\"", value, "\"},\"cwd\":\"/\"}");
        ASSERT_OK(launch_parse(text, strlen(text), &l, &reason));
        if (launch_set_ports(l, model, proxy, reterr_reason) < 0)
                return NULL;
        return strdup(l->environment[0]);
}

TEST(ports) {
        static const struct { const char *value, *expected; } t[] = {
                { "", "V=" },
                { "{", "V={" },
                { "{}{model_port", "V={}{model_port" },
                { "http://127.0.0.1:{model_port}", "V=http://127.0.0.1:8080" },
                { "{model_port}{proxy_port}{model_port}", "V=80803128" "8080" },
                { "{{proxy_port}}", "V={3128}" },
                { "{MODEL_PORT}", "V={MODEL_PORT}" },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_free_ char *reason = NULL, *made = with_ports(t[i].value, 8080, 3128, &reason);

                ASSERT_NOT_NULL(made);
                ASSERT_STREQ(made, t[i].expected);
        }
}

/* One argument has them too, none of the others. */
TEST(a_port_in_an_argument) {
        static const struct { const char *json, *expected, *reason; } t[] = {
                { "", "a={model_port}", "" },
                { "\"port_argument\": 1,", "a=8080", "" },
                { "\"port_argument\": 2,", NULL, "port_argument is none of argv's with a value" },
                { "\"port_argument\": 9,", NULL, "port_argument is none of argv's with a value" },
                { "\"port_argument\": 0,", NULL, "port_argument is no index of argv" },
                { "\"port_argument\": \"1\",", NULL, "port_argument is no index of argv" },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_free_ char *text = NULL, *reason = NULL;
                _cleanup_(launch_freep) Launch *l = NULL;

                text = strjoin("{", t[i].json, "\"argv\":[\"/x\",\"a={model_port}\",\"{proxy_port}\"],\"env\":{},"
                                        "\"cwd\":\"/\"}");
                if (!t[i].expected) {
                        ASSERT_ERROR(launch_parse(text, strlen(text), &l, &reason), EBADMSG);
                        ASSERT_STREQ(strempty(reason), t[i].reason);
                        continue;
                }
                ASSERT_OK(launch_parse(text, strlen(text), &l, &reason));
                ASSERT_OK(launch_set_ports(l, 8080, 0, &reason));
                ASSERT_STREQ(l->argv[1], t[i].expected);
                ASSERT_STREQ(l->argv[2], "{proxy_port}");
        }
}

TEST(ports_that_are_not_there) {
        static const struct { const char *value; uint16_t model, proxy; } t[] = {
                { "{model_port}", 0, 3128 }, { "x{proxy_port}", 8080, 0 },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_free_ char *reason = NULL, *made = with_ports(t[i].value, t[i].model, t[i].proxy, &reason);

                ASSERT_NULL(made);
                ASSERT_STREQ(strempty(reason), "variable 'V' names a port that is not relayed");
        }
}

TEST_MAIN();
