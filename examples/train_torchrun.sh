#!/usr/bin/env bash
# Train on all GPUs of this machine, and resume after a crash:
#
#     examples/train_torchrun.sh options/train_GGKMNet_DPDD.yml [more arguments of `basicsr train`]
#
# GPUS=N uses N processes. The batch of the option file is that of one process.
set -euo pipefail
[ $# -ge 1 ] || { echo 'usage: train_torchrun.sh OPTION_FILE [arguments of basicsr train ...]' >&2; exit 2; }
options=$1
shift
gpus=${GPUS:-$(nvidia-smi --list-gpus 2> /dev/null | wc -l)}
export OMP_NUM_THREADS=1
exec torchrun --standalone --nproc_per_node="$((gpus > 0 ? gpus : 1))" --max-restarts=3 \
    "$(which basicsr)" train -opt "$options" --auto_resume "$@"
