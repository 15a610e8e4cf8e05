"""Hearing and voice by themselves, without a room."""

import asyncio

import numpy as np
import pytest
from livekit import rtc
from livekit.agents import stt
from numpy.typing import NDArray

from sandbox.speech import (
    HEARING_RATE,
    VOICE_RATE,
    HibariTTS,
    Models,
    MoonshineSTT,
    load_models,
    speakable,
    tighten,
)
from tests.sandbox.caller import SPEECH, STEP, read_wav


@pytest.fixture(scope="module")
def models() -> Models:
    return load_models()


def plain(text: str) -> str:
    """The words as such: the recogniser spells and punctuates one sentence in many ways."""
    return "".join(letter for letter in text.lower().replace("-", " ") if letter.isalpha() or letter == " ")


async def hear(models: Models, sound: NDArray[np.int16]) -> list[tuple[str, bool]]:
    """The texts that a call gets of `sound`, spoken in real time, and whether each is final."""
    quiet = np.zeros(HEARING_RATE, np.int16)
    samples = np.concatenate([quiet[: HEARING_RATE // 2], sound, quiet])
    stream = MoonshineSTT(models.recogniser).stream()

    async def push() -> None:
        clock = rtc.AudioSource(HEARING_RATE, 1, queue_size_ms=40)
        for start in range(0, len(samples) - STEP + 1, STEP):
            frame = rtc.AudioFrame(samples[start : start + STEP].tobytes(), HEARING_RATE, 1, STEP)
            stream.push_frame(frame)
            await clock.capture_frame(frame)  # takes as long as the frame lasts
        stream.end_input()
        await clock.aclose()

    pushing = asyncio.create_task(push())
    async with stream:
        texts = [
            (event.alternatives[0].text, event.type == stt.SpeechEventType.FINAL_TRANSCRIPT)
            async for event in stream
        ]
    await pushing
    return texts


def test_a_question_is_understood(models: Models) -> None:
    text = models.recogniser.transcribe(read_wav(SPEECH / "weather.wav"))
    assert plain(text) == "what is the weather like in paris"


def test_a_cut_sentence_leaves_no_word_behind_for_the_next_one(models: Models) -> None:
    pause = np.random.default_rng(0).normal(0, 20, HEARING_RATE // 2).astype(np.int16)
    for name, words in (("hello", "hello what can you do"), ("table", "i would like to book a table")):
        sound = np.concatenate([pause, read_wav(SPEECH / f"{name}.wav")])
        for share in (0.5, 0.7, 0.8):
            models.recogniser.transcribe(sound[: int(len(sound) * share)])
            assert plain(models.recogniser.transcribe(sound)) == words


def test_silence_and_noise_have_no_words(models: Models) -> None:
    noise = np.random.default_rng(0).normal(0, 300, HEARING_RATE * 2).astype(np.int16)
    assert models.recogniser.transcribe(np.zeros(HEARING_RATE, np.int16)) == ""
    assert models.recogniser.transcribe(noise) == ""


def test_interims_then_one_final_for_each_stretch_of_speech(models: Models) -> None:
    pause = np.zeros(HEARING_RATE, np.int16)
    both = np.concatenate([read_wav(SPEECH / "table.wav"), pause, read_wav(SPEECH / "stop.wav")])
    texts = asyncio.run(hear(models, both))
    first = [final for _, final in texts].index(True)
    assert first > 0
    finals = [plain(text) for text, final in texts if final]
    assert finals == ["i would like to book a table", "stop please"]


def test_no_interims_while_two_calls_are_heard(models: Models) -> None:
    with models.recogniser.listening():
        texts = asyncio.run(hear(models, read_wav(SPEECH / "table.wav")))
    assert [(plain(text), final) for text, final in texts] == [("i would like to book a table", True)]


def test_the_voice_says_what_it_is_given(models: Models) -> None:
    async def say() -> rtc.AudioFrame:
        return await HibariTTS(models.voice).synthesize("I can book a table for you.").collect()

    sound = asyncio.run(say())
    assert sound.sample_rate == VOICE_RATE
    resampler = rtc.AudioResampler(VOICE_RATE, HEARING_RATE)
    frames = [*resampler.push(sound), *resampler.flush()]
    pcm = np.concatenate([np.frombuffer(frame.data, np.int16) for frame in frames])
    assert plain(models.recogniser.transcribe(pcm)) == "i can book a table for you"


@pytest.mark.parametrize("text", ["🙂", "...", "https://example.org"])
def test_a_text_with_next_to_nothing_to_say_is_no_failure(models: Models, text: str) -> None:
    async def say() -> rtc.AudioFrame:
        return await HibariTTS(models.voice).synthesize(text).collect()

    assert asyncio.run(say()).duration > 0


def test_a_sentence_keeps_only_a_little_of_the_silence_around_it() -> None:
    word = np.full(VOICE_RATE, 0.5, np.float32)
    before, after = np.zeros(VOICE_RATE // 3, np.float32), np.zeros(VOICE_RATE // 2, np.float32)
    sound = tighten(np.concatenate([before, word, after]))
    assert len(sound) / VOICE_RATE == pytest.approx(0.02 + 1 + 0.2, abs=0.001)
    assert np.count_nonzero(sound) == len(word)


def test_silence_stays_as_it_is() -> None:
    silence = np.zeros(100, np.float32)
    assert len(tighten(silence)) == 100


@pytest.mark.parametrize(
    ("text", "spoken"),
    [
        ("See https://example.org/a?b=c for more.", "See the link for more."),
        ("It is at www.example.org.", "It is at the link."),
        ("Your table is at 7:30 p.m.", "Your table is at 7:30 p.m."),
    ],
)
def test_links_are_not_read_aloud(text: str, spoken: str) -> None:
    assert speakable(text) == spoken
