# SPDX-License-Identifier: LGPL-2.1-or-later


class Failure(Exception):
    """What the user is told in one line before the benchmark ends."""
