"""Who said what in a call: captions for the page and entries for the record, under the same turn ids."""

import time
from collections.abc import Callable

from livekit.agents import llm
from livekit.agents.voice import (
    SpeechCreatedEvent,
    SpeechHandle,
    UserInputTranscribedEvent,
    UserStateChangedEvent,
    io,
)

# A final comes within this time of its speech's end; a stretch without one was a noise.
_FINAL_LIMIT_S = 3.0

Send = Callable[..., None]  # Wire.send
AddEntry = Callable[..., None]  # CallStore.add_entry of one call


class CallerTurns:
    """What the caller says. A turn is one stretch of speech: some interims and one final."""

    def __init__(self, send: Send, add_entry: AddEntry) -> None:
        self._send = send
        self._add_entry = add_entry
        self._number = 1
        self._speaking = False
        self._emulated = False  # the VAD has missed this stretch
        self._started_at: float | None = None
        self._spans: list[tuple[float, float]] = []  # of the stretches whose finals are still to come

    def on_state(self, event: UserStateChangedEvent) -> None:
        if event.new_state == "speaking":
            self._speaking = True
            self._started_at = event.created_at
            self._send("speech_started", emulated=False)
        elif event.old_state == "speaking":
            self._speaking = False
            if self._started_at is not None:
                self._spans.append((self._started_at, event.created_at))
            self._send("speech_stopped")

    def on_transcript(self, event: UserInputTranscribedEvent) -> None:
        self._spans = [span for span in self._spans if event.created_at - span[1] < _FINAL_LIMIT_S]
        if not (self._speaking or self._spans or self._emulated):
            self._emulated = True
            self._started_at = event.created_at
            self._send("speech_started", emulated=True)
        # Transcripts come in the order of the speech, also when the next stretch has begun before this final.
        turn_id = f"user-{self._number}"
        self._send(
            "input_audio_transcript",
            transcript=event.transcript,
            turn_id=turn_id,
            is_final=event.is_final,
        )
        if not event.is_final:
            return
        self._number += 1
        if self._emulated:
            self._emulated = False
            self._send("speech_stopped")
        now = event.created_at
        start, end = self._spans.pop(0) if self._spans else (self._started_at or now, now)
        self._add_entry(
            role="user",
            message=event.transcript,
            turn_id=turn_id,
            started_at=start,
            duration_ms=_ms(end - start),
        )


class _Turn:
    def __init__(self, turn_id: str, speech: SpeechHandle | None) -> None:
        self.id = turn_id
        self.speech = speech
        self.text = ""
        self.started_at = time.time()
        self.flushed = False


class AgentTurns(io.TextOutput):
    """What the agent says. Words come in step with the voice; the final text is what was heard of them."""

    def __init__(
        self,
        send: Send,
        add_entry: AddEntry,
        current_speech: Callable[[], SpeechHandle | None],
        on_cut: Callable[[str], None],
    ) -> None:
        """`on_cut` gets the words that were heard of a say that the caller cut, "" when none were."""
        super().__init__(label="captions", next_in_chain=None)
        self._send = send
        self._add_entry = add_entry
        self._current_speech = current_speech
        self._on_cut = on_cut
        self._number = 0
        self._turn: _Turn | None = None
        # The final text comes from the conversation, the words from the synchroniser, and either may come
        # first: words after their turn's final, up to the flush that ends them, are no new turn.
        self._settled = False

    async def capture_text(self, text: str) -> None:
        if self._settled:
            return
        if self._turn is None:
            self._turn = self._begin()
        self._turn.text += text
        self._send("response_text", text=self._turn.text.strip(), turn_id=self._turn.id, is_final=False)

    def flush(self) -> None:
        if self._settled:
            self._settled = False
        elif self._turn is not None:
            self._turn.flushed = True

    def on_message(self, message: llm.ChatMessage) -> None:
        """The conversation has a new message."""
        if message.role == "assistant":
            # A message also counts as interrupted when the voice has failed, and then nobody has cut it.
            speech = self._turn.speech if self._turn is not None else self._current_speech()
            cut = message.interrupted and (speech is None or speech.interrupted)
            self._settle(message.text_content or "", cut)

    def on_speech(self, event: SpeechCreatedEvent) -> None:
        event.speech_handle.add_done_callback(self._on_speech_over)

    def _on_speech_over(self, speech: SpeechHandle) -> None:
        # A say that is cut at its first word never becomes a message, but its words may have been shown.
        if self._turn is not None and self._turn.speech is speech:
            self._settle("" if speech.interrupted else self._turn.text.strip(), speech.interrupted)
        elif speech.interrupted and not any(_is_reply(item) for item in speech.chat_items):
            self._on_cut("")

    def _begin(self) -> _Turn:
        self._number += 1
        return _Turn(f"agent-{self._number}", self._current_speech())

    def _settle(self, text: str, cut: bool) -> None:
        turn = self._turn or self._begin()
        self._turn = None
        self._settled = not turn.flushed
        if cut:
            self._send("interruption")
        self._send("response_text", text=text, turn_id=turn.id, is_final=True)
        self._add_entry(
            role="assistant",
            message=text,
            turn_id=turn.id,
            started_at=turn.started_at,
            duration_ms=_ms(time.time() - turn.started_at),
        )
        if cut:
            self._add_entry(role="user", type="interruption", turn_id=turn.id)
            self._on_cut(text)


def _is_reply(item: llm.ChatItem) -> bool:
    return item.type == "message" and item.role == "assistant"


def _ms(seconds: float) -> int:
    return max(0, round(seconds * 1000))
