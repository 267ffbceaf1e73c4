#!/usr/bin/env bash
# The Dockerfile's steps where there is no Docker: in a folder, with a virtual environment that has the base image's Ray
# in place of that image. It shows that every step works, as the user who calls it.
#
#   deploy/image_steps.sh FOLDER
#   sudo deploy/fresh_machine.sh bookworm /var/tmp/bookworm "deploy/image_steps.sh /home/newcomer/image"
set -euo pipefail

folder="$(realpath --canonicalize-missing "${1:?usage: deploy/image_steps.sh FOLDER}")"
repository="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
mkdir "$folder"
here="$folder"
user=root

while read -r instruction rest; do
    printf 'step: %s %s\n' "$instruction" "$rest"
    case "$instruction" in
        ARG) export "${rest?}" ;;
        FROM)
            [[ "$BASE" =~ ^rayproject/ray:([0-9.]+)-py311 ]]
            python3 -m venv "$folder/base"
            export PATH="$folder/base/bin:$PATH"
            pip install --quiet --constraint "$repository/constraints.txt" "ray[default,tune]==${BASH_REMATCH[1]}"
            ;;
        WORKDIR)
            here="$folder$rest"
            mkdir -p "$here"
            ;;
        COPY)
            read -ra words <<< "$rest"
            [[ "${words[0]}" == --* ]] && words=("${words[@]:1}")
            target="$here/${words[-1]}"
            mkdir -p "$target"
            for source in "${words[@]:0:${#words[@]}-1}"; do
                if [[ -d "$repository/$source" ]]; then
                    cp --recursive "$repository/$source/." "$target"
                else
                    cp "$repository/$source" "$target"
                fi
            done
            ;;
        RUN) (cd "$here" && bash -c "$rest") ;;
        ENV) export "${rest?}" ;;
        USER) user="$rest" ;;
        CMD)
            mapfile -t words < <(python3 -c 'import json, sys; print(*json.loads(sys.argv[1]), sep="\n")' "$rest")
            (cd "$here" && "${words[@]}")
            ;;
        *)
            echo "error: what is $instruction?" >&2
            exit 1
            ;;
    esac
done < <(sed -e ':joined' -e '/\\$/{N; s/\\\n//; b joined' -e '}' -e '/^#/d; /^$/d' "$repository/Dockerfile")
[[ "$user" =~ ^[1-9][0-9]*$ ]] || { echo "error: the image runs as $user" >&2 && exit 1; }
printf 'all steps worked; the image runs as user %s\n' "$user"
