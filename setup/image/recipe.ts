/**
 * What the image of a machine consists of. Everything that decides its content is stated here or follows from the checkout.
 */

/** The recipe's own version: raised when the code that builds changes what comes out. */
export const RECIPE_VERSION = 1;

/** Debian packages that the image is for; what they depend on comes with them. */
export const PACKAGES = [
  "busybox-static",
  "charon-systemd",
  "dash",
  "ipvsadm",
  "iproute2",
  "iputils-ping",
  "kmod",
  "libcharon-extra-plugins",
  "libstrongswan-standard-plugins",
  "libstdc++6",
  "linux-image-cloud-amd64",
  "nftables",
  "qemu-guest-agent",
  "socat",
  "strongswan-swanctl",
  "wireguard-tools",
] as const;

/** Tools that build the image and do not go into it. */
export const BUILD_PACKAGES = ["kmod", "squashfs-tools"] as const;

/**
 * Dependencies for installing and upgrading in place, and what they bring. Nothing is installed in an immutable image, so they
 * are left out.
 */
export const LEFT_OUT =
  /^(perl|libperl|debconf|dpkg$|tar$|init-system-helpers|libdb5|libgdbm|initramfs-tools|klibc|libklibc|linux-base|udev$|cpio$|coreutils$|mount$|util-linux|logsave|adduser|passwd|systemd$|systemd-|dracut|libfile-find-rule|libnumber-compare|libtext-glob|libsemanage|libsepol|libcap2-bin|sysvinit)/;

/** Folders below `kernel/` of the modules that are kept; the rest is for hardware that a virtual machine has not. */
export const KERNEL_FOLDERS = [
  "arch",
  "crypto",
  "drivers/block/virtio_blk.ko",
  "drivers/char/hw_random",
  "drivers/char/virtio_console.ko",
  "drivers/firmware/qemu_fw_cfg.ko",
  "drivers/net/dummy.ko",
  "drivers/net/geneve.ko",
  "drivers/net/ifb.ko",
  "drivers/net/macvlan.ko",
  "drivers/net/net_failover.ko",
  "drivers/net/tun.ko",
  "drivers/net/veth.ko",
  "drivers/net/virtio_net.ko",
  "drivers/net/vrf.ko",
  "drivers/net/vxlan",
  "drivers/net/wireguard",
  "drivers/virtio",
  "fs/overlayfs",
  "fs/squashfs",
  "lib",
  "net",
] as const;

/** Loaded before there is a root file system; what they need comes with them. */
export const EARLY_MODULES = ["virtio_pci", "virtio_blk", "squashfs"] as const;

/** What the self-test loads: each is something that Foreshift moves packets with. */
export const TESTED_MODULES = [
  "wireguard",
  "esp4",
  "esp6",
  "xfrm_user",
  "xfrm_interface",
  "ip_gre",
  "vxlan",
  "ip_vs",
  "sch_netem",
  "sch_plug",
  "ifb",
  "nf_tables",
  "nft_fwd_netdev",
] as const;

/** Programs that the self-test runs, each with a harmless argument. */
export const TESTED_PROGRAMS: Readonly<Record<string, readonly string[]>> = {
  wg: ["--version"],
  nft: ["--version"],
  ip: ["-V"],
  socat: ["-V"],
  ipvsadm: ["--version"],
  node: ["--version"],
};

/** Read by people who install packages, by nobody in an image. */
export const PRUNED = [
  "boot",
  "usr/include",
  "usr/lib/initramfs-tools",
  "usr/lib/systemd",
  "usr/share/bash-completion",
  "usr/share/bug",
  "usr/share/doc",
  "usr/share/initramfs-tools",
  "usr/share/lintian",
  "usr/share/locale",
  "usr/share/man",
  "usr/share/zsh",
] as const;

/** Where Foreshift lies in the image. */
export const FORESHIFT_DIR = "opt/foreshift";
