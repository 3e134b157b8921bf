#!/bin/bash
# The demo: a standalone host in a state directory of its own, filled with assets/samples, and the UI on it.
#
#   usage: assets/demo.sh start VMDECK GUEST.qcow2 | stop VMDECK
#
# VMDECK_DEMO names the directory; default: vmdeck-demo-UID in the temporary directory.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
[ $# -ge 2 ] || { sed -n 's/^# *\(usage:.*\)/\1/p' "$0" >&2; exit 2; }
vmdeck=$2
export VMDECK_HOME=${VMDECK_DEMO:-${TMPDIR:-/tmp}/vmdeck-demo-$(id -u)}
export VMDECK_HOST=local          # never a cluster that this shell's kubeconfig happens to name
unset VMDECK_CONTEXT KUBECONFIG
say() { echo "demo: $*" >&2; }

case $1 in
start)
    # a directory in /tmp that somebody else made is not ours to use
    (umask 077 && mkdir -p "$VMDECK_HOME")
    [ -O "$VMDECK_HOME" ] || { say "$VMDECK_HOME belongs to somebody else; set VMDECK_DEMO to a folder of your own"; exit 1; }
    "$vmdeck" host start
    "$vmdeck" apply -f "$here/samples"
    if [ "$("$vmdeck" get vi guest -o 'jsonpath={.status.phase}')" != Ready ]; then
        "$vmdeck" upload "$3" vi/guest
    fi
    if [ -t 0 ] && [ -t 1 ]; then
        "$vmdeck" || true
    else
        say "no terminal here: the UI is not opened"
        "$vmdeck" get vm
    fi
    cat >&2 <<TEXT

The demo's host and its machines go on running.
  open the UI again     make demo
  use it from a shell   export VMDECK_HOME=$VMDECK_HOME VMDECK_HOST=local; $vmdeck get vm
  stop and remove it    make demo-stop
TEXT
    ;;
stop)
    if [ ! -d "$VMDECK_HOME" ]; then say "there is no demo in $VMDECK_HOME"; exit 0; fi
    # Machines outlive their host; deleting them through the API is what takes every process and file away. Power
    # first: nothing in a demo is worth waiting for a guest that is still booting.
    for name in $("$vmdeck" get vm -o 'jsonpath={range .items[?(@.status.phase=="Running")]}{.metadata.name} {end}' || true); do
        "$vmdeck" stop "$name" --force --wait > /dev/null 2>&1 || true
    done
    "$vmdeck" delete vm --all --wait > /dev/null 2>&1 || say "machines could not be deleted; see $VMDECK_HOME/state/host.log"
    "$vmdeck" host stop || true
    left=$(pgrep -f -- "$VMDECK_HOME/" || true)
    if [ -n "$left" ]; then say "still running, so $VMDECK_HOME is kept: process $left"; exit 1; fi
    rm -rf "$VMDECK_HOME"
    say "stopped; $VMDECK_HOME is gone"
    ;;
*) say "start or stop, not $1"; exit 2 ;;
esac
