# SPDX-License-Identifier: MIT
"""A Puffo server and a human client for tests, written from the protocol alone: no code is shared with the daemon."""
