/* SPDX-License-Identifier: MIT */

#include "account.h"
#include "file-util.h"
#include "log.h"
#include "string-util.h"

int account_open(sd_event *event, HttpClient *http, const SessionConfig *config, Identity **ret_identity,
                 ServerClient **ret_client, char **reterr) {
        _cleanup_free_ char *directory = path_join(config->home->directory, "keys"), *text = NULL;
        const char *slug = strempty(config->agent->slug), *device_id = strempty(config->agent->device_id),
                   *server_url = strempty(config->agent->server_url);
        _cleanup_(identity_freep) Identity *identity = NULL;
        int r;

        if (!directory)
                return -ENOMEM;
        r = identity_import(directory, slug, &text);
        if (r >= 0)
                r = identity_load(&identity, directory, slug, &text);
        if (r == -ENOMEM)
                return r;
        if (r < 0) {
                *reterr = text ? TAKE_PTR(text) : asprintf_new("The keys of '%s' cannot be read from '%s': %s",
                                                               slug, directory, strerror(-r));
                return -EBADMSG;
        }
        if (identity->excess_mode != 0)
                log_warning("The key file of '%s' in '%s' can be read by others (chmod 600 it).", slug, directory);
        if (!isempty(device_id) && !streq(identity->device_id, device_id)) {
                *reterr = asprintf_new("The key file is of device '%s', but agent.yml has puffo_core.device_id '%s'.",
                                       identity->device_id, device_id);
                return *reterr ? -EBADMSG : -ENOMEM;
        }
        r = server_client_new(ret_client, &(ServerClientSpec) {
                .event = event, .http = http, .identity = identity, .key_directory = directory,
                .server_url = server_url, .ca_file = isempty(config->ca_file) ? NULL : config->ca_file,
        });
        if (r == -EINVAL) {
                *reterr = asprintf_new("puffo_core.server_url '%s' of agent.yml is no http(s) URL.", server_url);
                return *reterr ? -EBADMSG : -ENOMEM;
        }
        if (r >= 0)
                *ret_identity = TAKE_PTR(identity);
        return r;
}
