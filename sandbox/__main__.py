"""`python -m sandbox`: starts the local platform and says on stdout, in one JSON line, where it is."""

import argparse
import asyncio
import fcntl
import json
import logging
import os
import signal
import socket
import sqlite3
import sys
import threading
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import IO, NoReturn

from aiohttp import web

from sandbox.keys import Keys, KeysError
from sandbox.livekit import LiveKitServer
from sandbox.livekit_binary import LiveKitError, find

_STOP_SIGNALS = [signal.SIGINT, signal.SIGTERM]
if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup has it
    _STOP_SIGNALS.append(signal.SIGHUP)

_log = logging.getLogger("sandbox")  # __name__ is "__main__" here


class StartError(Exception):
    """The sandbox cannot start, or cannot go on; the text is for the person at the terminal."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise StartError(f"{message} (--help shows the options)")


def main() -> int:
    # From here on stdout is ours alone: what a library prints joins the log.
    stdout = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(name)s: %(message)s", datefmt="%H:%M:%S"
    )
    logging.getLogger("livekit").setLevel(logging.WARNING)  # the libraries; ours have other names
    for sign in _STOP_SIGNALS:
        signal.signal(sign, lambda *_: sys.exit(0))  # until the event loop takes them over
    try:
        options = _options()
        llm_settings = _llm_settings()
        with _only_user(options.data):
            keys = _keys(options.data)
            # Before the build, which can take minutes: a taken port shows at once.
            rest = _bind(options.port)
            binary = find()
            _stay_local()
            asyncio.run(_serve(options, keys, llm_settings, rest, binary, stdout))
    except asyncio.CancelledError:
        return 0  # asked to stop, and everything has ended
    except (StartError, KeysError, LiveKitError) as problem:
        sys.stderr.write(f"sandbox: {problem}\n")
    return 1


def _options() -> argparse.Namespace:
    parser = _Parser(prog="python -m sandbox", description="The voice platform on this machine.")
    parser.add_argument("--port", type=_port, default=0, help="of the REST API (default: a free one)")
    parser.add_argument(
        "--livekit-port", type=_port, default=0, help="of the LiveKit server (default: a free one)"
    )
    parser.add_argument(
        "--data", type=Path, default=Path("var/sandbox"), help="keys and records (%(default)s)"
    )
    parser.add_argument(
        "--max-calls",
        type=_count,
        default=max(2, os.cpu_count() or 2),
        help="calls at the same time (default: one per processor, here %(default)s)",
    )
    options = parser.parse_args()
    if options.port and options.port == options.livekit_port:
        raise StartError("--port and --livekit-port must differ.")
    return options


def _port(text: str) -> int:
    if not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port from 0 to 65535")
    return int(text)


def _count(text: str) -> int:
    if not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 on")
    return int(text)


def _llm_settings() -> tuple[str, str, str] | None:
    names = ("AGENT_LLM_BASE_URL", "AGENT_LLM_API_KEY", "AGENT_LLM_MODEL")
    base_url, api_key, model = (os.environ.get(name, "") for name in names)
    if base_url and api_key and model:
        return base_url, api_key, model
    if base_url or api_key or model:
        missing = ", ".join(name for name in names if not os.environ.get(name))
        raise StartError(f"A language model needs all of {', '.join(names)}. Missing: {missing}.")
    return None


@contextmanager
def _only_user(data: Path) -> Iterator[None]:
    """Hold the data folder: a second sandbox in it would end the first one's calls in the records."""
    try:
        data.mkdir(parents=True, exist_ok=True)
        lock = (data / "lock").open("w")
    except OSError as problem:
        raise StartError(f"The data folder {data} cannot be written: {problem.strerror}.") from problem
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StartError(
                f"{data} is in use by another sandbox. End it, or give another --data."
            ) from None
        yield


def _keys(data: Path) -> Keys:
    path = data / "keys.json"
    try:
        return Keys.kept_in(path, os.environ.get("SANDBOX_API_KEY") or None)
    except OSError as problem:
        raise StartError(f"{path} cannot be used: {problem.strerror}.") from problem


def _bind(port: int) -> socket.socket:
    """Take the port, but do not listen: until the API is there a client is refused, and does not hang."""
    rest = socket.socket()
    # Connections of an earlier run that have just ended must not count as use.
    rest.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        rest.bind(("127.0.0.1", port))
    except OSError as problem:
        rest.close()
        raise _port_problem(port, problem) from problem
    return rest


def _port_problem(port: int, problem: OSError) -> StartError:
    return StartError(
        f"Port {port} cannot be used ({problem.strerror}). End what uses it, or give another --port."
    )


def _stay_local() -> None:
    """See to it that nothing but loopback is dialled (the build before this may use the network)."""
    for name in [
        n
        for n in os.environ
        if n.lower() in ("http_proxy", "https_proxy", "all_proxy", "ws_proxy", "wss_proxy")
    ]:
        del os.environ[name]  # LiveKit's clients would send even 127.0.0.1 through it
    for name in [n for n in os.environ if n.startswith("LIVEKIT_")]:
        del os.environ[name]  # the developer's own account; livekit-agents reads it
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    # The end-of-turn model is not used here, and costs 250 MB of memory when it is loaded all the same.
    os.environ["LIVEKIT_AGENTS_PRELOAD_LOCAL_INFERENCE"] = "0"


async def _serve(
    options: argparse.Namespace,
    keys: Keys,
    llm_settings: tuple[str, str, str] | None,
    rest: socket.socket,
    binary: Path,
    stdout: IO[str],
) -> NoReturn:
    """Serve until a signal cancels this. Raises StartError and LiveKitError."""
    # Here and not above: they obey the environment that _stay_local made, and take a second or two.
    from sandbox.agent import VoiceAgent
    from sandbox.api import CONCIERGE, Api
    from sandbox.calls import CallStore
    from sandbox.concierge import Concierge
    from sandbox.recordings import Recordings
    from sandbox.speech import ModelError
    from sandbox.wits import LlmConfig

    # It unwinds in reverse: no new calls, then the open ones end, then their media server, then the records.
    async with AsyncExitStack() as stack:
        records = options.data / "calls.db"
        try:
            calls = CallStore(records)
        except sqlite3.Error as problem:
            raise StartError(f"{records} cannot be used: {problem}. Delete it to begin anew.") from problem
        stack.callback(calls.close)
        folder = options.data / "recordings"
        try:
            recordings = Recordings(folder)
        except OSError as problem:
            raise StartError(f"{folder} cannot be used: {problem.strerror}.") from problem

        livekit = LiveKitServer(binary, keys.livekit_key, keys.livekit_secret, options.livekit_port)
        stack.push_async_callback(livekit.stop)
        _cancel_on_signal(livekit)
        await livekit.start()

        llm = None if llm_settings is None else LlmConfig(*llm_settings)
        agent = VoiceAgent(calls, recordings, livekit.url, keys.livekit_key, keys.livekit_secret, llm)
        # At once, since only a worker that runs can be closed.
        working = asyncio.create_task(agent.run(), name="agent")
        stack.push_async_callback(agent.aclose)

        greeting = Concierge().greeting()
        api = Api(
            calls,
            recordings,
            agent,
            keys,
            livekit_url=livekit.url,
            max_calls=options.max_calls,
            first_message=greeting,
        )
        runner = web.AppRunner(api.application(), access_log=None, shutdown_timeout=0.5)
        stack.push_async_callback(runner.cleanup)
        await runner.setup()
        # Before the models, which take seconds: a client sees 503 meanwhile, which says so.
        try:
            await web.SockSite(runner, rest).start()
        except OSError as problem:
            raise _port_problem(options.port, problem) from problem

        async def until_ready() -> None:
            try:
                await agent.load()
            except ModelError as problem:
                raise StartError(str(problem)) from problem
            await agent.wait_ready()

        starting = asyncio.create_task(until_ready(), name="agent-start")
        await asyncio.wait({working, starting}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            await starting
            place = {
                "base_url": f"http://127.0.0.1:{rest.getsockname()[1]}",
                "api_key": keys.api_key,
                "agent_id": CONCIERGE,
                "livekit_url": livekit.url,
            }
            stdout.write(json.dumps(place) + "\n")
            stdout.flush()
        await working
        raise StartError("The agent has stopped by itself; the lines above may say why.")


def _cancel_on_signal(livekit: LiveKitServer) -> None:
    """From now on the first stop signal cancels the current task, and 5 s later nothing is left."""
    loop, serving = asyncio.get_running_loop(), asyncio.current_task()

    def give_up() -> None:
        _log.error("not ended in time (models that load cannot be interrupted); going at once")
        if livekit.pid is not None:
            os.kill(livekit.pid, signal.SIGKILL)
        os._exit(0)

    def stop() -> None:
        for sign in _STOP_SIGNALS:
            loop.add_signal_handler(sign, _log.info, "already stopping")  # the end must not be cut short
        _log.info("stopping")
        limit = threading.Timer(4.5, give_up)
        limit.daemon = True
        limit.start()
        if serving is not None:
            serving.cancel()

    for sign in _STOP_SIGNALS:
        loop.add_signal_handler(sign, stop)


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    # All that was started has ended. To let Python take the speech models and WebRTC apart as well costs
    # seconds on a busy machine, and serves nobody.
    os._exit(code)
