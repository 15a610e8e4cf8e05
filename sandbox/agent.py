"""The agent: LiveKit's worker in this process, which takes the calls that are dispatched to it."""

import asyncio
import json
import logging
import threading
from dataclasses import asdict
from functools import partial

import aiohttp
from livekit import api
from livekit.agents import AgentServer, JobContext, JobExecutorType

from sandbox.calls import CallStore
from sandbox.conversation import CallRequest, Conversation
from sandbox.recordings import Recordings
from sandbox.speech import Models, load_models
from sandbox.wits import LlmConfig

_log = logging.getLogger(__name__)


class DispatchError(Exception):
    """The agent cannot be sent into a room now."""


class VoiceAgent:
    """LiveKit's worker in this process: each call runs in a thread with an event loop of its own."""

    NAME = "concierge"

    def __init__(
        self,
        calls: CallStore,
        recordings: Recordings,
        ws_url: str,
        api_key: str,
        api_secret: str,
        llm: LlmConfig | None = None,
        join_timeout_s: float = 30.0,
    ) -> None:
        """Must be made on the main thread. `join_timeout_s` is how long the agent waits for its caller."""
        if llm is not None:
            # The framework registers plug-ins on the main thread only, and calls have threads of their own.
            import livekit.plugins.openai  # noqa: F401
        self._calls = calls
        self._recordings = recordings
        self._llm = llm
        self._join_timeout_s = join_timeout_s
        self._livekit = partial(api.LiveKitAPI, ws_url.replace("ws", "http", 1), api_key, api_secret)
        self._models: Models | None = None
        self._registered = asyncio.Event()
        self._changed = threading.Condition()  # guards the next three
        self._dispatched: set[str] = set()
        self._running: dict[str, Conversation] = {}
        self._closing = False
        self._begun = False  # only then has the worker anything to close
        self._server = AgentServer(
            job_executor_type=JobExecutorType.THREAD,
            num_idle_processes=2,
            # Whether there is a line for a call is decided when it is minted; with a load of its own to watch
            # the worker would leave dispatched calls alone.
            load_fnc=lambda: 0.0,
            load_threshold=0.99,
            host="127.0.0.1",
            port=0,
            ws_url=ws_url,
            api_key=api_key,
            api_secret=api_secret,
            max_retry=1 << 30,
            http_proxy=None,
        )
        self._server.rtc_session(self._take_call, agent_name=self.NAME)
        self._server.on("worker_registered", lambda *_: self._registered.set())

    async def load(self) -> None:
        """Load the speech models, once per process. Raises ModelError."""
        if self._models is None:
            self._models = await asyncio.to_thread(load_models)

    async def run(self) -> None:
        """Work until `aclose`. When LiveKit goes away it is tried again for ever."""
        if self._closing:
            return
        self._begun = True
        await self._server.run(devmode=False)

    @property
    def ready(self) -> bool:
        """The models are loaded, and LiveKit has registered us now."""
        # No public event says that the connection was lost; `_connecting` is true from then to the next
        # registration.
        connected = self._registered.is_set() and not self._server._connecting
        return self._models is not None and connected and not self._closing

    async def wait_ready(self) -> None:
        """Return when LiveKit has registered us; the models must be loaded before."""
        while not self.ready:
            self._registered.clear()
            await self._registered.wait()

    async def dispatch(self, request: CallRequest, room: str) -> None:
        """Send the agent into `room`, to wait there for the caller. Raises DispatchError."""
        if not self.ready:
            raise DispatchError("the agent is not registered with LiveKit")
        dispatch = api.CreateAgentDispatchRequest(
            agent_name=self.NAME, room=room, metadata=json.dumps(asdict(request))
        )
        try:
            async with self._livekit() as livekit:
                await livekit.agent_dispatch.create_dispatch(dispatch)
        except (aiohttp.ClientError, TimeoutError, api.TwirpError) as exc:
            raise DispatchError(f"LiveKit did not take the dispatch: {exc or type(exc).__name__}") from exc
        with self._changed:
            self._dispatched.add(request.call_id)

    async def aclose(self) -> None:
        """End every call and the worker, within 4 s."""
        with self._changed:
            self._closing = True
            for call in self._running.values():
                call.stop()
        await asyncio.to_thread(self._wait_for_calls, 2.5)
        try:
            async with asyncio.timeout(1.5):
                if self._begun:
                    await self._server.aclose()
        except TimeoutError:
            _log.error("the worker did not end in time")
        with self._changed:
            left = list(self._dispatched)
        for call_id in left:  # whose job has not begun, or has not ended in time
            self._calls.end_call(call_id, "sandbox_stopped")

    def _wait_for_calls(self, timeout_s: float) -> None:
        with self._changed:
            if not self._changed.wait_for(lambda: not self._running, timeout_s):
                _log.error("%d calls did not end in time", len(self._running))

    async def _take_call(self, job: JobContext) -> None:
        assert self._models is not None  # noqa: S101 - dispatch refuses before
        request = CallRequest(**json.loads(job.job.metadata))
        recording = self._recordings.begin(request.call_id)
        call = Conversation(job, request, self._calls, self._models, self._llm, recording)
        with self._changed:
            self._running[request.call_id] = call
            if self._closing:
                call.stop()
        try:
            await call.run(self._join_timeout_s)
        finally:
            with self._changed:
                del self._running[request.call_id]
                self._dispatched.discard(request.call_id)
                self._changed.notify_all()
