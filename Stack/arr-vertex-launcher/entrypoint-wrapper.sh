#!/bin/sh
# Starts a command under the watch: /entrypoint-wrapper.sh wandb launch-agent --queue QUEUE ...
# `exec`, so that signals reach the watch; -E and -S keep it apart from the agent's packages.
set -eu
here=$(dirname -- "$(readlink -f -- "$0")")
exec python3 -E -S -u "$here/watch.py" -- "$@"
