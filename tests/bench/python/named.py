"""Runs one of tlsfuzzer's scripts, with the same draws each time, and with a name in every hello
that names nobody, unless NAME is `-`.

Most of the scripts name nobody, and a proxy that reads names would refuse every one of their hellos.

    named.py NAME SCRIPT ARGUMENT...
"""

import random
import runpy
import sys

from tlslite.constants import ExtensionType
from tlslite.extensions import SNIExtension
from tlsfuzzer.messages import ClientHelloGenerator

name, script = sys.argv[1], sys.argv[2]
made = ClientHelloGenerator.__init__


def named(self, *arguments, **words):
    made(self, *arguments, **words)
    if self.ssl2:
        return
    extensions = dict(self.extensions or {})
    if ExtensionType.server_name not in extensions:
        server_name = SNIExtension().create(bytearray(name, "ascii"))
        # In front: a script may end its hello with what has to be last.
        extensions = {ExtensionType.server_name: server_name, **extensions}
    self.extensions = extensions


if name != "-":
    ClientHelloGenerator.__init__ = named
random.seed(1)
sys.argv = sys.argv[2:]
runpy.run_path(script, run_name="__main__")
