"""Makes the command that delivers later what a training could not deliver."""

from __future__ import annotations

from pathlib import Path

from mtask_sinks._util.escaping import shell_word
from mtask_sinks._util.masking import MASK, mask
from mtask_sinks.delivery.trust import untrusted_places
from mtask_sinks.journal.stream import JournalStream
from mtask_sinks.sinks.base import Sink
from mtask_sinks.sinks.lookup import has_sink


def how_to_deliver(sink: Sink, path: Path, stream: JournalStream, what: str = "them") -> str:
    """Return a sentence with the command that delivers the rest of a journal. A user can paste the command as it is.

    The command holds no secret. If the address of a backend holds one, the sentence asks the user to set the variable.
    The command finds installed sinks only. For other sinks, the sentence has a line of Python, in which the user puts
    the sink.
    """
    if not has_sink(sink.name):
        code = f"from mtask_sinks.delivery.replay import replay; replay({str(path)!r}, [the {sink.name} sink])"
        return f"To deliver {what}, run in Python: {code}"
    variables, secret = [], []
    for name, value in sink.environment().items():
        if MASK in (shown := mask(value)):
            secret.append(f"{name} ({shown})")
        else:
            variables.append(f"{name}={shell_word(value)}")
    words = [*variables, "mtask-sinks", "replay", shell_word(str(path)), *map(shell_word, sink.replay_options())]
    if any(untrusted_places(path, stream, sink)):
        words.append("--trust")
    words += ["--to", shell_word(sink.name)]
    first = f" set {', '.join(secret)}, whose secret is not shown here, and" if secret else ""
    return f"To deliver {what},{first} run: {' '.join(words)}"
