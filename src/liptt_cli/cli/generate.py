"""`liptt generate`: try a model, packed or dense, by the lean loop or through transformers."""

import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import typer

from liptt_cli.cli import screen
from liptt_cli.errors import ConfigError, Fault

if TYPE_CHECKING:
    from liptt_cli.models.hub import Tokenizer

Engine: TypeAlias = Literal["auto", "lean", "transformers"]


def generate_command(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Run, exported or Hugging Face directory, or hub id.")],
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="Text to go on from.")],
    max_new_tokens: Annotated[int, typer.Option("--max-new-tokens", min=1, help="Tokens to add at most.")] = 64,
    temperature: Annotated[float, typer.Option("--temperature", min=0.0, help="0: the likeliest token always.")] = 0.8,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the sampling.")] = 0,
    engine: Annotated[Engine, typer.Option("--engine", help="auto: the lean loop where it knows the model.")] = "auto",
    trust_remote_code: Annotated[bool, typer.Option("--trust-remote-code", help="Run code of MODEL.")] = False,
) -> None:
    """Go on from a prompt; the text goes to stdout, the prompt in front, on a terminal word by word.

    Example: liptt generate runs/tiny "Once upon a time" --max-new-tokens 40
    """
    from liptt_cli.decoding.precision import choose_dtype
    from liptt_cli.models import hub

    source = hub.locate(model)
    tokenizer = hub.load_tokenizer(source)
    loaded: Any = hub.load_model(source, dtype=choose_dtype(source.path), trust_remote_code=trust_remote_code)
    ids = [int(token) for token in tokenizer(prompt)["input_ids"]]
    _require_room(len(ids), max_new_tokens, longest=getattr(loaded.config, "max_position_embeddings", None))
    asked = _Asked(ids, max_new_tokens, temperature, seed)
    lean = _takes_lean(loaded, engine)
    _show(tokenizer, ids, asked.by_the_loop(loaded) if lean else asked.by_transformers(loaded, tokenizer))


@dataclass(frozen=True)
class _Asked:
    """What to make."""

    ids: list[int]
    new_tokens: int
    temperature: float
    seed: int

    def by_the_loop(self, model: Any) -> Iterator[int]:
        from liptt_cli.decoding.decoder import Decoder
        from liptt_cli.decoding.generation import generate
        from liptt_cli.decoding.sampling import Sampling

        decoder = Decoder(model, capacity_tokens=len(self.ids) + self.new_tokens)
        sampling = Sampling.of(model.generation_config, temperature=self.temperature)
        return generate(decoder, self.ids, new_tokens=self.new_tokens, sampling=sampling, seed=self.seed)

    def by_transformers(self, model: Any, tokenizer: "Tokenizer") -> Iterator[int]:
        import torch

        given = torch.tensor([self.ids])
        sampling = {"do_sample": True, "temperature": self.temperature} if self.temperature else {"do_sample": False}
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(self.seed)
            made = model.generate(
                given,
                attention_mask=torch.ones_like(given),
                max_new_tokens=self.new_tokens,
                pad_token_id=tokenizer.pad_token_id or tokenizer.eos_token_id or 0,
                **sampling,
            )
        return iter(made[0, len(self.ids) :].tolist())


def _takes_lean(model: Any, engine: Engine) -> bool:
    """Choose the engine, and say why where the lean loop was left out."""
    from liptt_cli.decoding import architecture, sampling

    if engine == "transformers":
        return False
    reason = architecture.why_not(model) or sampling.why_not(model.generation_config)
    if reason is not None and engine == "lean":
        raise ConfigError(Fault("--engine", f"the lean loop cannot: {reason}; leave it at auto"))
    if reason is not None:
        screen.say(f"through transformers, not by the lean loop: {reason}")
    return reason is None


def _show(tokenizer: "Tokenizer", ids: list[int], tokens: Iterable[int]) -> None:
    """Print prompt and text: piece by piece where someone looks, whole otherwise."""

    def to_text(some: Any) -> str:
        return str(tokenizer.decode(some, skip_special_tokens=True))

    if sys.stdout.isatty():
        _stream(to_text, ids, tokens)
    else:
        screen.emit(to_text([*ids, *tokens]))


def _stream(to_text: Callable[[Any], str], ids: list[int], tokens: Iterable[int]) -> None:
    from liptt_cli.decoding.streaming import TextStream

    stream = TextStream(to_text, ids)
    sys.stdout.write(to_text(ids))
    for token in tokens:
        sys.stdout.write(stream.add(token))
        sys.stdout.flush()
    sys.stdout.write(stream.rest() + "\n")


def _require_room(prompt_tokens: int, new_tokens: int, *, longest: int | None) -> None:
    if prompt_tokens == 0:
        raise ConfigError(Fault("PROMPT", "empty; give some text to go on from"))
    if longest is not None and prompt_tokens + new_tokens > longest:
        raise ConfigError(
            Fault(
                "--max-new-tokens",
                f"{prompt_tokens} tokens of prompt and {new_tokens} new ones are more than the model's {longest} "
                f"positions; give at most {max(longest - prompt_tokens, 0)}, or a shorter prompt",
            )
        )
