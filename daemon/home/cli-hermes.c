/* SPDX-License-Identifier: MIT */

#include <stdio.h>

#include "cli-home-internal.h"
#include "yaml-util.h"

#define CONFIG "config.yaml"
#define TIMEOUT_SEC 120

static bool scalar_is(const YamlNode *n, const char *value) {
        const char *s = n ? yaml_node_scalar(n) : NULL;

        return s && streq(s, value);
}

static bool puffo_is(const YamlNode *servers, const CliHomeSpec *spec) {
        const YamlNode *puffo = servers && yaml_node_kind(servers) == YAML_MAPPING ? yaml_mapping_get(servers, "puffo")
                                                                                   : NULL;
        const YamlNode *environment;

        if (!puffo || yaml_node_kind(puffo) != YAML_MAPPING)
                return !puffo && !spec->mcp_command;
        environment = yaml_mapping_get(puffo, "env");
        return spec->mcp_command && yaml_node_size(puffo) == 3 &&
               scalar_is(yaml_mapping_get(puffo, "command"), spec->mcp_command) &&
               yaml_mapping_get(puffo, "timeout") &&
               environment && yaml_node_kind(environment) == YAML_MAPPING && yaml_node_size(environment) == 1 &&
               scalar_is(yaml_mapping_get(environment, "PUFFO_TOOL_SOCKET"), spec->tool_socket);
}

static int puffo_set(YamlNode *root, const CliHomeSpec *spec) {
        YamlNode *servers, *puffo, *environment;
        int r;

        r = yaml_mapping_ensure(root, "mcp_servers", &servers);
        if (r < 0)
                return r;
        (void) yaml_mapping_remove(servers, "puffo");
        if (!spec->mcp_command)
                return 0;
        r = yaml_mapping_ensure(servers, "puffo", &puffo);
        if (r >= 0)
                r = yaml_mapping_set_string(puffo, "command", spec->mcp_command);
        if (r >= 0)
                r = yaml_mapping_ensure(puffo, "env", &environment);
        if (r >= 0)
                r = yaml_mapping_set_string(environment, "PUFFO_TOOL_SOCKET", spec->tool_socket);
        return r < 0 ? r : yaml_mapping_set_int(puffo, "timeout", TIMEOUT_SEC);
}

/* What cannot be read as YAML, as far as we read it, is moved aside. */
static int config_read(CliWork *w, int fd, YamlDocument **ret, bool *ret_fresh) {
        _cleanup_free_ char *text = NULL, *error = NULL;
        size_t size;
        int r;

        *ret_fresh = false;
        r = cli_file_read(fd, CONFIG, CLI_FILE_SIZE_MAX, &text, &size);
        if (r >= 0)
                r = yaml_document_parse(ret, text, size, &error);
        if (r >= 0 || r == -ENOMEM)
                return r;
        if (r != -ENOENT) {
                r = cli_file_move_aside(fd, CONFIG);
                if (r >= 0)
                        r = cli_work_notice(w, "'.hermes/" CONFIG "' cannot be used: it has been moved aside.");
                if (r < 0)
                        return r;
        }
        *ret_fresh = true;
        return yaml_document_new(ret);
}

int cli_hermes_prepare(CliWork *w) {
        _cleanup_close_ int fd = cli_directory_make(w->root_fd, ".hermes", 0700);
        _cleanup_(yaml_document_freep) YamlDocument *d = NULL;
        _cleanup_free_ char *text = NULL;
        bool fresh;
        size_t size;
        int r;

        if (fd < 0)
                return fd;
        r = config_read(w, fd, &d, &fresh);
        if (r < 0)
                return r;
        if (!fresh && puffo_is(yaml_mapping_get(yaml_document_root(d), "mcp_servers"), w->spec))
                return cli_file_ensure(fd, CONFIG, "", 0600);
        r = puffo_set(yaml_document_root(d), w->spec);
        if (r >= 0)
                r = yaml_document_dump(d, &text, &size);
        return r < 0 ? r : cli_file_write(fd, CONFIG, text, size, 0600, CLI_FILE_KEEP_INODE);
}
