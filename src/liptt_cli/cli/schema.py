"""`liptt schema`: the JSON schema of a configuration, for editors."""

from liptt_cli.cli import screen
from liptt_cli.menu.run import RunConfig


def schema_command() -> None:
    """Print the JSON schema of a configuration; save it and name it in a file's first line for completion."""
    dialect = "https://json-schema.org/draft/2020-12/schema"
    screen.emit_json({"$schema": dialect} | RunConfig.model_json_schema())
