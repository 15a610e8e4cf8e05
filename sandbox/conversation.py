"""One call: the agent in a room with its caller, from its arrival to the room's end."""

import asyncio
import logging
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, Never

import aiohttp
from livekit import api, rtc
from livekit.agents import (
    Agent,
    AgentSession,
    APIConnectOptions,
    APIError,
    APIStatusError,
    CloseEvent,
    ConversationItemAddedEvent,
    ErrorEvent,
    JobContext,
    TurnHandlingOptions,
    llm,
    stt,
    tts,
    utils,
)
from livekit.agents.voice import (
    SpeechCreatedEvent,
    SpeechHandle,
    UserInputTranscribedEvent,
    UserStateChangedEvent,
    room_io,
)
from livekit.agents.voice.agent_session import SessionConnectOptions

from sandbox.calls import CallStore
from sandbox.concierge import Concierge
from sandbox.earpiece import Earpiece
from sandbox.loudspeaker import Loudspeaker
from sandbox.recordings import Recording
from sandbox.speech import HEARING_RATE, HibariTTS, Models, MoonshineSTT, voice_activity
from sandbox.tools import ToolSpec
from sandbox.turns import AgentTurns, CallerTurns
from sandbox.wire import Wire
from sandbox.wits import (
    APOLOGY,
    HANGING_UP,
    STILL_THERE,
    ConciergeLLM,
    LlmConfig,
    descriptors,
    end_call_tool,
    instructions,
    language_model,
    page_tools,
)

TOOL_LIMIT_S = 10.0

# Silence of both that long is broken: a noise may have cut the agent, or the caller may have gone.
AWAY_AFTER_S = 15.0
# So many times in a row; then the line goes to someone else.
_NUDGES = 3

# A caller whose connection broke may come back under the same identity.
_RETURN_LIMIT_S = 5.0
# What the caller has not yet played when the last word has left us: jitter buffers, the sound card. Messages
# may still be on their way too: nothing tells when they have arrived, and who leaves takes them along.
_LAST_WORDS_S = 0.5

# A reply starts max(silence + recognition, min_delay) after the last word. Two stretches of speech within
# min_delay are one turn, so a short VAD silence splits no sentence.
_TURNS: TurnHandlingOptions = {
    "turn_detection": "vad",  # the default would ask a model in the vendor's cloud
    "endpointing": {"min_delay": 0.45, "max_delay": 1.5},
    # To pause first, and to resume after a false alarm, would let the voice go on for another 0.4 s.
    "interruption": {"mode": "vad", "min_duration": 0.25, "resume_false_interruption": False},
    # The concierge remembers what it hears, so it may think about a turn only once.
    "preemptive_generation": {"enabled": False},
}
_CONNECTIONS = SessionConnectOptions(
    llm_conn_options=APIConnectOptions(max_retry=1, retry_interval=0.5, timeout=8.0)
)

Reason = Literal["caller_left", "agent_ended", "nobody_joined", "agent_failed", "sandbox_stopped"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CallRequest:
    """What the agent must know of a call; travels as JSON in the dispatch."""

    call_id: str
    agent_id: str
    identity: str
    first_message: str | None = None
    prompt: str | None = None
    variables: dict[str, str] = field(default_factory=dict)


class Conversation:
    """Lives on the event loop of its job; only `stop` may be called from elsewhere."""

    def __init__(
        self,
        job: JobContext,
        request: CallRequest,
        calls: CallStore,
        models: Models,
        llm_config: LlmConfig | None,
        recording: Recording,
    ) -> None:
        self._job = job
        self._room = job.room
        self._request = request
        self._id = request.call_id
        self._calls = calls
        self._models = models
        self._llm_config = llm_config
        self._recording = recording
        self._loop = asyncio.get_running_loop()
        self._over: asyncio.Future[Reason] = self._loop.create_future()
        self._caller_away = False
        self._reply: SpeechHandle | None = None
        self._nudges = 0  # since the caller last said something

    def stop(self) -> None:
        """End the call because the process ends. May be called from any thread."""
        self._loop.call_soon_threadsafe(self._end, "sandbox_stopped")

    async def run(self, join_timeout_s: float) -> None:
        """Returns when the call is over, its record closed and its room deleted. Raises nothing."""
        try:
            self._room.on("participant_disconnected", self._on_participant_left)
            self._room.on("participant_connected", self._on_participant_came)
            self._room.on("disconnected", self._on_room_gone)
            await self._job.connect()
            await self._talk(join_timeout_s)
        except Exception:
            _log.exception("call %s failed", self._id)
            self._end("agent_failed")
        finally:
            self._end("agent_failed")  # has no effect but when the job was cancelled
            reason = self._over.result()
            self._recording.close()  # whoever sees that the call has ended finds it
            self._calls.end_call(self._id, reason)
            await self._room.disconnect()
            await self._delete_room()
            self._job.shutdown(reason)
            _log.info("call %s is over: %s", self._id, reason)

    def _end(self, reason: Reason) -> None:
        """The first reason wins."""
        if not self._over.done():
            self._over.set_result(reason)

    async def _caller_comes(self, timeout_s: float) -> bool:
        arrival = asyncio.create_task(self._job.wait_for_participant(identity=self._request.identity))
        first: set[asyncio.Future[Any]] = {arrival, self._over}
        await asyncio.wait(first, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        if arrival.done() and not self._over.done():
            arrival.result()
            return True
        arrival.cancel()
        self._end("nobody_joined")
        return False

    async def _talk(self, join_timeout_s: float) -> None:
        """All is ready, the voice in the room and the greeting made, before the caller comes: they hear it as
        soon as they are connected."""
        add_entry = partial(self._calls.add_entry, self._id)
        self._wire = wire = Wire(self._room)
        wire.send("session_started", id=self._id)

        request = self._request
        concierge = Concierge(
            variables=request.variables, prompt=request.prompt, first_message=request.first_message
        )
        begun: set[str] = set()
        tools: list[llm.Tool | llm.Toolset] = [*page_tools(self._ask_page, begun)]
        rules = ConciergeLLM(concierge, self._leave_after_reply, begun)
        wits: llm.LLM[Never] = rules
        if self._llm_config is not None:
            wits = language_model(self._llm_config)
            tools.append(end_call_tool(self._leave_after))
        self._session = session = AgentSession[None](
            stt=MoonshineSTT(self._models.recogniser),
            vad=voice_activity(),
            llm=wits,
            tts=HibariTTS(self._models.voice),
            turn_handling=_TURNS,
            conn_options=_CONNECTIONS,
            max_tool_steps=8,  # the weather and the time in three cities, and two to spare
            # The browser cancels the echo; with a warm-up the first 3 s of speech would go unheard.
            aec_warmup_duration=None,
            session_close_transcript_timeout=0.5,
            user_away_timeout=AWAY_AFTER_S,
        )
        caller = CallerTurns(wire.send, add_entry)
        agent = AgentTurns(
            wire.send, add_entry, current_speech=lambda: session.current_speech, on_cut=rules.cut
        )
        session.on("user_state_changed", caller.on_state)
        session.on("user_input_transcribed", caller.on_transcript)
        session.on(
            "user_state_changed",
            partial(self._on_user_state, rules.nudge if wits is rules else lambda: STILL_THERE),
        )
        session.on("user_input_transcribed", self._on_words)
        session.on("speech_created", agent.on_speech)
        session.on("speech_created", self._on_speech)
        session.on("conversation_item_added", partial(_on_item, agent, rules))
        session.on("error", self._on_error)
        session.on("close", self._on_close)
        speaker = Loudspeaker(self._room, self._recording)
        speaker.subscribed.add_done_callback(self._on_heard)
        session.output.audio = speaker
        publishing = asyncio.create_task(speaker.start())
        publishing.add_done_callback(self._on_published)
        try:
            await session.start(
                Agent(instructions=instructions(request.prompt, request.variables), tools=tools),
                room=self._room,
                record=False,
                session_host=False,  # it would tell the room, so the caller, all about the agent
                room_options=room_io.RoomOptions(
                    participant_identity=request.identity,
                    text_input=False,
                    audio_output=False,  # the loudspeaker is in its place
                    audio_input=room_io.AudioInputOptions(
                        sample_rate=HEARING_RATE, frame_size_ms=20, auto_gain_control=False
                    ),
                    text_output=room_io.TextOutputOptions(sync_transcription=True, next_in_chain=agent),
                    close_on_disconnect=False,  # we know better when a caller has left for good
                ),
            )
            assert session.input.audio is not None  # noqa: S101 - the room's, as the options say
            session.input.audio = Earpiece(session.input.audio, self._recording)
            self._greeting = session.say(concierge.greeting())
            if await self._caller_comes(join_timeout_s):
                self._begin()
                wire.open()
            await self._over
        finally:
            wire.give_up()  # the session closes only when no tool is out
            await session.aclose()
            await wits.aclose()
            says_goodbye = self._over.done() and self._over.result() in ("agent_ended", "sandbox_stopped")
            if says_goodbye:
                wire.send("session_ended")
            await wire.close()
            if says_goodbye:
                await asyncio.sleep(_LAST_WORDS_S)
            await utils.aio.cancel_and_wait(publishing)
            await speaker.aclose()

    async def _delete_room(self) -> None:
        """Nobody else would: a caller whose agent is gone sits in the room alone, and hears nothing."""
        try:
            await self._job.api.room.delete_room(api.DeleteRoomRequest(room=self._room.name))
        except (aiohttp.ClientError, TimeoutError, api.TwirpError) as exc:
            if getattr(exc, "code", None) != api.TwirpErrorCode.NOT_FOUND:
                _log.warning("call %s: its room was not deleted: %s", self._id, exc)

    def _on_participant_left(self, participant: rtc.RemoteParticipant) -> None:
        if participant.identity != self._request.identity:
            return
        self._caller_away = True
        if participant.disconnect_reason == rtc.DisconnectReason.CLIENT_INITIATED:
            self._end("caller_left")
        else:
            self._loop.call_later(_RETURN_LIMIT_S, self._give_up_caller)

    def _on_participant_came(self, participant: rtc.RemoteParticipant) -> None:
        if participant.identity == self._request.identity:
            self._caller_away = False

    def _give_up_caller(self) -> None:
        if self._caller_away:
            self._end("caller_left")

    def _on_room_gone(self, *_: object) -> None:
        # LiveKit closes a room in which only agents are left.
        self._end("caller_left" if self._caller_away else "agent_failed")

    def _on_published(self, publishing: asyncio.Task[None]) -> None:
        if not publishing.cancelled() and (problem := publishing.exception()):
            _log.error("call %s: the agent's voice is not in the room: %s", self._id, problem)
            self._end("agent_failed")

    def _on_heard(self, subscribed: asyncio.Future[None]) -> None:
        # The media may be connected before the room says that the caller is there.
        if not subscribed.cancelled():
            self._begin()

    def _begin(self) -> None:
        """The caller is there: the clocks of the record and of the recording run."""
        started_at = self._calls.set_status(self._id, "in_progress")
        if started_at is not None:
            self._recording.start(time.time() - started_at)

    def _on_user_state(self, nudge: Callable[[], str], event: UserStateChangedEvent) -> None:
        if event.new_state != "away" or self._over.done():
            return
        if self._greeting.done():
            self._nudges += 1
            if self._nudges > _NUDGES:
                self._leave_after(self._session.say(HANGING_UP))
            else:
                self._session.say(nudge())
        self._session.reset_away_timer()  # else there is no second time

    def _on_words(self, event: UserInputTranscribedEvent) -> None:
        self._nudges = 0

    def _on_speech(self, event: SpeechCreatedEvent) -> None:
        if event.source == "generate_reply":
            self._reply = event.speech_handle

    def _leave_after_reply(self) -> None:
        if self._reply is not None:
            self._leave_after(self._reply)

    def _leave_after(self, speech: SpeechHandle) -> None:
        # A caller who cuts the goodbye wants to go on.
        speech.add_done_callback(lambda s: None if s.interrupted else self._end("agent_ended"))

    def _on_error(self, event: ErrorEvent) -> None:
        if event.error.recoverable:
            return
        part = {llm.LLM: "language model", stt.STT: "recogniser", tts.TTS: "voice"}
        name = next((name for kind, name in part.items() if isinstance(event.source, kind)), "agent")
        _log.error("call %s: the %s failed: %s", self._id, name, _summary(event.error.error))
        if isinstance(event.source, llm.LLM):
            self._session.say(APOLOGY)
        elif isinstance(event.source, stt.STT):
            self._end("agent_failed")  # its stream is gone: nobody listens any more

    def _on_close(self, event: CloseEvent) -> None:
        self._end("agent_failed")

    async def _ask_page(self, spec: ToolSpec, arguments: dict[str, Any]) -> str:
        call_id = uuid.uuid4().hex
        self._calls.add_entry(
            self._id,
            role="tool",
            type="tool_call",
            started_at=time.time(),
            tool_call={"callId": call_id, "toolName": spec.name, "arguments": arguments},
        )
        output = await self._wire.ask(call_id, spec.name, descriptors(spec, arguments), TOOL_LIMIT_S)
        self._calls.add_entry(
            self._id,
            role="tool",
            type="tool_call_output",
            tool_call={"callId": call_id},
            tool_call_output=output,
        )
        return output


def _summary(problem: Exception) -> str:
    """One line. Of what a server answered only the status: it may have sent the key back."""
    if isinstance(problem, APIError):
        status = f" {problem.status_code}" if isinstance(problem, APIStatusError) else ""
        return f"{type(problem).__name__}{status}"
    return " ".join(f"{type(problem).__name__}: {problem}".split())


def _on_item(turns: AgentTurns, rules: ConciergeLLM, event: ConversationItemAddedEvent) -> None:
    if isinstance(event.item, llm.ChatMessage):
        turns.on_message(event.item)
        if event.item.role == "assistant":
            rules.said(event.item.text_content or "")
