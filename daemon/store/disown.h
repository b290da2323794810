/* SPDX-License-Identifier: MIT */
#pragma once

#include "database.h"

/* For a database that is a copy: what waits, runs, or is on its way in it is the original's business, and ends here,
 * so that it is not done a second time. What was said and what has ended stays. All of it or nothing. */
int database_disown(sqlite3 *db);
