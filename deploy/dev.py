"""`make dev`: the same address as `make run`, but a saved file is in the browser a moment later."""

import subprocess

from build import reflex_environment
from run import address, require_free_port, wants_local
from setup import set_up
from steps import ROOT, VENV_PYTHON, Stop, main, one_at_a_time, run, step


def dev() -> None:
    """Runs Vite beside a server that reloads; both end together."""
    host, port = address()
    require_free_port(host, port)
    require_free_port("127.0.0.1", port + 1)
    set_up(local=wants_local(), dev=True)
    env = {**reflex_environment(f"http://localhost:{port}"), "REFLEX_ENV_MODE": "dev"}
    with one_at_a_time("build"), step("Compiling the dashboard"):
        run([VENV_PYTHON, "-m", "reflex", "compile"], what="Compiling the dashboard", env=env)
    for words in [("models", "pull"), ("migrate",)][0 if wants_local() else 1 :]:
        if subprocess.call([VENV_PYTHON, "-m", "api", *words], cwd=ROOT):
            raise Stop(f"`python -m api {' '.join(words)}` failed.")
    vite = subprocess.Popen(
        f"bun --bun run react-router dev --host 127.0.0.1 --port {port + 1} --strictPort".split(),
        cwd=ROOT / ".web",
        env=env,
        stdout=subprocess.DEVNULL,
    )
    try:
        print(f"\n  CallMissed is at http://{host}:{port}, and follows what you save.\n", flush=True)
        options = (
            f"--host {host} --port {port} --log-level warning --reload-dir api --reload-dir callmissed_app"
        )
        server = ["-m", "uvicorn", "--factory", "callmissed_app.dev:app", "--reload", *options.split()]
        subprocess.call([VENV_PYTHON, *server], cwd=ROOT, env=env)
    finally:
        vite.terminate()
        vite.wait()


if __name__ == "__main__":
    main(dev)
