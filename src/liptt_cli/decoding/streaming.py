"""Text of tokens as they come: what is settled is handed out at once, half a character is held back.

A token is turned into text together with those just before it, since where a word begins, and whether a space stands
before it, shows only there.
"""

from collections.abc import Callable, Sequence

_UNFINISHED = "\ufffd"  # how half a character of several bytes reads


class TextStream:
    """Turns tokens into the pieces of text that each of them adds."""

    def __init__(self, to_text: Callable[[Sequence[int]], str], prompt: Sequence[int]) -> None:
        """Take the tokenizer's way from tokens to text, and the tokens that were there before."""
        self._to_text = to_text
        self._ids = list(prompt)
        self._from = 0  # where the tokens begin that are looked at
        self._until = len(self._ids)  # the text up to here has been handed out

    def add(self, token: int) -> str:
        """Return the text that a token adds, empty while a character is not finished."""
        self._ids.append(token)
        text = self._new()
        if text.endswith(_UNFINISHED):
            return ""
        self._from, self._until = self._until, len(self._ids)
        return text

    def rest(self) -> str:
        """Return what was held back."""
        return self._new()

    def _new(self) -> str:
        before = self._to_text(self._ids[self._from : self._until])
        return self._to_text(self._ids[self._from :])[len(before) :]
