#!/usr/bin/env bash
# Installs the checkout and all it needs in a virtual environment, as locked in uv.lock: with uv where it is there, with pip otherwise.
#
#   envs/install.sh FOLDER                               torch with CUDA on Linux with an NVIDIA driver, the build for CPUs elsewhere
#   TORCH_BUILD=cpu envs/install.sh FOLDER               or cuda: whatever the machine has
#   TORCH=torch==2.13.0+cu130 envs/install.sh FOLDER     that build, from the index or folder of wheels that pip and uv are set to
#   INSTALLER=pip envs/install.sh FOLDER                 pip, even where uv is there
#
# torch for CPUs comes from a folder of wheels, if pip is told of one (PIP_FIND_LINKS), or else from PyTorch's index of builds for CPUs. All else
# is PyPI's, from the index that pip and uv are set to. envs/locked.txt and envs/locked-torch.txt are exported from uv.lock by `make lock`.
set -euo pipefail
[ $# = 1 ] || { sed -n '2,10s/^# \{0,1\}//p' "$0" >&2; exit 2; }
venv=$1
python=${PYTHON:-python3}
here=$(cd "$(dirname "$0")" && pwd)
wanted=torch==2.13.0
cpu_index=https://download.pytorch.org/whl/cpu

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: $python is older than Python 3.11; name another one: PYTHON=python3.12" >&2; exit 1; }
installer=${INSTALLER:-$(command -v uv >/dev/null && echo uv || echo pip)}
if [ "$installer" = uv ]; then
    [ -x "$venv/bin/python" ] || uv venv --quiet --seed --python "$python" "$venv"
    # uv reads no settings of pip: the folder of wheels is handed on.
    export UV_FIND_LINKS=${UV_FIND_LINKS:-${PIP_FIND_LINKS:-$("$python" -m pip config get global.find-links 2>/dev/null || true)}}
    [ -n "$UV_FIND_LINKS" ] || unset UV_FIND_LINKS
    get() { uv pip install --quiet --python "$venv/bin/python" "$@"; }
else
    [ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
    get() { "$venv/bin/pip" install --quiet --disable-pip-version-check "$@"; }
fi

if [ -z "${TORCH_BUILD:-}" ]; then
    if [ -e /proc/driver/nvidia/version ] || [ "$(uname -s)" != Linux ]; then TORCH_BUILD=cuda; else TORCH_BUILD=cpu; fi
fi
if [ -n "${TORCH:-}" ]; then
    get "$TORCH"
elif [ "$TORCH_BUILD" = cpu ]; then
    get --no-index --no-deps "$wanted" 2>/dev/null || get --no-deps --index-url "$cpu_index" "$wanted" || {
        echo "$cpu_index cannot be reached: PyPI's build of torch follows, of several gigabytes on Linux" >&2
        TORCH_BUILD=cuda
    }
fi
if [ -z "${TORCH:-}" ] && [ "$TORCH_BUILD" != cpu ]; then get --no-deps --requirement "$here/locked-torch.txt"; fi
# The files name every package, so nothing is resolved; each file that is downloaded is checked by its digest.
get --no-deps --requirement "$here/locked.txt"
get --no-deps --no-build-isolation --editable "$here/.."
