"""Compress language models to about one bit per weight and below.

Importing this package registers the packed format with transformers: at once if `transformers.quantizers` is there,
else by a hook when it is imported. So both orders of import work, and nothing heavy is loaded before it is needed.
"""

import importlib
import sys
from collections.abc import Iterable
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType

_REGISTRY = "transformers.quantizers"
_PLUG_IN = "liptt_cli.hf.quantizer"


class _Registering(Loader):
    """Loads the registry of transformers as ever, then fills it."""

    def __init__(self, own: Loader) -> None:
        self.own = own

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.own.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        if module.__spec__ is not None:
            module.__spec__.loader = module.__loader__ = self.own
        self.own.exec_module(module)
        importlib.import_module(_PLUG_IN)


class _Waiting(MetaPathFinder):
    """Stands in the import path until the registry is imported."""

    def find_spec(
        self, fullname: str, path: Iterable[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != _REGISTRY:
            return None
        sys.meta_path.remove(self)
        spec = find_spec(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader = _Registering(spec.loader)
        return spec


if _REGISTRY in sys.modules:
    importlib.import_module(_PLUG_IN)
else:
    sys.meta_path.insert(0, _Waiting())
