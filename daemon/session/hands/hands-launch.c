/* SPDX-License-Identifier: MIT */

#include <sodium.h>
#include <sys/stat.h>
#include <unistd.h>

#include "chat-service.h"
#include "codex-choice.h"
#include "config.h"
#include "file-util.h"
#include "hands-launch.h"
#include "log.h"
#include "string-util.h"

/* As the CLI sees them. */
#define TOOL_SOCKET "/run/puffo/tools.sock"
#define MODEL_SOCKET "/run/puffo/model.sock"
#define PROXY_SOCKET "/run/puffo/proxy.sock"
#define MCP_PROGRAM PKGLIBEXECDIR "/puffo-mcp"

void hands_launch_sent(HandsLaunch *l) {
        if (l->launch)
                explicit_bzero(l->launch, strlen(l->launch));
        l->launch = mfree(l->launch);
}

void hands_launch_done(HandsLaunch *l) {
        free(l->conversation);
        free(l->session_id);
        free(l->model);
        if (l->token)
                explicit_bzero(l->token, strlen(l->token));
        free(l->token);
        free(l->turn);
        free(l->permission_mode);
        free(l->own_sandbox);
        (void) strv_free(l->allowed_tools);
        free(l->program);
        free(l->path);
        hands_launch_sent(l);
        free(l->description);
        free(l->system);
        free(l->directory);
        for (size_t i = 0; i < ELEMENTSOF(l->sockets); i++)
                free(l->sockets[i]);
        (void) strv_free(l->roots);
        (void) strv_free(l->read_only);
        (void) strv_free(l->read_write);
        (void) strv_free(l->certificates);
        (void) strv_free(l->extra);
        cli_home_done(&l->home);
        *l = (HandsLaunch) {};
}

HarnessKind hands_kind(const AgentConfig *c) {
        const char *harness = agent_config_harness(c);

        if (c->kind == RUNTIME_SDK_LOCAL)
                return HARNESS_CLAUDE_SDK;
        if (c->kind != RUNTIME_CLI_LOCAL)
                return _HARNESS_KIND_INVALID;
        if (streq(harness, "claude-code"))
                return HARNESS_CLAUDE;
        if (streq(harness, "codex"))
                return HARNESS_CODEX;
        if (streq(harness, "gemini-cli"))
                return HARNESS_GEMINI;
        if (streq(harness, "hermes"))
                return HARNESS_HERMES;
        return _HARNESS_KIND_INVALID;
}

/* The same, with the driver that the settings ask for. */
static HarnessKind hands_driver_kind(const SessionConfig *config) {
        HarnessKind k = hands_kind(config->agent);

        return k == HARNESS_CODEX && config->codex.exec ? HARNESS_CODEX_EXEC : k;
}

static int extend(char ***list, char *const *more) {
        int r = 0;

        for (; more && *more && r >= 0; more++)
                r = strv_extend(list, *more);
        return r;
}

static bool is_codex(HarnessKind k) {
        return k == HARNESS_CODEX || k == HARNESS_CODEX_EXEC;
}

static int find_program(HandsLaunch *l, const SessionConfig *config, const char *home, char **ret_fault) {
        const char *harness = agent_config_harness(config->agent);
        int r;

        r = cli_program_find(harness, is_codex(l->kind) ? config->codex.program : NULL, getenv("PATH"), home,
                             &l->program, &l->roots, &l->path);
        if (r != -ENOENT)
                return r;
        *ret_fault = asprintf_new("The program of the harness '%s' is not installed, or not where the service manager "
                                  "looks (PATH=%s).", harness, strempty(getenv("PATH")));
        return *ret_fault ? -ENOENT : -ENOMEM;
}

/* Hermes asks nobody and can be told nothing of the kind: what is to be asked about, or not to be done, it would
 * do. */
static int check_mode(HarnessKind kind, const AgentConfig *a, char **ret_fault) {
        const char *mode = strempty(a->permission_mode);
        bool bypass = streq(mode, "bypassPermissions"), only_bypass = kind == HARNESS_HERMES;

        if (kind == HARNESS_CLAUDE || kind == HARNESS_CLAUDE_SDK || (only_bypass ? bypass : !streq(mode, "auto")))
                return 0;
        *ret_fault = asprintf_new("The harness '%s' cannot keep to runtime.permission_mode '%s'; set it to %s.",
                                  agent_config_harness(a), mode,
                                  only_bypass ? "bypassPermissions, and have a sandbox profile hold it" :
                                                "default, acceptEdits, plan, dontAsk or bypassPermissions");
        return *ret_fault ? -ENOENT : -ENOMEM;
}

static void hash_text(crypto_generichash_state *s, const char *text) {
        (void) crypto_generichash_update(s, (const uint8_t*) strempty(text), strlen(strempty(text)) + 1);
}

/* Whatever a CLI that runs does not notice by itself. */
static void make_hash(HandsLaunch *l, const SessionConfig *config, const char *working_directory) {
        const AgentConfig *a = config->agent;
        crypto_generichash_state s;

        (void) crypto_generichash_init(&s, NULL, 0, sizeof(l->hash));
        hash_text(&s, agent_config_harness(a));
        hash_text(&s, runtime_kind_to_string(a->kind));
        hash_text(&s, sandbox_profile_to_string(a->sandbox));
        hash_text(&s, a->permission_mode);
        hash_text(&s, config->model);
        if (is_codex(l->kind)) {
                hash_text(&s, config->codex.exec ? "exec" : "");
                hash_text(&s, config->codex.network ? "network" : "");
                hash_text(&s, config->codex.sandbox);
                hash_text(&s, config->codex.model_provider);
                for (char **c = config->codex.config; c && *c; c++)
                        hash_text(&s, *c);
        }
        hash_text(&s, config->home->workspace);
        hash_text(&s, l->program);
        hash_text(&s, working_directory);
        for (char **d = a->extra_dirs; d && *d; d++)
                hash_text(&s, *d);
        for (char **path = l->certificates; path && *path; path++)
                hash_text(&s, *path);
        hash_text(&s, l->has_tools ? "tools" : "");
        hash_text(&s, l->has_outlet ? "outlet" : "");
        (void) crypto_generichash_update(&s, l->home.hash, sizeof(l->home.hash));
        (void) crypto_generichash_final(&s, l->hash, sizeof(l->hash));
}

static const char* title(HarnessKind k) {
        return k == HARNESS_GEMINI ? "Gemini CLI" : k == HARNESS_HERMES ? "Hermes" : is_codex(k) ? "Codex" :
               "Claude Code";
}

static bool has_own_key(const AgentConfig *a) {
        return !isempty(a->api_key) || !isempty(a->llm_base_url);
}

/* An agent's own key goes before the operator's login with Claude, and that before the key that all agents have: it is
 * what somebody pays for already. A login that only the agent has does not go before any key: it may have written it
 * itself, and what it uses by that is counted by nobody. */
static bool wants_outlet(const SessionConfig *config, const CliLogin *login) {
        if (has_own_key(config->agent))
                return true;
        return (!isempty(config->api_key) || !isempty(config->base_url)) &&
               (login->state == CLI_LOGIN_MISSING ||
                (login->link == CLI_LOGIN_NO_OPERATOR && cli_login_is_for(config->agent)));
}

int hands_launch_login(const SessionConfig *config, CliLogin *ret) {
        static const CliLogin none = { .state = CLI_LOGIN_MISSING, .expires_usec = USEC_INFINITY };
        const char *harness = agent_config_harness(config->agent);
        _cleanup_free_ char *home = NULL;
        int r;

        *ret = none;
        r = operator_home(&home);
        if (r < 0)
                return r;
        if (streq(harness, "codex"))
                return has_own_key(config->agent) ? codex_login_remove(config->home) :
                                                    codex_login_sync(config->home, home, ret);
        if (!cli_login_is_for(config->agent))
                return 0;
        if (!has_own_key(config->agent))
                r = cli_login_sync(config->home, home, ret);
        if (r < 0 || !wants_outlet(config, ret))
                return r;
        *ret = none;
        r = cli_login_remove(config->home);
        if (r > 0)
                log_notice("The agent's CLI works with a key: the login in its home is removed.");
        return MIN(r, 0);
}

static int name_sockets(HandsLaunch *l, const SessionConfig *config) {
        const struct { bool is_there; const char *outside, *inside; } all[] = {
                { l->has_tools, CHAT_SERVICE_SOCKET, TOOL_SOCKET },
                { l->has_outlet, HANDS_MODEL_SOCKET, MODEL_SOCKET },
                { l->has_proxy, HANDS_PROXY_SOCKET, PROXY_SOCKET },
        };
        size_t n = 0;

        for (size_t i = 0; i < ELEMENTSOF(all); i++) {
                if (!all[i].is_there)
                        continue;
                l->sockets[n] = path_join(config->home->directory, all[i].outside);
                l->sockets[n + 1] = strdup(all[i].inside);
                if (!l->sockets[n] || !l->sockets[n + 1])
                        return -ENOMEM;
                n += 2;
        }
        return 0;
}

/* As far as that can be seen from here: the harness sees more of the homes than we do, and may write where for us all
 * is read-only. */
static bool may_not_be_written(const char *path) {
        struct stat st;

        return access(path, W_OK | X_OK) < 0 && errno == EACCES && stat(path, &st) >= 0;
}

/* Codex has a sandbox of its own, in which only its working directory can be written to without being named. One that
 * the agent may not write to at all is not named: no command would run, as nothing could be put over what that sandbox
 * protects there. */
static int name_extra(HandsLaunch *l, const SessionConfig *config) {
        _cleanup_free_ char *own = path_join(config->home->directory, ".codex");
        int r = own ? 0 : -ENOMEM;

        if (!is_codex(l->kind))
                return r < 0 ? r : extend(&l->extra, config->agent->extra_dirs);
        for (char **path = l->read_write; path && *path && r >= 0; path++)
                if (!streq(*path, own) && !streq(*path, config->home->workspace) && !may_not_be_written(*path))
                        r = strv_extend(&l->extra, *path);
        return r;
}

/* Of Codex: which sandbox of its own it makes. */
static const char* hands_codex_sandbox(const SessionConfig *config) {
        const char *sandbox = config->codex.sandbox;

        /* There the unit is the sandbox, and forbids further ones. */
        if (!sandbox)
                return config->agent->sandbox == SANDBOX_STRICT ? "danger-full-access" : "workspace-write";
        /* In the user's own view nothing else holds it. */
        return config->agent->sandbox == SANDBOX_HOST && streq(sandbox, "danger-full-access") ? "workspace-write" :
               sandbox;
}

static int name_things(HandsLaunch *l, const SessionConfig *config) {
        int r;

        l->description = strjoin(title(l->kind), " of AI agent ", config->home->id);
        l->directory = strdup(config->home->workspace);
        l->model = strdup(strempty(config->model));
        l->permission_mode = strdup(strempty(config->agent->permission_mode));
        l->own_sandbox = strdup(is_codex(l->kind) ? hands_codex_sandbox(config) : "");
        if (!l->description || !l->directory || !l->model || !l->permission_mode || !l->own_sandbox)
                return -ENOMEM;
        r = extend(&l->allowed_tools, config->agent->allowed_tools);
        if (r < 0)
                return r;
        r = name_sockets(l, config);
        if (r >= 0)
                r = extend(&l->read_only, l->home.read_only);
        if (r >= 0)
                r = extend(&l->read_only, l->roots);
        if (r >= 0)
                r = extend(&l->read_write, l->home.read_write);
        return r < 0 ? r : name_extra(l, config);
}

int hands_launch_prepare(HandsLaunch *ret, const SessionConfig *config, const char *working_directory, bool tools,
                         char **ret_fault) {
        _cleanup_(hands_launch_done) HandsLaunch l = { .kind = hands_driver_kind(config) };
        _cleanup_free_ char *home = NULL;
        int r;

        *ret_fault = NULL;
        r = operator_home(&home);
        if (r < 0)
                return r;
        l.has_tools = tools && l.kind != HARNESS_CLAUDE_SDK;
        r = find_program(&l, config, home, ret_fault);
        if (r >= 0)
                r = check_mode(l.kind, config->agent, ret_fault);
        if (r >= 0) /* the home's list of files has the view in it */
                r = hands_launch_login(config, &l.login);
        l.has_outlet = wants_outlet(config, &l.login);
        l.has_proxy = config->agent->sandbox == SANDBOX_STRICT;
        if (r >= 0)
                r = cli_home_prepare(&l.home, &(CliHomeSpec) {
                        .home = config->home, .config = config->agent,
                        .harness = agent_config_harness(config->agent), .user_home = home,
                        .mcp_command = l.has_tools ? MCP_PROGRAM : NULL,
                        .tool_socket = TOOL_SOCKET, .working_directory = working_directory,
                        .no_login = l.has_outlet,
                });
        if (r >= 0)
                r = name_things(&l, config);
        /* In the user's own view they are where they are. */
        if (r >= 0 && config->agent->sandbox != SANDBOX_HOST)
                r = cli_certificates_find(environ, home, &l.certificates);
        if (r < 0)
                return r;
        make_hash(&l, config, working_directory);
        *ret = l;
        l = (HandsLaunch) {};
        return 0;
}

/* A role's instructions it reads itself, but for the first of them. */
static int codex_instructions(const SessionConfig *config, const char *system, char **ret) {
        _cleanup_free_ char *path = NULL;
        size_t size;
        int r;

        if (!config->home->role) {
                *ret = strdup(strempty(system));
                return *ret ? 0 : -ENOMEM;
        }
        path = agent_home_path(config->home, config->agent->profile);
        r = path ? file_read(path, KIB(64), ret, &size) : -ENOMEM;
        if (r == -ENOMEM)
                return r;
        if (r < 0 || !utf8_is_valid(*ret, size)) {
                *ret = mfree(*ret);
                *ret = strdup("");
        }
        return *ret ? 0 : -ENOMEM;
}

int hands_launch_compose(HandsLaunch *l, const SessionConfig *config, const char *system, const char *prompt,
                         const HarnessOptions *options) {
        const AgentConfig *a = config->agent;
        const char *url = config->codex.url ?: "http://127.0.0.1:7011";
        _cleanup_free_ char *path = strjoin("PATH=", l->path), *instructions = NULL,
                            *agent = strjoin("AGENT_PROXY_AGENT=", config->home->id),
                            *proxy = strjoin("AGENT_PROXY_URL=", url);
        _cleanup_(strv_freep) char **environment = NULL, **images = NULL;
        HarnessOptions fitted = { .effort = options->effort };
        _cleanup_free_ char *schema = NULL;
        int r;

        /* The first of a name counts; what of it the CLI gets, its driver says. */
        r = path && agent && proxy ? strv_extend(&environment, path) : -ENOMEM;
        if (r >= 0 && config->home->role)
                r = strv_extend(&environment, agent);
        if (r >= 0 && config->home->role)
                r = strv_extend(&environment, proxy);
        if (r >= 0)
                r = extend(&environment, environ);
        if (r >= 0 && is_codex(l->kind)) {
                r = codex_instructions(config, system, &instructions);
                if (r >= 0)
                        r = cli_home_start_codex(config->home, &l->home);
                system = instructions;
        }
        if (r >= 0 && l->kind == HARNESS_CODEX_EXEC) {
                r = cli_home_start_codex_turn(config->home, options->output_schema, options->images, &schema, &images);
                fitted.output_schema = schema;
                fitted.images = images;
        }
        if (r >= 0)
                r = free_and_strdup(&l->system, system);
        if (r < 0)
                return r;
        l->launch = mfree(l->launch);
        return harness_launch(&(HarnessSetup) {
                .kind = l->kind, .program = l->program, .home = config->home->directory,
                .workspace = config->home->workspace, .working_directory = l->directory,
                .provider = config->provider, .model = l->model,
                .permission_mode = a->permission_mode, .mcp_config = l->home.mcp_config, .system_prompt = system,
                .session_id = l->session_id, .max_turns = a->max_turns, .allowed_tools = a->allowed_tools,
                .puffo_tools = l->kind == HARNESS_CLAUDE_SDK, .extra_dirs = l->extra,
                .codex_sandbox = hands_codex_sandbox(config), .codex_network = config->codex.network,
                .codex_provider = config->codex.model_provider, .codex_config = config->codex.config,
                .model_token = l->token, .model_socket = l->token ? MODEL_SOCKET : NULL,
                .proxy_socket = l->has_proxy ? PROXY_SOCKET : NULL, .prompt = prompt, .environment = environment,
                .options = &fitted,
        }, &l->launch);
}
