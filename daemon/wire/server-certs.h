/* SPDX-License-Identifier: MIT */
#pragma once

#include "cert-cache.h"
#include "server-client.h"

/* The certificate registry of a server as a source of pages. The client outlives whoever uses the source. */
CertSource server_cert_source(ServerClient *c);
