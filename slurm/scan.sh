#!/usr/bin/env bash
# One fit for every line of a list; a line is an overlay file or flags of sciml fit, or both:
#
#   overlays/small.yaml
#   overlays/large.yaml --data.batch_size 4
#   --model.optim.lr 3e-3 --seed_everything 1
#
#   slurm/scan.sh configs/hip/horm.yaml list.txt [flags for every fit]
#
# Do not edit the list while the array runs: a requeued task reads its line again.
#SBATCH --signal=SIGUSR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail

ACCOUNT=${ACCOUNT:-}       # empty: your default
PARTITION=${PARTITION:-}   # empty: the default of the cluster
TIME=${TIME:-12:00:00}     # of one job; a fit may take any number of jobs
MEMORY=${MEMORY:-32G}
TASKS=${TASKS:-1}          # processes of a fit, on one node
GPUS=${GPUS:-$TASKS}       # GPUs of a fit; 0 trains on CPUs
CPUS=${CPUS:-8}            # cores of a process
AT_ONCE=${AT_ONCE:-20}     # fits that run at the same time
SCIML=${SCIML:-sciml}      # the command, such as "apptainer exec --nv sciml.sif sciml"

if [[ $# -lt 2 || ! -f $2 ]]; then
  echo "usage: slurm/scan.sh EXPERIMENT.yaml LIST [flags of sciml fit]" >&2
  exit 2
fi
mapfile -t lines < <(grep -vE '^[[:space:]]*(#|$)' "$2") # empty lines and comments do not count
if [[ ${#lines[@]} -eq 0 ]]; then
  echo "$2 names no fit" >&2
  exit 2
fi
if [[ -z ${SLURM_ARRAY_TASK_ID:-} ]]; then # on the login node: submit this file
  mkdir -p lightning_logs/slurm
  exec sbatch ${ACCOUNT:+--account="$ACCOUNT"} ${PARTITION:+--partition="$PARTITION"} \
    --job-name=sciml-scan --time="$TIME" --mem="$MEMORY" --nodes=1 --ntasks-per-node="$TASKS" \
    --cpus-per-task="$CPUS" $([[ $GPUS == 0 ]] || echo "--gpus-per-node=$GPUS") \
    --array="0-$((${#lines[@]} - 1))%$AT_ONCE" \
    --output=lightning_logs/slurm/%A_%a.log "$0" "$@"
fi

read -ra words <<< "${lines[$SLURM_ARRAY_TASK_ID]}"
[[ ${words[0]} == -* ]] || words=(-c "${words[@]}")
export WANDB_RUN_ID="sciml-$SLURM_JOB_ID" WANDB_RESUME=allow
export OMP_NUM_THREADS="${SLURM_CPUS_PER_TASK:-1}" SRUN_CPUS_PER_TASK="${SLURM_CPUS_PER_TASK:-1}"

srun $SCIML fit -c configs/trainer/slurm.yaml -c "$1" "${words[@]}" \
  --trainer.devices="${SLURM_NTASKS_PER_NODE:-1}" "${@:3}"
