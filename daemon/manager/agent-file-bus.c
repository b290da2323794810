/* SPDX-License-Identifier: MIT */

/* Files of an agent, for those who may look at it. Names from outside never leave the directory they are for. */

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "agent-file.h"
#include "agent-turn-bus.h"
#include "bus-util.h"
#include "file-util.h"
#include "string-util.h"

#define TEXT_SIZE_MAX KIB(256)
#define ENTRIES_MAX 10000U
#define INSPECT "ai.puffo.agents.chat"

static int no_such_file(sd_bus_error *reterr_error, int r, const char *name) {
        return bus_error_setf(reterr_error, PUFFO_ERROR_NO_SUCH_FILE, "'%.200s' cannot be read: %s.", name,
                              r == -EXDEV || r == -ELOOP ? "it is not in the directory" : strerror(-r));
}

static int reply_text(sd_bus_message *message, const char *text, size_t size, const char *name,
                      sd_bus_error *reterr_error) {
        if (!utf8_is_interchangeable(text, size) || memchr(text, 0, size))
                return bus_error_setf(reterr_error, PUFFO_ERROR_NO_SUCH_FILE, "'%.200s' is no UTF-8 text.", name);
        return sd_bus_reply_method_return(message, "s", text);
}

int agent_method_read_profile(sd_bus_message *message, void *userdata, sd_bus_error *reterr_error) {
        _cleanup_free_ char *text = NULL;
        Agent *a = userdata;
        const char *path = a->config->profile;
        size_t size = 0;
        int r;

        r = agent_verify(a, message, INSPECT, reterr_error);
        if (r <= 0)
                return r < 0 ? r : 1;
        r = agent_file_read(a->home->directory, path, TEXT_SIZE_MAX, &text, &size);
        if (r == -ENOENT)
                return sd_bus_reply_method_return(message, "s", "");
        return r < 0 ? no_such_file(reterr_error, r, path) : reply_text(message, text, size, path, reterr_error);
}

int agent_method_write_profile(sd_bus_message *message, void *userdata, sd_bus_error *reterr_error) {
        Agent *a = userdata;
        const char *text;
        int r;

        r = sd_bus_message_read(message, "s", &text);
        if (r < 0)
                return r;
        if (strlen(text) > TEXT_SIZE_MAX)
                return sd_bus_error_set(reterr_error, PUFFO_ERROR_INVALID_ARGUMENT, "A profile has at most 256 KiB.");
        r = agent_verify(a, message, "ai.puffo.agents.manage", reterr_error);
        if (r <= 0)
                return r < 0 ? r : 1;
        r = agent_check_stays(a, reterr_error);
        if (r < 0)
                return r;
        r = agent_home_write_profile(a->home, a->config, text);
        if (r < 0)
                return manager_error(reterr_error, r, "write the profile of", a->home->id);
        agent_configuration_changed(a);
        return sd_bus_reply_method_return(message, NULL);
}

static int open_memory(const Agent *a) {
        return agent_file_open(a->home->directory, a->config->memory_dir, O_RDONLY | O_DIRECTORY);
}

static bool is_topic(const char *name) {
        return name[0] != '.' && endswith(name, ".md") && !streq(name, "README.md");
}

int agent_method_list_memory(sd_bus_message *message, void *userdata, sd_bus_error *reterr_error) {
        _cleanup_bus_message_ sd_bus_message *reply = NULL;
        Agent *a = userdata;
        struct dirent *entry;
        DIR *dir = NULL;
        unsigned n = 0;
        int fd, r;

        r = agent_verify(a, message, INSPECT, reterr_error);
        if (r <= 0)
                return r < 0 ? r : 1;
        r = sd_bus_message_new_method_return(message, &reply);
        if (r >= 0)
                r = sd_bus_message_open_container(reply, 'a', "(stt)");
        if (r < 0)
                return r;

        fd = open_memory(a);
        if (fd >= 0 && !(dir = fdopendir(fd)))
                safe_close(fd);
        while (dir && n++ < ENTRIES_MAX && r >= 0 && (entry = readdir(dir))) {
                struct stat st;

                if (!is_topic(entry->d_name) || !utf8_is_interchangeable(entry->d_name, strlen(entry->d_name)) ||
                    fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode))
                        continue;
                entry->d_name[strlen(entry->d_name) - 3] = 0;
                r = sd_bus_message_append(reply, "(stt)", entry->d_name, (uint64_t) st.st_size,
                                          (uint64_t) st.st_mtim.tv_sec * USEC_PER_SEC);
        }
        if (dir)
                (void) closedir(dir);
        if (r >= 0)
                r = sd_bus_message_close_container(reply);
        return r < 0 ? r : sd_bus_send(NULL, reply, NULL);
}

/* A regular file below dir_fd, whatever lies on the way. */
static int read_beneath(int dir_fd, const char *name, char **ret, size_t *ret_size) {
        _cleanup_close_ int path_fd = open_beneath(dir_fd, name, O_PATH), fd = -EBADF;

        if (path_fd < 0)
                return path_fd;
        fd = file_reopen(path_fd);
        return fd < 0 ? fd : file_read_fd(fd, TEXT_SIZE_MAX, ret, ret_size);
}

int agent_method_read_memory(sd_bus_message *message, void *userdata, sd_bus_error *reterr_error) {
        _cleanup_free_ char *name = NULL, *text = NULL;
        _cleanup_close_ int dir_fd = -EBADF;
        Agent *a = userdata;
        const char *topic;
        size_t size = 0;
        int r;

        r = sd_bus_message_read(message, "s", &topic);
        if (r < 0)
                return r;
        if (isempty(topic) || strchr(topic, '/') || strlen(topic) > 200)
                return bus_error_setf(reterr_error, PUFFO_ERROR_INVALID_ARGUMENT, "'%.200s' is no topic.", topic);
        r = agent_verify(a, message, INSPECT, reterr_error);
        if (r <= 0)
                return r < 0 ? r : 1;

        name = strjoin(topic, ".md");
        dir_fd = open_memory(a);
        if (!name)
                return -ENOMEM;
        r = dir_fd < 0 ? dir_fd : read_beneath(dir_fd, name, &text, &size);
        return r < 0 ? no_such_file(reterr_error, r, topic) : reply_text(message, text, size, topic, reterr_error);
}

static int open_workspace(const Agent *a) {
        return agent_file_open(a->home->directory, a->config->workspace_dir, O_RDONLY | O_DIRECTORY);
}

static const char* type_of(mode_t mode) {
        return S_ISREG(mode) ? "file" : S_ISDIR(mode) ? "directory" : S_ISLNK(mode) ? "link" : "other";
}

int agent_method_list_files(sd_bus_message *message, void *userdata, sd_bus_error *reterr_error) {
        _cleanup_bus_message_ sd_bus_message *reply = NULL;
        _cleanup_close_ int root = -EBADF;
        Agent *a = userdata;
        const char *directory;
        struct dirent *entry;
        unsigned n = 0;
        int fd, r;
        DIR *dir;

        r = sd_bus_message_read(message, "s", &directory);
        if (r < 0)
                return r;
        r = agent_verify(a, message, INSPECT, reterr_error);
        if (r <= 0)
                return r < 0 ? r : 1;

        root = open_workspace(a);
        fd = root < 0 ? root : open_beneath(root, isempty(directory) ? "." : directory, O_RDONLY | O_DIRECTORY);
        if (fd < 0)
                return no_such_file(reterr_error, fd, isempty(directory) ? a->home->workspace : directory);
        dir = fdopendir(fd);
        if (!dir) {
                safe_close(fd);
                return -errno;
        }

        r = sd_bus_message_new_method_return(message, &reply);
        if (r >= 0)
                r = sd_bus_message_open_container(reply, 'a', "(sstt)");
        while (r >= 0 && n < ENTRIES_MAX && (entry = readdir(dir))) {
                struct stat st;

                n++;
                if (streq(entry->d_name, ".") || streq(entry->d_name, "..") ||
                    !utf8_is_interchangeable(entry->d_name, strlen(entry->d_name)) ||
                    fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                        continue;
                r = sd_bus_message_append(reply, "(sstt)", entry->d_name, type_of(st.st_mode), (uint64_t) st.st_size,
                                          (uint64_t) st.st_mtim.tv_sec * USEC_PER_SEC);
        }
        (void) closedir(dir);
        if (r >= 0)
                r = sd_bus_message_close_container(reply);
        return r < 0 ? r : sd_bus_send(NULL, reply, NULL);
}

int agent_method_open_file(sd_bus_message *message, void *userdata, sd_bus_error *reterr_error) {
        _cleanup_close_ int root = -EBADF, fd = -EBADF;
        Agent *a = userdata;
        const char *path;
        struct stat st;
        int r;

        r = sd_bus_message_read(message, "s", &path);
        if (r < 0)
                return r;
        r = agent_verify(a, message, INSPECT, reterr_error);
        if (r <= 0)
                return r < 0 ? r : 1;

        root = open_workspace(a);
        fd = root < 0 ? root : open_beneath(root, path, O_RDONLY | O_NONBLOCK);
        if (fd < 0)
                return no_such_file(reterr_error, fd, path);
        if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
                return bus_error_setf(reterr_error, PUFFO_ERROR_NO_SUCH_FILE, "'%.200s' is no file.", path);
        return sd_bus_reply_method_return(message, "h", fd);
}
