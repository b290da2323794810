/* SPDX-License-Identifier: MIT */

#include <ctype.h>
#include <poll.h>
#include <sys/un.h>

#include "json-util.h"
#include "launch.h"
#include "string-util.h"

#define STRINGS_MAX 4096U
#define SHOWN_MAX 60U
#define MODEL_PORT "{model_port}"
#define PROXY_PORT "{proxy_port}"

static void wipe(char *s) {
        if (s)
                explicit_bzero(s, strlen(s));
        free(s);
}

static char** wipe_strv(char **l) {
        for (char **s = l; s && *s; s++)
                explicit_bzero(*s, strlen(*s));
        return strv_free(l);
}

Launch* launch_free(Launch *l) {
        if (!l)
                return NULL;
        wipe_strv(l->argv);
        wipe_strv(l->environment);
        free(l->cwd);
        free(l->model_socket);
        free(l->proxy_socket);
        return mfree(l);
}

/* Names come from outside, and the reason is to be one line. */
static int refuse(char **reterr_reason, const char *what, const char *name, const char *problem) {
        _cleanup_free_ char *shown = name ? str_printable(name, SHOWN_MAX) : strdup("");

        *reterr_reason = !shown ? NULL : name ? asprintf_new("%s '%s' %s", what, shown, problem) :
                                                asprintf_new("%s %s", what, problem);
        return *reterr_reason ? -EBADMSG : -ENOMEM;
}

static bool path_is_absolute(const char *s) {
        return *s == '/';
}

static bool socket_path_is_valid(const char *s) {
        return path_is_absolute(s) && strlen(s) < sizeof(((struct sockaddr_un*) NULL)->sun_path);
}

static bool variable_name_is_valid(const char *s) {
        if (!*s || isdigit((unsigned char) *s))
                return false;
        for (; *s; s++)
                if (!isalnum((unsigned char) *s) && *s != '_')
                        return false;
        return true;
}

/* json-c's text and length: a NUL inside would cut what is executed short. */
static const char* string_of(json_object *o) {
        const char *s;

        if (!json_object_is_type(o, json_type_string))
                return NULL;
        s = json_object_get_string(o);
        return s && strlen(s) == (size_t) json_object_get_string_len(o) ? s : NULL;
}

static int take_argv(Launch *l, json_object *value, char **reterr_reason) {
        size_t n;

        if (!json_object_is_type(value, json_type_array))
                return refuse(reterr_reason, "argv", NULL, "is no array");
        n = json_object_array_length(value);
        if (n == 0 || n > STRINGS_MAX)
                return refuse(reterr_reason, "argv", NULL, n == 0 ? "is empty" : "is too long");
        l->argv = new0(char*, n + 1);
        if (!l->argv)
                return -ENOMEM;
        for (size_t i = 0; i < n; i++) {
                const char *s = string_of(json_object_array_get_idx(value, i));

                if (!s)
                        return refuse(reterr_reason, "argv", NULL, "has something else than strings");
                l->argv[i] = strdup(s);
                if (!l->argv[i])
                        return -ENOMEM;
        }
        return path_is_absolute(*l->argv) ? 0 : refuse(reterr_reason, "program", *l->argv, "is no absolute path");
}

static int take_environment(Launch *l, json_object *value, char **reterr_reason) {
        size_t n = 0;

        if (!json_object_is_type(value, json_type_object))
                return refuse(reterr_reason, "env", NULL, "is no object");
        if (json_object_object_length(value) > (int) STRINGS_MAX)
                return refuse(reterr_reason, "env", NULL, "is too long");
        l->environment = new0(char*, (size_t) json_object_object_length(value) + 1);
        if (!l->environment)
                return -ENOMEM;

        json_object_object_foreach(value, name, entry) {
                const char *s = string_of(entry);

                if (!variable_name_is_valid(name))
                        return refuse(reterr_reason, "variable", name, "has no valid name");
                if (!s)
                        return refuse(reterr_reason, "variable", name, "is no string");
                l->environment[n] = strjoin(name, "=", s);
                if (!l->environment[n])
                        return -ENOMEM;
                n++;
        }
        return 0;
}

static int take_path(char **path, const char *name, json_object *value, bool is_socket, char **reterr_reason) {
        const char *s = string_of(value);

        if (!s)
                return refuse(reterr_reason, name, NULL, "is no string");
        if (is_socket ? !socket_path_is_valid(s) : !path_is_absolute(s))
                return refuse(reterr_reason, name, s, is_socket ? "is no path of a socket" : "is no absolute path");
        return free_and_strdup(path, s);
}

static int take_index(size_t *index, const char *name, json_object *value, char **reterr_reason) {
        int64_t n = json_object_is_type(value, json_type_int) ? json_object_get_int64(value) : 0;

        if (n <= 0 || n >= (int64_t) STRINGS_MAX)
                return refuse(reterr_reason, name, NULL, "is no index of argv");
        *index = (size_t) n;
        return 0;
}

int launch_parse(const char *text, size_t size, Launch **ret, char **reterr_reason) {
        _cleanup_(launch_freep) Launch *l = NULL;
        _cleanup_json_ json_object *o = NULL;
        int r;

        if (size > LAUNCH_SIZE_MAX)
                return refuse(reterr_reason, "the launch", NULL, "is too large");
        r = json_parse(text, size, &o);
        if (r == -ENOMEM)
                return r;
        if (r < 0 || !json_object_is_type(o, json_type_object))
                return refuse(reterr_reason, "the launch", NULL, "is no JSON object");

        l = new0(Launch, 1);
        if (!l)
                return -ENOMEM;
        json_object_object_foreach(o, name, value) {
                if (streq(name, "argv"))
                        r = take_argv(l, value, reterr_reason);
                else if (streq(name, "env"))
                        r = take_environment(l, value, reterr_reason);
                else if (streq(name, "cwd"))
                        r = take_path(&l->cwd, name, value, /* is_socket= */ false, reterr_reason);
                else if (streq(name, "model_socket"))
                        r = value ? take_path(&l->model_socket, name, value, true, reterr_reason) : 0;
                else if (streq(name, "proxy_socket"))
                        r = value ? take_path(&l->proxy_socket, name, value, true, reterr_reason) : 0;
                else if (streq(name, "port_argument"))
                        r = take_index(&l->port_argument, name, value, reterr_reason);
                else
                        r = refuse(reterr_reason, "member", name, "is unknown");
                if (r < 0)
                        return r;
        }
        if (!l->argv || !l->environment || !l->cwd)
                return refuse(reterr_reason, !l->argv ? "argv" : !l->environment ? "env" : "cwd", NULL, "is missing");
        if (l->port_argument > 0 &&
            (l->port_argument >= strv_length(l->argv) || !strchr(l->argv[l->port_argument], '=')))
                return refuse(reterr_reason, "port_argument", NULL, "is none of argv's with a value");
        *ret = TAKE_PTR(l);
        return 0;
}

/* --- reading --- */

int launch_parse_head(const char *head, size_t *ret_size, char **reterr_reason) {
        static const char digits[] = "0123456789abcdef";
        size_t size = 0;

        for (size_t i = 0; i < LAUNCH_HEAD_SIZE - 1; i++) {
                const char *digit = memchr(digits, head[i], sizeof(digits) - 1);

                if (!digit)
                        return refuse(reterr_reason, "the launch", NULL, "does not begin with its size");
                size = size << 4 | (size_t) (digit - digits);
        }
        if (head[LAUNCH_HEAD_SIZE - 1] != '\n')
                return refuse(reterr_reason, "the launch", NULL, "does not begin with its size");
        if (size > LAUNCH_SIZE_MAX)
                return refuse(reterr_reason, "the launch", NULL, "is too large");
        *ret_size = size;
        return 0;
}

static int read_exactly(int fd, char *p, size_t size, char **reterr_reason) {
        while (size > 0) {
                ssize_t n = read(fd, p, size);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0 && errno == EAGAIN) {
                        (void) poll(&(struct pollfd) { .fd = fd, .events = POLLIN }, 1, -1);
                        continue;
                }
                if (n < 0)
                        return -errno;
                if (n == 0)
                        return refuse(reterr_reason, "the launch", NULL, "is cut off");
                p += n;
                size -= (size_t) n;
        }
        return 0;
}

int launch_read(int fd, Launch **ret, char **reterr_reason) {
        char head[LAUNCH_HEAD_SIZE];
        char *text;
        size_t size;
        int r;

        r = read_exactly(fd, head, sizeof(head), reterr_reason);
        if (r >= 0)
                r = launch_parse_head(head, &size, reterr_reason);
        if (r < 0)
                return r;
        text = malloc(size + 1);
        if (!text)
                return -ENOMEM;
        r = read_exactly(fd, text, size, reterr_reason);
        if (r >= 0)
                r = launch_parse(text, size, ret, reterr_reason);
        explicit_bzero(text, size);
        free(text);
        return r;
}

/* --- ports --- */

static int replace_ports(const char *entry, uint16_t model_port, uint16_t proxy_port, StrBuf *b,
                         char **reterr_reason) {
        const char *value = strchr(entry, '=') + 1, *p = value, *brace;
        int r = strbuf_append(b, entry, (size_t) (value - entry));

        while (r >= 0 && (brace = strchr(p, '{'))) {
                bool is_model = startswith(brace, MODEL_PORT);
                uint16_t port = is_model ? model_port : proxy_port;

                r = strbuf_append(b, p, (size_t) (brace - p));
                if (r < 0)
                        return r;
                if (!is_model && !startswith(brace, PROXY_PORT)) {
                        r = strbuf_puts(b, "{");
                        p = brace + 1;
                        continue;
                }
                if (port == 0) {
                        _cleanup_free_ char *name = strndup(entry, (size_t) (value - entry) - 1);

                        return name ? refuse(reterr_reason, "variable", name, "names a port that is not relayed") :
                                      -ENOMEM;
                }
                r = strbuf_printf(b, "%u", port);
                p = brace + strlen(MODEL_PORT);
        }
        return r < 0 ? r : strbuf_puts(b, p);
}
static_assert(sizeof(MODEL_PORT) == sizeof(PROXY_PORT), "both are as long");

static int set_ports(char **entry, uint16_t model_port, uint16_t proxy_port, char **reterr_reason) {
        StrBuf b = {};
        char *replaced;
        int r;

        r = replace_ports(*entry, model_port, proxy_port, &b, reterr_reason);
        replaced = r < 0 ? NULL : strbuf_take(&b);
        if (!replaced) {
                if (b.text)
                        explicit_bzero(b.text, b.size);
                strbuf_done(&b);
                return r < 0 ? r : -ENOMEM;
        }
        wipe(*entry);
        *entry = replaced;
        return 0;
}

int launch_set_ports(Launch *l, uint16_t model_port, uint16_t proxy_port, char **reterr_reason) {
        int r = 0;

        for (char **entry = l->environment; *entry && r >= 0; entry++)
                r = set_ports(entry, model_port, proxy_port, reterr_reason);
        if (r >= 0 && l->port_argument > 0)
                r = set_ports(l->argv + l->port_argument, model_port, proxy_port, reterr_reason);
        return r;
}
