"""Java programs that score: found, given time and memory, and always ended."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, final

from embshare.tasks.captioning.errors import ScoreError

__all__ = ["Conversation", "Java", "find_java"]

OPTIONS: Final = ("-Dfile.encoding=UTF-8", "-Duser.language=en", "-Djava.awt.headless=true")
"""The same text and numbers in every locale."""
SECONDS_TO_END: Final = 5.0


def find_java() -> Path | None:
    """``java`` of ``JAVA_HOME``, else on the path, if there is one."""
    home = os.environ.get("JAVA_HOME")
    if home and (found := shutil.which("java", path=str(Path(home, "bin")))):
        return Path(found)
    on_path = shutil.which("java")
    return None if on_path is None else Path(on_path)


@dataclass(frozen=True)
class Java:
    """How Java programs are run."""

    path: Path
    memory: str = "1G"
    """Largest heap, as Java's ``-Xmx`` takes it."""
    seconds: float = 600.0
    """After which a program is ended."""

    def command(self, arguments: Sequence[str]) -> list[str]:
        """The whole command of a program."""
        return [str(self.path), *OPTIONS, f"-Xmx{self.memory}", *arguments]

    def run(self, arguments: Sequence[str], text: str, *, score: str) -> str:
        """What a program writes when it is given a text.

        Raises:
            ScoreError: it failed, or took too long; the program has ended.
        """
        try:
            done = subprocess.run(
                self.command(arguments),
                input=text.encode(),
                capture_output=True,
                timeout=self.seconds,
                check=True,
            )
        except subprocess.TimeoutExpired as error:
            raise self.too_slow(score) from error
        except subprocess.CalledProcessError as error:
            raise failed(score, error.stderr) from error
        except OSError as error:
            raise failed(score, str(error).encode()) from error
        return done.stdout.decode()

    @contextmanager
    def talk(self, arguments: Sequence[str], *, score: str) -> Iterator[Conversation]:
        """Start a program that answers lines with lines; at the end of the block it has ended.

        Raises:
            ScoreError: it cannot be started.
        """
        with tempfile.TemporaryFile() as complaints:
            try:
                process = subprocess.Popen(
                    self.command(arguments),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=complaints,
                )
            except OSError as error:
                raise failed(score, str(error).encode()) from error
            conversation = Conversation(process, complaints, self, score)
            try:
                yield conversation
            finally:
                conversation.end()

    def too_slow(self, score: str) -> ScoreError:
        """The error of a program that was ended."""
        return ScoreError(
            score=score,
            finding=f"its Java program took more than {self.seconds:g} s",
            way_out="Raise `java_seconds`, or leave it out of `metrics`.",
        )


def failed(score: str, complaints: bytes) -> ScoreError:
    """The error of a program that failed, with the end of what it said."""
    lines = [line for line in complaints.decode(errors="replace").splitlines() if line.strip()]
    said = next((line for line in lines if "rror" in line or "xception" in line), None)
    return ScoreError(
        score=score,
        finding=f"its Java program failed ({(said or (lines or ['it said nothing'])[-1]).strip()})",
        way_out="Give it more memory (`java_memory`), or leave it out of `metrics`.",
    )


@final
class Conversation:
    """With a program that answers each line with one or more lines."""

    def __init__(
        self, process: subprocess.Popen[bytes], complaints: IO[bytes], java: Java, score: str
    ) -> None:
        self._process, self._complaints, self._java, self._score = process, complaints, java, score
        self._timed_out = False
        self._alarm = threading.Timer(java.seconds, self._kill)
        self._alarm.daemon = True
        self._alarm.start()

    def say(self, line: str) -> None:
        """Send a line.

        Raises:
            ScoreError: the program has ended.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"{' '.join(line.split())}\n".encode())
            self._process.stdin.flush()
        except OSError as error:
            raise self._gone() from error

    def hear(self) -> str:
        """Wait for a line.

        Raises:
            ScoreError: the program has ended, or took too long.
        """
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line.endswith(b"\n"):
            raise self._gone()
        return line.decode().strip()

    def end(self) -> None:
        """End the program, whatever it does."""
        self._alarm.cancel()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            try:
                pipe.close()
            except OSError:  # what was not sent has nobody to read it
                pass
        self._process.kill()
        self._process.wait(timeout=SECONDS_TO_END)

    def _kill(self) -> None:
        self._timed_out = True
        self._process.kill()

    def _gone(self) -> ScoreError:
        if self._timed_out:
            return self._java.too_slow(self._score)
        self._process.kill()
        self._process.wait(timeout=SECONDS_TO_END)
        self._complaints.seek(0)
        return failed(self._score, self._complaints.read())
