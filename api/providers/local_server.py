"""The chat engine's own process: llama.cpp's HTTP server on a loopback port, for as long as its parent lives.

Reads one JSON line on standard input (`model`, `alias`, `key`, `context`, `slots`), says `{"url": …}` in one
line on standard output when it answers, and ends when its input ends, however its parent went away.
"""

import json
import os
import sys
import threading
from typing import IO


def main() -> None:
    """Serve until the parent is gone."""
    parent = sys.stdin.buffer
    wanted = json.loads(parent.readline())
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever the engine prints is no answer to the parent
    server = serve(wanted)
    print(json.dumps({"url": server.listening_address}), file=answer, flush=True)
    threading.Event().wait()


def serve(wanted: dict[str, object]):  # type: ignore[no-untyped-def]  # the engine has no types
    """A running `xllamacpp.Server` on an ephemeral loopback port."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = wanted["model"]
    params.model_alias = {wanted["alias"]}
    params.api_keys = [wanted["key"]]
    params.hostnames, params.port = ["127.0.0.1"], 0
    params.n_parallel = wanted["slots"]
    params.n_ctx = wanted["context"]  # for all slots together
    # More threads than free cores make llama.cpp spin instead of work: 2 tokens a second instead of 60.
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.cache_ram_mib = 128  # the default lets remembered prompts grow to 8 GiB
    params.endpoint_slots = params.endpoint_props = params.ui = False
    params.verbosity = 2  # warnings and errors
    return xllamacpp.Server(params)


def _end_with(parent: IO[bytes]) -> None:
    parent.read()
    os._exit(0)


if __name__ == "__main__":
    main()
