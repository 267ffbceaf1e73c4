#!/usr/bin/env bash
# The README's commands on a Debian as it comes: debootstrap makes one with python3, python3-venv, git and make and
# nothing else, and a user without privileges clones what is committed here and types them.
#
#   sudo deploy/fresh_machine.sh trixie /var/tmp/trixie                        # make quickstart, make test
#   sudo deploy/fresh_machine.sh trixie /var/tmp/trixie "make test ARGS=tests/models"     # this instead
#
# The suite is bookworm (Debian 12), trixie (13) or sid (what comes next). A folder that is there already is gone on with:
# its clone and what that installed stay. Remove it to begin anew. DEBIAN_MIRROR names a mirror, and what pip is told by
# PIP_* variables holds inside, too. It takes debootstrap, root, 15 GB of disk and, with the tests, an hour. It ends with
# the first command that fails, and with its exit code.
set -euo pipefail

if (($# < 2)); then
    echo "usage: sudo deploy/fresh_machine.sh SUITE FOLDER [COMMAND ...]" >&2
    exit 2
fi
# Mounts and processes of the new machine end with this script, however it ends.
if [[ -z "${INSIDE_OWN_NAMESPACES:-}" ]]; then
    INSIDE_OWN_NAMESPACES=yes exec unshare --mount --pid --fork --kill-child -- "${BASH_SOURCE[0]}" "$@"
fi
suite="$1" root="$(realpath --canonicalize-missing "$2")"
shift 2
(($#)) || set -- "make quickstart" "make test"
repository="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
user=1000
clone=/home/newcomer/mgstudy

if [[ ! -d "$root/home/newcomer" ]]; then
    debootstrap --variant=minbase --include=git,make,python3,python3-venv "$suite" "$root" \
        "${DEBIAN_MIRROR:-http://deb.debian.org/debian}" >&2
    chroot "$root" useradd --uid "$user" --create-home --shell /bin/bash newcomer
fi
git -C "$repository" bundle create --quiet "$root/srv/mgstudy.bundle" HEAD

mount --types proc proc "$root/proc"
mount --rbind /sys "$root/sys"
mount --rbind /dev "$root/dev"
cp --dereference /etc/resolv.conf "$root/etc/"
told=()
for name in "${!PIP_@}"; do
    told+=("$name=${!name}")
    # A file or folder that pip is told of is there, too.
    if [[ -d "${!name}" ]]; then
        mkdir -p "$root/${!name}"
    elif [[ -f "${!name}" ]]; then
        mkdir -p "$(dirname "$root/${!name}")"
        touch "$root/${!name}"
    else
        continue
    fi
    mount --bind --options ro "${!name}" "$root/${!name}"
done

# What a newcomer types, and what comes of it, one after the other.
types() {
    local folder="$1" command="$2" began="$SECONDS" code=0
    printf '\n%s$ %s\n' "$folder" "$command"
    env --ignore-environment HOME=/home/newcomer LANG=C.UTF-8 PATH=/usr/local/bin:/usr/bin:/bin USER=newcomer "${told[@]}" \
        "$(command -v chroot)" --userspec="$user:$user" "$root" bash -c "cd '$folder' && $command" < /dev/null 2>&1 || code=$?
    printf '[exit code %d after %d s]\n' "$code" $((SECONDS - began))
    return "$code"
}

types / "grep PRETTY_NAME /etc/os-release; python3 --version; whoami; nproc; dpkg-query --show --showformat='.' | wc -c"
if [[ ! -d "$root$clone" ]]; then
    types /home/newcomer "git clone --quiet --config advice.detachedHead=false /srv/mgstudy.bundle mgstudy"
fi
types "$clone" "git log --oneline -1"
for command in "$@"; do
    types "$clone" "$command"
done
