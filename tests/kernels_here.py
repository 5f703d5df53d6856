"""How the tests call the C compiler, if there is one."""

import os
import shlex
import sysconfig


def compiler() -> list[str]:
    return shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
