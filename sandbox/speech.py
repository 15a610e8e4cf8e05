"""Hearing and speaking on this machine: Moonshine, Silero and Hibari as livekit-agents plug-ins."""

import os

# Newer onnxruntime wheels send usage data unless told not to, and read this once, when they are imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import asyncio
import contextlib
import re
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Never

import numpy as np
from livekit import rtc
from livekit.agents import NOT_GIVEN, LanguageCode, NotGivenOr, inference, stt, tokenize, tts, utils, vad
from livekit.agents.types import DEFAULT_API_CONNECT_OPTIONS, APIConnectOptions
from numpy.typing import NDArray

HEARING_RATE = 16_000  # Hz, what Moonshine and Silero were trained on
VOICE_RATE = 24_000  # Hz, what Hibari makes

MIN_SILENCE_S = 0.3  # shorter splits sentences at a breath
PREFIX_S = 0.2  # sound from before the VAD was sure

# Seldom wrong that early, and the text is then ready when the VAD agrees that the speech is over.
_EARLY_SILENCE_S = 0.12
_TAIL = np.zeros(HEARING_RATE // 2, np.float32)

_LINK = re.compile(r"(?:https?://|www\.)\S*[\w/]", re.IGNORECASE)


class ModelError(RuntimeError):
    """A speech model cannot be loaded; the text says what to install."""


class Recogniser:
    """Moonshine tiny-en for English, one for the whole process. May be used from any thread."""

    def __init__(self) -> None:
        """Load the model (~0.5 s). Raises ModelError."""
        try:
            from moonshine_voice import ModelArch, Transcriber, get_assets_path
        except (ImportError, OSError) as exc:
            raise ModelError(f"the speech recogniser cannot start ({exc}): install moonshine-voice") from exc
        model = Path(get_assets_path()) / "tiny-en"
        if not model.is_dir():
            raise ModelError("this moonshine-voice has no tiny-en model in it: install version 0.0.73")
        self._native = Transcriber(str(model), ModelArch.TINY)
        self._lock = threading.Lock()
        self._streams = 0
        self.transcribe(np.zeros(HEARING_RATE, np.int16))  # the first time costs 0.1 s more

    def transcribe(self, pcm: NDArray[np.int16]) -> str:
        """The words in `pcm` (16 kHz, mono); "" when there are none. Blocks for ~4 % of its length."""
        # A buffer that is cut in mid-word leaves the model's own VAD "speaking", and then the next text, even
        # of another call, starts with a word that nobody said. Silence at the end closes it.
        samples = np.concatenate([pcm.astype(np.float32) / 32768, _TAIL]).tolist()
        with self._lock:
            lines = self._native.transcribe_without_streaming(samples, HEARING_RATE).lines
        return " ".join(line.text for line in lines).strip()

    @property
    def shared(self) -> bool:
        """True while more than one call is listened to."""
        return self._streams > 1

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Count one more call for as long as the context is open."""
        with self._lock:
            self._streams += 1
        try:
            yield
        finally:
            with self._lock:
                self._streams -= 1


class Voice:
    """Hibari's English voice, one for the whole process. May be used from any thread."""

    def __init__(self) -> None:
        """Load the model and speak once, unheard: the first sentence costs 0.4 s more. Raises ModelError."""
        try:
            from hibari import Hibari
        except (ImportError, OSError) as exc:
            raise ModelError(f"the voice cannot start ({exc}): install hibari-tts") from exc
        self._native = Hibari(threads=1)
        list(self.sentences("Hello."))

    def sentences(self, text: str) -> Iterator[NDArray[np.int16]]:
        """One array (24 kHz, mono) for each sentence of `text`, made when it is asked for."""
        for sound in self._native.stream(speakable(text)):
            yield (np.clip(tighten(sound), -1, 1) * 32767).astype(np.int16)


@dataclass(frozen=True)
class Models:
    recogniser: Recogniser
    voice: Voice


def load_models() -> Models:
    """Load both models; blocks for ~2 s. Raises ModelError."""
    # The captions' pace goes by syllables. Its patterns are read when they are first needed, and the first
    # caller would wait for that.
    tokenize.basic.hyphenate_word("hello")
    return Models(Recogniser(), Voice())


def voice_activity() -> vad.VAD:
    """Silero VAD (16 kHz). Every stream keeps its own state; the weights are shared."""
    return inference.VAD(model="silero", min_silence_duration=MIN_SILENCE_S, prefix_padding_duration=PREFIX_S)


def speakable(text: str) -> str:
    """`text` without what cannot be pronounced: the address of a link becomes the words "the link"."""
    return _LINK.sub("the link", text)


def tighten(sound: NDArray[np.float32], lead_s: float = 0.02, tail_s: float = 0.2) -> NDArray[np.float32]:
    """Cut the silence around a sentence (24 kHz): Hibari adds ~0.3 s before and ~0.5 s after."""
    loud = np.nonzero(np.abs(sound) > 0.004)[0]
    if not len(loud):
        return sound
    return sound[max(0, loud[0] - int(lead_s * VOICE_RATE)) : loud[-1] + int(tail_s * VOICE_RATE)]


class MoonshineSTT(stt.STT[Never]):
    """Speech to text for one call: 16 kHz mono in (other rates are resampled), interims and finals out."""

    def __init__(self, recogniser: Recogniser) -> None:
        super().__init__(
            capabilities=stt.STTCapabilities(streaming=True, interim_results=True, offline_recognize=False)
        )
        self._recogniser = recogniser

    async def _recognize_impl(
        self,
        buffer: utils.AudioBuffer,
        *,
        language: NotGivenOr[str] = NOT_GIVEN,
        conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS,
    ) -> stt.SpeechEvent:
        raise NotImplementedError("MoonshineSTT only streams")

    def stream(
        self,
        *,
        language: NotGivenOr[str] = NOT_GIVEN,
        conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS,
    ) -> stt.RecognizeStream:
        return _MoonshineStream(self, self._recogniser, conn_options)


class _Utterance:
    """One stretch of speech while it goes on."""

    def __init__(self, frames: list[rtc.AudioFrame]) -> None:
        self.frames = frames
        self.interim = ""
        self.interim_at = 0.0  # s of speech at the last interim decode
        self.interim_task: asyncio.Task[str] | None = None
        self.early_task: asyncio.Task[str] | None = None
        self.over = False

    def wants_interim(self, speech_s: float) -> bool:
        """Every 0.4 s at first; later less often, because a decode costs as much as the speech is long."""
        pause = 0.4 if speech_s < 2 else max(0.9, speech_s / 6)
        free = self.interim_task is None or self.interim_task.done()
        return free and speech_s - self.interim_at > pause


class _MoonshineStream(stt.RecognizeStream):
    """Silero finds the utterance, Moonshine reads the growing buffer: one final for each utterance."""

    def __init__(self, owner: MoonshineSTT, recogniser: Recogniser, conn_options: APIConnectOptions) -> None:
        super().__init__(stt=owner, conn_options=conn_options, sample_rate=HEARING_RATE)
        self._recogniser = recogniser

    async def _run(self) -> None:
        activity = voice_activity().stream()
        with contextlib.ExitStack() as listening:
            tasks = [
                asyncio.create_task(self._feed(activity, listening)),
                asyncio.create_task(self._hear(activity)),
            ]
            try:
                await asyncio.gather(*tasks)
            finally:
                await utils.aio.cancel_and_wait(*tasks)
                await activity.aclose()

    async def _feed(self, activity: vad.VADStream, listening: contextlib.ExitStack) -> None:
        is_heard = False
        async for frame in self._input_ch:
            if not is_heard:  # until then the caller is only expected
                is_heard = True
                listening.enter_context(self._recogniser.listening())
            if isinstance(frame, rtc.AudioFrame):
                activity.push_frame(frame)
            else:
                activity.flush()
        activity.end_input()

    async def _hear(self, activity: vad.VADStream) -> None:
        speech: _Utterance | None = None
        async for event in activity:
            if event.type == vad.VADEventType.START_OF_SPEECH:
                speech = _Utterance(list(event.frames))
            elif speech is None:
                continue
            elif event.type == vad.VADEventType.INFERENCE_DONE:
                self._follow(speech, event)
            else:
                speech.over = True
                text = await (speech.early_task or self._decode(event.frames))
                # Words that were shown must not vanish when the last look at them finds nothing.
                self._send(stt.SpeechEventType.FINAL_TRANSCRIPT, text or speech.interim)
                speech = None

    def _follow(self, speech: _Utterance, event: vad.VADEvent) -> None:
        speech.frames += event.frames
        silence_s = event.raw_accumulated_silence
        if silence_s:
            if silence_s >= _EARLY_SILENCE_S and speech.early_task is None:
                speech.early_task = self._decode(speech.frames)
            return
        speech.early_task = None
        # An interim costs as much as all the rest of a call, and another call's final would wait for it.
        if speech.wants_interim(event.speech_duration) and not self._recogniser.shared:
            speech.interim_at = event.speech_duration
            speech.interim_task = asyncio.create_task(self._interim(speech))

    async def _interim(self, speech: _Utterance) -> str:
        text = await self._decode(speech.frames)
        if text and not speech.over:
            speech.interim = text
            self._send(stt.SpeechEventType.INTERIM_TRANSCRIPT, text)
        return text

    def _decode(self, frames: list[rtc.AudioFrame]) -> asyncio.Task[str]:
        pcm = np.frombuffer(rtc.combine_audio_frames(frames).data, np.int16)
        return asyncio.create_task(asyncio.to_thread(self._recogniser.transcribe, pcm))

    def _send(self, kind: stt.SpeechEventType, text: str) -> None:
        if text:
            data = stt.SpeechData(language=LanguageCode("en"), text=text)
            self._event_ch.send_nowait(stt.SpeechEvent(type=kind, alternatives=[data]))


_PIECE = VOICE_RATE // 10  # samples


class HibariTTS(tts.TTS[Never]):
    """Text to speech for one call: 24 kHz mono out in pieces of 100 ms, the first after ~30 ms."""

    def __init__(self, voice: Voice) -> None:
        super().__init__(
            capabilities=tts.TTSCapabilities(streaming=False), sample_rate=VOICE_RATE, num_channels=1
        )
        self.voice = voice

    def synthesize(
        self, text: str, *, conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS
    ) -> tts.ChunkedStream:
        return _HibariStream(self, text, conn_options)


class _HibariStream(tts.ChunkedStream):
    def __init__(self, owner: HibariTTS, text: str, conn_options: APIConnectOptions) -> None:
        super().__init__(tts=owner, input_text=text, conn_options=conn_options)
        self._voice = owner.voice

    async def _run(self, output_emitter: tts.AudioEmitter) -> None:
        output_emitter.initialize(
            request_id=uuid.uuid4().hex, sample_rate=VOICE_RATE, num_channels=1, mime_type="audio/pcm"
        )
        sentences = self._voice.sentences(self.input_text)
        sound = await asyncio.to_thread(next, sentences, None)
        if sound is None:
            # An emoji makes no sound, and the framework takes a text without any for a failure.
            sound = np.zeros(VOICE_RATE // 20, np.int16)
        while sound is not None:
            # Ten times as fast as it is spoken, no faster: the framework measures the pace of what it gets on
            # the call's own event loop, and with whole sentences would hold up everything else there.
            for start in range(0, len(sound), _PIECE):
                output_emitter.push(sound[start : start + _PIECE].tobytes())
                await asyncio.sleep(_PIECE / VOICE_RATE / 10)
            sound = await asyncio.to_thread(next, sentences, None)
        output_emitter.flush()
