"""The model card that lies beside packed weights: how to load them, what they cost, where they come from."""

from liptt_cli.packing.manifest import Manifest

_CARD = """---
library_name: transformers
tags: [liptt, compressed]
---
# {name}, compressed by liptt

```python
import liptt_cli  # pip install liptt; registers the format, so keep this line
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("path/to/this/directory")
tokenizer = AutoTokenizer.from_pretrained("path/to/this/directory")
```

Without the import, loading fails on purpose instead of running on random weights.

| | |
| --- | --- |
| source model | {name}{revision} |
| method | {method}, recipe sha256 `{recipe}` |
| honest bits per weight of the compressed linears | {bits:.3f} ({payload:,} bytes for {weights:,} weights) |
{tables}| all weight files | {file_bytes:,} bytes |
| the source's weight files | {dense:,} bytes; in bfloat16 {bf16:,} bytes |
| a token in the compressed linears | {additions:,} sign additions, {multiplications:,} multiplications |
| the same, dense | {weights:,} multiplications |
| compressed linears | {linears} |
| format version, written by | {format_version}, liptt {version} |

Honest bits count every stored bit, scales and padding included. `num_parameters()` of the loaded model counts packed
bytes, not weights. `liptt verify` checks every byte of this directory, `liptt inspect` shows each linear.
The licence of the source model applies.
"""


def card(manifest: Manifest) -> str:
    """Return the text of `README.md`."""
    totals, origin = manifest.totals, manifest.origin
    return _CARD.format(
        name=origin.model,
        revision=f" at {origin.revision}" if origin.revision else "",
        method=origin.method,
        recipe=origin.recipe_sha256,
        bits=totals.bits_per_weight,
        payload=totals.payload_bytes,
        weights=totals.weights,
        tables="".join(
            f"| bits an entry of {name} | {table.bits_per_weight:.3f} ({table.bytes:,} bytes) |\n"
            for name, table in manifest.tables.items()
        ),
        file_bytes=totals.file_bytes,
        dense=totals.dense_file_bytes,
        bf16=totals.dense_bf16_bytes,
        additions=totals.sign_additions,
        multiplications=totals.multiplications,
        linears=len(manifest.linears),
        format_version=manifest.format_version,
        version=manifest.liptt_version,
    )
