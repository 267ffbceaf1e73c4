#!/usr/bin/env bash
# A study on a SLURM allocation: Ray over all its nodes, the study on the first.
#
#   sbatch --nodes=4 --gpus-per-node=1 --cpus-per-task=16 deploy/slurm.sh search_spaces/tiktok.yaml
#
# Type the same again to go on: what has run stays. When the time is nearly up, SLURM tells the study to stop, running
# trials write what they have, and the job is queued again. The workspace must lie where every node sees it:
# MGSTUDY_HOME, by default the folder you submit from. So must the study's storage, when it is not on the head's disk:
# give `storage: postgresql://...`.
#SBATCH --job-name=mgstudy
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive
#SBATCH --time=24:00:00
#SBATCH --signal=B:TERM@300
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail

if (($# < 1)); then
    echo "usage: sbatch [OPTIONS] deploy/slurm.sh STUDY.yaml [--set A.B=VALUE ...]" >&2
    exit 2
fi
: "${SLURM_JOB_ID:?runs inside an allocation: use sbatch}"

export MGSTUDY_HOME="${MGSTUDY_HOME:-$SLURM_SUBMIT_DIR}"
export RAY_AUTH_MODE=token
# Nodes share the home folder, and with it the token that keeps everyone else on the network out.
ray get-auth-token --generate > /dev/null

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
head_address="$(srun --nodes=1 --ntasks=1 --nodelist="${nodes[0]}" hostname --ip-address | awk '{print $1}')"
# Two jobs of one person may meet on a node.
port=$((20000 + SLURM_JOB_ID % 20000))
export RAY_ADDRESS="$head_address:$port"
cpus="${SLURM_CPUS_PER_TASK:-${SLURM_CPUS_ON_NODE:-1}}"
gpus="${SLURM_GPUS_ON_NODE:-0}"
# CUDA's Multi-Process Service, so that trials on one GPU run together rather than in turn. It ends with its node's step.
export CUDA_MPS_PIPE_DIRECTORY="${TMPDIR:-/tmp}/mgstudy-mps-$SLURM_JOB_ID"
export CUDA_MPS_LOG_DIRECTORY="$CUDA_MPS_PIPE_DIRECTORY"
start_mps=true
if ((gpus > 0)); then
    # shellcheck disable=SC2016  # Expanded on each node.
    start_mps='mkdir -p "$CUDA_MPS_PIPE_DIRECTORY" && nvidia-cuda-mps-control -d || echo "no MPS on $(hostname)" >&2'
fi

echo "Ray's head on ${nodes[0]} ($RAY_ADDRESS), ${#nodes[@]} nodes with $cpus CPUs and $gpus GPUs each"
srun --nodes=1 --ntasks=1 --nodelist="${nodes[0]}" --overlap \
    bash -c "$start_mps"'; exec "$@"' with-mps ray start --head --node-ip-address="$head_address" --port="$port" --include-dashboard=false \
    --num-cpus="$cpus" --num-gpus="$gpus" --disable-usage-stats --block &
ray_steps=($!)
until ray health-check --address "$RAY_ADDRESS" > /dev/null 2>&1; do
    kill -0 "${ray_steps[0]}" || { echo "Ray's head did not start" >&2; exit 1; }
    sleep 2
done
for node in "${nodes[@]:1}"; do
    srun --nodes=1 --ntasks=1 --nodelist="$node" --overlap \
        bash -c "$start_mps"'; exec "$@"' with-mps ray start --address="$RAY_ADDRESS" --num-cpus="$cpus" \
        --num-gpus="$gpus" --disable-usage-stats --block &
    ray_steps+=($!)
done

mgstudy launch "$@" &
study=$!
stopped=false
trap 'stopped=true; kill -TERM "$study"' TERM
# A signal ends `wait` early: the study is still writing what it has.
code=0
wait "$study" || code=$?
while kill -0 "$study" 2> /dev/null; do
    code=0
    wait "$study" || code=$?
done

kill "${ray_steps[@]}" 2> /dev/null || true
wait "${ray_steps[@]}" 2> /dev/null || true
if $stopped; then
    echo "the time is up: queued again"
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
