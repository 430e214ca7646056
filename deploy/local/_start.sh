# Sourced by up, down, status, logs and reset: finds a Python that is new enough and hands over to the package ezadmin_local.
# shellcheck shell=sh

ezadmin_start() {
    here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd -P) || exit 1
    ezadmin_find_python
    if [ -z "$python" ] && ! command -v python3 >/dev/null 2>&1 && [ "$1" = up ] && [ "$(id -u)" = 0 ] \
        && command -v apt-get >/dev/null 2>&1; then
        echo "No Python 3 here: installing the apt packages python3 and python3-venv ..."
        { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
            --no-remove python3 python3-venv >/dev/null; } || exit 1
        ezadmin_find_python
    fi
    if [ -z "$python" ]; then
        echo "error: ezadmin needs Python 3.11 or newer (Debian 12, Ubuntu 24.04 and later have it)." >&2
        echo "       Found: $(python3 --version 2>&1 || echo none)." >&2
        echo "       Install one (apt-get install python3 python3-venv), or name yours: EZADMIN_PYTHON=/path/to/python3.12 $0" >&2
        exit 1
    fi
    exec "$python" "$here/_main.py" "$@"
}

ezadmin_find_python() {
    python=
    for candidate in ${EZADMIN_PYTHON:+"$EZADMIN_PYTHON"} python3 python3.14 python3.13 python3.12 python3.11; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            python=$candidate
            return
        fi
    done
}
