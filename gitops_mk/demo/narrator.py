"""How a demo tells its story: numbered steps, a counter while something runs, and pauses for somebody watching."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.markdown import Markdown
from rich.padding import Padding
from rich.table import Table


class Narrator:
    """Prints for people; `pace` is how many seconds a thought may rest on the screen (0: none)."""

    def __init__(self, *, pace: float = 0.0) -> None:
        self.console = Console(highlight=False, soft_wrap=True)
        self.pace = pace
        self._number = 0

    def step(self, text: str) -> None:
        """The next step of the story."""
        self._number += 1
        self.console.print(f"\n[bold cyan]{self._number}.[/] [bold]{text}[/]")
        self._rest()

    def say(self, text: str, *, style: str = "") -> None:
        """A line of detail; `text` is printed as it is, markup in it included."""
        self.console.print(f"   {text}", style=style, markup=False)

    def think(self, text: str) -> None:
        """A sentence for somebody watching; left out when nobody is given time to read it."""
        if self.pace:
            self.console.print(f"   {text}", style="italic", markup=False)
            self._rest()

    def quote(self, text: str) -> None:
        """Markdown as somebody would read it; left out when nobody is given time to read it."""
        if self.pace:
            self.console.print(Padding(Markdown(text), (1, 0, 0, 3)), soft_wrap=False)
            self._rest()

    def table(self, headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """A small table."""
        table = Table(*headers, box=None, pad_edge=False, padding=(0, 2, 0, 3), header_style="bold")
        for row in rows:
            table.add_row(*row)
        self.console.print(table)

    @contextmanager
    def progress(self, what: str, total: int) -> Iterator[Callable[[int], None]]:
        """A counter: live on a terminal, a line at the end elsewhere."""
        began = time.monotonic()
        if self.console.is_terminal:
            with self.console.status(f"   {what}") as status:
                yield lambda done: status.update(f"   {what}: {min(done, total)} of {total}")
        else:
            yield lambda done: None
        self.console.print(f"   {what}: {total} ({time.monotonic() - began:.1f} s)", markup=False)

    def _rest(self) -> None:
        sys.stdout.flush()
        if self.pace:
            time.sleep(self.pace)
