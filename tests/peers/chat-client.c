/* SPDX-License-Identifier: MIT */

/* A chat of the session room against a provider, with tools that write down what they do.
 *
 *     chat-client DIRECTORY ID TEXT [IMAGE…]
 *
 * DIRECTORY has an agent.yml. Submits the turn with the images, unless it is known already, and waits for its end; what is printed is
 * the status and the messages, one JSON array. Each use of a tool is a line "KEY NAME ARGUMENTS" in DIRECTORY/effects;
 * as with the outbox, there is no second one of the same key. */

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>

#include "chat.h"
#include "event-util.h"
#include "file-util.h"
#include "log.h"
#include "turn-files.h"
#include "turn-queue.h"

/* Long enough to be killed in. */
#define TOOL_USEC (10 * USEC_PER_MSEC)

typedef struct Client {
        const char *directory;
        sd_event *event;
        Database *db;
        TurnQueue *queue;
        Chat *chat;
} Client;

struct ToolCall {
        sd_event_source *timer;
        tool_done_t on_done;
        void *userdata;
        char *name;
};

static const char *directory;
static sd_event *event;

static const Tool* list(const ToolBox *box, size_t *ret_n) {
        static const Tool tools[] = {
                { "send_message", "Sends.", "{\"type\":\"object\",\"properties\":{\"text\":{\"type\":\"string\"}}}" },
                { "look", "Looks.", "{\"type\":\"object\",\"properties\":{}}" },
        };

        *ret_n = ELEMENTSOF(tools);
        return tools;
}

/* Writes the line unless there is one of this key. */
static int effect(const char *key, const char *name, const char *arguments) {
        _cleanup_free_ char *path = strjoin(directory, "/effects"), *text = NULL, *mark = strjoin("\n", key, " ");
        _cleanup_free_ char *all = NULL, *line = NULL;
        _cleanup_close_ int fd = -EBADF;
        size_t n = 0;
        int r;

        if (!path || !mark)
                return -ENOMEM;
        r = file_read(path, MIB(1), &text, &n);
        if (r < 0 && r != -ENOENT)
                return r;
        all = strjoin("\n", strempty(text));
        line = strjoin(key, " ", name, " ", arguments, "\n");
        if (!all || !line)
                return -ENOMEM;
        if (strstr(all, mark))
                return 0;
        fd = open(path, O_WRONLY|O_APPEND|O_CREAT|O_CLOEXEC, 0600);
        if (fd < 0)
                return -errno;
        return write(fd, line, strlen(line)) < 0 ? -errno : 0;
}

static int on_tool_timer(sd_event_source *s, uint64_t usec, void *userdata) {
        ToolCall *c = userdata;
        _cleanup_free_ char *text = strjoin("result of ", c->name);

        c->on_done(c, &(ToolResult) { .text = strempty(text) }, c->userdata);
        return 0;
}

static ToolCall* tool_free(ToolCall *c) {
        if (!c)
                return NULL;
        (void) sd_event_source_disable_unref(c->timer);
        free(c->name);
        return mfree(c);
}

static int tool_start(ToolBox *b, const char *name, json_object *arguments, const char *key, tool_done_t on_done,
                      void *userdata, ToolCall **ret) {
        ToolCall *c = new0(ToolCall, 1);
        size_t n;
        int r;

        if (!c)
                return -ENOMEM;
        c->on_done = on_done;
        c->userdata = userdata;
        c->name = strdup(name);
        r = c->name ? effect(key, name, arguments ? strempty(json_text(arguments, &n)) : "") : -ENOMEM;
        if (r >= 0)
                r = event_arm_timer(event, &c->timer, TOOL_USEC, 1, on_tool_timer, c);
        if (r < 0) {
                (void) tool_free(c);
                return r;
        }
        *ret = c;
        return 0;
}

static bool is_answer(const char *name) {
        return streq(name, "send_message");
}

static const ChatTools tools = {
        .list = list, .call_start = tool_start, .call_free = tool_free, .is_answer = is_answer,
};

static ToolBox* get_box(void *userdata) {
        return userdata;
}

static int client_new(ModelClient **ret, sd_event *e, const char *program) {
        return model_client_new(ret, e, MODEL_PROGRAM);
}

static const ModelBackend backend = {
        .client_new = client_new, .client_free = model_client_free, .call_start = model_client_call_start,
        .call_free = model_client_call_free, .rest = model_client_rest,
};

static int get_config(SessionConfig **ret, void *userdata) {
        return session_config_load(ret, "alice", directory, NULL);
}

static void on_end(Turn *t, TurnResult *result, void *userdata) {
        Client *c = userdata;

        turn_queue_end(c->queue, t, result);
        (void) sd_event_exit(c->event, 0);
}

static int driver_start(Turn *t, TurnRow *row, void *userdata) {
        return chat_start(((Client*) userdata)->chat, t, row);
}

static void driver_cancel(Turn *t, void *userdata) {
        chat_cancel(((Client*) userdata)->chat);
}

static int client_open(Client *c) {
        _cleanup_free_ char *path = strjoin(directory, "/messages.db");
        int r;

        r = path ? sd_event_default(&c->event) : -ENOMEM;
        if (r < 0)
                return r;
        event = c->event;
        r = database_open(&c->db, path, NULL);
        if (r >= 0)
                r = turn_queue_new(&c->queue, c->event, c->db, &(TurnDriver) {
                        .start = driver_start, .cancel = driver_cancel, .userdata = c,
                });
        if (r >= 0)
                r = turn_queue_load(c->queue);
        if (r >= 0)
                r = chat_new(&c->chat, &(ChatSpec) {
                        .event = c->event, .db = c->db, .backend = &backend, .tools = &tools, .get_box = get_box,
                        .retry_min_usec = 1, .retry_max_usec = 2, .get_config = get_config, .on_end = on_end,
                        .userdata = c,
                });
        return r;
}

static int print(Client *c, const char *id) {
        _cleanup_(turn_row_freep) TurnRow *row = NULL;
        _cleanup_json_ json_object *list_of_texts = json_object_new_array();
        size_t n;
        int r;

        r = turn_store_get(c->db, id, &row);
        if (r <= 0 || !list_of_texts)
                return r < 0 ? r : -ENOENT;
        (void) json_object_array_add(list_of_texts, json_object_new_string(turn_status_to_string(row->status)));
        for (size_t i = 0; i < row->n_items; i++)
                (void) json_object_array_add(list_of_texts, json_object_new_string(row->items[i].text));
        return puts(json_text(list_of_texts, &n)) < 0 ? -EIO : 0;
}

/* The list of the files as a turn has them. */
static int save_images(const char *id, char **paths, int n, char **ret) {
        _cleanup_(session_config_freep) SessionConfig *config = NULL;
        TurnFiles files = {};
        int r = n <= (int) TURN_FILES_MAX ? session_config_load(&config, "alice", directory, NULL) : -E2BIG;

        if (r >= 0)
                r = directory_make(config->home->workspace, 0700);

        for (int i = 0; i < n && r >= 0; i++) {
                int fd = open(paths[i], O_RDONLY|O_CLOEXEC);

                r = fd < 0 ? -errno : 0;
                files.files[files.n++] = (TurnFile) {
                        .name = basename(paths[i]), .type = "image/png", .image = true, .fd = fd,
                };
        }
        if (r >= 0)
                r = turn_files_save(&files, config->home->workspace, id, ret);
        for (size_t i = 0; i < files.n; i++)
                safe_close(files.files[i].fd);
        return r;
}

int main(int argc, char **argv) {
        _cleanup_free_ char *images = NULL;
        _cleanup_(turn_row_freep) TurnRow *row = NULL;
        Client c = {};
        sigset_t mask;
        int r;

        if (argc < 4) {
                (void) fprintf(stderr, "usage: chat-client DIRECTORY ID TEXT [IMAGE...]\n");
                return EXIT_FAILURE;
        }
        directory = argv[1];
        log_open("chat-client");
        (void) signal(SIGPIPE, SIG_IGN);
        (void) sigemptyset(&mask);
        (void) sigaddset(&mask, SIGCHLD);
        (void) sigprocmask(SIG_BLOCK, &mask, NULL);
        r = client_open(&c);
        if (r >= 0)
                r = turn_store_get(c.db, argv[2], &row);
        if (r == 0) {
                r = argc > 4 ? save_images(argv[2], argv + 4, argc - 4, &images) : 0;
                if (r >= 0)
                        r = turn_queue_submit(c.queue, &(TurnSubmission) {
                                .id = argv[2], .text = argv[3], .store = true, .now_usec = now_realtime_usec(),
                                .files = images,
                        }, true, -EBADF);
        }
        if (r >= 0 && (!row || !turn_status_is_final(row->status))) {
                turn_queue_set_enabled(c.queue, true);
                r = sd_event_loop(c.event);
        }
        if (r >= 0)
                r = print(&c, argv[2]);
        if (c.queue)
                turn_queue_abandon(c.queue);
        c.chat = chat_free(c.chat);
        c.queue = turn_queue_free(c.queue);
        c.db = database_free(c.db);
        (void) sd_event_unref(c.event);
        if (r < 0)
                (void) fprintf(stderr, "chat-client: %s\n", strerror(-r));
        return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
