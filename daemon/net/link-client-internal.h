/* SPDX-License-Identifier: MIT */
#pragma once

#include "link-client.h"
#include "link-wire.h"

/* Shared by link-client.c and link-websocket.c. */

#define LINK_IS_GONE "puffo-link has ended the connection"

/* A connection to the link, asynchronous from then on. > 0: there is none, and *reterr says why. */
int link_connect(LinkConnection *ret, sd_event *event, sd_event_io_handler_t callback, void *userdata, char **reterr);
/* Sends the certificates of one of the two. Why the file cannot be read. */
int link_send_certificates(LinkConnection *c, const char *ca_file, const char *ca_text);
/* Which proxy is to be used for a URL: the caller's word, or else this process's environment's. */
int link_put_proxy(StrBuf *fields, bool tls, const char *proxy, const char *no_proxy);
