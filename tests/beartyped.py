"""The type checker that jaxtyping puts around the package's functions in tests.

It is beartype, told to let `Self` pass: jaxtyping decorates each method by itself, where beartype cannot
tell whose it is.
"""

import typing

from beartype import BeartypeConf, FrozenDict, beartype

beartyped = beartype(conf=BeartypeConf(hint_overrides=FrozenDict({typing.Self: object})))
