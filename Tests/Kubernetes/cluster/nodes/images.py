"""The images that nodes can pull: each pattern stands for a program on this machine.

`IMAGE=COMMAND…` with shell patterns in IMAGE; `pause` for COMMAND is a container without a process,
`missing` an image that cannot be pulled. The command is followed by the container's args; a
container's own command replaces it.
"""

import fnmatch
import os
import shlex

NOTHING = "pause"
MISSING = "missing"


class Images:
    def __init__(self, entries):
        self.entries = []
        for entry in entries:
            pattern, separator, command = entry.partition("=")
            if not separator or not pattern:
                raise ValueError(f"an image is PATTERN=COMMAND, and not {entry!r}")
            self.entries.append((pattern, shlex.split(command) or [NOTHING]))
        weir = os.environ.get("WEIR_BINARY")
        if weir:
            self.entries += [("weir:*", [weir]), ("*/weir:*", [weir]), ("weir", [weir])]
        self.entries += [("pause*", [NOTHING]), ("*/pause*", [NOTHING])]

    def command(self, image):
        """The command of an image: None if it cannot be pulled; [] if it brings no command."""
        for pattern, command in self.entries:
            if fnmatch.fnmatch(image, pattern):
                return None if command == [MISSING] else command
        return None
