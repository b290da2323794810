# SPDX-License-Identifier: MIT
"""Lets the tests here import the package from wherever pytest is run."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
