#!/bin/sh
# Locks every dependency with hashes, for every platform, naming no registry. Needs uv.
# --no-sources and --no-emit-* keep addresses of this machine out of the files.
set -eu
cd "$(dirname "$0")/.."
UV=${UV:-uv}
lock() {
    out=$1; shift
    "$UV" pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
        --no-emit-index-url --no-emit-find-links --no-annotate --output-file "requirements/$out" "$@"
    sed -i '1i# Locked by tools/lock.sh: change pyproject.toml, run it again.' "requirements/$out"
}
lock build.txt --group build
lock run.txt pyproject.toml --extra embedded
lock test.txt pyproject.toml --extra embedded --group test
lock check.txt pyproject.toml --extra embedded --group test --group check
# Clients that the tests compare live in an environment of their own: they share nothing with what runs.
lock clients.txt --group clients
