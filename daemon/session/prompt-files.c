/* SPDX-License-Identifier: MIT */

#include <fcntl.h>
#include <sys/stat.h>

#include "cli-file.h"
#include "file-util.h"
#include "log.h"
#include "prompt-files.h"
#include "string-util.h"
#include "workspace-file.h"

#define FILE_SIZE_MAX MIB(4)
#define SKILLS ".claude/skills"
#define SKILL_FILE "SKILL.md"
#define SKILL_MARK "\nmanaged-by: puffo\n"
#define PROMPT_MARK "# Puffo.ai platform primer"

static int warn(const char *root, const char *path, int error) {
        return log_warning_errno(error, "Failed to write '%s/%s', going on without: %m", root, path);
}

static int root_open(const char *path) {
        int fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);

        return fd < 0 ? log_warning_errno(-errno, "Failed to open '%s', going on without: %m", path) : fd;
}

/* > 0: it was written. */
static int update(int root, const char *directory, const char *name, const char *text) {
        _cleanup_free_ char *path = strjoin(directory, "/", name), *present = NULL;
        size_t size;
        int r;

        if (!path)
                return -ENOMEM;
        r = workspace_read_file(root, path, FILE_SIZE_MAX, &present, &size);
        if (r == -ENOMEM)
                return r;
        if (r >= 0 && size == strlen(text) && memcmp(present, text, size) == 0)
                return 0;
        r = workspace_write_file(root, directory, name, text, strlen(text), 0600);
        return r < 0 ? r : 1;
}

/* ---- the workspace ---- */

static int make_places(int root, const char *workspace) {
        static const char *const places[] = { ".claude/agents", ".claude/commands", SKILLS, ".claude/hooks" };
        int first = 0;

        for (size_t i = 0; i < ELEMENTSOF(places); i++) {
                int fd = workspace_make_directory(root, places[i]);

                if (fd < 0) {
                        (void) warn(workspace, places[i], fd);
                        first = first < 0 ? first : fd;
                }
                safe_close(fd);
        }
        return first;
}

/* A text on a tool that is not there any more; what somebody else has put in its place stays. */
static int skill_remove(int root, const char *directory) {
        _cleanup_free_ char *path = strjoin(directory, "/" SKILL_FILE), *present = NULL;
        _cleanup_close_ int fd = -EBADF;
        int r;

        if (!path)
                return -ENOMEM;
        r = workspace_read_file(root, path, FILE_SIZE_MAX, &present, NULL);
        if (r < 0 || !strstr(present, SKILL_MARK))
                return r == -ENOMEM ? r : 0;
        r = workspace_remove(root, directory, SKILL_FILE);
        if (r < 0)
                return r;
        fd = open_beneath(root, SKILLS, O_PATH | O_DIRECTORY);
        if (fd >= 0)
                (void) unlinkat(fd, strrchr(directory, '/') + 1, AT_REMOVEDIR); /* not when there is more in it */
        return 0;
}

static int write_skills(int root, const AgentHome *h, const AgentConfig *c, const char *const *tools) {
        int first = 0;

        for (size_t i = 0;; i++) {
                _cleanup_free_ char *text = NULL, *directory = NULL;
                const char *name;
                int r;

                r = agent_home_skill(h, c, tools, i, &name, &text);
                if (r == -ENOENT)
                        return first;
                if (r < 0)
                        return r;
                directory = strjoin(SKILLS "/", name);
                if (!directory)
                        return -ENOMEM;
                r = text ? update(root, directory, SKILL_FILE, text) : skill_remove(root, directory);
                if (r < 0) {
                        (void) warn(h->workspace, directory, r);
                        first = first < 0 ? first : r;
                }
        }
}

/* Before it lay where it is now the prompt lay in the workspace, where it would now be read a second time. */
static int remove_old_prompt(int root, const char *workspace) {
        _cleanup_free_ char *present = NULL;
        const char *line;
        int r;

        r = workspace_read_file(root, ".claude/CLAUDE.md", FILE_SIZE_MAX, &present, NULL);
        if (r < 0)
                return r == -ENOMEM ? r : 0;
        line = present + strspn(present, " \t");
        if (!startswith(line, PROMPT_MARK))
                return 0;
        r = workspace_remove(root, ".claude", "CLAUDE.md");
        return r < 0 ? warn(workspace, ".claude/CLAUDE.md", r) : 0;
}

static int write_workspace(const AgentHome *h, const AgentConfig *c, const char *const *tools) {
        _cleanup_close_ int root = root_open(h->workspace);
        int first, r;

        if (root < 0)
                return root;
        first = make_places(root, h->workspace);
        r = write_skills(root, h, c, tools);
        first = first < 0 ? first : r;
        r = remove_old_prompt(root, h->workspace);
        return first < 0 ? first : r;
}

/* ---- the agent's directory ---- */

/* A CLI that runs has it mounted. */
static int update_mounted(int root, const char *directory, const char *name, const char *text) {
        _cleanup_close_ int fd = cli_directory_make(root, directory, 0700);

        return fd < 0 ? fd : cli_file_write(fd, name, text, strlen(text), 0600, CLI_FILE_KEEP_INODE | CLI_FILE_SYNC);
}

static int write_prompt(const AgentHome *h, const AgentConfig *c, const char *const *tools) {
        static const struct { const char *directory, *name; } files[] = {
                { ".claude", "CLAUDE.md" }, { ".gemini", "GEMINI.md" },
        };
        _cleanup_close_ int root = root_open(h->directory);
        _cleanup_free_ char *text = NULL;
        int first = 0, r;

        if (root < 0)
                return root;
        r = agent_home_system_prompt(h, c, tools, &text);
        if (r < 0)
                return log_warning_errno(r, "Failed to put the instructions together: %m");
        for (size_t i = 0; i < ELEMENTSOF(files); i++) {
                r = update_mounted(root, files[i].directory, files[i].name, text);
                if (r < 0) {
                        (void) warn(h->directory, files[i].directory, r);
                        first = first < 0 ? first : r;
                }
        }
        return first;
}

int prompt_files_write(const AgentHome *h, const AgentConfig *c, const char *const *tools) {
        int first, r;

        if (isempty(c->slug))
                return 0;
        first = write_workspace(h, c, tools);
        r = write_prompt(h, c, tools);
        return first < 0 ? first : r;
}
