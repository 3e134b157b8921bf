#!/bin/bash
# Builds a Debian 12 guest as cloud images are: systemd, cloud-init, the guest agent, an ssh server. For the tests that
# need the real ones; the small guest of build.sh is there for everything else.
#
#   usage: assets/guest/debian.sh OUTDIR
#
# OUTDIR/debian.qcow2 is a link to the image of the present inputs (this script and the machine's mirror); a second run
# does nothing. Needs mmdebstrap and other tools (`assets/setup.sh debian`), and root or unprivileged user namespaces;
# mounts nothing and uses no loop device.
#
# The disk (GPT) is laid out as in Debian's and Ubuntu's cloud images: partition 1 is the root, last on the disk so that
# cloud-init can grow it; 14 is a BIOS boot partition, 15 the EFI system partition with kernel and initrd, started by
# syslinux (BIOS) or systemd-boot (UEFI).
set -euo pipefail
export LC_ALL=C PATH=$PATH:/usr/sbin:/sbin

[ $# = 1 ] || { sed -n 's/^# \{0,3\}\(usage:.*\)/\1/p' "$0" >&2; exit 2; }
out=$(mkdir -p "$1" && cd "$1" && pwd)
say() { echo "debian guest: $*" >&2; }
die() { say "$*"; exit 1; }
[ "$(uname -m)" = x86_64 ] || die "only x86_64 guests can be built, this is $(uname -m)"
command -v apt-get > /dev/null || die "it is made of Debian packages: build it on a Debian machine and copy debian.qcow2 here"
suite=bookworm
keyring=/usr/share/keyrings/debian-archive-keyring.gpg

# --- sources: this machine's for the suite, or its own mirror with the suite's name --------------------------------
sources() { # sources CODENAME-IN-OUR-LISTS: "uri component" of what is configured here
    apt-get indextargets --format '$(REPO_URI) $(COMPONENT)' "Created-By: Packages" "Origin: Debian" "Codename: $1" |
        awk '$2 == "main" { print $1 }' | sort -u
}
lines=
for pocket in $suite $suite-updates $suite-security; do
    for uri in $(sources $pocket); do lines+="deb [signed-by=$keyring] $uri $pocket main"$'\n'; done
done
if [[ $lines != *" $suite main"* ]]; then
    here=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release | tr -d '"')
    uri=$(sources "${here:-$suite}" | head -1)
    [ -n "$uri" ] || die "no Debian mirror in this machine's package sources"
    lines="deb [signed-by=$keyring] $uri $suite main"$'\n'
fi

# --- is it there already? -------------------------------------------------------------------------------------------
key=$( (cat "$0"; echo "$lines") | sha256sum | cut -c1-16)
image=$out/debian-$key.qcow2
exec 9> "$out/.debian.lock"
flock 9
publish() {
    ln -sfn "debian-$key.qcow2" "$out/.debian.new" && mv -Tf "$out/.debian.new" "$out/debian.qcow2"
    echo "$out/debian.qcow2"
}
if [ -s "$image" ]; then publish; exit 0; fi
for tool in mmdebstrap qemu-img sfdisk mke2fs mkfs.fat mcopy syslinux flock; do
    command -v $tool > /dev/null || die "$tool is missing: run 'assets/setup.sh debian'"
done
gptmbr=$(ls /usr/lib/syslinux/mbr/gptmbr.bin /usr/lib/SYSLINUX/gptmbr.bin 2> /dev/null | head -1)
loader=/usr/lib/systemd/boot/efi/systemd-bootx64.efi
[ -n "$gptmbr" ] && [ -e $loader ] && [ -e $keyring ] || die "syslinux-common, systemd-boot-efi or debian-archive-keyring is missing: run 'assets/setup.sh debian'"
started=$(date +%s)
tmp=$(mktemp -d "$out/debian.XXXXXX")
chmod 755 "$tmp"
trap 'rm -rf "$tmp"' EXIT

# --- the root file system, as a tar so that owners and modes survive without root ------------------------------------
cat > "$tmp/configure" <<'CONFIGURE'
#!/bin/sh
# Run by mmdebstrap: $1 is the new root, $2 where kernel and initrd go.
set -eu
root=$1 boot=$2
echo debian > "$root/etc/hostname"
: > "$root/etc/machine-id"                    # a new identity at the first boot
rm -f "$root"/etc/ssh/ssh_host_*              # cloud-init makes them
printf 'LABEL=root / ext4 defaults,noatime,errors=remount-ro 0 1\nLABEL=EFI /boot/efi vfat umask=0077 0 1\n' > "$root/etc/fstab"
mkdir -p "$root/boot/efi"
# Tests have no network beyond the host: whoever has replaces this.
echo 'deb http://mirror.invalid/debian bookworm main' > "$root/etc/apt/sources.list"
printf 'Acquire::Retries "0";\nAcquire::http::Timeout "5";\n' > "$root/etc/apt/apt.conf.d/90quick"
cat > "$root/etc/cloud/cloud.cfg.d/90-guest.cfg" <<'CFG'
datasource_list: [NoCloud, None]
locale: false
ssh_genkeytypes: [ed25519]
manage_etc_hosts: true
apt: {preserve_sources_list: true}
system_info: {network: {renderers: [netplan, networkd]}}
CFG
# virtio and what QEMU's AHCI needs: a third of the usual initrd
printf 'MODULES=list\nCOMPRESS=zstd\n' > "$root/etc/initramfs-tools/conf.d/small"
printf '%s\n' virtio_pci virtio_blk virtio_scsi sd_mod virtio_net ext4 vfat nls_ascii nls_cp437 > "$root/etc/initramfs-tools/modules"
kernel=$(cd "$root/lib/modules" && ls | sort -V | tail -1)
chroot "$root" update-initramfs -c -k "$kernel" > /dev/null
chroot "$root" systemctl -q enable systemd-networkd serial-getty@ttyS0
chroot "$root" systemctl -q mask apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer fstrim.timer \
    dpkg-db-backup.timer systemd-networkd-wait-online.service
cp "$root/boot/vmlinuz-$kernel" "$boot/vmlinuz"
cp "$root/boot/initrd.img-$kernel" "$boot/initrd"
rm -rf "$root"/boot/initrd* "$root"/boot/vmlinuz* "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/var/log/*.log
CONFIGURE
chmod 755 "$tmp/configure"
mkdir -m 777 "$tmp/boot"
packages=systemd-sysv,udev,dbus,linux-image-cloud-amd64,initramfs-tools,zstd,cloud-init,cloud-guest-utils,fdisk,e2fsprogs
packages+=,qemu-guest-agent,openssh-server,sudo,iproute2,iputils-ping,netplan.io,kmod,procps,less,gdisk,dosfstools
say "packages of $suite from this machine's mirror (minutes)"
printf %s "$lines" > "$tmp/sources"
mmdebstrap --quiet --variant=minbase --include="$packages" --aptopt='Apt::Install-Recommends "false"' \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' --customize-hook="$tmp/configure \"\$1\" $tmp/boot" \
    $suite "$tmp/root.tar" "$tmp/sources" > "$tmp/log" 2>&1 || { tail -30 "$tmp/log" >&2; die "mmdebstrap failed (see above)"; }

# --- the disk -------------------------------------------------------------------------------------------------------
root_mib=1600 boot_mib=106
mkdir "$tmp/root"
tar -x --numeric-owner -p -f "$tmp/root.tar" -C "$tmp/root" --exclude='./dev/*'
rm "$tmp/root.tar"
mke2fs -q -t ext4 -L root -m 1 -E root_owner=0:0 -d "$tmp/root" "$tmp/rootfs" "${root_mib}M"
truncate -s "${boot_mib}M" "$tmp/bootfs"
mkfs.fat -F 16 -n EFI --invariant "$tmp/bootfs" > /dev/null
options='root=LABEL=root ro console=tty0 console=ttyS0,115200 net.ifnames=0 mitigations=off random.trust_cpu=on'
printf 'DEFAULT debian\nPROMPT 0\nTIMEOUT 0\nLABEL debian\n KERNEL /vmlinuz\n INITRD /initrd\n APPEND %s\n' "$options" > "$tmp/syslinux.cfg"
printf 'default debian.conf\ntimeout 0\n' > "$tmp/loader.conf"
printf 'title Debian\nlinux /vmlinuz\ninitrd /initrd\noptions %s\n' "$options" > "$tmp/debian.conf"
export MTOOLS_SKIP_CHECK=1
mmd -i "$tmp/bootfs" ::/EFI ::/EFI/BOOT ::/loader ::/loader/entries
mcopy -i "$tmp/bootfs" "$tmp/boot/vmlinuz" "$tmp/boot/initrd" "$tmp/syslinux.cfg" ::/
mcopy -i "$tmp/bootfs" $loader ::/EFI/BOOT/BOOTX64.EFI
mcopy -i "$tmp/bootfs" "$tmp/loader.conf" ::/loader/loader.conf
mcopy -i "$tmp/bootfs" "$tmp/debian.conf" ::/loader/entries/debian.conf
syslinux --install "$tmp/bootfs"
raw=$tmp/raw
truncate -s $((1 + 4 + boot_mib + root_mib + 1))M "$raw"
# 14 BIOS boot, 15 EFI system (marked for the BIOS: attribute 2), 1 the root, which grows to the end.
sfdisk -q "$raw" <<TABLE
label: gpt
14: start=2048, size=8192, type=21686148-6449-6E6F-744E-656564454649
15: start=10240, size=$((boot_mib * 2048)), type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B, attrs=LegacyBIOSBootable
1: start=$((10240 + boot_mib * 2048)), size=$((root_mib * 2048)), type=4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709
TABLE
dd if="$gptmbr" of="$raw" conv=notrunc status=none
dd if="$tmp/bootfs" of="$raw" bs=1M seek=5 conv=notrunc,sparse status=none
dd if="$tmp/rootfs" of="$raw" bs=1M seek=$((5 + boot_mib)) conv=notrunc,sparse status=none
qemu-img convert -f raw -O qcow2 "$raw" "$tmp/debian.qcow2"
chmod 644 "$tmp/debian.qcow2"
find "$out" -maxdepth 1 -name 'debian-*.qcow2' -delete
mv "$tmp/debian.qcow2" "$image"
say "built in $(($(date +%s) - started)) s, $(du -m "$image" | cut -f1) MiB"
publish
