"""`liptt generate`: try a model, packed or dense."""

from typing import Annotated, Any

import typer

from liptt_cli.cli import screen
from liptt_cli.errors import ConfigError, Fault


def generate_command(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Run, exported or Hugging Face directory, or hub id.")],
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="Text to go on from.")],
    max_new_tokens: Annotated[int, typer.Option("--max-new-tokens", min=1, help="Tokens to add at most.")] = 64,
    temperature: Annotated[float, typer.Option("--temperature", min=0.0, help="0: the likeliest token always.")] = 0.8,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the sampling.")] = 0,
    trust_remote_code: Annotated[bool, typer.Option("--trust-remote-code", help="Run code of MODEL.")] = False,
) -> None:
    """Go on from a prompt; the text goes to stdout, the prompt in front.

    Example: liptt generate runs/tiny "Once upon a time" --max-new-tokens 40
    """
    import torch

    from liptt_cli.models import hub
    from liptt_cli.models.shards import Shards

    source = hub.locate(model)
    tokenizer = hub.load_tokenizer(source)
    shards = Shards(source.path)
    dtype = hub.compute_dtype("auto", stored=shards.main_dtype(), parameters=shards.parameters())
    loaded: Any = hub.load_model(source, dtype=dtype, trust_remote_code=trust_remote_code)
    given = tokenizer(prompt, return_tensors="pt")
    ids, mask = given["input_ids"], given["attention_mask"]
    _require_room(ids.shape[1], max_new_tokens, longest=getattr(loaded.config, "max_position_embeddings", None))
    sampling = {"do_sample": True, "temperature": temperature} if temperature > 0 else {"do_sample": False}
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        made = loaded.generate(
            ids.long(),
            attention_mask=mask,
            max_new_tokens=max_new_tokens,
            pad_token_id=tokenizer.pad_token_id or tokenizer.eos_token_id or 0,
            **sampling,
        )
    screen.emit(str(tokenizer.decode(made[0], skip_special_tokens=True)))


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
