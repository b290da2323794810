/* SPDX-License-Identifier: MIT */

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "agent-file.h"
#include "cli-home-internal.h"
#include "file-util.h"
#include "string-util.h"

#define DEFAULT_PATH "/usr/local/bin:/usr/bin:/bin"
#define SHEBANG_MAX 512U
#define VERSIONS_MAX 100U

/* Below the user's home: where installers put programs that are in no service's PATH. */
static const struct {
        const char *harness, *variables[3], *program, *places[4];
} clis[] = {
        { "claude-code", { "PUFFO_CLAUDE_BIN" }, "claude",
          { ".local/bin/claude", ".claude/local/node_modules/.bin/claude", ".claude/local/claude" } },
        { "codex", { "PUFFO_CODEX_BIN", "AGENT_PROXY_CODEX" }, "codex", { ".local/bin/codex" } },
        { "gemini-cli", { "PUFFO_GEMINI_BIN" }, "gemini", { ".local/bin/gemini" } },
        { "hermes", { "PUFFO_HERMES_BIN" }, "hermes",
          { ".local/bin/hermes", ".hermes/hermes-agent/venv/bin/hermes" } },
};

/* Of package managers for any program. */
static const char *const general_places[] = { ".npm-global/bin", ".bun/bin", ".yarn/bin", "node_modules/.bin" };

static bool is_below(const char *path, const char *directory) {
        const char *rest = startswith(path, directory);

        return rest && (*rest == '/' || *rest == 0);
}

static bool is_program(const char *path) {
        struct stat st;

        return stat(path, &st) >= 0 && S_ISREG(st.st_mode) && access(path, X_OK) >= 0;
}

/* -ENOENT. */
static int take_program(const char *directory, const char *name, char **ret) {
        _cleanup_free_ char *path = path_join(directory, name);

        if (!path)
                return -ENOMEM;
        if (*path != '/' || !is_program(path))
                return -ENOENT;
        *ret = TAKE_PTR(path);
        return 0;
}

static int find_in_path(const char *search, const char *name, char **ret) {
        _cleanup_free_ char *copy = strdup(strempty(search));
        char *rest = copy, *part;

        if (!copy)
                return -ENOMEM;
        while ((part = strsep(&rest, ":"))) {
                int r = take_program(part, name, ret);

                if (r != -ENOENT)
                        return r;
        }
        return -ENOENT;
}

/* Node.js of nvm: a directory for each version; the newest has it most likely. */
static int find_in_nvm(const char *user_home, const char *name, char **ret) {
        _cleanup_free_ char *versions = path_join(user_home, ".nvm/versions/node");
        struct dirent **names;
        int n, r = -ENOENT;

        n = versions ? scandir(versions, &names, NULL, versionsort) : -1;
        if (n < 0)
                return versions ? -ENOENT : -ENOMEM;
        for (int i = n; i-- > 0; ) {
                if (r == -ENOENT && names[i]->d_name[0] != '.' && n - i <= (int) VERSIONS_MAX) {
                        _cleanup_free_ char *bin = strjoin(versions, "/", names[i]->d_name, "/bin");

                        r = bin ? take_program(bin, name, ret) : -ENOMEM;
                }
                free(names[i]);
        }
        free(names);
        return r;
}

static int find_at_home(size_t cli, const char *user_home, char **ret) {
        int r = -ENOENT;

        for (size_t i = 0; i < ELEMENTSOF(clis[cli].places) && clis[cli].places[i] && r == -ENOENT; i++)
                r = take_program(user_home, clis[cli].places[i], ret);
        for (size_t i = 0; i < ELEMENTSOF(general_places) && r == -ENOENT; i++) {
                _cleanup_free_ char *directory = path_join(user_home, general_places[i]);

                r = directory ? take_program(directory, clis[cli].program, ret) : -ENOMEM;
        }
        return r == -ENOENT ? find_in_nvm(user_home, clis[cli].program, ret) : r;
}

/* ---- what it needs ---- */

/* Roots below others go. */
static int add_root(char ***roots, const char *root, const char *user_home) {
        char **out;

        if (!cli_path_is_hidden(root, user_home))
                return 0;
        out = *roots;
        for (char **r = *roots; r && *r; r++) {
                if (is_below(root, *r))
                        return 0;
                if (!is_below(*r, root))
                        *out++ = *r;
                else
                        free(*r);
        }
        if (out)
                *out = NULL;
        return strv_extend(roots, root);
}

/* The outermost node_modules that a path lies in; a package finds its like beside itself. NULL: none. */
static char* modules_of(const char *path) {
        const char *at = strstr(path, "/node_modules/");

        return at ? memdup0(path, (size_t) (at - path) + strlen("/node_modules")) : NULL;
}

/* "#!/usr/bin/env node", "#!/usr/bin/env -S node --x", "#!/x/venv/bin/python3": *ret is what is run, maybe without a
 * directory. > 0: it is a script. */
static int interpreter_of(const char *program, char **ret) {
        _cleanup_close_ int fd = open(program, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
        char buffer[SHEBANG_MAX + 1], *rest, *word;
        const char *name;
        ssize_t n;

        if (fd < 0)
                return -errno;
        n = read(fd, buffer, SHEBANG_MAX);
        if (n < 0)
                return -errno;
        buffer[n] = 0;
        if (!startswith(buffer, "#!"))
                return 0;
        buffer[strcspn(buffer, "\r\n")] = 0;
        word = strtok_r(buffer + 2, " \t", &rest);
        if (!word)
                return 0;
        name = strrchr(word, '/');
        if (name && streq(name, "/env"))
                do
                        word = strtok_r(NULL, " \t", &rest);
                while (word && (*word == '-' || strchr(word, '=')));
        if (!word)
                return 0;
        *ret = strdup(word);
        return *ret ? 1 : -ENOMEM;
}

/* "<prefix>/bin/<name>" → "<prefix>"; else NULL. */
static int prefix_of(const char *path, char **ret) {
        _cleanup_free_ char *bin = NULL, *prefix = NULL;
        const char *name, *last;
        int r;

        *ret = NULL;
        r = path_split(path, &bin, &name);
        if (r >= 0)
                r = path_split(bin, &prefix, &last);
        if (r < 0)
                return r;
        if (streq(last, "bin"))
                *ret = TAKE_PTR(prefix);
        return 0;
}

static int add_prefix(char ***roots, const char *path, const char *user_home) {
        _cleanup_free_ char *prefix = NULL;
        int r;

        r = prefix_of(path, &prefix);
        if (r < 0)
                return r;
        /* These are the prefix of everything that a user has. */
        if (!prefix || endswith(prefix, "/.local") || (user_home && is_below(user_home, prefix)))
                return add_root(roots, path, user_home);
        return add_root(roots, prefix, user_home);
}

/* An interpreter by its own name and by that of the program behind links: a virtual environment is where it is
 * called, its library where it lies. */
static int add_interpreter(char ***roots, const char *interpreter, const char *user_home) {
        _cleanup_free_ char *real = realpath(interpreter, NULL), *prefix = NULL, *project = NULL, *around = NULL;
        const char *name;
        int r;

        if (!real)
                return errno == ENOMEM ? -ENOMEM : 0;
        r = add_prefix(roots, real, user_home);
        if (r >= 0)
                r = prefix_of(interpreter, &prefix);
        if (r < 0 || !prefix)
                return r;
        project = path_join(prefix, "pyvenv.cfg");
        if (!project)
                return -ENOMEM;
        if (access(project, F_OK) < 0)
                return 0;
        r = add_root(roots, prefix, user_home);
        if (r >= 0)
                r = path_split(prefix, &around, &name);
        if (r < 0)
                return r;
        /* Installed "editable": the code lies around the environment. */
        project = mfree(project);
        project = path_join(around, "pyproject.toml");
        if (!project)
                return -ENOMEM;
        return access(project, F_OK) < 0 ? 0 : add_root(roots, around, user_home);
}

static int put_first(char **path, const char *program) {
        _cleanup_free_ char *directory = NULL, *joined = NULL;
        const char *name;
        int r;

        r = path_split(program, &directory, &name);
        if (r < 0)
                return r;
        joined = strjoin(directory, ":", *path);
        if (!joined)
                return -ENOMEM;
        free(*path);
        *path = TAKE_PTR(joined);
        return 0;
}

/* found: as it was found, the place beside which an installer puts an interpreter; program: without links. */
static int add_script(char ***roots, char **path, const char *found, const char *program, const char *interpreter,
                      const char *user_home) {
        _cleanup_free_ char *absolute = NULL, *beside = NULL, *modules = modules_of(program);
        const char *name;
        int r;

        r = modules ? add_root(roots, modules, user_home) : add_root(roots, program, user_home);
        if (r < 0)
                return r;
        if (*interpreter == '/')
                return add_interpreter(roots, interpreter, user_home);

        r = find_in_path(*path, interpreter, &absolute);
        if (r == -ENOENT) {
                r = path_split(found, &beside, &name);
                if (r >= 0)
                        r = take_program(beside, interpreter, &absolute);
                if (r >= 0)
                        r = put_first(path, absolute);
        }
        if (r == -ENOENT) /* it will say so itself */
                return 0;
        return r < 0 ? r : add_interpreter(roots, absolute, user_home);
}

/* npm's package is a script that starts the program, which lies in a package of its own for each kind of machine. */
static int find_native_codex(char **program) {
        static const char *const packages[] = { "/codex-linux-x64/vendor/x86_64-unknown-linux-musl",
                                                "/codex-linux-arm64/vendor/aarch64-unknown-linux-musl" },
                          *const places[] = { "/bin/codex", "/codex/codex" };
        static const char script[] = "/codex/bin/codex.js";
        _cleanup_free_ char *scope = NULL;

        if (!endswith(*program, script))
                return 0;
        scope = memdup0(*program, strlen(*program) - strlen(script));
        if (!scope)
                return -ENOMEM;
        /* Beside it, or below it. */
        for (unsigned i = 0; i < 2 * ELEMENTSOF(packages) * ELEMENTSOF(places); i++) {
                _cleanup_free_ char *path = strjoin(scope, i & 1 ? "/codex/node_modules/@openai" : "",
                                                    packages[i / 2 % ELEMENTSOF(packages)],
                                                    places[i / 2 / ELEMENTSOF(packages)]);

                if (!path)
                        return -ENOMEM;
                if (!is_program(path))
                        continue;
                free(*program);
                *program = TAKE_PTR(path);
                return 0;
        }
        return 0;
}

/* It needs what lies around it. */
static int add_binary(char ***roots, const char *program, const char *user_home) {
        _cleanup_free_ char *modules = modules_of(program);

        return add_root(roots, modules ?: program, user_home);
}

static const char* named_by_environment(size_t cli) {
        for (size_t i = 0; i < ELEMENTSOF(clis[cli].variables) && clis[cli].variables[i]; i++) {
                const char *value = getenv(clis[cli].variables[i]);

                if (!isempty(value))
                        return value;
        }
        return NULL;
}

int cli_program_find(const char *harness, const char *given, const char *path, const char *user_home,
                     char **ret_program, char ***ret_roots, char **ret_path) {
        _cleanup_free_ char *found = NULL, *program = NULL, *interpreter = NULL,
                            *search = strdup(isempty(path) ? DEFAULT_PATH : path);
        _cleanup_(strv_freep) char **roots = NULL;
        const char *variable;
        size_t cli;
        int r;

        if (!search)
                return -ENOMEM;
        for (cli = 0; cli < ELEMENTSOF(clis) && !streq(clis[cli].harness, harness); cli++)
                ;
        if (cli == ELEMENTSOF(clis))
                return -EINVAL;

        variable = named_by_environment(cli);
        if (variable)
                r = take_program("/", *variable == '/' ? variable : "", &found);
        else if (!isempty(given) && *given == '/')
                r = take_program("/", given, &found);
        else
                r = find_in_path(search, isempty(given) ? clis[cli].program : given, &found);
        if (r == -ENOENT && isempty(given) && !variable && user_home)
                r = find_at_home(cli, user_home, &found);
        if (r < 0)
                return r;
        program = realpath(found, NULL);
        if (!program)
                return errno == ENOMEM ? -ENOMEM : -ENOENT;

        r = find_native_codex(&program);
        if (r < 0)
                return r;
        r = interpreter_of(program, &interpreter);
        if (r > 0)
                r = add_script(&roots, &search, found, program, interpreter, user_home);
        else if (r == 0)
                r = add_binary(&roots, program, user_home);
        if (r < 0)
                return r;
        *ret_program = TAKE_PTR(program);
        *ret_roots = TAKE_PTR(roots);
        *ret_path = TAKE_PTR(search);
        return 0;
}
