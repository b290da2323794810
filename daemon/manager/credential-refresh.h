/* SPDX-License-Identifier: MIT */
#pragma once

#include "manager.h"

/* puffo-credentials@PROVIDER.service, at the request of sessions: whoever asks while it runs, or shortly after, gets
 * the same answer. */

/* The method RefreshCredentials of the private bus. */
int credential_refresh_method(Manager *m, sd_bus_message *message, sd_bus_error *reterr_error);
/* The same for a call without arguments, of that provider; answered with "s". */
int credential_refresh_ask(Manager *m, const char *provider, sd_bus_message *message, sd_bus_error *reterr_error);
CredentialRefresh* credential_refresh_free(CredentialRefresh *c);
