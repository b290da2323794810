/* SPDX-License-Identifier: MIT */

#include <arpa/inet.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "event-util.h"
#include "link-client.h"
#include "link-wire.h"
#include "string-util.h"
#include "tests.h"
#include "through-link.h"
#include "websocket.h"

/* What there is besides what http-client.h and websocket.h promise (their own tests run through a link as well). */

/* --- a server on the loop, which sends as much as is taken --- */

typedef struct Server {
        sd_event_source *listener, *connection;
        char url[64];
        StrBuf asked;
        const char *head;
        size_t flood, sent;             /* bytes behind the head */
        bool answered;
} Server;

static void server_send(Server *s, int fd) {
        static const char block[65536];

        if (!s->answered) {
                ASSERT_EQ(send(fd, s->head, strlen(s->head), MSG_NOSIGNAL), (ssize_t) strlen(s->head));
                s->answered = true;
        }
        while (s->sent < s->flood) {
                ssize_t n = send(fd, block, MIN(sizeof(block), s->flood - s->sent), MSG_DONTWAIT | MSG_NOSIGNAL);

                if (n < 0)
                        break;
                s->sent += (size_t) n;
        }
        (void) sd_event_source_set_io_events(s->connection, s->sent < s->flood ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

static int server_on_io(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        Server *s = userdata;
        char buffer[4096];
        ssize_t n;

        if (revents & EPOLLIN) {
                n = recv(fd, buffer, sizeof(buffer), MSG_DONTWAIT);
                if (n <= 0) {
                        s->connection = sd_event_source_disable_unref(s->connection);
                        return 0;
                }
                ASSERT_OK(strbuf_append(&s->asked, buffer, (size_t) n));
        }
        if (s->head && s->asked.text && strstr(s->asked.text, "\r\n\r\n"))
                server_send(s, fd);
        return 0;
}

static int server_on_connection(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        Server *s = userdata;
        int connection = accept4(fd, NULL, NULL, SOCK_CLOEXEC);

        ASSERT_TRUE(connection >= 0);
        (void) sd_event_source_disable_unref(s->connection);
        s->answered = false;
        s->sent = 0;
        strbuf_done(&s->asked);
        ASSERT_OK(sd_event_add_io(sd_event_source_get_event(source), &s->connection, connection, EPOLLIN, server_on_io,
                                  s));
        ASSERT_OK(sd_event_source_set_io_fd_own(s->connection, true));
        return 0;
}

static void server_start(Server *s, sd_event *event, const char *head) {
        struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        ASSERT_TRUE(fd >= 0);
        ASSERT_EQ(bind(fd, (struct sockaddr*) &a, sizeof(a)), 0);
        ASSERT_EQ(getsockname(fd, (struct sockaddr*) &a, &(socklen_t) { sizeof(a) }), 0);
        ASSERT_EQ(listen(fd, 16), 0);
        s->head = head;
        (void) snprintf(s->url, sizeof(s->url), "http://127.0.0.1:%u/", (unsigned) ntohs(a.sin_port));
        ASSERT_OK(sd_event_add_io(event, &s->listener, fd, EPOLLIN, server_on_connection, s));
        ASSERT_OK(sd_event_source_set_io_fd_own(s->listener, true));
}

static void server_done(Server *s) {
        (void) sd_event_source_disable_unref(s->connection);
        (void) sd_event_source_disable_unref(s->listener);
        strbuf_done(&s->asked);
}

/* --- one who asks --- */

typedef struct Asker {
        sd_event *event;
        HttpClient *http;
        HttpRequest *request;
        WebSocket *socket;
        Server server;
        bool done, opened;
        HttpFailure failure;
        long status;
        char *error;
        size_t got;
        unsigned n_texts;
        bool pause_at_once;
} Asker;

static void asker_init(Asker *a, const char *head) {
        *a = (Asker) {};
        ASSERT_OK(sd_event_new(&a->event));
        ASSERT_OK(http_client_new(&a->http, a->event));
        server_start(&a->server, a->event, head);
}

static void asker_done(Asker *a) {
        a->request = http_request_free(a->request);
        a->socket = websocket_free(a->socket);
        a->http = http_client_free(a->http);
        server_done(&a->server);
        free(a->error);
        sd_event_unref(a->event);
}
#define ASKER(name, head) _cleanup_(asker_done) Asker name; asker_init(&name, head)

static void on_done(HttpRequest *q, const HttpReply *reply, void *userdata) {
        Asker *a = userdata;

        ASSERT_FALSE(a->done);
        a->done = true;
        a->failure = reply->failure;
        a->status = reply->status;
        free(a->error);
        a->error = strdup(strempty(reply->error));
}

static int on_data(HttpRequest *q, const char *data, size_t size, void *userdata) {
        Asker *a = userdata;

        a->got += size;
        if (a->pause_at_once) {
                a->pause_at_once = false;
                http_request_pause(q, true);
        }
        return 0;
}

static void ask(Asker *a, HttpRequestSpec spec) {
        a->request = http_request_free(a->request);
        a->done = false;
        spec.url = spec.url ?: a->server.url;
        spec.on_done = on_done;
        spec.userdata = a;
        ASSERT_OK(http_client_start(a->http, &spec, &a->request));
        ASSERT_FALSE(a->done);
}

static void on_open(WebSocket *w, void *userdata) {
        ((Asker*) userdata)->opened = true;
}

static void on_text(WebSocket *w, const char *text, size_t size, void *userdata) {
        Asker *a = userdata;

        a->n_texts++;
        a->got += size;
        if (a->pause_at_once) {
                a->pause_at_once = false;
                websocket_pause(w, true);
        }
}

static void on_close(WebSocket *w, const WebSocketEnd *end, void *userdata) {
        Asker *a = userdata;

        ASSERT_FALSE(a->done);
        a->done = true;
        a->failure = end->failure;
        ASSERT_EQ(end->opened, a->opened);
        free(a->error);
        a->error = strdup(end->error);
        a->socket = websocket_free(w);
}

static void open_socket(Asker *a, WebSocketSpec spec) {
        char url[80];

        (void) snprintf(url, sizeof(url), "ws%s", a->server.url + strlen("http"));
        a->done = a->opened = false;
        spec.url = spec.url ?: url;
        spec.on_open = on_open;
        spec.on_text = on_text;
        spec.on_close = on_close;
        spec.userdata = a;
        ASSERT_OK(websocket_new(&a->socket, a->http, a->event, &spec));
}

#define LOOP_UNTIL(a, condition) \
        while (!(condition)) \
                ASSERT_TRUE(sd_event_run((a)->event, 60 * USEC_PER_SEC) > 0)

#define OK_HEAD "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"

/* --- the link is not there --- */

TEST(nobody_listens) {
        static const char *const paths[] = { "/nonexistent/link", "/dev/null" };
        ASKER(a, OK_HEAD);

        ASSERT_ERROR(link_set_socket("/a/path/that/is/far/longer/than/what/the/address/of/a/unix/socket/can/ever/hold/"
                                     "whatever/it/may/be/that/one/puts/into/it"), ENAMETOOLONG);
        for (size_t i = 0; i < ELEMENTSOF(paths); i++) {
                ASSERT_OK(link_set_socket(paths[i]));
                ask(&a, (HttpRequestSpec) {});
                LOOP_UNTIL(&a, a.done);
                ASSERT_EQ(a.failure, HTTP_FAILED_CONNECT);
                ASSERT_NOT_NULL(strstr(a.error, paths[i]));
                ASSERT_NOT_NULL(strstr(a.error, "puffo-link.socket"));

                open_socket(&a, (WebSocketSpec) {});
                LOOP_UNTIL(&a, a.done);
                ASSERT_EQ(a.failure, HTTP_FAILED_CONNECT);
                ASSERT_NOT_NULL(strstr(a.error, "puffo-link.socket"));
        }
        ASSERT_OK(link_set_socket(through_link_path()));
}

/* --- the link ends --- */

TEST(killed_amid_a_request) {
        ASKER(a, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n012");

        ask(&a, (HttpRequestSpec) { .on_data = on_data });
        LOOP_UNTIL(&a, a.got == 3);
        through_link_kill();
        LOOP_UNTIL(&a, a.done);
        ASSERT_EQ(a.failure, HTTP_FAILED_CUT);
        ASSERT_EQ(a.status, 200);
        ASSERT_NOT_NULL(strstr(a.error, "puffo-link"));

        /* What is asked for meanwhile waits for the next one, as with a service manager's socket. */
        a.server.head = OK_HEAD;
        ask(&a, (HttpRequestSpec) {});
        through_link_start();
        LOOP_UNTIL(&a, a.done);
        ASSERT_EQ(a.failure, HTTP_OK);
}

TEST(killed_before_the_answer) {
        ASKER(a, NULL);

        ask(&a, (HttpRequestSpec) { .body = "x", .body_size = 1, .has_body = true });
        LOOP_UNTIL(&a, a.server.asked.size > 0);
        through_link_kill();
        LOOP_UNTIL(&a, a.done);
        ASSERT_EQ(a.failure, HTTP_FAILED_CUT);
        ASSERT_EQ(a.status, 0);
        through_link_start();
}

TEST(killed_with_a_socket_that_is_not_open) {
        ASKER(a, NULL);

        open_socket(&a, (WebSocketSpec) {});
        LOOP_UNTIL(&a, a.server.asked.size > 0);
        through_link_kill();
        LOOP_UNTIL(&a, a.done);
        ASSERT_EQ(a.failure, HTTP_FAILED_CONNECT);
        ASSERT_FALSE(a.opened);
        through_link_start();
}

/* --- links that are none --- */

/* What a request and a WebSocket make of these bytes. */
static void answer_with(const char *bytes, size_t size, HttpFailure *ret_request, HttpFailure *ret_socket) {
        char directory[] = "/tmp/test-net-link-XXXXXX";
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        pid_t pid;
        ASKER(a, NULL);

        ASSERT_NOT_NULL(mkdtemp(directory));
        (void) snprintf(address.sun_path, sizeof(address.sun_path), "%s/link", directory);
        ASSERT_EQ(bind(fd, (struct sockaddr*) &address, sizeof(address)), 0);
        ASSERT_EQ(listen(fd, 2), 0);
        ASSERT_OK(link_set_socket(address.sun_path));

        pid = fork();
        ASSERT_TRUE(pid >= 0);
        if (pid == 0) {
                for (unsigned i = 0; i < 2; i++) {
                        int connection = accept(fd, NULL, NULL);
                        char buffer[4096];

                        (void) !read(connection, buffer, sizeof(buffer));
                        (void) !write(connection, bytes, size);
                        (void) close(connection);
                }
                _exit(0);
        }
        ask(&a, (HttpRequestSpec) { .on_data = on_data, .any_status = true });
        LOOP_UNTIL(&a, a.done);
        *ret_request = a.failure;
        open_socket(&a, (WebSocketSpec) { .max_message = 4 });
        LOOP_UNTIL(&a, a.done);
        *ret_socket = a.failure;

        ASSERT_EQ(waitpid(pid, NULL, 0), pid);
        (void) close(fd);
        ASSERT_EQ(unlink(address.sun_path), 0);
        ASSERT_EQ(rmdir(directory), 0);
        ASSERT_OK(link_set_socket(through_link_path()));
}

TEST(nonsense_from_a_link) {
#define FRAMES(x) x, sizeof(x) - 1
        static const struct {
                const char *bytes;
                size_t size;
                HttpFailure request, socket;
        } t[] = {
                { FRAMES(""), HTTP_FAILED_CUT, HTTP_FAILED_CONNECT },
                { FRAMES("h\x0a\0\0\0status 200"), HTTP_FAILED_CUT, HTTP_FAILED_PROTOCOL },
                { FRAMES("h\xff\xff\xff\xff"), HTTP_FAILED_PROTOCOL, HTTP_FAILED_PROTOCOL },
                { FRAMES("d\x01\0\x01\0x"), HTTP_FAILED_PROTOCOL, HTTP_FAILED_PROTOCOL },
                { FRAMES("d\x02\0\0\0x"), HTTP_FAILED_CUT, HTTP_FAILED_CONNECT },
                { FRAMES("h\x0c\0\0\0header nope\n"), HTTP_FAILED_PROTOCOL, HTTP_FAILED_PROTOCOL },
                { FRAMES("?\0\0\0\0"), HTTP_FAILED_PROTOCOL, HTTP_FAILED_PROTOCOL },
                { FRAMES("SSH-2.0-x\r\n"), HTTP_FAILED_PROTOCOL, HTTP_FAILED_PROTOCOL },
                { FRAMES("f\0\0\0\0"), HTTP_FAILED_PROTOCOL, HTTP_FAILED_PROTOCOL },
                { FRAMES("f\x10\0\0\0failure strange\n"), HTTP_FAILED_PROTOCOL, HTTP_FAILED_PROTOCOL },
                { FRAMES("f\x0c\0\0\0failure tls\n"), HTTP_FAILED_TLS, HTTP_FAILED_TLS },
                { FRAMES("f\x15\0\0\0new word\nfailure cut\n"), HTTP_FAILED_CUT, HTTP_FAILED_CUT },
                { FRAMES("o\0\0\0\0"), HTTP_FAILED_PROTOCOL, HTTP_FAILED_CUT },
                /* A text before it is open, without its end, too long, without a NUL, and a proper one. */
                { FRAMES("t\x02\0\0\0x\0"), HTTP_FAILED_PROTOCOL, HTTP_FAILED_PROTOCOL },
                { FRAMES("o\0\0\0\0t\x02\0\0\0x"), HTTP_FAILED_PROTOCOL, HTTP_FAILED_CUT },
                { FRAMES("o\0\0\0\0t\x06\0\0\0abcde\0"), HTTP_FAILED_PROTOCOL, HTTP_FAILED_PROTOCOL },
                { FRAMES("o\0\0\0\0t\x02\0\0\0xy"), HTTP_FAILED_PROTOCOL, HTTP_FAILED_PROTOCOL },
                { FRAMES("o\0\0\0\0t\0\0\0\0"), HTTP_FAILED_PROTOCOL, HTTP_FAILED_PROTOCOL },
                { FRAMES("o\0\0\0\0t\x05\0\0\0abcd\0"), HTTP_FAILED_PROTOCOL, HTTP_FAILED_CUT },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                HttpFailure request, websocket;

                answer_with(t[i].bytes, t[i].size, &request, &websocket);
                if (request != t[i].request || websocket != t[i].socket)
                        fail_msg("%zu: %s, %s", i, http_failure_to_string(request), http_failure_to_string(websocket));
        }
}

/* --- who does not read --- */

static void settle(Asker *a, const size_t *counter) {
        for (size_t before = SIZE_MAX; before != *counter;) {
                before = *counter;
                for (int r = 1; r > 0;)
                        r = ASSERT_OK(sd_event_run(a->event, 300 * USEC_PER_MSEC));
        }
}

TEST(answer_that_is_not_read) {
        char head[80];
        ASKER(a, NULL);

        (void) snprintf(head, sizeof(head), "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", MIB(64));
        a.server.head = head;
        a.server.flood = MIB(64);
        a.pause_at_once = true;
        /* It does not time out while it is paused. */
        ask(&a, (HttpRequestSpec) { .on_data = on_data, .idle_timeout_usec = 200 * USEC_PER_MSEC });
        LOOP_UNTIL(&a, a.got > 0);
        settle(&a, &a.server.sent);
        ASSERT_FALSE(a.done);
        /* What lies in the kernel's buffers of a TCP connection, and a bit. */
        if (a.server.sent > MIB(24))
                fail_msg("%zu bytes were taken", a.server.sent);

        http_request_pause(a.request, false);
        LOOP_UNTIL(&a, a.done);
        ASSERT_EQ(a.failure, HTTP_OK);
        ASSERT_EQ(a.got, MIB(64));
}

TEST(paused_when_the_link_ends) {
        char head[80];
        ASKER(a, NULL);

        (void) snprintf(head, sizeof(head), "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", MIB(64));
        a.server.head = head;
        a.server.flood = MIB(64);
        a.pause_at_once = true;
        ask(&a, (HttpRequestSpec) { .on_data = on_data });
        LOOP_UNTIL(&a, a.got > 0);
        through_link_kill();
        settle(&a, &a.server.sent);
        /* Nothing of it is noticed in a pause, nor does it keep the loop busy: settle() has ended. */
        ASSERT_FALSE(a.done);
        http_request_pause(a.request, false);
        LOOP_UNTIL(&a, a.done);
        ASSERT_EQ(a.failure, HTTP_FAILED_CUT);
        through_link_start();
}

/* --- proxies --- */

TEST(proxies_are_those_of_this_process) {
        static const struct {
                const char *variable, *no_proxy;
                bool through;
        } t[] = {
                { "http_proxy", NULL, true },   { "http_proxy", "127.0.0.1", false }, { "all_proxy", NULL, true },
                { "ALL_PROXY", NULL, true },    { "HTTP_PROXY", NULL, false },        { "https_proxy", NULL, false },
                { "http_proxy", "*", false },   { "http_proxy", "example.org", true },
        };
        ASKER(a, OK_HEAD);
        ASKER(proxy, OK_HEAD);

        (void) sd_event_source_disable_unref(proxy.server.listener);
        proxy.server.listener = NULL;
        server_done(&proxy.server);
        server_start(&proxy.server, a.event, OK_HEAD);
        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                strbuf_done(&proxy.server.asked);
                ASSERT_EQ(setenv(t[i].variable, proxy.server.url, 1), 0);
                if (t[i].no_proxy)
                        ASSERT_EQ(setenv("no_proxy", t[i].no_proxy, 1), 0);
                ask(&a, (HttpRequestSpec) {});
                LOOP_UNTIL(&a, a.done);
                ASSERT_EQ(a.failure, HTTP_OK);
                if ((proxy.server.asked.size > 0) != t[i].through)
                        fail_msg("%s, no_proxy %s", t[i].variable, strempty(t[i].no_proxy));

                strbuf_done(&proxy.server.asked);
                ask(&a, (HttpRequestSpec) { .proxy = "" });
                LOOP_UNTIL(&a, a.done);
                ASSERT_EQ(a.failure, HTTP_OK);
                ASSERT_EQ(proxy.server.asked.size, 0);
                ASSERT_EQ(unsetenv(t[i].variable), 0);
                ASSERT_EQ(unsetenv("no_proxy"), 0);
        }
}

static bool check_address(const struct sockaddr *address, void *userdata) {
        return true;
}

TEST(nobody_can_be_asked_about_addresses) {
        ASKER(a, OK_HEAD);

        ASSERT_ERROR(http_client_start(a.http, &(HttpRequestSpec) {
                .url = a.server.url, .check_address = check_address, .on_done = on_done, .userdata = &a }, &a.request),
                     EOPNOTSUPP);
}

#define TEST_SUITE "net-link"
TEST_MAIN();
