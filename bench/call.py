"""A caller's waits, measured where the caller is: in the page, on the sound that it plays.

`click_to_audible_s`  click on "Start talking" → first sound of the greeting
`reply_s`             end of the caller's speech → first sound of the reply
`barge_in_s`          the caller starts to speak over the agent → the agent's last sound
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
import wave

import numpy as np
import psutil

from bench.figures import Figure
from bench.stage import stage
from tests.e2e.caller import SPEECH, Caller, give_ears, give_voice
from tests.e2e.ear import falls_silent

QUESTIONS = ("weather", "time", "table")


def measure(arguments: argparse.Namespace) -> list[Figure]:
    clicks: list[float] = []
    replies: list[float] = []
    barge_ins: list[float] = []
    with stage() as on:
        chrome = next(p for p in psutil.Process().children(recursive=True) if "chrom" in p.name().lower())
        load = Load({"sandbox": on.sandbox.process.pid, "livekit": on.sandbox.livekit.pid,
                     "site": on.site.process.pid, "browser": chrome.pid})  # fmt: skip
        for number in range(arguments.calls):
            context = on.browser.new_context()
            give_voice(context)
            give_ears(context)
            caller = Caller(context.new_page(), on.site.url)
            one = one_call(caller, QUESTIONS[number % len(QUESTIONS)])
            clicks.append(one[0])
            replies.append(one[1])
            barge_ins.append(one[2])
            load.look()
            context.close()
            load.forget()
            print(f"call {number + 1}: " + " ".join(f"{x:.2f}" for x in one), file=sys.stderr, flush=True)
        used = load.figures()
    return [
        Figure("calls", arguments.calls, ""),
        *waits("click_to_audible_s", clicks, 1.5),
        *waits("reply_s", replies, 0.9),
        *waits("barge_in_s", barge_ins, 0.5),
        *used,
    ]


def waits(name: str, values: list[float], goal: float) -> list[Figure]:
    return [
        Figure(name, round(statistics.median(values), 3), "s, median", goal),
        Figure(f"{name.removesuffix('_s')}_worst_s", round(max(values), 3), "s"),
    ]


def one_call(caller: Caller, question: str) -> tuple[float, float, float]:
    """(click to audible, end of speech to reply, barge-in), in seconds."""
    caller.call()
    heard = caller.heard()
    clicked = float(caller.page.evaluate("() => window.ear.clickedAt"))
    click = heard.loud()[0] - clicked

    caller.expect_silent(0)
    said = caller.say(question)
    _, ends = speech_span(question)
    end = said.starts + ends
    caller.expect_audible(end)
    caller.expect_turns("agent", 2)
    reply = next(at for at in caller.heard().loud() if at > end) - end

    caller.say("hello")
    # A long answer: in its midst the caller cuts in.
    caller.page.wait_for_function(
        """n => {
          const turn = document.querySelectorAll("li[data-role=agent]")[n];
          return (turn?.querySelector("[data-text]")?.textContent ?? "").split(" ").length > 5;
        }""",
        arg=2,
    )
    cut = caller.say("stop")
    starts, _ = speech_span("stop")
    onset = cut.starts + starts
    caller.expect_silent(onset)
    silent = falls_silent(caller.heard(), onset) - onset
    caller.hang_up()
    return click / 1000, reply / 1000, silent / 1000


def speech_span(name: str) -> tuple[float, float]:
    """Where speech starts and ends within speech/NAME.wav, in ms."""
    with wave.open(str(SPEECH / f"{name}.wav")) as file:
        rate = file.getframerate()
        loud = np.nonzero(np.abs(np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(int)) > 600)[
            0
        ]
    return float(loud[0] / rate * 1000), float(loud[-1] / rate * 1000)


class Load:
    """Memory and CPU of process trees while the calls run."""

    def __init__(self, roots: dict[str, int]) -> None:
        self.roots = {name: psutil.Process(pid) for name, pid in roots.items()}
        self.began = time.monotonic()
        self.used_s = dict.fromkeys(roots, 0.0)
        self.peak_mb = dict.fromkeys(roots, 0.0)
        self.forget()

    def tree(self, name: str) -> list[psutil.Process]:
        root = self.roots[name]
        # LiveKit is the sandbox's child, and counted for itself.
        own = [] if name == "sandbox" else root.children(recursive=True)
        return [root, *own]

    def cpu_s(self, name: str) -> float:
        times = [process.cpu_times() for process in self.tree(name)]
        return sum(t.user + t.system for t in times)

    def look(self) -> None:
        """Add up what this call used, while the page's own process is still there to be asked."""
        for name in self.roots:
            rss = sum(process.memory_info().rss for process in self.tree(name)) / 2**20
            self.peak_mb[name] = max(self.peak_mb[name], rss)
            self.used_s[name] += self.cpu_s(name) - self.before[name]

    def forget(self) -> None:
        """Start counting anew, without the processes that have ended."""
        self.before = {name: self.cpu_s(name) for name in self.roots}

    def figures(self) -> list[Figure]:
        elapsed = time.monotonic() - self.began
        result = []
        for name in self.roots:
            result.append(Figure(f"{name}_rss_mb", round(self.peak_mb[name]), "MiB, most seen after a call"))
            cores = self.used_s[name] / elapsed
            result.append(Figure(f"{name}_cpu_cores", round(cores, 2), "cores, mean over the calls"))
        return result
