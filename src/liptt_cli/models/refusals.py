"""What the hub refuses, in words that say what to try."""

from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError


def hub_refusal(model: str, revision: str | None, error: Exception) -> str:
    """Return what the hub's refusal of a model means, and what to do."""
    local = "or give a local directory that holds config.json and safetensors files"
    if isinstance(error, GatedRepoError):
        return (
            f"{model}: gated on the hub; accept its terms on its page, then log in with `hf auth login` "
            f"(or set HF_TOKEN), {local}."
        )
    if isinstance(error, RevisionNotFoundError):
        return f"{model}: no revision {revision!r} on the hub; leave revision out for the newest, {local}."
    if isinstance(error, RepositoryNotFoundError):
        return (
            f"{model}: no such directory here, and no such model on the hub (or a private one: log in with "
            f"`hf auth login` or set HF_TOKEN); check the name, {local}."
        )
    return (
        f"{model}: no such directory here, and it could not be fetched from the hub ({reason_of(error)}); check the "
        f"connection, fetch it beforehand with `hf download {model}`, {local}."
    )


def reason_of(error: Exception) -> str:
    """Return the first line of an error behind its name."""
    words = str(error).strip().splitlines()
    return f"{type(error).__name__}: {words[0] if words else 'no reason given'}"
