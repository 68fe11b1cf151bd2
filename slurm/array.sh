#!/usr/bin/env bash
# Make data in many jobs: task k of an array runs the verb with seed k and a file of its own.
#
#   SHARDS=50 slurm/array.sh data/hip/train hip generate --per_molecule 24
#   SHARDS=50 SMILES=molecules.smi slurm/array.sh data/hip/train hip generate
#
# A shard that was cut off goes on when the line is repeated. The folder is data as it is:
#   slurm/train.sh configs/hip/demo.yaml --data.train data/hip/train
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail

ACCOUNT=${ACCOUNT:-}       # empty: your default
PARTITION=${PARTITION:-}   # empty: the default of the cluster
TIME=${TIME:-04:00:00}     # of one shard
MEMORY=${MEMORY:-16G}
CPUS=${CPUS:-16}           # cores of a shard, one worker process each
SHARDS=${SHARDS:-10}       # files, each with a seed of its own
AT_ONCE=${AT_ONCE:-50}     # shards that run at the same time
SMILES=${SMILES:-}         # text file with a SMILES a line, dealt out to the shards; else all get
                           # the built-in list, and differ by their seed
SCIML=${SCIML:-sciml}      # the command, such as "apptainer exec sciml.sif sciml"

if [[ $# -lt 3 ]]; then
  echo "usage: slurm/array.sh FOLDER DOMAIN VERB [flags of the verb]" >&2
  exit 2
fi
if [[ -z ${SLURM_ARRAY_TASK_ID:-} ]]; then # on the login node: submit this file
  mkdir -p lightning_logs/slurm "$1"
  export SHARDS SMILES SCIML
  exec sbatch ${ACCOUNT:+--account="$ACCOUNT"} ${PARTITION:+--partition="$PARTITION"} \
    --job-name=sciml-data --time="$TIME" --mem="$MEMORY" --ntasks=1 --cpus-per-task="$CPUS" \
    --array="0-$((SHARDS - 1))%$AT_ONCE" --output=lightning_logs/slurm/%A_%a.log "$0" "$@"
fi

shard=$(printf '%s/shard_%04d' "$1" "$SLURM_ARRAY_TASK_ID")
if [[ -e $shard.h5 ]]; then
  echo "$shard.h5 is finished"
  exit 0
fi
options=(--out "$shard.h5" --seed "$SLURM_ARRAY_TASK_ID" --workers "${SLURM_CPUS_PER_TASK:-1}")
if [[ -n $SMILES ]]; then
  split --number="r/$((SLURM_ARRAY_TASK_ID + 1))/$SHARDS" "$SMILES" > "$shard.smi"
  options+=(--smiles "$shard.smi")
fi
export OMP_NUM_THREADS=1 SRUN_CPUS_PER_TASK="${SLURM_CPUS_PER_TASK:-1}"
srun $SCIML "${@:2}" "${options[@]}"
