#!/usr/bin/env bash
# Train one experiment. The job saves itself before its time is up, queues again, and goes on.
#
#   slurm/train.sh configs/hip/horm.yaml [any flag of sciml fit]
#   NODES=2 TIME=24:00:00 ACCOUNT=chem slurm/train.sh configs/hip/horm.yaml --data.batch_size 32
#
# --signal has no B: the warning has to reach the Python processes that srun starts.
#SBATCH --signal=SIGUSR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail

ACCOUNT=${ACCOUNT:-}       # empty: your default
PARTITION=${PARTITION:-}   # empty: the default of the cluster
TIME=${TIME:-12:00:00}     # of one job; the run may take any number of jobs
MEMORY=${MEMORY:-64G}      # of a node
NODES=${NODES:-1}
TASKS=${TASKS:-4}          # processes of a node, one for each GPU
GPUS=${GPUS:-$TASKS}       # GPUs of a node; 0 trains on its CPUs
CPUS=${CPUS:-8}            # cores of a process: its threads and loader workers
SCIML=${SCIML:-sciml}      # the command, such as "apptainer exec --nv sciml.sif sciml"

if [[ $# -eq 0 ]]; then
  echo "usage: slurm/train.sh EXPERIMENT.yaml [flags of sciml fit]" >&2
  exit 2
fi
if [[ -z ${SLURM_JOB_ID:-} ]]; then # on the login node: submit this file
  mkdir -p lightning_logs/slurm
  exec sbatch ${ACCOUNT:+--account="$ACCOUNT"} ${PARTITION:+--partition="$PARTITION"} \
    --job-name=sciml --time="$TIME" --mem="$MEMORY" --nodes="$NODES" \
    --ntasks-per-node="$TASKS" --cpus-per-task="$CPUS" \
    $([[ $GPUS == 0 ]] || echo "--gpus-per-node=$GPUS") \
    --output=lightning_logs/slurm/%j.log "$0" "$@"
fi

# A requeued job keeps its number: the same folder, the same run of Weights & Biases.
export WANDB_RUN_ID="sciml-$SLURM_JOB_ID" WANDB_RESUME=allow
export OMP_NUM_THREADS="${SLURM_CPUS_PER_TASK:-1}" SRUN_CPUS_PER_TASK="${SLURM_CPUS_PER_TASK:-1}"

srun $SCIML fit -c configs/trainer/slurm.yaml -c "$1" \
  --trainer.num_nodes="${SLURM_JOB_NUM_NODES:-1}" \
  --trainer.devices="${SLURM_NTASKS_PER_NODE:-1}" \
  "${@:2}"
