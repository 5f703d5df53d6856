#!/usr/bin/env bash
# Makes .venv and installs liptt into it: scripts/set_up.sh PYTHON WHAT, where WHAT is `.` or `.[dev]`.
# First it looks whether that can succeed; pip's own settings (index, proxy, cache) are honoured.
set -euo pipefail
cd "$(dirname "$0")/.."
python=$1
what=$2
needed_kb=6000000

refuse() {
    echo "set-up: $1" >&2
    exit 2
}

"$python" -c 'import sys' 2>/dev/null || refuse "no $python here; name another one: PYTHON=python3.12 make ..."
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    refuse "$("$python" --version 2>&1) is too old; Python 3.11 or later is needed: PYTHON=python3.12 make ..."
echo "Python: $("$python" --version 2>&1)"

"$python" -c 'import ensurepip, venv' 2>/dev/null ||
    refuse "this Python has no venv module; on Debian and Ubuntu: apt install python3-venv"
echo "venv: present"

wanted=$("$python" -c 'import sys; print(sys.version_info[:2])')
found=$(.venv/bin/python -c 'import sys; print(sys.version_info[:2])' 2>/dev/null || true)
if [ "$found" != "$wanted" ]; then
    free_kb=$(df -Pk . | awk 'NR == 2 {print $4}')
    [ "$free_kb" -ge "$needed_kb" ] ||
        refuse "$((free_kb / 1000000)) GB of disk are free here; 6 GB are needed"
    echo "disk: $((free_kb / 1000000)) GB free"
    "$python" -m venv --clear .venv
fi
.venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e "$what"
