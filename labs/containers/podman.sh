#!/usr/bin/env bash
# podman and runc for an experiment: with storage, CDI specifications and device nodes that only the
# command sees, and that go when it ends. This machine's own stay as they are.
#
#   podman.sh [--stand-in] [--cdi FILE]... -- COMMAND...
#
#   --stand-in   a machine with the device nodes of two GPUs, each of them /dev/null
#   --cdi FILE   a CDI specification; podman finds it in /var/run/cdi
#
# COMMAND is podman with its arguments, or a shell that calls podman more than once. Images cannot
# be pulled: /run/image is a root file system of one static busybox, for podman run --rootfs and for
# builds. Started by root podman is root's; started by anybody else it is rootless.
set -euo pipefail
# Without them bash forgets a signal that comes while it waits for a program that had none.
trap 'exit 130' INT
trap 'exit 143' TERM

die() { echo "podman.sh: $1 Next: $2" >&2; exit 2; }

arguments=("$@") uid=$(id -u) stand_in= specifications=()
if [ "${1:-}" = --inside ]; then uid=$2 && shift 2; fi
while [ $# -gt 0 ] && [ "$1" != -- ]; do
  case $1 in
    --stand-in) stand_in=yes && shift ;;
    --cdi)
      [ -f "${2:-}" ] ||
        die "--cdi names ${2:-nothing}, which is not there." "give the path of a file."
      specifications+=("$2") && shift 2
      ;;
    *) die "The option $1 is unknown." "see the top of the script for the two that there are." ;;
  esac
done
[ $# -gt 1 ] || die "No command was given." "write it behind --, for example: -- podman info."
shift # what is left is the command

if [ "${arguments[0]}" != --inside ]; then
  missing=
  for pair in podman:podman runc:runc busybox:busybox-static; do
    type -P "${pair%:*}" >/dev/null || missing+=" ${pair#*:}"
  done
  [ -z "$missing" ] || die "Not installed:$missing." "install it: sudo apt-get install$missing."
  # ldd refuses a static program.
  ! ldd "$(type -P busybox)" >/dev/null 2>&1 ||
    die "This busybox needs libraries." "install a static one: sudo apt-get install busybox-static."
  # Its own process numbers, so that whatever podman leaves running ends with the command.
  namespaces=(--mount --pid --fork --kill-child --mount-proc)
  [ "$uid" = 0 ] || namespaces+=(--user --map-root-user)
  reason=$(unshare "${namespaces[@]}" true 2>&1) ||
    die "The kernel refuses new namespaces (${reason#unshare: })." \
      "run it as root, outside of other containers, or allow user namespaces to ordinary users."
  arguments=(--inside "$uid" "${arguments[@]}")
  setpriv --pdeathsig KILL unshare "${namespaces[@]}" -- "$0" "${arguments[@]}" <&0 &
  wait $!
  exit
fi

# --- From here on in mounts of its own -----------------------------------------------------------
# Files wait in /mnt while the mount of /run hides the place that they may come from.
mount -t tmpfs tmpfs /mnt
mkdir -p /mnt/{cdi,user,image/bin,image/tmp}
cp "$(type -P busybox)" /mnt/image/bin
[ ${#specifications[@]} = 0 ] || cp "${specifications[@]}" /mnt/cdi
mount -t tmpfs -o mode=755 tmpfs /run
mv /mnt/* /run
umount /mnt
mount -t tmpfs -o mode=1777 tmpfs /dev/shm

if [ "$stand_in" ]; then
  mkdir /run/dev
  mount -t tmpfs -o mode=755 tmpfs /run/dev
  node() { # NAME as SOURCE
    touch "/run/dev/$1"
    mount --bind "/dev/$2" "/run/dev/$1"
  }
  for name in null zero full random urandom tty; do node $name $name; done
  for name in nvidia0 nvidia1 nvidiactl nvidia-uvm; do node $name null; done
  mkdir /run/dev/{pts,shm}
  mount --rbind /dev/pts /run/dev/pts
  mount --move /dev/shm /run/dev/shm
  ln -s pts/ptmx /run/dev/ptmx
  ln -s /proc/self/fd /run/dev/fd
  mount --move /run/dev /dev
fi

# runc, as the crun of Debian 12 refuses a mixed hierarchy of cgroups. Limits said aloud, as podman
# would else ask for more than a machine may allow. vfs works on every file system.
cat >/run/containers.conf <<'CONF'
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
netns = "none"
[engine]
runtime = "runc"
events_logger = "none"
CONF
cat >/run/storage.conf <<'CONF'
[storage]
driver = "vfs"
graphroot = "/run/user/storage"
runroot = "/run/user/containers"
CONF
export CONTAINERS_CONF=/run/containers.conf CONTAINERS_STORAGE_CONF=/run/storage.conf
export HOME=/run/user XDG_RUNTIME_DIR=/run/user
as=() BUILDAH_ISOLATION=chroot
if [ "$uid" != 0 ]; then
  # More ids than its own cannot be mapped from in here; podman would try where a file lists some.
  for file in /etc/subuid /etc/subgid; do
    [ ! -e $file ] || mount --bind /dev/null $file
  done
  as=(unshare --user --map-user="$uid" --map-group="$uid") BUILDAH_ISOLATION=rootless
fi
export BUILDAH_ISOLATION
exec "${as[@]}" "$@"
