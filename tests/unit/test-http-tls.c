/* SPDX-License-Identifier: MIT */

#include <microhttpd.h>
#include <stdio.h>

#include "event-util.h"
#include "file-util.h"
#include "http-client.h"
#include "loopback.h"
#include "string-util.h"
#include "tests.h"

/* For 127.0.0.1, signed by itself; good until 2120 and for nothing but this test, as all the world knows the key. */
static const char server_key[] =
        "-----BEGIN PRIVATE KEY-----\n"
        "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgSVZDhHGtTEg3khkU\n"
        "1xZmzD21lhx8OtAn5jFGbjevQrahRANCAASyHG6Fi79mkVtiL4m212Sft87PnRtm\n"
        "JA++cmeJUSPXGVm1gILkh5H8rOzuCeSyOaBcQaR7BpbkrrTbmIOAjlkg\n"
        "-----END PRIVATE KEY-----\n";

static const char server_certificate[] =
        "-----BEGIN CERTIFICATE-----\n"
        "MIIBaDCCAQ6gAwIBAgIBATAKBggqhkjOPQQDAjAaMRgwFgYDVQQDDA9wdWZmbyB1\n"
        "bml0IHRlc3QwIBcNMjAwMTAxMDAwMDAwWhgPMjEyMDAxMDEwMDAwMDBaMBoxGDAW\n"
        "BgNVBAMMD3B1ZmZvIHVuaXQgdGVzdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IA\n"
        "BLIcboWLv2aRW2IvibbXZJ+3zs+dG2YkD75yZ4lRI9cZWbWAguSHkfys7O4J5LI5\n"
        "oFxBpHsGluSutNuYg4COWSCjQzBBMA8GA1UdEQQIMAaHBH8AAAEwDwYDVR0TAQH/\n"
        "BAUwAwEB/zAdBgNVHQ4EFgQUZ696BO+ADjUQxoHzZpk7Uqa5Y9cwCgYIKoZIzj0E\n"
        "AwIDSAAwRQIgEe+rfGOBoUU0CQ6AkALHo8mxI1JsQKs40ZhE2TY0/HsCIQCCdHuA\n"
        "qHnYGW8x9UiXVdOPPsABYzBH6ZbZ9R7ZJgxVIQ==\n"
        "-----END CERTIFICATE-----\n";

typedef struct Outcome {
        bool done;
        HttpFailure failure;
        char *text;             /* body or error */
} Outcome;

static void on_done(HttpRequest *q, const HttpReply *reply, void *userdata) {
        Outcome *o = userdata;

        o->done = true;
        o->failure = reply->failure;
        o->text = strdup(reply->error ?: reply->body);
}

static void fetch(sd_event *event, HttpClient *c, uint16_t port, const char *ca_file, Outcome *o) {
        _cleanup_free_ char *url = asprintf_new("https://127.0.0.1:%u/", port);
        HttpRequest *q = NULL;

        free(o->text);
        *o = (Outcome) {};
        ASSERT_OK(http_client_start(c, &(HttpRequestSpec) {
                .url = url, .ca_file = ca_file, .on_done = on_done, .userdata = o }, &q));
        while (!o->done)
                ASSERT_TRUE(sd_event_run(event, 20 * USEC_PER_SEC) > 0);
        http_request_free(q);
}

static enum MHD_Result tls_on_request(void *userdata, struct MHD_Connection *mhd, const char *url, const char *method,
                                      const char *version, const char *data, size_t *size, void **context) {
        struct MHD_Response *r = MHD_create_response_from_buffer(6, (char*) "secret", MHD_RESPMEM_PERSISTENT);
        enum MHD_Result queued = MHD_queue_response(mhd, 200, r);

        MHD_destroy_response(r);
        return queued;
}

/* With TLS libmicrohttpd is never at rest during a handshake: let it run whenever nobody else wants to. */
static int tls_on_idle(sd_event_source *s, void *userdata) {
        ASSERT_EQ(MHD_run(userdata), MHD_YES);
        return 0;
}

TEST(https) {
        _cleanup_(sd_event_unrefp) sd_event *event = NULL;
        _cleanup_(http_client_freep) HttpClient *c = NULL;
        char ca_file[] = "/tmp/test-http-tls-XXXXXX";
        sd_event_source *idle = NULL;
        struct MHD_Daemon *mhd;
        HttpRequest *q = NULL;
        Outcome o = {};
        uint16_t port;
        int fd;

        if (MHD_is_feature_supported(MHD_FEATURE_TLS) != MHD_YES)
                skip();

        ASSERT_OK(sd_event_new(&event));
        fd = mkstemp(ca_file);
        ASSERT_TRUE(fd >= 0);
        ASSERT_OK(file_write_atomic(ca_file, server_certificate, strlen(server_certificate), 0600));
        safe_close(fd);

        mhd = MHD_start_daemon(MHD_USE_EPOLL|MHD_USE_TLS, 0, NULL, NULL, tls_on_request, NULL,
                               MHD_OPTION_LISTEN_SOCKET, listen_loopback(0, &port),
                               MHD_OPTION_HTTPS_MEM_KEY, server_key,
                               MHD_OPTION_HTTPS_MEM_CERT, server_certificate, MHD_OPTION_END);
        ASSERT_NOT_NULL(mhd);
        ASSERT_OK(sd_event_add_defer(event, &idle, tls_on_idle, mhd));
        ASSERT_OK(sd_event_source_set_priority(idle, SD_EVENT_PRIORITY_IDLE));
        ASSERT_OK(sd_event_source_set_enabled(idle, SD_EVENT_ON));
        ASSERT_OK(http_client_new(&c, event));

        fetch(event, c, port, NULL, &o);
        ASSERT_EQ(o.failure, HTTP_FAILED_TLS);
        fetch(event, c, port, ca_file, &o);
        ASSERT_EQ(o.failure, HTTP_OK);
        ASSERT_STREQ(o.text, "secret");
        /* The connection of the trusting request is kept alive; it is not for those who do not trust. */
        fetch(event, c, port, NULL, &o);
        ASSERT_EQ(o.failure, HTTP_FAILED_TLS);

        ASSERT_EQ(unlink(ca_file), 0);
        ASSERT_ERROR(http_client_start(c, &(HttpRequestSpec) {
                .url = "https://127.0.0.1/", .ca_file = ca_file, .on_done = on_done }, &q), ENOENT);

        free(o.text);
        c = http_client_free(c);
        sd_event_source_disable_unref(idle);
        MHD_stop_daemon(mhd);
}

/* Answers whatever comes first with text, then hangs up. */
typedef struct Plain {
        sd_event_source *listener, *connection;
        const char *text;
} Plain;

static int plain_on_input(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
        Plain *p = userdata;
        char buffer[8192];

        (void) recv(fd, buffer, sizeof(buffer), 0);
        (void) send(fd, p->text, strlen(p->text), MSG_NOSIGNAL);
        p->connection = sd_event_source_disable_unref(p->connection);
        return 0;
}

static int plain_on_connection(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
        Plain *p = userdata;

        ASSERT_OK(sd_event_add_io(sd_event_source_get_event(s), &p->connection, accept4(fd, NULL, NULL, SOCK_CLOEXEC),
                                  EPOLLIN, plain_on_input, p));
        ASSERT_OK(sd_event_source_set_io_fd_own(p->connection, true));
        return 0;
}

TEST(broken_handshake) {
        static const struct {
                const char *text;
                HttpFailure failure;
        } t[] = {
                { "", HTTP_FAILED_CONNECT },                            /* may work the next time */
                { "HTTP/1.1 400 Bad Request\r\n\r\n", HTTP_FAILED_TLS },        /* will not */
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_(sd_event_unrefp) sd_event *event = NULL;
                _cleanup_(http_client_freep) HttpClient *c = NULL;
                Plain p = { .text = t[i].text };
                Outcome o = {};
                uint16_t port;
                int fd = listen_loopback(0, &port);

                ASSERT_OK(sd_event_new(&event));
                ASSERT_OK(sd_event_add_io(event, &p.listener, fd, EPOLLIN, plain_on_connection, &p));
                ASSERT_OK(sd_event_source_set_io_fd_own(p.listener, true));
                ASSERT_OK(http_client_new(&c, event));
                fetch(event, c, port, NULL, &o);
                if (o.failure != t[i].failure)
                        fail_msg("Failure %i: %s", (int) o.failure, o.text);
                free(o.text);
                sd_event_source_disable_unref(p.connection);
                sd_event_source_disable_unref(p.listener);
        }
}

#define TEST_SUITE "http-tls"
TEST_MAIN();
