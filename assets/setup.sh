#!/bin/bash
# Installs what vmdeck needs on this machine and is not there yet; says what it does; safe to run again.
#
#   usage: assets/setup.sh [run] [build] [guest] [clients] [debian]      default: the first three
#
#   run    QEMU and UEFI firmware: what machines need
#   build  a C compiler (SQLite and the TLS library are compiled); Rust is checked, not installed
#   guest  tools that put the demo's and the tests' guest together
#   clients  what the tests with outside programs need; the programs themselves: assets/clients.sh
#   debian   what assets/guest/debian.sh builds the full Debian guest with (`make test-full`)
#
# Only Debian and its relatives are installed on, with this machine's own package sources. Elsewhere it lists what
# is missing and changes nothing. Root is used through sudo, and only if there is something to install.
set -euo pipefail
export LC_ALL=C PATH=$PATH:/usr/sbin:/sbin DEBIAN_FRONTEND=noninteractive
say() { echo "setup: $*" >&2; }
die() { say "$*"; exit 1; }
groups=${*:-run build guest}

# --- what is missing: by the program that is looked for, not by package ---------------------------------------
missing=() why=()
need() { # need PACKAGE PROGRAM-OR-FILE
    case $2 in
    /*) [ -e "$2" ] && return 0 ;;
    *) command -v "$2" > /dev/null && return 0 ;;
    esac
    missing+=("$1"); why+=("$2")
}
for group in $groups; do
    case $group in
    run)
        need qemu-system-x86 qemu-system-x86_64
        need qemu-utils qemu-img
        need ovmf "$(for f in /usr/share/OVMF/OVMF_CODE_4M.fd /usr/share/edk2/ovmf/OVMF_CODE.fd /usr/share/OVMF/OVMF_CODE.fd; do
            [ ! -e $f ] || { echo $f; exit; }; done; echo /usr/share/OVMF/OVMF_CODE_4M.fd)"
        ;;
    build)
        need gcc cc
        [ -e /usr/include/stdlib.h ] || need libc6-dev /usr/include/stdlib.h
        ;;
    guest)
        need gcc gcc
        need fdisk sfdisk
        need e2fsprogs mke2fs
        need cpio cpio
        need util-linux flock
        need procps ps
        ;;
    clients)
        need python3 python3
        python3 -c 'import ensurepip' 2> /dev/null || { missing+=(python3-venv); why+=("Python's module ensurepip"); }
        need jq jq
        need util-linux flock
        need openssh-client ssh
        ;;
    debian)
        need mmdebstrap mmdebstrap
        need fdisk sfdisk
        need e2fsprogs mke2fs
        need dosfstools mkfs.fat
        need mtools mcopy
        need syslinux syslinux
        need syslinux-common "$(for f in /usr/lib/syslinux/mbr/gptmbr.bin /usr/lib/SYSLINUX/gptmbr.bin; do
            [ ! -e $f ] || { echo $f; exit; }; done; echo /usr/lib/syslinux/mbr/gptmbr.bin)"
        need systemd-boot-efi /usr/lib/systemd/boot/efi/systemd-bootx64.efi
        need debian-archive-keyring /usr/share/keyrings/debian-archive-keyring.gpg
        need qemu-utils qemu-img
        need util-linux flock
        ;;
    *) die "no such part: $group (run, build, guest, clients, debian)" ;;
    esac
done

rust_wanted=1.95
check_rust() {
    local have
    have=$(rustc --version 2> /dev/null | sed -n 's/^rustc \([0-9.]*\).*/\1/p') || true
    if [ -z "$have" ]; then
        die "Rust is missing: install $rust_wanted or newer with rustup, then run this again"
    elif [ "$(printf '%s\n' "$rust_wanted" "$have" | sort -V | head -1)" != "$rust_wanted" ]; then
        die "Rust $have is too old: $rust_wanted or newer is needed (rustup update)"
    fi
}
case " $groups " in *" build "*) check_rust ;; esac

if [ ${#missing[@]} = 0 ]; then
    say "nothing is missing ($groups)"
    exit 0
fi
for i in "${!missing[@]}"; do say "missing: ${why[$i]} (Debian package ${missing[$i]})"; done
command -v apt-get > /dev/null || die "this is no Debian: install the above with this system's package manager"

as_root=()
if [ "$(id -u)" != 0 ]; then
    command -v sudo > /dev/null || die "root is needed: apt-get install ${missing[*]}"
    as_root=(sudo)
    say "root is needed for apt-get; sudo may ask for your password"
fi
apt() { "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get "$@"; }
# would it install without taking anything away? Prints nothing.
possible() { apt-get -s --no-remove install --no-install-recommends "$@" > /dev/null 2>&1; }
put() { say "apt-get install $*"; apt install -qq -y --no-remove --no-install-recommends "$@" > /dev/null; }

plain=() qemu=()
for package in "${missing[@]}"; do
    case $package in qemu-*) qemu+=("$package") ;; *) plain+=("$package") ;; esac
done
if ! possible "${missing[@]}"; then
    say "apt-get update"
    apt update -qq || say "apt-get update failed; going on with the lists that are here"
fi
if [ ${#plain[@]} -gt 0 ]; then put "${plain[@]}"; fi
[ ${#qemu[@]} -gt 0 ] || exit 0
if possible "${qemu[@]}"; then put "${qemu[@]}"; exit 0; fi

# A part of QEMU is here in a newer version than the release has (qemu-utils from backports is the usual case): the
# rest must come from backports too. The suite is added from the mirror that the release itself comes from.
codename=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release | tr -d '"')
[ -n "$codename" ] || die "QEMU cannot be installed beside what is here, and this system has no code name"
suite=$codename-backports
if ! apt-cache policy | grep -q "n=$suite,"; then
    uri=$(apt-get indextargets --format '$(REPO_URI)' "Created-By: Packages" "Codename: $codename" "Component: main" | head -1)
    key=/usr/share/keyrings/debian-archive-keyring.gpg
    [ -e $key ] || key=
    [ -n "$uri" ] || die "no mirror of $codename in this machine's package sources"
    say "adding $suite from this machine's mirror: /etc/apt/sources.list.d/vmdeck-backports.list"
    echo "deb ${key:+[signed-by=$key] }$uri $suite main" | "${as_root[@]}" tee /etc/apt/sources.list.d/vmdeck-backports.list > /dev/null
    apt update -qq || die "the lists of $suite could not be fetched; remove /etc/apt/sources.list.d/vmdeck-backports.list if the mirror has none"
fi
possible -t "$suite" "${qemu[@]}" || die "apt finds no way to install ${qemu[*]}: try 'apt-get install -t $suite ${qemu[*]}' and see why"
put -t "$suite" "${qemu[@]}"
