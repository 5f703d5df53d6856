"""Progress in few steps."""

from liptt_cli.evaluation.steps import Twentieths


class Shown:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.begun: list[tuple[str, int]] = []
        self.advanced = 0

    def begin(self, title: str, *, total: int) -> None:
        self.begun.append((title, total))
        self.advanced = 0

    def advance(self, message: str = "") -> None:
        self.advanced += 1


def test_many_batches_are_twenty_steps_and_few_are_their_number() -> None:
    shown = Shown()
    progress = Twentieths(shown)
    for done in range(1, 1001):
        progress("long", done, 1000)
    assert shown.advanced == 20
    for done in (8, 16, 20):
        progress("short", done, 20)
    assert shown.advanced == 3
    assert shown.begun == [("long", 20), ("short", 3)]


def test_the_same_title_again_is_a_new_piece() -> None:
    shown = Shown()
    progress = Twentieths(shown)
    for done in (1, 2, 1, 2):
        progress("twice", done, 2)
    assert shown.begun == [("twice", 2)] * 2
    assert shown.advanced == 2
