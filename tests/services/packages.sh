#!/bin/sh
# The Debian packages that `make test-services` needs: installed where they are missing.
set -eu
missing=""
ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 || missing="$missing postgresql"
command -v redis-server >/dev/null || missing="$missing redis-server"
command -v chromium >/dev/null || missing="$missing chromium"
[ -n "$missing" ] || exit 0
if [ "$(id -u)" != 0 ]; then
    echo "install these Debian packages first:$missing" >&2
    exit 1
fi
apt-get update --quiet=2
# Runlevel 1: the packages' own services stay off, the tests start servers of their own.
# shellcheck disable=SC2086
RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install --quiet=2 --yes --no-install-recommends $missing
