"""`make bench`: what a request costs us beside nginx `proxy_pass`, against the same upstream, in one run.

Both servers run the whole time on loopback and the load goes to each in turn, round after round; figures are
medians. The main figure is CPU time of the server per request: it moves less than wall-clock time on a shared
machine. Ours does its whole work: key, rate limit, hold, settlement and usage row on disk before the answer.
"""

import asyncio
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from api.main import open_services
from api.settings import Settings, load_settings
from tests.running import balance, customer
from tests.servers import free_port

SECONDS, ROUNDS, EVENTS = 3, 5, 100
TICK = os.sysconf("SC_CLK_TCK")

MESSAGE = {"index": 0, "message": {"role": "assistant", "content": "word " * 60}, "finish_reason": "stop"}
USAGE = {"prompt_tokens": 11, "completion_tokens": 60, "total_tokens": 71}
WHOLE = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m", "choices": [MESSAGE]}


@dataclass
class Server:
    """One of the servers compared, and the paths it serves the two upstreams at."""

    name: str
    port: int
    pids: list[int]

    def cpu(self) -> float:
        """CPU seconds used so far by all its processes and their threads."""
        ticks = 0
        for pid in self.pids:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / TICK

    def memory(self) -> int:
        """Resident megabytes."""
        lines = Path(f"/proc/{self.pids[-1]}/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) // 1024


def main() -> None:
    for program, package in (("nginx", "nginx-light"), ("wrk", "wrk")):
        if not shutil.which(program) and not Path(f"/usr/sbin/{program}").exists():
            sys.exit(f"make bench needs {program}: apt-get install {package}.")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="callmissed-bench-")))
        upstream = free_port()
        write_upstream(folder)
        start_nginx(stack, folder / "upstream", upstream_config(folder, upstream))
        ours, key = start_ours(stack, folder, upstream)
        proxy = free_port()
        pids = start_nginx(stack, folder / "proxy", proxy_config(proxy, upstream))
        measure(folder, [Server("nginx", proxy, pids), ours], key)


def measure(folder: Path, servers: list[Server], key: str) -> None:
    whole = write_load(folder, "whole.lua", "/v1/chat/completions", body("gpt-4o"), key)
    events = write_load(
        folder, "events.lua", "/v1/chat/completions", body("google/gemini-3-flash-preview", stream=True), key
    )
    plain = write_load(folder, "plain.lua", "/stream/v1/chat/completions", body("m", stream=True), key)
    cases = [("whole", whole, count) for count in (1, 32, 128)] + [("events", events, 32)]
    for server in servers:
        load(server, whole, 32, 1)
    print(
        f"CPU µs a request, medians of {ROUNDS} rounds of {SECONDS} s; {os.cpu_count()} cores shared by all\n"
    )
    print(f"{'case':24}{'server':8}{'CPU µs':>9}{'req/s':>9}{'p50 ms':>9}{'p99 ms':>9}{'x nginx':>9}")
    per_request = {}
    for kind, script, connections in cases:
        found: dict[str, list[tuple[float, ...]]] = {server.name: [] for server in servers}
        for _ in range(ROUNDS):
            for server in servers:
                chosen = plain if kind == "events" and server.name == "nginx" else script
                found[server.name].append(load(server, chosen, connections, SECONDS))
        base = 0.0
        for server in servers:
            cpu, rate, p50, p99 = (
                statistics.median(column) for column in zip(*found[server.name], strict=True)
            )
            base = base or cpu
            per_request[kind, connections, server.name] = cpu
            name = f"{kind}, {connections} conns"
            print(f"{name:24}{server.name:8}{cpu:9.0f}{rate:9.0f}{p50:9.2f}{p99:9.2f}{cpu / base:9.1f}")
    ours = servers[1]
    extra = per_request["events", 32, ours.name] - per_request["whole", 32, ours.name]
    each = extra / (EVENTS + 3)
    print(f"\nA relayed event: {each:.1f} µs (a stream of {EVENTS + 3} events less a whole answer)")
    print(f"Memory of our server after all that: {ours.memory()} MB")


def load(server: Server, script: Path, connections: int, seconds: int) -> tuple[float, float, float, float]:
    """CPU µs a request, requests a second, p50 and p99 in ms. Exits when an answer was not 200."""
    before = server.cpu()
    done = subprocess.run(
        ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", script, f"http://127.0.0.1:{server.port}"],
        capture_output=True,
        text=True,
        check=True,
    )
    used = server.cpu() - before
    count, errors, microseconds, p50, p99 = json.loads(done.stdout.strip().splitlines()[-1])
    if errors or not count:
        sys.exit(f"{server.name}: {errors} of {count} answers were errors\n{done.stdout}")
    return used / count * 1e6, count / microseconds * 1e6, p50 / 1000, p99 / 1000


def body(model: str, **more: object) -> str:
    return json.dumps(
        {"model": model, "messages": [{"role": "user", "content": "hi " * 20}], "max_tokens": 100} | more
    )


def write_load(folder: Path, name: str, path: str, content: str, key: str) -> Path:
    script = folder / name
    script.write_text(
        f"""wrk.method = "POST"
wrk.path = "{path}"
wrk.body = [[{content}]]
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Authorization"] = "Bearer {key}"
function done(summary, latency)
  local e = summary.errors
  print(string.format("[%d,%d,%d,%f,%f]", summary.requests,
    e.connect + e.read + e.write + e.status + e.timeout, summary.duration,
    latency:percentile(50), latency:percentile(99)))
end
"""
    )
    return script


def write_upstream(folder: Path) -> None:
    frame = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    deltas = [{"role": "assistant", "content": ""}, *({"content": f"word{n} "} for n in range(EVENTS))]
    chunks = [frame | {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    chunks.append(frame | {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    chunks.append(frame | {"choices": [], "usage": USAGE})
    compact = [json.dumps(chunk, separators=(",", ":")) for chunk in chunks]
    (folder / "events").write_text("".join(f"data: {line}\n\n" for line in [*compact, "[DONE]"]))
    (folder / "whole").write_text(json.dumps(WHOLE | {"usage": USAGE}))


FRAME = """daemon off; worker_processes 1; error_log stderr error; pid %(folder)s/pid;
events { worker_connections 4096; }
http {
  access_log off; keepalive_requests 100000000; client_body_temp_path %(folder)s/body;
  proxy_temp_path %(folder)s/proxy; fastcgi_temp_path %(folder)s/f; uwsgi_temp_path %(folder)s/u;
  scgi_temp_path %(folder)s/s;
  %(servers)s
}
"""


def upstream_config(folder: Path, port: int) -> str:
    return f"""open_file_cache max=10;
  server {{ listen 127.0.0.1:{port} backlog=1024; root {folder};
    location /v1/ {{ default_type application/json; error_page 405 =200 /whole; return 405; }}
    location /stream/ {{ error_page 405 =200 /events; return 405; }}
    location = /whole {{ default_type application/json; }}
    location = /events {{ default_type text/event-stream; }} }}"""


def proxy_config(port: int, upstream: int) -> str:
    return f"""upstream backend {{ server 127.0.0.1:{upstream}; keepalive 256; }}
  server {{ listen 127.0.0.1:{port} backlog=1024;
    location / {{ proxy_pass http://backend; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_buffering off; }} }}"""


def start_nginx(stack: ExitStack, folder: Path, servers: str) -> list[int]:
    """A running nginx; the process ids of its master and its worker."""
    folder.mkdir()
    config = folder / "nginx.conf"
    # The worker is another user than root: it must reach what lies beside the folder.
    folder.parent.chmod(0o755)
    config.write_text(FRAME % {"folder": folder, "servers": servers})
    program = shutil.which("nginx") or "/usr/sbin/nginx"
    process = subprocess.Popen([program, "-c", str(config), "-e", "stderr"])
    stack.callback(process.wait)
    stack.callback(process.terminate)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    while not (workers := children.read_text().split()):
        time.sleep(0.02)
    return [process.pid, *map(int, workers)]


def start_ours(stack: ExitStack, folder: Path, upstream: int) -> tuple[Server, str]:
    port = free_port()
    environment = {
        **os.environ,
        "PORT": str(port),
        "LOCAL": "0",
        "CALLMISSED_DATA_DIR": str(folder / "data"),
        "CALLMISSED_LOG_LEVEL": "warning",
        "OPENAI_BASE_URL": f"http://127.0.0.1:{upstream}/v1",
        "OPENROUTER_BASE_URL": f"http://127.0.0.1:{upstream}/stream/v1",
    }
    subprocess.run(
        [sys.executable, "-m", "api", "migrate"], env=environment, check=True, stdout=subprocess.DEVNULL
    )
    settings = load_settings(data_dir=folder / "data", vendors={}, local=False)
    key = asyncio.run(make_key(settings))
    process = subprocess.Popen(
        [sys.executable, "-m", "api", "serve"], env=environment, stdout=subprocess.DEVNULL
    )
    stack.callback(process.wait)
    stack.callback(process.terminate)
    wait_for(port)
    return Server("ours", port, [process.pid]), key


async def make_key(settings: Settings) -> str:
    """A key with a billion credits and no limit that a benchmark could reach."""
    async with open_services(settings) as services:
        owner = await customer(services, credits="1000000000", rate_limit_rpm=1_000_000_000)
        assert (await balance(services, owner.tenant_id)).available > 0
        return owner.key


def wait_for(port: int) -> None:
    for _ in range(200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    sys.exit("Our server did not start.")


if __name__ == "__main__":
    main()
