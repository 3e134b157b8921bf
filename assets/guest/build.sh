#!/bin/bash
# Builds the guest of the demo and of the tests: a small Debian-kernel machine that boots from its disk.
#
#   usage: assets/guest/build.sh OUTDIR
#
# OUTDIR/guest.qcow2 is a link to the image of the present inputs (this folder's files); a second run with the
# same inputs does nothing. Nothing is installed on this machine and no root is needed: packages are fetched with
# apt-get as this machine has it configured, unpacked below OUTDIR/cache, and the pieces are put together there.
#
# The disk (MBR): a FAT partition with kernel and initramfs, started by syslinux (BIOS) or systemd-boot (UEFI),
# and an ext4 root that grows to the end of the disk at boot. The initramfs only finds and mounts the root.
# What the guest does at boot is in root/usr/lib/guest/boot.
set -euo pipefail
export LC_ALL=C PATH=$PATH:/usr/sbin:/sbin

here=$(cd "$(dirname "$0")" && pwd)
[ $# = 1 ] || { sed -n 's/^# \{0,3\}\(usage:.*\)/\1/p' "$0" >&2; exit 2; }
out=$(mkdir -p "$1" && cd "$1" && pwd)
say() { echo "guest: $*" >&2; }
die() { say "$*"; exit 1; }

# --- is it there already? ----------------------------------------------------------------------------
arch=$(uname -m)
[ "$arch" = x86_64 ] || die "only x86_64 guests can be built, this is $arch"
key=$( (cd "$here" && find . -type f ! -name '*.swp' ! -name debian.sh | sort | xargs sha256sum
        find . -type f -perm -u+x ! -name debian.sh | sort; cat /etc/debian_version 2>/dev/null || true) | sha256sum | cut -c1-16)
image=$out/guest-$key.qcow2
exec 9> "$out/.lock"
flock 9                                     # tests may ask for it at the same time
publish() {                                 # rename, so that a reader never sees no link
    ln -sfn "guest-$key.qcow2" "$out/.guest.new" && mv -Tf "$out/.guest.new" "$out/guest.qcow2"
    echo "$out/guest.qcow2"
}
if [ -s "$image" ]; then publish; exit 0; fi
command -v apt-get > /dev/null && command -v dpkg-deb > /dev/null ||
    die "the guest is made of Debian packages: build it on a Debian machine and copy guest.qcow2 here"
for tool in qemu-img sfdisk mke2fs debugfs resize2fs gcc cpio flock; do
    command -v $tool > /dev/null || die "$tool is missing: run 'make setup'"
done
started=$(date +%s.%N)
tmp=$(mktemp -d "$out/build.XXXXXX")
trap 'rm -rf "$tmp"' EXIT

# --- packages: this machine's apt, with lists of our own when its lists are missing or too old ----------
debs=$out/cache/debs
mkdir -p "$debs/partial"
aptopt=(-q -o APT::Sandbox::User= -o "Dir::Log=$tmp")
kernel_package() {
    apt-cache "${aptopt[@]}" depends linux-image-cloud-amd64 2> /dev/null |
        sed -n 's/.*Depends: \(linux-image-[0-9].*\)/\1/p' | head -1
}
fetch() { # every package at its candidate version, skipping those in the cache
    local kernel uri file want=()
    kernel=$(kernel_package)
    [ -n "$kernel" ] || return 1
    while read -r uri file _; do
        echo "$file" >> "$tmp/files"
        [ -s "$debs/$file" ] || want+=("$file")
    done < <(apt-get "${aptopt[@]}" download --print-uris "$kernel" \
        busybox-static dropbear-bin openssh-sftp-server libtomcrypt1 libtommath1 kmod qemu-guest-agent libnuma1 liburing2 \
        mtools dosfstools syslinux syslinux-common systemd-boot-efi 2> "$tmp/apt.err" | tr -d "'" | sort -k2)
    [ -s "$tmp/files" ] || return 1
    [ ${#want[@]} = 0 ] && return 0
    say "fetching ${#want[@]} packages"
    (cd "$debs/partial" && apt-get "${aptopt[@]}" download "${want[@]%%_*}" > /dev/null 2>> "$tmp/apt.err") || return 1
    mv "$debs"/partial/*.deb "$debs/"
}
: > "$tmp/files"
if ! fetch; then
    say "this machine's package lists do not do: fetching lists into the cache"
    mkdir -p "$out/cache/lists/partial" "$out/cache/apt/archives/partial"
    aptopt+=(-o "Dir::State::lists=$out/cache/lists" -o "Dir::Cache=$out/cache/apt")
    apt-get "${aptopt[@]}" update > /dev/null 2>> "$tmp/apt.err" || true
    : > "$tmp/files"
    fetch || { cat "$tmp/apt.err" >&2; die "packages could not be fetched (see above)"; }
fi
pk=$tmp/packages
mkdir -p "$pk"
while read -r file; do dpkg-deb -x "$debs/$file" "$pk"; done < "$tmp/files"
libs=$pk/usr/lib/x86_64-linux-gnu
export PATH=$pk/bin:$pk/usr/bin:$pk/sbin:$pk/usr/sbin:$PATH
kver=$(basename "$(ls "$pk"/boot/vmlinuz-* | sort -V | tail -1)"); kver=${kver#vmlinuz-}
kernel=$pk/boot/vmlinuz-$kver

# --- the root file system --------------------------------------------------------------------------------
root=$tmp/root
mkdir -p "$root"/{bin,sbin,dev,proc,sys,run,tmp,root,home,mnt,boot,etc/{acpi,dropbear,sudoers.d},var/{log,lib/guest},usr/{bin,sbin,lib}}
cp -r "$here/root/." "$root/"
install -m 4755 "$(command -v busybox)" "$root/bin/busybox"      # setuid: su, ping, passwd
"$root/bin/busybox" --list | while read -r applet; do
    [ "$applet" = busybox ] || ln -s /bin/busybox "$root/bin/$applet"
done
ln -s /bin/busybox "$root/sbin/init"
# programs of ours win over the applets of the same name: the search path begins with usr/sbin and usr/bin
with_libraries() { # install PROGRAM with the libraries it asks for
    local bin lib missing
    bin=$(command -v "$1") || die "$1 is missing"
    install -m 755 "$bin" "$root/usr/sbin/$1"
    missing=$(LD_LIBRARY_PATH=$libs ldd "$bin" | awk '/not found/{print $1}')
    [ -z "$missing" ] || die "$1 needs $missing: run 'make setup'"
    LD_LIBRARY_PATH=$libs ldd "$bin" | grep -o '/[^ ]*' | while read -r lib; do
        [ -e "$root${lib#"$pk"}" ] || install -D -m 755 "$lib" "$root${lib#"$pk"}"
    done
}
export PATH=$PATH:$pk/usr/lib/openssh
for program in dropbear dropbearkey dbclient sftp-server qemu-ga resize2fs; do with_libraries $program; done
ln -s ../sbin/sftp-server "$root/usr/lib/sftp-server"            # where dropbear looks for it
ln -s dbclient "$root/usr/sbin/ssh"
gcc -O1 -Wall -Werror -s -o "$root/usr/bin/sudo" "$here/sudo.c"
gcc -O1 -Wall -Werror -s -o "$root/usr/bin/udp-echo" "$here/udp-echo.c"
chmod 4755 "$root/usr/bin/sudo"
chmod 700 "$root/root"; chmod 1777 "$root/tmp"; chmod 600 "$root/etc/shadow"

# --- kernel modules: modprobe finds their dependencies in the whole tree, only those are taken -------------
src=$pk/lib/modules/$kver
[ -d "$src" ] || src=$pk/usr/lib/modules/$kver
all=$tmp/all
mkdir -p "$all/lib/modules"
cp -r "$src" "$all/lib/modules/"
depmod -b "$all" "$kver"
take_modules() { # take_modules ROOT NAME...
    local to=$1 name ko dst=$1/lib/modules/$kver
    shift
    mkdir -p "$dst"
    cp "$src"/modules.order "$src"/modules.builtin* "$dst/"
    for name in "$@"; do
        modprobe -d "$all" -S "$kver" --show-depends "$name" 2> /dev/null | awk '$1 == "insmod" {print $2}' || true
    done | sort -u | while read -r ko; do
        install -D -m 644 "$ko" "$dst/${ko#"$all/lib/modules/$kver/"}"
    done
    depmod -b "$to" "$kver"
    echo "$@" > "$to/etc/modules"
}
take_modules "$root" virtio_net virtio_console virtio_balloon virtio_rng sr_mod isofs vfat nls_cp437 nls_ascii \
    nls_iso8859-1 nls_utf8 button evdev pvpanic-pci e1000 e1000e acpiphp

# --- the initramfs -----------------------------------------------------------------------------------------
initrd=$tmp/initrd
mkdir -p "$initrd"/{bin,dev,proc,sys,root,run,etc}
install -m 755 "$root/bin/busybox" "$initrd/bin/busybox"
install -m 755 "$here/init" "$initrd/init"
# shellcheck disable=SC2046
take_modules "$initrd" $(sed -n 's/^modules="\(.*\)"/\1/p' "$here/init")
(cd "$initrd" && find . | sort | cpio -o -H newc -R 0:0 --quiet) | gzip -9n > "$tmp/initrd.gz"

# --- the disk ----------------------------------------------------------------------------------------------
mib() { echo $((($1 + 1048575) / 1048576)); }
boot_mib=$(($(mib "$(stat -c %s "$kernel")") + $(mib "$(stat -c %s "$tmp/initrd.gz")") + 4))
[ $boot_mib -ge 18 ] || boot_mib=18                  # FAT16 wants at least 4085 clusters
root_mib=$(($(du -sm "$root" | cut -f1) + 16))
mke2fs -qF -t ext4 -L guest-root -m 0 -E root_owner=0:0,resize=$((16 * 1024 * 1024)) -O ^metadata_csum_seed \
    -I 256 -J size=4 -d "$root" "$tmp/rootfs" "${root_mib}M" > /dev/null
if [ "$(id -u)" != 0 ]; then                         # files belong to root, whoever builds
    (cd "$root" && find . -mindepth 1 | sed 's|^\./\(.*\)|sif "/\1" uid 0\nsif "/\1" gid 0|') |
        debugfs -w -f - "$tmp/rootfs" > /dev/null 2>&1
fi
raw=$tmp/raw
truncate -s $((1 + boot_mib + root_mib))M "$raw"
printf '2048,%d,e,*\n%d,%d,83\n' $((boot_mib * 2048)) $(((1 + boot_mib) * 2048)) $((root_mib * 2048)) | sfdisk -q "$raw"
dd if="$pk/usr/lib/syslinux/mbr/mbr.bin" of="$raw" conv=notrunc status=none
truncate -s ${boot_mib}M "$tmp/bootfs"
mkfs.fat -F 16 -n GUESTBOOT --invariant "$tmp/bootfs" > /dev/null
# no network of its own naming, no spectre tax under emulation, reset at once after a panic
options='root=LABEL=guest-root console=tty0 console=ttyS0,115200 quiet loglevel=3 panic=1 net.ifnames=0 mitigations=off noreplace-smp random.trust_cpu=on'
printf 'DEFAULT guest\nPROMPT 0\nTIMEOUT 0\nLABEL guest\n KERNEL /vmlinuz\n INITRD /initrd\n APPEND %s\n' "$options" > "$tmp/syslinux.cfg"
printf 'default guest.conf\ntimeout 0\n' > "$tmp/loader.conf"
printf 'title guest\nlinux /vmlinuz\ninitrd /initrd\noptions %s\n' "$options" > "$tmp/guest.conf"
export MTOOLS_SKIP_CHECK=1
mmd -i "$tmp/bootfs" ::/EFI ::/EFI/BOOT ::/loader ::/loader/entries
mcopy -i "$tmp/bootfs" "$kernel" ::/vmlinuz
mcopy -i "$tmp/bootfs" "$tmp/initrd.gz" ::/initrd
mcopy -i "$tmp/bootfs" "$tmp/syslinux.cfg" ::/syslinux.cfg
mcopy -i "$tmp/bootfs" "$pk/usr/lib/systemd/boot/efi/systemd-bootx64.efi" ::/EFI/BOOT/BOOTX64.EFI
mcopy -i "$tmp/bootfs" "$tmp/loader.conf" ::/loader/loader.conf
mcopy -i "$tmp/bootfs" "$tmp/guest.conf" ::/loader/entries/guest.conf
syslinux --install "$tmp/bootfs"
dd if="$tmp/bootfs" of="$raw" bs=1M seek=1 conv=notrunc,sparse status=none
dd if="$tmp/rootfs" of="$raw" bs=1M seek=$((1 + boot_mib)) conv=notrunc,sparse status=none
qemu-img convert -f raw -O qcow2 "$raw" "$tmp/guest.qcow2"
chmod 644 "$tmp/guest.qcow2"
find "$out" -maxdepth 1 -name 'guest-*.qcow2' -delete      # images of older inputs
cp "$tmp/files" "$out/guest.packages"
mv "$tmp/guest.qcow2" "$image"
say "built in $(awk -v a="$started" -v b="$(date +%s.%N)" 'BEGIN { printf "%.1f", b - a }') s, $(du -m "$image" | cut -f1) MiB"
publish
