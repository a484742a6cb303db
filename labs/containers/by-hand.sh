#!/usr/bin/env bash
# A container from unshare, mount and pivot_root alone. Chapter 4 reads it from top to bottom.
#
#   by-hand.sh [--program FILE]... [--node HOST[:INSIDE]]... [--library FILE]... -- COMMAND...
#
#   --program FILE         copy a program, with the libraries that it is linked against
#   --node HOST[:INSIDE]   put a device node of the host into the container
#   --library FILE         show a library of the host's driver in the container, read-only
#
# The root file system lives in memory, in a mount namespace that this command alone has. When the
# command ends, by itself or by a signal, the kernel takes both away: nothing is left to clean up.
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin # ldconfig and pivot_root, which an ordinary user's PATH may lack

die() { echo "by-hand.sh: $1 Next: $2" >&2; exit 2; }

programs=() nodes=() libraries=() arguments=("$@")
[ "${1:-}" != --inside ] || shift
while [ $# -gt 0 ] && [ "$1" != -- ]; do
  case $1 in
    --program) programs+=("${2:-}") ;;
    --node) nodes+=("${2:-}") ;;
    --library) libraries+=("${2:-}") ;;
    *) die "The option $1 is unknown." "see the top of the script for the three that there are." ;;
  esac
  value=${2:-}
  [ -e "${value%%:*}" ] ||
    die "$1 names ${value:-nothing}, which is not there." "give the path of a file."
  shift 2
done
[ $# -gt 1 ] || die "No command was given." "write it behind --, for example: -- ls /dev."
shift # what is left is the command

# --- 1. Namespaces -------------------------------------------------------------------------------
# Its own mounts, process numbers, host name, shared memory and network. Who is not root becomes
# root of a user namespace: root over what is in there, nobody special outside.
if [ "${arguments[0]}" != --inside ]; then
  namespaces=(--mount --pid --fork --kill-child --uts --ipc --net)
  [ "$(id -u)" = 0 ] || namespaces+=(--user --map-root-user)
  reason=$(unshare "${namespaces[@]}" true 2>&1) ||
    die "The kernel refuses new namespaces (${reason#unshare: })." \
      "run it as root, outside of other containers, or allow user namespaces to ordinary users."
  # Process 1 of a namespace ignores the signals that end others: the end of this script kills it.
  setpriv --pdeathsig KILL unshare "${namespaces[@]}" -- "$0" --inside "${arguments[@]}" <&0 &
  wait $!
  exit
fi

# --- 2. A root file system -----------------------------------------------------------------------
root=/mnt
# nodev: a device node that root in the container makes for itself opens nothing.
mount -t tmpfs -o mode=755,nodev tmpfs $root
mkdir -p $root/{dev,etc,old,proc,sys,tmp,usr/bin}
ln -s usr/bin $root/bin

needed() { ldd "$1" 2>/dev/null | grep -o '/[^ ]*' || true; } # ldd refuses a static program
copy() { # a file, and the libraries that it is linked against, to the paths that they have here
  local file
  for file in "$1" $(needed "$1"); do
    mkdir -p "$root$(dirname "$file")"
    cp -L "$file" "$root$file"
  done
}
for name in sh ls cat id umount; do copy "$(type -P $name)"; done
for file in "${programs[@]}"; do copy "$file"; done

# --- 3. Device nodes -----------------------------------------------------------------------------
# A bind mount shows the host's node. (mknod would make a second one, and needs real root.)
node() {
  mkdir -p "$root$(dirname "$2")"
  touch "$root$2"
  mount --bind "$1" "$root$2"
}
for name in null zero random urandom; do node /dev/$name /dev/$name; done
for pair in "${nodes[@]}"; do node "${pair%%:*}" "${pair##*:}"; done
mkdir $root/dev/shm
mount -t tmpfs -o size=64m tmpfs $root/dev/shm # Docker's default size

# --- 4. The driver's libraries -------------------------------------------------------------------
# Mounted from the host and not copied into an image: they must be of the version of the module.
for file in "${libraries[@]}"; do
  # Their own needs, parts of the C library, are in any image.
  for need in $(needed "$file"); do copy "$need"; done
  mkdir -p "$root$(dirname "$file")"
  touch "$root$file"
  mount -o bind,ro,nosuid,nodev "$file" "$root$file"
  dirname "$file" >>$root/etc/ld.so.conf
done
# The loader finds them by its cache, and programs ask for names such as libcuda.so.1: ldconfig
# writes the one and makes links of the other.
ldconfig -r $root

# --- 5. Enter ------------------------------------------------------------------------------------
hostname by-hand
mount -t proc proc $root/proc
mount -t sysfs -o ro sysfs $root/sys
cd $root
pivot_root . old
umount -l /old
exec -c "$@"
