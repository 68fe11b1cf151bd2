#!/usr/bin/env bash
# From nothing to an emulator of astrochemistry that runs without Python: make tracers, train the
# autoencoder, train the emulator on its latents, judge whole histories beside the baselines, export.
#
#   examples/astrochem_pipeline.sh                    everything below ./astrochem_pipeline
#   FAMILY=collapse TRACERS=400 WORK=broad examples/astrochem_pipeline.sh
#   DATA=mine.h5 examples/astrochem_pipeline.sh       your own tracers, of any known layout
#
# Finished stages are left alone, and a training that was cut off goes on where it stopped; with other
# data or flags than it was begun with it is refused.
set -euo pipefail

WORK=${WORK:-astrochem_pipeline}   # folder for everything that is made
OWN=${DATA:-}                      # your file of tracers; by default they are made
DATA=${DATA:-$WORK/tracers.h5}
FAMILY=${FAMILY:-grav}             # of the histories, see sciml astrochem generate --help
TRACERS=${TRACERS:-120}
STEPS=${STEPS:-100}                # of 1e4 yr
WORKERS=${WORKERS:-2}              # processes that make tracers
FORMAT=${FORMAT:-pt2}              # pt2, onnx, aoti or torchscript
PARTS=${PARTS:-step full}          # what is exported
SPEED=${SPEED:-true}               # time the emulator and the solver in the evaluation
AUTOENCODER_FLAGS=${AUTOENCODER_FLAGS:-} # further flags of sciml fit, such as --trainer.max_epochs 5
EMULATOR_FLAGS=${EMULATOR_FLAGS:-}
SCIML=${SCIML:-sciml}              # the command, such as "python -m sciml"
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} # networks this small gain little from more

if [[ $# -gt 0 ]]; then
  echo "usage: [VARIABLE=value ...] examples/astrochem_pipeline.sh; the variables are at its top" >&2
  exit 2
fi

# NAME FLAGS: one run in a folder of its own
fit() {
  local name=$1 run=$WORK/runs/$1
  shift
  local settings="$* --data.path $DATA"
  if [[ -e $run.settings && $(< "$run.settings") != "$settings" ]]; then
    echo "$run was begun with $(< "$run.settings"), not with $settings; repeat those settings," \
      "give another WORK, or remove it and $run.settings" >&2
    exit 2
  fi
  if [[ -e $run/finished ]]; then
    return
  fi
  local resume=()
  if [[ -e $run/checkpoints/last.ckpt ]]; then
    resume=(--ckpt_path "$run/checkpoints/last.ckpt")
  fi
  mkdir -p "$WORK/runs"
  echo "$settings" > "$run.settings"
  $SCIML fit -c trainer/cpu.yaml "$@" "${resume[@]}" \
    --data.path "$DATA" --data.store.artefacts "$WORK/artefacts" \
    --trainer.logger TensorBoardLogger --trainer.logger.save_dir "$WORK" \
    --trainer.logger.name runs --trainer.logger.version "$name"
  touch "$run/finished"
}

case $FORMAT in # what those who load the files expect
  aoti) suffix=aoti.pt2 ;;
  torchscript) suffix=pt ;;
  *) suffix=$FORMAT ;;
esac
read -ra autoencoder_flags <<< "$AUTOENCODER_FLAGS"
read -ra emulator_flags <<< "$EMULATOR_FLAGS"
autoencoder=$WORK/runs/autoencoder/checkpoints/best.ckpt
emulator=$WORK/runs/emulator/checkpoints/best.ckpt

if [[ -n $OWN && ! -e $OWN ]]; then
  echo "no file $OWN; check DATA, or leave it out to make tracers" >&2
  exit 2
fi
if [[ ! -e $DATA ]]; then # 1. data: a gas parcel a tracer, with its chemistry
  $SCIML astrochem generate --out "$DATA" --family "$FAMILY" --tracers "$TRACERS" \
    --steps "$STEPS" --workers "$WORKERS"
fi

# 2. abundances to a few latents, and back
fit autoencoder -c astrochem/autoencoder.yaml "${autoencoder_flags[@]}"

# 3. the latents along the conditions; their scales are measured with the best weights of 2.
fit emulator -c astrochem/flowmap.yaml --model.autoencoder "$autoencoder" "${emulator_flags[@]}"

if [[ ! -e $WORK/evaluation ]]; then # 4. whole histories of tracers that were not trained on
  $SCIML astrochem evaluate "$emulator" --data "$DATA" --out "$WORK/evaluation" --speed "$SPEED"
fi

for part in $PARTS; do # 5. a step of latents, and one of abundances with exact elements
  if [[ ! -e $WORK/$part.$suffix ]]; then
    $SCIML export "$emulator" --out "$WORK/$part.$suffix" --format "$FORMAT" --what "$part"
  fi
done

echo "checkpoint  $emulator"
echo "evaluation  $WORK/evaluation"
echo "programs    $(ls "$WORK"/*."$suffix")"
