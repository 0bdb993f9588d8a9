#!/bin/sh
# The first half of `make setup`: .venv with the locked dependencies and this project. Nothing else can run before it, so it
# is plain POSIX shell. Idempotent: a stamp holds the checksum of what was installed. The second half is deploy/local/setup.py.
set -eu
cd "$(dirname "$0")/../.."

say() { printf '%s\n' "setup: $*" >&2; }
fail() { printf '%s\n' "setup: $1" "  → $2" >&2; exit 3; }

may_install() { [ "$(id -u)" = 0 ] && [ -z "${NO_INSTALL:-}" ] && command -v apt-get >/dev/null 2>&1; }

retry() {
    attempt=1
    until "$@"; do
        [ "$attempt" -ge 4 ] && return 1
        say "that failed; trying again in $((attempt * 3)) s ($attempt of 3)"
        sleep $((attempt * 3))
        attempt=$((attempt + 1))
    done
}

apt_install() {
    say "installing with apt, because we are root on Debian: $* (NO_INSTALL=1 refuses)"
    export DEBIAN_FRONTEND=noninteractive
    retry apt-get update -q </dev/null >&2 || true
    retry apt-get install -y -q --no-install-recommends "$@" </dev/null >&2 ||
        fail "apt could not install: $*" "apt-get install $*"
}

find_python() {
    for candidate in ${PYTHON:-} python3 python3.13 python3.12 python3.11 /usr/bin/python3; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$candidate"
            return 0
        fi
    done
    return 1
}

stamp=.venv/.chainbooks-stamp
wanted=$(cat requirements.lock pyproject.toml deploy/local/bootstrap.sh | cksum)
if [ -x .venv/bin/python ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted $PWD" ]; then
    exit 0
fi

if ! python=$(find_python); then
    may_install || fail "Python 3.11 or newer is needed, and there is none" "apt-get install python3 python3-venv"
    apt_install python3 python3-venv
    python=$(find_python) || fail "apt's Python is older than 3.11" "install Python 3.11 or newer, then PYTHON=/path/to/python make setup"
fi

if ! [ -x .venv/bin/python ] || ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
    if ! "$python" -c 'import venv, ensurepip' 2>/dev/null; then
        may_install || fail "$python cannot make virtual environments" "apt-get install python3-venv"
        apt_install python3-venv
    fi
    say "making .venv with $("$python" --version)"
    rm -rf .venv
    "$python" -m venv .venv || fail "$python could not make .venv" "apt-get install python3-venv"
fi

pip() { .venv/bin/python -m pip --disable-pip-version-check --no-input "$@" </dev/null; }

say "installing the locked dependencies (about a minute the first time)"
retry pip install --quiet --require-hashes -r requirements.lock ||
    fail "the dependencies could not be installed" "check the network and pip's configuration, then make setup again"
pip install --quiet --no-deps --no-build-isolation --editable . ||
    fail "the project itself could not be installed" "see pip's message above"
printf '%s\n' "$wanted $PWD" >"$stamp"
